"""Atlases of segmentation, detection, regression, one logit and embeddings, whose labels may be anything."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detection_nets import family, pictures
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import crp_kit as crp
from crp_kit.errors import AtlasError, CrpKitError, InputError
from crp_kit.targets import Binary, Box, Function, Region, Similarity, Target, Value

LAYER = "0"


class Pairs(Dataset[Any]):
    """Images with labels of any type."""

    def __init__(self, images: torch.Tensor, labels: list[Any]) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        return self.images[index], self.labels[index]


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def net(*head: nn.Module) -> nn.Module:
    torch.manual_seed(13)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), *head).eval()


def segmenter() -> nn.Module:
    return net(nn.Conv2d(8, 4, 1, bias=False))


def pooled(outputs: int) -> nn.Module:
    return net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, outputs))


def shares(study: crp.Study, layer: str, number: int, target: Target) -> np.ndarray:
    """(concept,): relevance by channel over the sum of magnitudes, if that is not 0, in a call of its own."""
    recorded = study(study.data[number][0][None], {"y": target}, record_layer=[layer]).relevances[layer][0]
    channels = recorded.flatten(1).sum(1)
    total = channels.abs().sum()
    return (channels / total if total else channels).detach().numpy()


def check_means(study: crp.Study, atlas: crp.ConceptAtlas, layer: str, chosen: list[list[Target]]) -> None:
    """Count and mean of each class are those of calls with the targets of each sample."""
    moments = atlas[layer].relevance.moments
    classes = {target.class_number for targets in chosen for target in targets}
    assert classes
    for cls in classes:
        rows = [
            shares(study, layer, number, target)
            for number, targets in enumerate(chosen)
            for target in targets
            if target.class_number == cls
        ]
        assert moments.count[cls] == len(rows)
        np.testing.assert_allclose(moments.mean[cls], np.mean(rows, 0), rtol=1e-4, atol=1e-6)
    assert int(np.sum(moments.count)) == sum(map(len, chosen))


def test_each_class_of_a_segmentation_counts_over_its_own_positions(tmp_path: Path) -> None:
    study = crp.Study(segmenter(), Pairs(images(), ["no class"] * 4), composite="epsilon_plus")
    best = study.model(images()).argmax(1)
    for words, share in (("regions", 0.0), ("regions:0.3", 0.3)):
        chosen = [[Region(cls) for cls in range(4) if (one == cls).float().mean() > share] for one in best]
        with study.build_atlas(
            tmp_path / f"{share}.h5", layers=LAYER, target=words, batch_size=3, verbose=False
        ) as atlas:
            check_means(study, atlas, LAYER, chosen)
            assert atlas.header.target == words
            references = study.references(atlas, LAYER, 3, k=2)
        for number, cls, heatmap in zip(references.table.sample, references.labels, references.heatmaps, strict=True):
            own = study(images()[int(number)][None], {LAYER: [3], "y": Region(cls)}).heatmap[0]
            torch.testing.assert_close(heatmap, own, rtol=1e-4, atol=1e-6)
    assert crp.verify_atlas(tmp_path / "0.0.h5") == ()


@pytest.mark.parametrize("form", ["tensor", "with a channel", "array", "picture"])
def test_masks_are_labels_of_a_segmentation(tmp_path: Path, form: str) -> None:
    mask = torch.randint(0, 4, (4, 6, 6), generator=torch.Generator().manual_seed(2))
    mask[:, :, :3] = 255
    forms: dict[str, Any] = {
        "tensor": list(mask),
        "with a channel": list(mask[:, None]),
        "array": [one.numpy().astype("u1") for one in mask],
        "picture": [Image.fromarray(one.numpy().astype("u1")) for one in mask],
    }
    study = crp.Study(segmenter(), Pairs(images(), forms[form]), composite="epsilon_plus")
    best = study.model(images()).argmax(1)
    chosen = [
        [Region(cls, one == cls) for cls in range(4) if ((one == cls) & (seen == cls)).any()]
        for one, seen in zip(mask, best, strict=True)
    ]
    with study.build_atlas(tmp_path / "a.h5", layers=LAYER, target="masks", batch_size=3, verbose=False) as atlas:
        check_means(study, atlas, LAYER, chosen)
        areas = [torch.bincount(one.flatten(), minlength=256)[:4] for one in mask]
        assert atlas.labels.tolist() == [int(area.argmax()) for area in areas]
    with pytest.raises(InputError, match="its label is a mask, which target='masks' starts from"):
        study.build_atlas(tmp_path / "b.h5", layers=LAYER, verbose=False)


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_the_best_box_of_each_class_of_a_detector_counts(tmp_path: Path, name: str) -> None:
    labels = [{"boxes": torch.zeros(1, 4), "labels": torch.tensor([1])}] * 3
    study, layer = crp.Study(family(name), Pairs(pictures(3), labels), composite="epsilon_plus"), "backbone.body.0"
    found = [
        {key: value.detach() for key, value in one.items()}
        for one in study.attribution.model._detector[0](list(pictures(3)))
    ]
    chosen = [[Box(cls) for cls in sorted(set(one["labels"].tolist()))] for one in found]
    with study.build_atlas(tmp_path / "a.h5", layers=layer, target="boxes", batch_size=2, verbose=False) as atlas:
        check_means(study, atlas, layer, chosen)
        assert atlas.header.n_classes == 4
        assert atlas.predictions.tolist() == [int(one["labels"][0]) for one in found]
        references = study.references(atlas, layer, 3, k=2)
    for number, cls, heatmap in zip(references.table.sample, references.labels, references.heatmaps, strict=True):
        own = study(pictures(3)[int(number)][None], {layer: [3], "y": Box(cls)}).heatmap[0]
        torch.testing.assert_close(heatmap, own, rtol=1e-6, atol=1e-9)
    above = float(found[0]["scores"].max()) - 1e-9
    with study.build_atlas(tmp_path / "b.h5", layers=layer, target=f"boxes:{above}", verbose=False) as atlas:
        assert atlas.targets[0] == found[0]["labels"][0]
    assert crp.verify_atlas(tmp_path / "a.h5") == ()
    with pytest.raises(CrpKitError, match=r"the model's output is boxes.*start from crp_kit.targets.Box"):
        study(pictures(1), {"y": [1]})


@pytest.mark.parametrize("labels", [["a", "b", "c", "d"], [None] * 4, [0.5, -3.0, float("nan"), 7.0], [{"x": 1}] * 4])
def test_a_regression_has_labels_of_any_type(tmp_path: Path, labels: list[Any]) -> None:
    study = crp.Study(pooled(3), Pairs(images(), labels), composite="epsilon_plus")
    for target in (Value(2), Value(1, value="one"), Value(0, value="sign")):
        path = tmp_path / f"{target.class_number}.h5"
        with study.build_atlas(path, layers=LAYER, target=target, verbose=False) as atlas:
            check_means(study, atlas, LAYER, [[target]] * 4)


def test_a_regression_may_have_one_number_without_an_axis(tmp_path: Path) -> None:
    model = nn.Sequential(*pooled(1), nn.Flatten(0)).eval()
    study = crp.Study(model, Pairs(images(), [0.5] * 4), composite="epsilon_plus")
    with study.build_atlas(tmp_path / "a.h5", layers=LAYER, target="value:0", verbose=False) as atlas:
        check_means(study, atlas, LAYER, [[Value(0)]] * 4)


def test_one_logit_stands_for_two_classes(tmp_path: Path) -> None:
    labels = [0, 1, 1, 0]
    study = crp.Study(pooled(1), TensorDataset(images(), torch.tensor(labels)), composite="epsilon_plus")
    logits = study.model(images()).detach()[:, 0]
    with study.build_atlas(tmp_path / "a.h5", layers=LAYER, target="binary", verbose=False) as atlas:
        check_means(study, atlas, LAYER, [[Binary(label)] for label in labels])
        assert atlas.header.n_classes == 2
        assert atlas.labels.tolist() == labels
        assert atlas.predictions.tolist() == (logits > 0).long().tolist()
        assert len(atlas.where(correct=True)) == int(((logits > 0).long() == torch.tensor(labels)).sum())
        references = study.references(atlas, LAYER, 3, k=2)
    for number, cls, heatmap in zip(references.table.sample, references.labels, references.heatmaps, strict=True):
        own = study(images()[int(number)][None], {LAYER: [3], "y": Binary(cls)}).heatmap[0]
        torch.testing.assert_close(heatmap, own, rtol=1e-4, atol=1e-7)
    with study.build_atlas(tmp_path / "b.h5", layers=LAYER, target="binary:prediction", verbose=False) as atlas:
        check_means(study, atlas, LAYER, [[Binary(int(logit > 0))] for logit in logits])
    with study.build_atlas(tmp_path / "c.h5", layers=LAYER, target=Binary(0), verbose=False) as atlas:
        check_means(study, atlas, LAYER, [[Binary(0)]] * 4)
    plain, negative = study(images(), {"y": [0]}).heatmap, study(images(), {"y": Binary(0)}).heatmap
    torch.testing.assert_close(negative, -plain)


def test_an_embedding_needs_no_labels(tmp_path: Path) -> None:
    study = crp.Study(pooled(5), Pairs(images(), [None] * 4), composite="epsilon_plus")
    reference = Similarity(study.model(images()).detach()[2])
    length = Function(lambda y: y.square().sum() / 2, "length")
    for number, target in enumerate((reference, length)):
        with study.build_atlas(tmp_path / f"{number}.h5", layers=LAYER, target=target, verbose=False) as atlas:
            rows = [shares(study, LAYER, sample, target) for sample in range(4) if sample != 2 or number]
            assert len(rows) > 2
            assert atlas.header.target == target.identity
            assert atlas[LAYER].relevance.moments.count.sum() == 4
            with pytest.raises(AtlasError, match="of which the file has the name alone"):
                study.references(atlas, LAYER, 1, k=2)


@pytest.mark.parametrize(
    ("model", "labels", "target", "message"),
    [
        (pooled(3), [0] * 4, "regions", "regions need an output with positions"),
        (pooled(3), [0] * 4, "boxes", "boxes need the output of a detector"),
        (pooled(3), [0] * 4, "binary", "target 'binary' is for networks with one logit"),
        (pooled(3), [0] * 4, Binary(1), "binary:1 needs one logit; a sample's output has shape"),
        (pooled(1), [0, 2, 1, 0], "binary", r"sample 1: its label is not 0 or 1, but \[2\]"),
        (pooled(1), [0, 1, 1, 0], "label", "class 1 of 'y' is out of range"),
        (segmenter(), [0] * 4, "masks", "sample 0: its label is no mask"),
        (segmenter(), [torch.zeros(3, 3).long()] * 4, "masks", r"its mask has shape \(3, 3\), the output \(6, 6\)"),
        (segmenter(), [0] * 4, "regions:2", "target is 'label', 'prediction'"),
    ],
)
def test_a_target_that_does_not_fit_the_task_is_a_sentence(
    tmp_path: Path, model: nn.Module, labels: list[Any], target: Any, message: str
) -> None:
    study = crp.Study(model, Pairs(images(), labels), composite="epsilon_plus")
    with pytest.raises(CrpKitError, match=message):
        study.build_atlas(tmp_path / "a.h5", layers=LAYER, target=target, verbose=False)


def test_references_show_where_relevance_starts(tmp_path: Path) -> None:
    study = crp.Study(segmenter(), Pairs(images().sigmoid(), [None] * 4), composite="epsilon_plus")
    best = study.model(images().sigmoid()).argmax(1)
    with study.build_atlas(tmp_path / "a.h5", layers=LAYER, target="regions", verbose=False) as atlas:
        references = study.references(atlas, LAYER, 3, k=2)
        assert references.areas is not None
        for number, cls, area in zip(references.table.sample, references.labels, references.areas, strict=True):
            assert torch.equal(area, best[int(number)] == cls)
        axes = references.plot().axes
        assert sum(bool(ax.collections) for ax in axes) >= 4  # a line around each region, in images and heatmaps
        assert study.references(atlas, LAYER, 3, k=2, conditioned_on="prediction").areas is None


def test_references_of_masks_start_in_the_mask(tmp_path: Path) -> None:
    mask = torch.randint(0, 4, (4, 6, 6), generator=torch.Generator().manual_seed(2))
    study = crp.Study(segmenter(), Pairs(images().sigmoid(), list(mask)), composite="epsilon_plus")
    best = study.model(images().sigmoid()).argmax(1)
    with study.build_atlas(tmp_path / "a.h5", layers=LAYER, target="masks", verbose=False) as atlas:
        references = study.references(atlas, LAYER, 3, k=2)
    for place, (number, cls) in enumerate(zip(references.table.sample.tolist(), references.labels, strict=True)):
        own = Region(cls, mask[number] == cls)
        expected = study(study.data[number][0][None], {LAYER: [3], "y": own}).heatmap[0]
        torch.testing.assert_close(references.heatmaps[place], expected, rtol=1e-4, atol=1e-6)
        assert references.areas is not None
        assert torch.equal(references.areas[place], (best[number] == cls) & (mask[number] == cls))


def test_the_area_of_a_box_is_its_pixels_and_that_of_a_region_has_the_size_of_the_image() -> None:
    rows = torch.tensor([[1.0, 0, 3, 2, 1, 0.9, -1, 3]])
    area = Box(1).area(rows, class_axis=None, size=torch.Size((3, 4)))
    assert area is not None
    assert area.int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    output = torch.tensor([[[2.0, 0.0]], [[1.0, 3.0]]])
    region = Region(1).area(output, class_axis=0, size=torch.Size((2, 4)))
    assert region is not None
    assert region.int().tolist() == [[0, 0, 1, 1]] * 2
    assert Value(0).area(output, class_axis=0, size=torch.Size((2, 4))) is None


def test_a_report_of_regions_has_heatmaps_and_links_of_regions(tmp_path: Path) -> None:
    deeper = net(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False))
    mask = deeper(images().sigmoid()).argmax(1)
    study = crp.Study(deeper, Pairs(images().sigmoid(), list(mask)), composite="epsilon_plus")
    with study.build_atlas(tmp_path / "a.h5", layers=["0", "2"], target="masks", verbose=False) as atlas:
        options: dict[str, Any] = {"concept_ids": [1, 3], "references": 2, "receptive_field": False}
        report = study.report(atlas, tmp_path / "report", links="graph", verbose=False, **options)
        assert (report.path / "index.html").exists()
        with pytest.raises(InputError, match="rows of a project start from classes"):
            study.export_virelay(atlas, tmp_path / "project", "0", concept_ids=[1])
