"""Atlases whose relevance starts from targets other than classes: contrasts, values, regions of a segmentation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError, CrpKitError, InputError
from crp_kit.targets import Contrast, Function, Region, Value

LAYER = "layer2.1.conv2"
RULES = "epsilon_plus_flat"


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return crp.Study(demo_resnet(), ShapesDataset(12), composite=RULES, preprocess=demo_preprocess)


def shares(study: crp.Study, layer: str, targets: list[Any]) -> np.ndarray:
    """(sample, concept): relevance by channel over its sum of magnitudes, one call for each sample."""
    rows = []
    for number, target in enumerate(targets):
        recorded = study(study.data[number][0][None], {"y": target}, record_layer=[layer]).relevances[layer][0]
        channels = recorded.flatten(1).sum(1)
        rows.append((channels / channels.abs().sum()).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("target", ["contrast:1,6", Contrast(1, 6)], ids=["text", "object"])
def test_scores_are_those_of_the_target(study: crp.Study, tmp_path: Path, target: Any) -> None:
    path = tmp_path / "atlas.h5"
    with study.build_atlas(path, layers=LAYER, target=target, matrix=True, batch_size=5, verbose=False) as atlas:
        np.testing.assert_allclose(
            atlas[LAYER].relevance.matrix[:], shares(study, LAYER, [Contrast(1, 6)] * 12), rtol=2e-4, atol=2e-6
        )
        assert atlas.header.target == "contrast:1,6"
        assert set(atlas.targets) == {1}
        assert atlas.labels.tolist() == [study.data[number][1] for number in range(12)]
        references = study.references(atlas, LAYER, 3, k=2)
    for number, heatmap in zip(references.table.sample, references.heatmaps, strict=True):
        own = study(study.data[int(number)][0][None], {LAYER: [3], "y": Contrast(1, 6)}).heatmap[0]
        torch.testing.assert_close(heatmap, own, rtol=1e-3, atol=1e-6)
    assert crp.verify_atlas(path) == ()


def test_classes_of_a_target_may_be_names(study: crp.Study, tmp_path: Path) -> None:
    target = Contrast(study.classes[1], study.classes[6])
    with study.build_atlas(tmp_path / "a.h5", layers=LAYER, target=target, verbose=False) as atlas:
        assert atlas.header.target == "contrast:1,6"


def test_an_atlas_of_a_function_is_not_resumed_with_another(study: crp.Study, tmp_path: Path) -> None:
    first, second = Function(lambda y: y[0], "f"), Function(lambda y: y[1], "f")
    study.build_atlas(tmp_path / "a.h5", layers=LAYER, target=first, verbose=False).close()
    with pytest.raises(AtlasError, match="function that chooses targets does something else"):
        study.build_atlas(tmp_path / "a.h5", layers=LAYER, target=second, resume=True, verbose=False)
    with crp.ConceptAtlas(tmp_path / "a.h5") as atlas:
        with pytest.raises(AtlasError, match="starts from function:f, of which the file has the name alone"):
            study.references(atlas, LAYER, 3, k=2)
        assert study.references(atlas, LAYER, 3, k=2, conditioned_on="layer").labels


def test_a_regression_has_an_atlas_whatever_its_labels_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)).eval()
    images = torch.rand(6, 3, 8, 8)
    study = crp.Study(net, TensorDataset(images, torch.linspace(-1.5, 2.5, 6)), composite="epsilon_plus")
    with study.build_atlas(
        tmp_path / "a.h5", layers="0", target=Value(value="one"), matrix=True, verbose=False
    ) as atlas:
        expected = shares(study, "0", [Value(value="one")] * 6)
        np.testing.assert_allclose(atlas["0"].relevance.matrix[:], expected, rtol=1e-4, atol=1e-6)
        assert atlas.header.target == "value:0:one"


def test_each_class_of_a_segmentation_counts_over_its_own_positions(tmp_path: Path) -> None:
    torch.manual_seed(13)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False)).eval()
    images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    study = crp.Study(net, TensorDataset(images, torch.zeros(4)), composite="epsilon_plus")

    def present(output: torch.Tensor, label: Any) -> list[Region]:
        return [Region(int(cls)) for cls in output.argmax(0).unique()]

    with study.build_atlas(tmp_path / "a.h5", layers="0", target=present, batch_size=3, verbose=False) as atlas:
        winners = [set(output.argmax(0).unique().tolist()) for output in net(images).detach()]
        moments = atlas["0"].relevance.moments
        assert len(set.union(*winners)) >= 3
        for cls in set.union(*winners):
            samples = [number for number, classes in enumerate(winners) if cls in classes]
            assert moments.count[cls] == len(samples)
            own = [
                study(images[number : number + 1], {"y": Region(cls)}, record_layer=["0"]).relevances["0"][0]
                for number in samples
            ]
            channels = [values.flatten(1).sum(1) for values in own]
            expected = torch.stack([value / value.abs().sum() for value in channels]).mean(0)
            np.testing.assert_allclose(moments.mean[cls], expected.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("contrast:1", "a target is class:ID"),
        ("class:99", "class 99 is out of range: the model's output has 8 classes"),
        ("contrast:cat,1", "no class is named 'cat'"),
        ("region:1", "a region needs an output with positions"),
        ("logit:1", "target is 'label', 'prediction'"),
        (lambda output, label: [Contrast(1, 2), 1], "returned two of one class: contrast:1,2, 1"),
    ],
)
def test_a_target_that_is_not_possible_is_a_sentence(
    study: crp.Study, tmp_path: Path, target: Any, message: str
) -> None:
    with pytest.raises(CrpKitError, match=message):
        study.build_atlas(tmp_path / "a.h5", layers=LAYER, target=target, verbose=False)
    assert not list(tmp_path.iterdir()) or not (tmp_path / "a.h5").exists()


def test_a_project_for_virelay_starts_from_classes(study: crp.Study, tmp_path: Path) -> None:
    with (
        study.build_atlas(tmp_path / "a.h5", layers=LAYER, target="contrast:1,6", k=12, verbose=False) as atlas,
        pytest.raises(InputError, match="rows of a project start from classes"),
    ):
        study.export_virelay(atlas, tmp_path / "project", LAYER, concept_ids=[3])
