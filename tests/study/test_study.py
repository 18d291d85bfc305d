"""A study answers as its parts would, bound once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError, ConceptRangeError, InputError
from crp_kit.models import Preprocess

LAYER, RULES = "layer2.1.conv2", "epsilon_plus_flat"
DATA = ShapesDataset(16, seed=2, split="test")
MODEL = demo_resnet()
CONDITIONS = [{LAYER: [3], "y": [1]}, {"y": [1]}]


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return crp.Study(MODEL, DATA, composite=RULES, preprocess=demo_preprocess)


@pytest.mark.slow
def test_a_call_is_that_of_the_attribution_on_preprocessed_images(study: crp.Study) -> None:
    images = torch.stack([DATA[number][0] for number in range(3)])
    found = study(images, CONDITIONS, record_layer=[LAYER], pairing="product")
    inputs = demo_preprocess(images)
    expected = crp.CondAttribution(MODEL)(inputs, CONDITIONS, RULES, record_layer=[LAYER], pairing="product")
    assert torch.equal(found.heatmap, expected.heatmap)
    assert torch.equal(found.relevances[LAYER], expected.relevances[LAYER])


@pytest.mark.slow
def test_slices_put_together_are_the_call(study: crp.Study) -> None:
    images = torch.stack([DATA[number][0] for number in range(3)])
    slices = list(study.generate(images, CONDITIONS, pairing="product", batch_size=2))
    assert [len(part) for part in slices] == [2, 2, 2]
    whole = study(images, CONDITIONS, pairing="product").heatmap
    assert torch.allclose(torch.cat([part.heatmap for part in slices]), whole, rtol=1e-4, atol=1e-7)


def test_one_image_as_the_dataset_gives_it_gets_a_batch_axis(study: crp.Study) -> None:
    image = DATA[0][0]
    assert torch.equal(study(image, CONDITIONS[:1]).heatmap, study(image[None], CONDITIONS[:1]).heatmap)


def test_without_preprocessing_images_are_model_inputs() -> None:
    inputs = demo_preprocess(torch.stack([DATA[0][0]]))
    found = crp.Study(MODEL, composite=RULES)(inputs, CONDITIONS[:1])
    assert torch.equal(found.heatmap, crp.CondAttribution(MODEL)(inputs, CONDITIONS[:1], RULES).heatmap)


@pytest.mark.slow
def test_pictures_and_files_are_seen_as_the_preprocessing_says(tmp_path: Path) -> None:
    preprocess = Preprocess(resize=64, crop=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.png")
    study = crp.Study(MODEL, composite=RULES, preprocess=preprocess)
    expected = crp.CondAttribution(MODEL)(preprocess(picture)[None], CONDITIONS[:1], RULES).heatmap
    for images in (picture, [picture], study.read([tmp_path / "a.png"]), study.read([tmp_path / "a.png"])[0]):
        assert torch.equal(study(images, CONDITIONS[:1]).heatmap, expected)


def test_the_range_of_inputs_comes_from_the_preprocessing() -> None:
    preprocess = Preprocess(resize=64, crop=64)
    study = crp.Study(MODEL, composite="epsilon_gamma_box", preprocess=preprocess)
    image = DATA[0][0]
    from zennit.composites import EpsilonGammaBox

    box = EpsilonGammaBox(low=preprocess.low, high=preprocess.high)
    expected = crp.CondAttribution(MODEL)(preprocess.normalise(image[None]), CONDITIONS[:1], box).heatmap
    assert torch.equal(study(image, CONDITIONS[:1]).heatmap, expected)


@pytest.mark.slow
def test_classes_are_numbers_or_names_everywhere(study: crp.Study) -> None:
    image, name = DATA[0][0], DATA.classes[1]
    assert torch.equal(study(image, [{"y": [name]}]).heatmap, study(image, [{"y": [1]}]).heatmap)
    assert torch.equal(study(image, {LAYER: [3], "y": name}).heatmap, study(image, CONDITIONS[:1]).heatmap)
    by_name, by_number = (study.region_map(image, LAYER, cls=cls, count=4, top=2) for cls in (name, 1))
    assert by_name.target == by_number.target == 1
    graphs = [study.concept_graph(image, start={"y": [cls]}, layers=LAYER, width=2) for cls in (name, 1)]
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize(
    ("cls", "error", "message"),
    [
        ("red", InputError, "'red' is part of several names: '"),
        ("zebra", InputError, "no class is named 'zebra'; the first ones are"),
        (DATA.classes[0][:-1] + "x", InputError, f"did you mean '{DATA.classes[0]}'"),
        (True, InputError, "a class is a name or a whole number; got True"),
        (-1, ConceptRangeError, "class -1 of 'y'"),
        (8, ConceptRangeError, "class 8 of 'y' is out of range"),
    ],
)
def test_a_class_that_is_not_there_is_refused(study: crp.Study, cls: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        study.region_map(DATA[0][0], LAYER, cls=cls, count=4, top=1)


def test_other_rules_share_the_model_and_what_is_recorded(study: crp.Study) -> None:
    other = study.replace(composite="epsilon_plus")
    assert other.attribution is study.attribution
    image = DATA[0][0]
    expected = crp.CondAttribution(MODEL)(demo_preprocess(image)[None], CONDITIONS[:1], "epsilon_plus").heatmap
    assert torch.equal(other(image, CONDITIONS[:1]).heatmap, expected)
    assert not torch.equal(study(image, CONDITIONS[:1]).heatmap, expected)


@pytest.mark.slow
def test_concepts_of_the_study_are_those_of_every_analysis(tmp_path: Path) -> None:
    study = crp.Study(MODEL, DATA, composite=RULES, preprocess=demo_preprocess, concepts={LAYER: crp.NeuronConcept()})
    image = DATA[0][0]
    expected = crp.CondAttribution(MODEL)(
        demo_preprocess(image)[None], [{LAYER: [5], "y": [1]}], RULES, mask_map={LAYER: crp.NeuronConcept()}
    )
    assert torch.equal(study(image, [{LAYER: [5], "y": [1]}]).heatmap, expected.heatmap)
    with study.build_atlas(tmp_path / "a.h5", layers=LAYER, verbose=False) as atlas:
        assert "Neuron" in atlas[LAYER].info.concept
        references = study.references(atlas, LAYER, 5, k=2)
    assert len(references) == 2


@pytest.mark.slow
def test_model_and_data_are_asked_what_they_are_without_being_named_again(study: crp.Study, tmp_path: Path) -> None:
    assert study.graph().find(LAYER) is not None
    assert study.check().composite == study.rules().composite
    assert len(study.layer_indices()) > 10
    with study.build_atlas(tmp_path / "a.h5", layers=LAYER, verbose=False) as atlas:
        study.check_atlas(atlas)
        other = crp.Study(MODEL, ShapesDataset(15), preprocess=demo_preprocess)
        with pytest.raises(AtlasError, match="another dataset"):
            other.references(atlas, LAYER, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: crp.Study("resnet"), "model is a torch.nn.Module; got str"),
        (lambda: crp.Study(crp.CondAttribution(MODEL), class_axis=1), "class_axis is given beside a CondAttribution"),
        (lambda: crp.Study(MODEL).graph(), "this needs an image, or a dataset whose first one"),
        (lambda: crp.Study(MODEL).build_atlas("a.h5", layers=LAYER), "this needs a dataset"),
        (lambda: crp.Study(MODEL).read(["a.png"]), "files are opened by a crp_kit.Preprocess"),
        (
            lambda: crp.Study(MODEL, DATA, preprocess=lambda images: images[:0])(DATA[0][0], {"y": [0]}),
            "preprocess takes a batch of images and returns a batch; 1 gave",
        ),
    ],
)
def test_what_a_study_cannot_do_is_said_with_the_way_out(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_no_public_function_has_more_than_thirteen_parameters() -> None:
    import inspect

    for name in crp.__all__:
        public = getattr(crp, name)
        functions = [public] if inspect.isfunction(public) else []
        if inspect.isclass(public) and not issubclass(public, BaseException):
            functions = [value for key, value in inspect.getmembers(public, inspect.isfunction) if key[0] != "_"]
            functions += [public.__init__, public.__call__] if issubclass(public, (crp.Study, nn.Module)) else []
        for function in functions:
            parameters = [one for one in inspect.signature(function).parameters if one != "self"]
            assert len(parameters) <= 13, f"{name}.{function.__name__}"
