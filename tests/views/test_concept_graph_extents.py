"""Texts of concept graphs of any shape: none over another one, none beyond its box or the page."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from text_extents import assert_texts_are_apart_and_inside

import crp_kit as crp
from crp_kit import ConceptGraph
from crp_kit.concept_graph.decompose import Decomposition
from crp_kit.concept_graph.parts import ConceptEdge, ConceptNode, Start
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.targets import Contrast
from crp_kit.views import plot

NAMES = {285: "Egyptian cat, a domestic breed with large ears", 282: "tiger cat, the tabby of the North"}
LONG = "principal direction {} of samples of Egyptian cat against tiger cat"
ATOM = "atom_{}_of_a_dictionary_with_4096_atoms_without_spaces"
DEEP = "features.denseblock{}.denselayer16.conv2"
ENCODER = "encoder_layers_encoder_layer_{}_mlp_3"
SHARES = np.random.default_rng(0).uniform(-0.4, 0.4, 1000)


def graph(children: int, layers: int = 1, *, others: int = 0, name: str = "channel {}", **options: Any) -> ConceptGraph:
    """Return a graph in which every concept redistributes to all shown children, and to `others` of small shares."""
    names = [options.get("layer", "layer{}.0.conv2").format(number) for number in range(layers, 0, -1)]
    target = Contrast(285, 282) if options.get("contrast") else None
    nodes = [ConceptNode("y", 285, 0, 10.0, 1.0, 0.4, 0.3, kind="class", title=target.identity if target else "")]
    edges, above, shares = [], [nodes[0].key], iter(SHARES)
    for depth, layer in enumerate(names, 1):
        rest = (-0.2, 0.3) if depth < layers else (None, None)
        spread = {"share_std": 0.05, "n": 12} if options.get("samples", 1) > 1 else {}
        here = [
            ConceptNode(layer, one, depth, 1.0, 0.137, *rest, title=name.format(one), **spread)
            for one in range(children + others)
        ]
        for source, node in product(above, here):
            share = next(shares) * (1 if node.concept < children else 0.02)
            edges.append(ConceptEdge(source, node.key, share, share))
        if options.get("skips") and depth > 1:
            edges += [ConceptEdge(("y", 285), node.key, 1.0, 0.1) for node in here]
        nodes += here
        above = [node.key for node in here[:children]]
    start = Start((("y", 285),), target)
    layers_of_nodes = (*reversed(names), "y")
    return ConceptGraph(Decomposition(start, layers_of_nodes, tuple(nodes), tuple(edges), options.get("samples", 1)))


SHAPES = {
    "one child": graph(1),
    "eight children": graph(8),
    "four bands at each box": graph(4, 2),
    "three layers": graph(2, 3, skips=True),
    "long names": graph(3, 2, name=LONG, layer=DEEP),
    "names without spaces": graph(3, 2, name=ATOM, layer=ENCODER),
    "many others": graph(2, 2, others=30),
    "a contrast": graph(3, 2, contrast=True),
    "means of samples": graph(3, 2, samples=12),
}


def assert_texts_lie_in_their_boxes(figure: Figure) -> None:
    renderer, ax = FigureCanvasAgg(figure).get_renderer(), figure.axes[0]
    texts = [(one.get_text(), one.get_window_extent(renderer)) for one in ax.texts]
    for box in (one.get_window_extent(renderer) for one in ax.patches if isinstance(one, FancyBboxPatch)):
        for text, place in texts:
            if box.contains((place.x0 + place.x1) / 2, (place.y0 + place.y1) / 2):
                assert box.x0 <= place.x0 <= place.x1 <= box.x1, text


@pytest.mark.parametrize("width", [None, 3.4])
@pytest.mark.parametrize("shape", SHAPES)
def test_texts_are_apart_and_inside(shape: str, width: float | None) -> None:
    shown = SHAPES[shape]
    pictures = {node.key: [np.zeros((8, 8, 3))] * 2 for node in shown.nodes}
    for references in ({}, pictures):
        figure = plot.concept_graph(shown, width=width, classes=NAMES, references=references)
        assert_texts_are_apart_and_inside(figure)
        assert_texts_lie_in_their_boxes(figure)


def test_bands_that_meet_one_box_are_further_apart_than_the_widest_is_wide() -> None:
    figure = plot.concept_graph(SHAPES["four bands at each box"])
    ends: dict[float, list[float]] = {}
    for line in (one for one in figure.axes[0].patches if not isinstance(one, FancyBboxPatch)):
        x, y = line.get_path().vertices[-1]
        ends.setdefault(x, []).append(float(y))
    assert min(np.diff(sorted(heights)).min() for heights in ends.values()) > 11 / 72


def test_a_negative_start_says_what_the_signs_of_shares_are() -> None:
    plain = SHAPES["one child"].to_json()
    for relevance in (1.0, -1.0):
        plain["nodes"][0].update(relevance=relevance)
        for width in (None, 2.4):
            figure = plot.concept_graph(ConceptGraph.from_json(plain), width=width)
            words = " ".join(" ".join(one.get_text() for one in figure.axes[0].texts).split())
            assert ("the start is negative: shares are positive for what speaks against it" in words) == (relevance < 0)


def test_names_of_both_classes_of_a_contrast_are_whole() -> None:
    for width in (None, 3.4):
        figure = plot.concept_graph(SHAPES["a contrast"], width=width, classes=NAMES)
        lines = [one.get_text() for one in figure.axes[0].texts if one.get_fontweight() != "bold"]
        assert " ".join(lines).replace(", ", ",").find("tabby of the North") > 0
        assert "…" not in " ".join(lines)


@pytest.fixture(scope="module")
def of_directions() -> tuple[ConceptGraph, dict[str, Any]]:
    """A graph of directions in two layers, with their mean and rest, and the pictures of its boxes."""
    layers, data = {"layer2.1.relu_1": 32, "layer1.1.relu_1": 16}, ShapesDataset(1)
    concepts = {
        layer: crp.DirectionConcept(
            torch.linalg.qr(torch.randn(channels, 3, generator=torch.Generator().manual_seed(channels)))[0].T,
            mean=torch.full((channels,), 0.2),
            names=[LONG.format(number) for number in range(3)],
        )
        for layer, channels in layers.items()
    }
    image = data[0][0]
    study = crp.Study(demo_resnet(), data, preprocess=demo_preprocess, concepts=concepts)
    shown = study.concept_graph(image, layers=list(layers), width=(5, 5))
    return shown, {"heatmaps": study.node_heatmaps(shown, image), "image": image, "classes": study.classes}


@pytest.mark.parametrize("width", [None, 3.4, 6.5])
@pytest.mark.parametrize("pictured", [True, False])
def test_graphs_of_directions_have_boxes_of_their_mean_and_rest_and_their_heatmaps(
    of_directions: tuple[ConceptGraph, dict[str, Any]], width: float | None, pictured: bool
) -> None:
    shown, pictures = of_directions
    assert {"mean", "rest"} < {node.name for node in shown.nodes}
    assert {edge.share < 0 for edge in shown.edges} == {True, False}
    figure = plot.concept_graph(shown, width=width, **(pictures if pictured else {}))
    assert_texts_are_apart_and_inside(figure)
    assert_texts_lie_in_their_boxes(figure)
    words = " ".join(" ".join(one.get_text() for one in figure.axes[0].texts).split())
    assert "mean" in words
    assert "rest" in words
    drawn = sum(
        len(ax.get_images()) for ax in [*figure.axes, *(child for ax in figure.axes for child in ax.child_axes)]
    )
    assert (drawn >= len(shown.nodes)) == pictured
