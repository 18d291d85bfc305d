"""What a notebook shows of a result: a picture or a table, in which every text is text; of long ones, a part."""

from __future__ import annotations

import dataclasses
import html
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image
from studies import atlas_of, concept_graph_of, references_of, region_map_of
from torch import nn

import crp_kit as crp
from crp_kit.atlas.query.rankings import ClassRanking, SampleRanking
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.tables import html_table

EVIL = "<script>alert('1')</script>&<b>"
LAYER, RULES = "layer2.1.conv2", "epsilon_plus_flat"
DATA = ShapesDataset(8)
SAMPLE = demo_preprocess(DATA[0][0])[None]
ATTRIBUTION = crp.CondAttribution(demo_resnet())


class Evil(ShapesDataset):
    """Images whose classes have names that would be markup."""

    classes = tuple(f"{EVIL} {number}" for number in range(8))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[crp.ConceptAtlas]:
    path = tmp_path_factory.mktemp("atlas") / "<b>atlas&.h5"
    with atlas_of(ATTRIBUTION, Evil(8), path, layers=LAYER, composite=RULES, preprocess=demo_preprocess,
                         verbose=False) as made:  # fmt: skip
        yield made


def mlp(name: str = "last") -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU())
    model.add_module(name, nn.Linear(4, 60))
    return model.eval()


def attributed(rows: int, name: str = "last", **options: Any) -> crp.Attribution:
    conditions = [{name: [row], "y": [row]} for row in range(rows)]
    return crp.CondAttribution(mlp(name))(torch.ones(1, 5), conditions, "epsilon_plus", **options)


def parsed(text: str) -> ET.Element:
    """The elements of a fragment, which has to be well-formed."""
    return ET.fromstring(f"<body>{text}</body>")


def cells(text: str) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row] for row in parsed(text).iter("tr")]


def shown(result: object) -> dict[str, Any]:
    data, _ = DisplayFormatter().format(result)
    return dict(data)


# ------------------------------------------------------------------------------------------------- the table itself


