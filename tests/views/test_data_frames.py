"""Results as data frames: one row for each thing that the result prints, with named columns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import crp_kit as crp

pytest.importorskip("pandas")

LAYERS = ["0", "2"]


@pytest.fixture(scope="module")
def study() -> crp.Study:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(12, 2)).eval()
    return crp.Study(model, [(torch.rand(1, 6, 6), number % 2) for number in range(4)])


@pytest.fixture(scope="module")
def atlas(study: crp.Study, tmp_path_factory: pytest.TempPathFactory) -> Iterator[crp.ConceptAtlas]:
    path = tmp_path_factory.mktemp("atlas") / "a.h5"
    with study.build_atlas(path, layers=LAYERS, verbose=False) as atlas:
        yield atlas


def test_the_relevance_balance_has_a_row_for_each_row_and_node(study: crp.Study) -> None:
    image = study.data[0][0]
    report = study(image, [{"0": [1], "y": [0]}, {"y": [1]}], pairing="product", diagnose=True).conservation
    frame = report.to_frame()
    assert frame["row"].nunique() == 2
    assert len(frame) == sum(len(row.nodes) for row in report)
    assert frame["masked"].tolist() == [node.masked for row in report for node in row.nodes]


def test_the_table_of_rules_has_a_row_for_each_node(study: crp.Study) -> None:
    table = study.rules()
    assert table.to_frame()["name"].tolist() == [row.name for row in table]


def test_the_check_of_a_model_has_a_row_for_each_finding(study: crp.Study) -> None:
    assert len(study.check().to_frame()) == len(study.check())


def test_a_region_map_has_a_row_for_each_concept_that_dominates_somewhere(study: crp.Study) -> None:
    regions = study.region_map(study.data[0][0], "2", count=4)
    frame = regions.to_frame()
    assert frame["concept"].tolist() == list(regions.concepts)
    assert frame["area"].tolist() == regions.areas.tolist()


def test_a_concept_graph_has_a_row_for_each_edge(study: crp.Study) -> None:
    graph = study.concept_graph(study.data[0][0], start={"y": [1]}, layers=LAYERS, width=(2, 2))
    rows = graph.to_frame().to_dict("records")
    assert [((row["source_layer"], row["source_concept"]), row["share"]) for row in rows] == [
        (edge.source, edge.share) for edge in graph.edges
    ]


def test_references_have_a_row_for_each_sample(study: crp.Study, atlas: crp.ConceptAtlas) -> None:
    references = study.references(atlas, "2", 1, k=3)
    frame = references.to_frame()
    assert frame["sample"].tolist() == atlas["2"].relevance.top(1, 3).sample.tolist()
    assert frame["name"].tolist() == list(references.names)


@pytest.mark.parametrize("result", [crp.Study.rules, crp.Study.check])
def test_a_frame_without_pandas_says_what_to_install(
    study: crp.Study, monkeypatch: pytest.MonkeyPatch, result: Callable[[crp.Study], Any]
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(crp.CrpKitError, match=r"pip install 'crp-kit\[statistics\]'"):
        result(study).to_frame()
