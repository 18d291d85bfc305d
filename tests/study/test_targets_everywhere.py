"""Targets where a class may stand: concept graphs, region maps, evaluations, references."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detection_nets import family, pictures
from torch import nn
from torch.utils.data import TensorDataset

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import ConditionError, InputError
from crp_kit.targets import Box, Class, Contrast, Function, Region, Similarity, Target, Value

UPPER, LOWER = "layer3.1.conv2", "layer2.1.conv2"
CONTRAST = Contrast(1, 6)
IN_WORDS = CONTRAST.words(ShapesDataset.classes)


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return crp.Study(demo_resnet().double(), ShapesDataset(6), preprocess=lambda x: demo_preprocess(x).double())


def by_channel(study: crp.Study, image: torch.Tensor, condition: dict[str, Any], layer: str) -> torch.Tensor:
    """(channel,): relevance that arrives at a layer."""
    return study(image, condition, record_layer=[layer]).relevances[layer][0].flatten(1).sum(1)


def test_a_concept_graph_of_a_contrast_has_the_relevance_of_the_contrast(study: crp.Study) -> None:
    image = study.data[0][0]
    names = {"y": [Contrast(study.classes[1], study.classes[6])]}
    graph = study.concept_graph(image, start=names, layers=[UPPER, LOWER], width=(3, 2))
    assert (graph.root.name, graph.root.key, graph.root.kind) == ("contrast:1,6", ("y", 1), "target")
    logits = study(image, {"y": CONTRAST}).prediction[0]
    assert graph.root.relevance == pytest.approx(float(logits[1] - logits[6]))
    first = by_channel(study, image, {"y": CONTRAST}, UPPER)
    assert [edge.target[1] for edge in graph.children(graph.root)] == first.abs().argsort(descending=True)[:3].tolist()
    for edge in graph.children(graph.root):
        channel = edge.target[1]
        assert edge.relevance == pytest.approx(float(first[channel]), rel=1e-6)
        below = by_channel(study, image, {UPPER: [channel], "y": CONTRAST}, LOWER)
        for lower in graph.children(edge.target):
            assert lower.relevance == pytest.approx(float(below[lower.target[1]]), rel=1e-6)
    read = crp.ConceptGraph.from_json(json.loads(json.dumps(graph.to_json())))
    assert read == graph
    assert graph.start == {"y": [CONTRAST]}
    assert f"ConceptGraph of {IN_WORDS}" in graph.to_text()
    assert "ConceptGraph of one against class 6:" in read.to_text(classes={1: "one"})
    assert IN_WORDS in graph.to_dot()
    assert graph.called(graph.root) == study(image, {"y": CONTRAST}).titles()[0] == IN_WORDS
    assert read.called(graph.root, classes=study.classes) == IN_WORDS
    heatmaps = study.node_heatmaps(read, image)
    torch.testing.assert_close(heatmaps[graph.root.key], study(image, {"y": CONTRAST}).heatmap[0])


def test_a_concept_is_decomposed_as_far_as_it_serves_a_target(study: crp.Study) -> None:
    image = study.data[0][0]
    graph = study.concept_graph(image, start={UPPER: [3], "y": [CONTRAST]}, layers=[LOWER], width=(2,))
    below = by_channel(study, image, {UPPER: [3], "y": CONTRAST}, LOWER)
    for edge in graph.children(graph.root):
        assert edge.relevance == pytest.approx(float(below[edge.target[1]]), rel=1e-6)
    assert f"for {IN_WORDS}" in repr(graph)


def test_a_start_of_a_function_is_kept_by_its_name(study: crp.Study) -> None:
    start = {"y": [Function(lambda y: y[2] * 1.0, "third")]}
    graph = study.concept_graph(study.data[0][0], start=start, layers=[UPPER], width=(1,))
    read = crp.ConceptGraph.from_json(graph.to_json())
    assert read.root.name == "function:third"
    with pytest.raises(ConditionError, match="a concept graph decomposes one concept"):
        study.concept_graph(study.data[0][0], start={"y": [CONTRAST, 1]}, layers=[UPPER])


def test_a_concept_graph_of_a_box_and_of_a_region_begins_with_their_start(study: crp.Study) -> None:
    net, data = family("faster_rcnn"), pictures(1)
    detector = crp.Study(net, composite="epsilon_plus")
    box = Box(int(net(list(data))[0]["labels"][0]))
    graph = detector.concept_graph(data, start={"y": [box]}, layers=["roi_heads.box_head.fc7"], width=(2,))
    assert graph.root.relevance == pytest.approx(
        float(box.relevance(crp.detector(net)(data)[0].detach(), class_axis=None).sum())
    )
    fc7 = detector(data, {"y": box}, record_layer=["roi_heads.box_head.fc7"]).relevances["roi_heads.box_head.fc7"]
    channels = fc7.flatten(0, -2).sum(0)
    assert [edge.target[1] for edge in graph.children(graph.root)] == channels.abs().argsort(descending=True)[
        :2
    ].tolist()
    torch.manual_seed(13)
    segmenter = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False)).double().eval()
    regions = crp.Study(segmenter, composite="epsilon_plus")
    graph = regions.concept_graph(data[:, :, :6, :6], start={"y": [Region(1)]}, layers=["0"], width=(2,))
    output = segmenter(data[:, :, :6, :6])[0].detach()
    assert graph.root.relevance == pytest.approx(float(output[1][output.argmax(0) == 1].sum()))


def test_a_region_map_of_a_target_compares_heatmaps_of_the_target(study: crp.Study) -> None:
    image = study.data[0][0]
    regions = study.region_map(image, UPPER, target=Contrast(study.classes[1], 6), count=(2, 2), top=4)
    assert (regions.target, regions.start) == ("contrast:1,6", "contrast:1,6")
    ids = sorted({int(one) for one in regions.dominant})
    maps = study(image, [{UPPER: [concept], "y": CONTRAST} for concept in ids], pairing="product").heatmap
    sums = torch.stack([maps[:, regions.labels == region].sum(1) for region in range(4)], 1)
    for region, (concept, relevance) in enumerate(zip(regions.dominant, regions.relevance, strict=True)):
        assert relevance == pytest.approx(float(sums[ids.index(concept), region]), rel=1e-6)
    assert f"for {IN_WORDS}" in repr(regions)
    assert regions.class_name == IN_WORDS
    assert regions.plot().axes
    with pytest.raises(InputError, match="cls=3 and the target contrast:1,6 are two starts"):
        study.region_map(image, UPPER, cls=3, target=CONTRAST)


ORDER = {"mine": lambda relevance, activation: np.arange(relevance.shape[1])}


def test_flipping_measures_what_the_target_explains(study: crp.Study) -> None:
    def changes(target: Any) -> np.ndarray:
        return study.evaluate.flipping(UPPER, orders=ORDER, target=target, steps=4, limit=3).changes["mine"]

    of_classes = [changes(Class(1)), changes("class:6")]
    np.testing.assert_allclose(changes(CONTRAST), of_classes[0] - of_classes[1], atol=1e-9)
    np.testing.assert_allclose(changes(Function(lambda y: y[1], "one")), of_classes[0], atol=1e-9)
    np.testing.assert_allclose(changes(Value(6)), of_classes[1], atol=1e-9)
    labels = crp.Study(study.model, [(study.data[n][0], 1) for n in range(3)], preprocess=study.subject.preprocess)
    by_label = labels.evaluate.flipping(UPPER, orders=ORDER, target="label", steps=4).changes["mine"]
    np.testing.assert_allclose(of_classes[0], by_label, atol=1e-9)
    with pytest.raises(InputError, match="output is 'logit'; got 'probability'"):
        study.evaluate.flipping(UPPER, orders=ORDER, target=CONTRAST, output="probability")
    with pytest.raises(InputError, match="a target is class:ID"):
        study.evaluate.flipping(UPPER, target="classes:1")


OUTPUT = torch.tensor([1.0, -2.0, 3.0])
CHANGED = torch.tensor([0.5, 1.0, -1.0])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Class((0, 2)), -0.5),
        (Class(1, value="one"), 1.0),
        (Class(1, value="probability"), float(CHANGED.softmax(0)[1])),
        (Contrast(0, 1), -0.5),
        (Value(2, value="sign"), -1.0),
        (Similarity([1.0, 0.0, 0.0]), 0.5 / 1.5),
        (Function(lambda y: y.square().sum(), "square"), 2.25),
    ],
    ids=str,
)
def test_what_is_measured_is_the_number_behind_a_target(target: Target, expected: float) -> None:
    assert float(target.measured(CHANGED, class_axis=0, reference=OUTPUT)) == pytest.approx(expected)


def test_a_region_and_a_box_are_measured_where_they_were() -> None:
    before = torch.tensor([[[2.0, 0.0]], [[1.0, 3.0]]])
    after = torch.tensor([[[1.0, 5.0]], [[7.0, -4.0]]])
    assert float(Region(1).measured(after, class_axis=0, reference=before)) == -4
    rows = torch.tensor([[0, 0, 9, 9, 1, 0.9, -1, 3], [4, 4, 8, 8, 1, 0.8, -2, 2.0]])
    changed = rows.clone()
    changed[1, 5:] = torch.tensor([0.99, 0, 7])
    assert float(Box(1, 1).measured(changed, class_axis=None, reference=rows)) == 7


def test_flipping_follows_the_logit_of_a_box() -> None:
    net, data = family("faster_rcnn"), pictures(1)
    study = crp.Study(net, TensorDataset(data, torch.zeros(1)), composite="epsilon_plus")
    box = Box(int(net(list(data))[0]["labels"][0]))
    curves = study.evaluate.flipping(
        "backbone.body.2", orders=("relevance", "least_relevant"), target=box, baseline="zero", steps=6
    )
    assert curves.changes["relevance"][0, -1] == pytest.approx(curves.changes["least_relevant"][0, -1])
    assert curves.aoc["relevance"] > curves.aoc["least_relevant"]


def test_references_start_from_a_target(study: crp.Study, tmp_path: Path) -> None:
    with study.build_atlas(tmp_path / "a.h5", layers=UPPER, k=2, verbose=False) as atlas:
        references = study.references(atlas, UPPER, 3, k=2, conditioned_on=CONTRAST)
        assert references.shown == "from contrast:1,6"
        for number, heatmap in zip(references.table.sample, references.heatmaps, strict=True):
            own = study(study.data[int(number)][0], {UPPER: [3], "y": CONTRAST}).heatmap[0]
            torch.testing.assert_close(heatmap, own, rtol=1e-6, atol=1e-9)
        with pytest.raises(InputError, match="conditioned_on is 'class', 'prediction' or 'layer', or a target"):
            study.references(atlas, UPPER, 3, conditioned_on="label")  # type: ignore[arg-type]