def test_cells_heads_and_captions_are_texts_and_never_markup() -> None:
    made = html_table([EVIL, "b"], [[EVIL, "3"]], caption=EVIL, text_columns=[EVIL])
    assert cells(made) == [[EVIL, "b"], [EVIL, "3"]]
    assert next(parsed(made).iter("p")).text == EVIL
    assert {one.tag for one in parsed(made).iter()} == {
        "body", "div", "style", "p", "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip


def test_texts_stand_at_the_left_and_numbers_at_the_right() -> None:
    made = html_table(["name", "count", "what"], [["a", "1", "b"]], text_columns=["name", "what"])
    (style,) = (one.text or "" for one in parsed(made).iter("style"))
    (box,) = parsed(made)
    assert "table td{text-align:right" in style
    assert sorted(re.findall(r"\.(crp-kit-text-\d) table :is\(th,td\):nth-child\((\d)\)\{text-align:left", style)) == [
        ("crp-kit-text-1", "1"),
        ("crp-kit-text-3", "3"),
    ]
    assert box.get("class", "").split() == ["crp-kit", "crp-kit-text-1", "crp-kit-text-3"]


@pytest.mark.parametrize(("hidden", "said"), [(0, []), (1, ["… 1 more row"]), (12345, ["… 12,345 more rows"])])
def test_rows_that_are_left_out_are_counted_below(hidden: int, said: list[str]) -> None:
    assert [one.text for one in parsed(html_table(["a"], [["1"]], hidden=hidden)).iter("p")] == said


# ------------------------------------------------------------------------------------------- each result by itself


@pytest.mark.slow
def test_results_that_are_pictures_show_one_and_the_others_a_table(atlas: crp.ConceptAtlas) -> None:
    seen = ATTRIBUTION(SAMPLE, [{"y": [0]}], RULES, diagnose=True)
    graph = concept_graph_of(ATTRIBUTION, SAMPLE, RULES, layers=[LAYER], width=[2])
    over = concept_graph_of(ATTRIBUTION, SAMPLE.repeat(2, 1, 1, 1), RULES, start={"y": [0]}, layers=[LAYER], width=[2])
    regions = region_map_of(ATTRIBUTION, SAMPLE, LAYER, composite=RULES, count=4, top=2)
    references = references_of(
        atlas, Evil(8), LAYER, 3, attribution=ATTRIBUTION, composite=RULES, preprocess=demo_preprocess, k=2
    )
    for result in (seen, graph, over, regions, references):
        assert set(shown(result)) == {"text/plain", "image/png"}, type(result)
    layer = atlas[LAYER]
    tables = (layer.relevance.top(3), layer.classes(3), layer.concepts(0), layer.relevance.statistics())
    inspected = (crp.rule_table(ATTRIBUTION, SAMPLE, RULES), crp.check_model(ATTRIBUTION, SAMPLE, RULES))
    for result in (atlas, *tables, *inspected, seen.conservation, seen.conservation[0], attributed(2)):
        assert set(shown(result)) == {"text/plain", "text/html"}, type(result)


def results(atlas: crp.ConceptAtlas) -> dict[str, Any]:
    """Tables that have a name with markup in it."""
    norm = nn.Sequential()
    norm.add_module(EVIL.replace(".", ""), nn.Softmax(1))
    model = nn.Sequential(nn.Linear(5, 4), norm).eval()
    books = attributed(2, EVIL, diagnose=True).conservation
    many = attributed(5, EVIL, diagnose=True).conservation
    return {
        "classes": atlas[LAYER].classes(3),
        "rules": crp.rule_table(mlp(EVIL), torch.ones(1, 5), "epsilon_plus"),
        "check": crp.check_model(model, torch.ones(1, 5), "epsilon_plus"),
        "conservation": books,
        "conservation of many": many,
        "attribution": attributed(3, EVIL),
    }


def test_names_with_markup_are_shown_as_they_are(atlas: crp.ConceptAtlas) -> None:
    for name, result in results(atlas).items():
        made = result._repr_html_()
        assert any(EVIL in cell for row in cells(made) for cell in row), name
        assert not {"script", "b"} & {one.tag for one in parsed(made).iter()}, name


def test_tables_leave_the_colours_to_the_notebook(atlas: crp.ConceptAtlas) -> None:
    for name, result in {**results(atlas), "atlas": atlas}.items():
        made = result._repr_html_()
        assert not re.search(r"color|#[0-9a-f]{3}|rgb|background", re.sub(r"<t[dh]>.*?</t[dh]>", "", made)), name


def test_an_atlas_shows_its_layers_and_what_it_is_of(atlas: crp.ConceptAtlas) -> None:
    made = atlas._repr_html_()
    assert cells(made) == [
        ["layer", "concept", "concepts", "shape"],
        [LAYER, "ChannelConcept(axis=1)", "32", "32x16x16"],
    ]
    said = next(parsed(made).iter("p")).text or ""
    assert said.startswith(f"ConceptAtlas {atlas.path}; 8 samples of Evil, 8 classes; model ")


def test_a_closed_atlas_says_so(atlas: crp.ConceptAtlas) -> None:
    again = crp.ConceptAtlas(atlas.path)
    before = repr(again).splitlines()
    again.close()
    assert repr(again).splitlines() == [f"{before[0]} (closed)", *before[1:]]
    assert f"{html.escape(again.path.name)} (closed)" in again._repr_html_()


def test_long_tables_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.arange(21)
    ranking = SampleRanking(numbers, numbers / 10, numbers, numbers)
    assert repr(ranking).splitlines()[-1] == "… 1 more row"
    assert ranking._repr_html_().endswith("<p>… 1 more row</p></div>")
    assert len(cells(ranking._repr_html_())) == 21
    monkeypatch.setattr("crp_kit.inspection.table._SHOWN", 2)
    rules = crp.rule_table(mlp(), torch.ones(1, 5), "epsilon_plus")
    assert [row[1] for row in cells(rules._repr_html_())] == ["name", "input", "0"]
    assert "<p>… 2 more rows</p>" in rules._repr_html_()
    monkeypatch.setattr("crp_kit.attribution.result._ROWS", 2)
    assert "<p>… 3 more rows</p>" in (attributed(5)._repr_html_() or "")
    monkeypatch.setattr("crp_kit.attribution.conservation._ROWS", 4)
    books = attributed(5, diagnose=True).conservation
    assert books is not None
    assert len(cells(books._repr_html_())) == 1 + 4
    assert "<p>… 1 more row</p>" in books._repr_html_()


def test_only_columns_of_texts_stand_at_the_left() -> None:
    three = np.arange(3)
    made = ClassRanking(three, np.array(["a", "b", "c"]), three / 2, three)._repr_html_()
    assert parsed(made)[0].get("class") == "crp-kit crp-kit-text-2"


def test_rules_without_relevance_are_quiet_and_plain_gradients_loud() -> None:
    table = crp.rule_table(nn.Sequential(nn.Linear(5, 4), nn.Softmax(1)).eval(), torch.ones(1, 5), "epsilon_plus")
    tones = {row[1].text: row.get("class") for row in parsed(table._repr_html_()).iter("tr")}
    assert tones == {"name": None, "input": "crp-kit-quiet", "0": None, "1": "crp-kit-loud"}


def test_a_check_names_the_first_nodes_and_counts_the_others() -> None:
    norms = [nn.Sequential(nn.BatchNorm1d(5), nn.ReLU()) for _ in range(5)]
    made = crp.check_model(nn.Sequential(*norms).eval(), torch.ones(1, 5), "epsilon_plus")._repr_html_()
    assert cells(made)[1][2] == "0.0, 1.0, 2.0 and 2 more"


# ----------------------------------------------------------------------------------------------------- attributions


def test_an_attribution_that_is_no_picture_is_a_table_of_its_rows() -> None:
    attr = attributed(2)
    sums = attr.input_relevance.sum(1).tolist()
    assert cells(attr._repr_html_() or "") == [
        ["sample", "condition", "relevance at the input"],
        ["0", "last: 0; class 0", f"{sums[0]:.4g}"],
        ["0", "last: 1; class 1", f"{sums[1]:.4g}"],
    ]


def test_heatmaps_that_are_not_finite_or_none_at_all_are_no_error_in_a_notebook() -> None:
    attr = ATTRIBUTION(SAMPLE, [{"y": [0]}], RULES)
    attr.heatmap[0, 3, 3] = float("nan")
    attr.input_relevance[0, 0, 3, 3] = float("nan")
    assert set(shown(attr)) == {"text/plain", "text/html"}
    assert cells(attr._repr_html_() or "")[1] == ["0", "class 0", "nan"]


@pytest.mark.slow
def test_many_heatmaps_are_not_all_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = crp.plot.heatmaps
    monkeypatch.setattr(
        "crp_kit.views.plot.heatmaps", lambda maps, **rest: drawn.append(len(maps)) or draw(maps, **rest)
    )
    words: list[str] = []
    monkeypatch.setattr("matplotlib.figure.Figure.supxlabel", lambda _, text, **__: words.append(text))
    attr = ATTRIBUTION(SAMPLE, [{LAYER: [channel]} for channel in range(26)], RULES, start_layer=LAYER)
    with Image.open(io.BytesIO(attr._repr_png_() or b"")) as picture:
        assert picture.size[0] > 500
    assert drawn == [24]
    assert words == ["… 2 more of 26 rows"]


def test_a_long_report_of_conservation_is_one_table_and_names_what_is_not_finite() -> None:
    attr = attributed(4, diagnose=True)
    assert attr.conservation is not None
    made = attr.conservation._repr_html_()
    assert [row[0] for row in cells(made)] == ["row", *(f"last: {one}; class {one}" for one in range(4))]
    row = attr.conservation[1]
    first = dataclasses.replace(row.nodes[0], finite=False, constants=float("nan"))
    broken = dataclasses.replace(row, nodes=(first, *row.nodes[1:]))
    books = crp.ConservationReport((attr.conservation[0], broken, *attr.conservation.rows[2:]))
    _, good, bad, *_ = cells(books._repr_html_())
    assert good[0] == "last: 0; class 0"
    assert bad[0] == f"last: 1; class 1 (not finite from {first.name!r} on)"
    assert bad[3] == "nan"


def test_models_and_recorded_graphs_print_what_they_are_and_not_their_weights() -> None:
    study = crp.Study(crp.load_model("demo:resnet"), DATA)
    graph = study.graph()
    assert repr(graph).splitlines()[:2] == [
        "Graph of 53 nodes (name, operation, shape)",
        f"input{'':18}input{'':16}1x3x64x64",
    ]
    assert len(repr(graph).splitlines()) == 54
    assert repr(graph.nodes[1]) == "Node(1, conv1, conv2d, 1x16x32x32)"
    assert repr(study.attribution) == "CondAttribution of _DemoResNet"
    assert repr(crp.load_model("demo:resnet")).startswith(
        "LoadedModel 'demo:resnet': _DemoResNet, 8 classes, Preprocess("
    )
