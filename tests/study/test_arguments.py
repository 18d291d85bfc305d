"""Arguments that a first hour gets wrong: each is refused with what to give."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import crp_kit as crp
from crp_kit.data import ShapesDataset
from crp_kit.errors import CrpKitWarning, InputError, UnknownLayerError

DATA = ShapesDataset(2)
LAYER = "layer2.1.conv2"


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return crp.Study(crp.load_model("demo:resnet"), DATA)


WRONG: list[tuple[Callable[[crp.Study], Any], str]] = [
    (lambda study: crp.Study(study.model, "imagefolder:photos"), r"give crp_kit.load_data('imagefolder:photos')"),
    (lambda study: crp.Study(study.model, Path("photos")), r"give crp_kit.load_data('imagefolder:photos')"),
    (lambda study: crp.Study(study.model, DataLoader(DATA)), "not a DataLoader: give its .dataset"),
    (lambda study: crp.Study(study.model, preprocess="imagenet"), "a function of a batch of images; got 'imagenet'"),
    (lambda study: crp.load_model(study.model), "a Study takes a module as it is"),
    (lambda study: crp.load_data(DATA), "got ShapesDataset, and a Study takes a dataset as it is"),
    (lambda study: crp.load_data("demo:shapes", len), "preprocess is a crp_kit.Preprocess, such as that of a loaded"),
    (lambda study: study.references("atlas.h5", LAYER, 3), "an open concept atlas, not the name of its file: "),
    (lambda study: study.report("atlas.h5", "report"), "crp_kit.ConceptAtlas('atlas.h5')"),
    (lambda study: study.check_atlas("atlas.h5"), "crp_kit.ConceptAtlas('atlas.h5')"),
    (lambda study: crp.Preprocess(resize=224, crop=300), "what resize makes, 224, so it is no larger; got 300"),
    (lambda study: crp.Preprocess(resize=(224, 400), crop=(100, 401)), "no larger"),
    (lambda study: study(torch.rand(64, 64, 3), {"y": [0]}), "move channels to the front"),
    (
        lambda study: crp.Preprocess(mean=(127.0,) * 3)(Image.new("RGB", (256, 256))),
        "127.0): divide by 255",
    ),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_what_is_wrong_is_answered_with_what_to_give(number: int, study: crp.Study) -> None:
    call, message = WRONG[number]
    with pytest.raises(InputError, match=re.escape(message)):
        call(study)


def test_a_study_shows_what_it_binds(study: crp.Study) -> None:
    assert repr(study) == "Study of _DemoResNet, 8 classes, 2 samples of ShapesDataset, rules epsilon_plus_flat"
    assert repr(crp.Study(study.model, composite=None)) == "Study of _DemoResNet, rules gradient"


def test_a_crop_may_be_longer_than_the_shorter_side() -> None:
    assert crp.Preprocess(resize=224, crop=(224, 300)).crop == (224, 300)


def test_a_layer_that_was_not_recorded_is_answered_with_how_it_is(study: crp.Study) -> None:
    attr = study(DATA[0][0], {"y": [0]}, record_layer=["conv1"])
    for values in (attr.relevances, attr.activations):
        assert LAYER not in values
        assert values["conv1"].ndim == 4
        with pytest.raises(UnknownLayerError, match=re.escape(f"not recorded; give record_layer=['{LAYER}']")):
            values[LAYER]


def test_images_of_bytes_as_floats_are_warned_of(study: crp.Study) -> None:
    image = DATA[0][0]
    with pytest.warns(CrpKitWarning, match=r"values in \[0, 1\]: divide images of 0 to 255 by 255"):
        study.inputs(image * 255)
    assert torch.allclose(study.inputs((image * 255).round().byte()), study.inputs(image), atol=0.02)


def test_a_name_that_is_nearly_a_public_one_is_suggested() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_models'") as caught:
        crp.load_models  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("load_models", crp)


def test_a_factory_is_found_by_the_name_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_net.py").write_text("def make():\n    return None\n")
    monkeypatch.chdir(tmp_path)
    for spec, message in (
        ("my_net:make", "did you mean my_net.py:make?"),
        ("my_nets.py:make", "no file 'my_nets.py'; did you mean 'my_net.py'?"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            crp.load_model(spec)
