"""Drawings of concept graphs: every concept and edge is there, nothing lies on something else, signs have colours."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib._pylab_helpers import Gcf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch

from crp_kit import ConceptAtlas, ConceptGraph, CondAttribution, Study
from crp_kit.concept_graph.gathering import LEAST, shown_part
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import InputError
from crp_kit.views.image import overlay
from crp_kit.views.plot import concept_graph
from crp_kit.views.plot.columns import arrange

RULES = "epsilon_plus_flat"
LAYERS = ["layer3.0.conv2", "layer3.1.conv2"]
DATA = ShapesDataset(12, seed=3, split="test")


@pytest.fixture(scope="module")
def attribution() -> CondAttribution:
    return CondAttribution(demo_resnet())


@pytest.fixture(scope="module")
def study(attribution: CondAttribution) -> Study:
    return Study(attribution, DATA, composite=RULES, preprocess=demo_preprocess)


@pytest.fixture(scope="module")
def graph(study: Study) -> ConceptGraph:
    return study.concept_graph(DATA[5][0], layers=LAYERS, width=(5, 3))


@pytest.fixture(scope="module")
def atlas(study: Study, tmp_path_factory: pytest.TempPathFactory) -> ConceptAtlas:
    path = tmp_path_factory.mktemp("atlas") / "atlas.h5"
    return study.build_atlas(path, layers=LAYERS[:1], verbose=False)


def boxes(figure: Figure) -> list[FancyBboxPatch]:
    return [one for one in figure.axes[0].patches if isinstance(one, FancyBboxPatch)]


def lines(figure: Figure) -> list[PathPatch]:
    return [one for one in figure.axes[0].patches if isinstance(one, PathPatch)]


def texts(figure: Figure) -> list[str]:
    return [one.get_text() for one in figure.axes[0].texts]


def test_every_concept_has_a_box_and_every_edge_a_line(graph: ConceptGraph) -> None:
    figure = graph.plot(least=0)
    assert len(boxes(figure)) == len(graph)
    assert len(lines(figure)) == len(graph.edges)
    joined = "\n".join(texts(figure))
    for node in graph.nodes[1:]:
        assert node.name in joined
    assert DATA.classes[graph.root.concept] in " ".join(joined.split())
    for layer in LAYERS:
        assert layer in joined


@pytest.mark.parametrize("width", [2.4, 3.4, 5.0, 7.0, 20.0, None])
def test_texts_and_boxes_do_not_overlap_and_lie_inside_of_the_figure(graph: ConceptGraph, width: float | None) -> None:
    figure = graph.plot(width=width, classes={graph.root.concept: "a class of a long name, as there are some"})
    assert width is None or figure.get_figwidth() == width
    renderer = FigureCanvasAgg(figure).get_renderer()
    places = [one.get_window_extent(renderer) for one in figure.axes[0].texts]
    assert min(float(one.get_fontsize()) for one in figure.axes[0].texts) >= 4.2
    legend = figure.axes[0].get_legend()
    places += [legend.get_window_extent(renderer)] if legend else []
    for first, second in combinations(places, 2):
        assert not first.overlaps(second)
    for first, second in combinations([one.get_window_extent(renderer) for one in boxes(figure)], 2):
        assert not first.overlaps(second)
    whole = figure.bbox
    for place in places:
        assert whole.x0 <= place.x0 <= place.x1 <= whole.x1
        assert whole.y0 <= place.y0 <= place.y1 <= whole.y1


def test_signs_are_red_and_blue_and_widths_grow_with_shares(graph: ConceptGraph) -> None:
    plain = graph.to_json()
    for edge, (relevance, share) in zip(plain["edges"][:3], [(2.0, 0.9), (-1.0, -0.4), (0.1, 0.01)], strict=True):
        edge.update(relevance=relevance, share=share)
    for edge in plain["edges"][3:]:
        edge.update(relevance=0.01, share=0.001)
    figure = ConceptGraph.from_json(plain).plot(least=0)
    strong, against, weak = lines(figure)[:3]
    assert strong.get_linewidth() > against.get_linewidth() > weak.get_linewidth()
    red, blue = to_rgb(strong.get_edgecolor()), to_rgb(against.get_edgecolor())
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    words = [one.get_text() for one in figure.axes[0].get_legend().get_texts()]
    assert words == ["speaks for the start", "speaks against it", "5 %", "20 %", "50 %"]


@pytest.mark.parametrize(
    ("largest", "legend"),
    [(0.03, ["0.5 %", "2 %", "5 %"]), (0.2, ["1 %", "4 %", "10 %"]), (0.3, ["2 %", "8 %", "20 %"]),
     (1.7, ["5 %", "20 %", "50 %"])],
)  # fmt: skip
def test_widths_have_a_scale_that_suits_the_largest_share_and_the_legend_says_it(
    graph: ConceptGraph, largest: float, legend: list[str]
) -> None:
    plain = graph.to_json()
    for edge in plain["edges"]:
        edge.update(share=-largest / 2)
    plain["edges"][0].update(share=largest)
    figure = ConceptGraph.from_json(plain).plot(least=0)
    drawn = figure.axes[0].get_legend()
    assert [one.get_text() for one in drawn.get_texts()][-3:] == legend
    shares, widths = (
        [float(text.split()[0]) / 100 for text in legend],
        [one.get_linewidth() for one in drawn.get_lines()],
    )
    expected = np.interp(min(largest, 1.0), [0, *shares, 2 * shares[-1]], [0.5, *widths[-3:], 11.0])
    assert lines(figure)[0].get_linewidth() == pytest.approx(expected)


@pytest.mark.slow
def test_pictures_stand_in_their_nodes(study: Study, graph: ConceptGraph, atlas: ConceptAtlas) -> None:
    lower = sum(node.layer == LAYERS[0] for node in graph)
    references = study.reference_pictures(graph, atlas)
    assert len(graph.plot(references=references, least=0).axes[0].images) == lower
    heatmaps = study.node_heatmaps(graph, DATA[5][0])
    figure = graph.plot(references=references, heatmaps=heatmaps, image=DATA[5][0], least=0)
    assert len(figure.axes[0].images) == lower + len(graph) + 1
    inside = [one.get_bbox() for one in boxes(figure)]
    for image in figure.axes[0].images:
        left, right, bottom, top = image.get_extent()
        assert any(one.x0 <= left and right <= one.x1 and one.y0 <= bottom and top <= one.y1 for one in inside)


def test_heatmaps_are_those_under_the_conditions_of_the_nodes(
    graph: ConceptGraph, study: Study, attribution: CondAttribution
) -> None:
    seen = study.node_heatmaps(graph, DATA[5][0])
    node = graph.nodes[1]
    sample = demo_preprocess(DATA[5][0])[None]
    expected = attribution(sample, [{node.layer: [node.concept], **graph.start}], RULES).heatmap[0]
    assert torch.allclose(seen[node.key], expected, atol=1e-6)


def test_names_of_classes_stand_in_the_node_and_dollar_signs_are_no_formulas(graph: ConceptGraph) -> None:
    figure = graph.plot(classes={graph.root.concept: "a $1 note_$2"})
    assert any("a" in text and r"\$1" in text for text in texts(figure))
    figure.savefig("/dev/null", format="png")


def test_names_of_concepts_stand_beside_their_numbers(graph: ConceptGraph) -> None:
    node = next(node for node in graph.nodes if node.kind != "class")
    shown = " ".join(texts(graph.plot(names={node.key: "red"}))).replace("\n", " ")
    assert f"{node.name}: red" in shown


def test_axes_of_the_caller_are_drawn_into(graph: ConceptGraph) -> None:
    mine = Figure()
    place = mine.add_subplot()
    assert graph.plot(ax=place, least=0) is mine
    assert len(boxes(mine)) == len(graph)


def test_a_notebook_shows_a_png_and_pyplot_never_hears_of_it(graph: ConceptGraph) -> None:
    before = dict(Gcf.figs)
    assert graph._repr_png_().startswith(b"\x89PNG")
    assert dict(Gcf.figs) == before


def test_means_show_their_spread(study: Study) -> None:
    images = DATA.batch(range(3))[0]
    graph = study.concept_graph(images, start={"y": [0]}, layers=LAYERS, width=2)
    figure = graph.plot()
    assert sum("±" in text for text in texts(figure)) == 2
    with pytest.raises(InputError, match="heatmaps show one sample, and this graph is about 3"):
        study.node_heatmaps(graph, images)


@pytest.mark.slow
def test_a_graph_that_was_read_has_the_same_pictures(study: Study, graph: ConceptGraph, atlas: ConceptAtlas) -> None:
    read = ConceptGraph.from_json(graph.to_json())
    heatmaps, expected = (study.node_heatmaps(one, DATA[5][0]) for one in (read, graph))
    assert all(torch.equal(heatmaps[key], expected[key]) for key in expected)
    assert study.reference_pictures(read, atlas).keys() == study.reference_pictures(graph, atlas).keys()


def test_what_cannot_be_drawn_is_refused(
    attribution: CondAttribution, graph: ConceptGraph, atlas: ConceptAtlas, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="this needs a dataset"):
        Study(attribution).reference_pictures(graph, atlas)
    with pytest.raises(InputError, match=r"a heatmap is \(height, width\)"):
        concept_graph(graph, heatmaps={graph.root.key: torch.zeros(2, 3, 4)})
    with pytest.raises(InputError, match="classes are names of all classes"):
        graph.plot(classes="cat")


def test_small_shares_are_gathered_as_others_with_what_only_they_lead_to(graph: ConceptGraph) -> None:
    plain = graph.to_json()
    root = (plain["nodes"][0]["layer"], plain["nodes"][0]["concept"])
    for edge in plain["edges"]:
        edge.update(share=0.2)
    first, *small = [edge for edge in plain["edges"] if tuple(edge["source"]) == root]
    for edge in small:
        edge.update(share=-0.004)
    plain["nodes"][0].update(others=0.1, unexplained=-1.9)
    changed = ConceptGraph.from_json(plain)
    reached = {root, tuple(first["target"])}
    large = [(tuple(edge["source"]), tuple(edge["target"])) for edge in plain["edges"] if edge["share"] > 0]
    for _ in large:
        reached |= {target for source, target in large if source in reached}
    figure = changed.plot()
    assert len(boxes(figure)) == len(reached)
    others = 0.1 - 0.004 * len(small)
    assert f"others {100 * others:.0f} %" in texts(figure)
    assert "absorbed 200 % (−)" in texts(figure)
    assert "(−) with the opposite sign" in " ".join(" ".join(texts(figure)).split())
    assert "biases and other paths absorb 200.0% of the opposite sign" in changed.to_text()
    assert f"{len(small)} of them below 1%" in changed.to_text()
    with pytest.raises(InputError, match="least is a share from 0 to 1; got 2"):
        graph.plot(least=2)


def test_the_strongest_children_are_shown_however_weak_they_are(graph: ConceptGraph) -> None:
    plain = graph.to_json()
    root = (plain["nodes"][0]["layer"], plain["nodes"][0]["concept"])
    below = [edge for edge in plain["edges"] if tuple(edge["source"]) == root]
    for edge in plain["edges"]:
        edge.update(share=0.0)
    for edge, share in zip(below, (0.006, -0.003, 0.0019, *[0.001] * len(below)), strict=False):
        edge.update(share=share)
    changed = ConceptGraph.from_json(plain)
    shown = shown_part(changed.nodes, changed.edges, LEAST)
    assert [edge.share for edge in shown.ends(root, below=True)] == [0.006, -0.003]
    assert shown.at(root).count == len(below) - 2
    assert shown_part(changed.nodes, changed.edges, 0.004).ends(root, below=True) == shown.edges[:1]


def test_references_are_masked_where_they_have_a_heatmap(graph: ConceptGraph) -> None:
    image, heatmap = torch.full((3, 24, 24), 0.8), torch.zeros(24, 24)
    heatmap[2:8, 2:8] = 1
    key = graph.root.key
    (masked,) = graph.plot(references={key: [(image, heatmap)]}).axes[0].images
    assert np.asarray(masked.get_array())[20, 20].tolist() == [24] * 3
    (plain,) = graph.plot(references={key: [image]}).axes[0].images
    assert np.asarray(plain.get_array())[20, 20].tolist() == [204] * 3
    (over,) = graph.plot(heatmaps={key: heatmap}, image=image, references={key: []}).axes[0].images[1:]
    assert (np.asarray(over.get_array()) == np.asarray(overlay(image, heatmap))).all()


def test_columns_have_few_crossings_and_room_for_edges_that_pass_them() -> None:
    columns = arrange([["a"], ["b", "c"], ["d", "e"]], [("a", "b"), ("a", "c"), ("b", "e"), ("c", "d"), ("a", "d")],
                     dict.fromkeys("abcde", 1.0), lane=0.5)  # fmt: skip
    order = np.sign([columns.heights["b"] - columns.heights["c"], columns.heights["e"] - columns.heights["d"]])
    assert order[0] == order[1] != 0
    (lane,) = columns.lanes["a", "d"]
    assert all(abs(lane - columns.heights[node]) >= 0.75 for node in "bc")
    assert columns.total == 2.5
