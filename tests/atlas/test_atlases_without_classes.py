"""Atlases whose relevance starts from something that is of no class: nothing is said of a class that nobody chose."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import crp_kit as crp
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.errors import InputError
from crp_kit.statistics.prototypes import held_out_scores
from crp_kit.targets import Contrast, Function, Similarity, Value

IMAGES = torch.randn(20, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def study_of(outputs: int) -> crp.Study:
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, outputs))
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), *head).eval()
    return crp.Study(net, TensorDataset(IMAGES, torch.linspace(-1, 2, 20)), composite="epsilon_plus")


def named_study() -> crp.Study:
    study = study_of(3)
    return crp.Study(study.model, study.data, composite="epsilon_plus", classes=["cat", "dog", "fox"])


def atlas_of(path: Path, target: Any, outputs: int = 3) -> crp.ConceptAtlas:
    return study_of(outputs).build_atlas(path, layers="0", target=target, matrix=True, verbose=False)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[crp.ConceptAtlas]:
    with atlas_of(tmp_path_factory.mktemp("none") / "a.h5", Function(torch.sum, "total")) as opened:
        yield opened


@pytest.fixture(scope="module")
def scores(atlas: crp.ConceptAtlas) -> ScoreAtlas:
    return atlas["0"].relevance


@pytest.mark.parametrize(
    ("target", "outputs", "classes"),
    [
        (Value(), 1, False),
        ("value:2", 3, False),
        (Similarity(torch.ones(3)), 3, False),
        (Contrast(1, 2), 3, True),
        ("class:1", 3, True),
    ],
)
def test_an_atlas_knows_whether_relevance_starts_from_classes(
    tmp_path: Path, target: Any, outputs: int, classes: bool
) -> None:
    with atlas_of(tmp_path / "a.h5", target, outputs) as atlas:
        assert atlas.has_classes == classes
        assert ("of no class" in repr(atlas)) != classes
        assert crp.verify_atlas(atlas.path) == ()


@pytest.mark.parametrize(
    "ask",
    [
        lambda scores: scores.class_means(),
        lambda scores: scores.class_presence(),
        lambda scores: scores.contrast(0),
        lambda scores: scores.markers("0"),
        lambda scores: scores.prototypes(0),
        lambda scores: scores.outliers(0),
        lambda scores: scores.strategies(0),
        lambda scores: scores.stability(k=2),
        lambda scores: scores.concepts(0),
        lambda scores: scores.classes(0),
        lambda scores: scores.statistics(0),
        lambda scores: scores.class_top(0, 0),
        lambda scores: crp.atlas.drift(scores.file, scores.file, "0"),
    ],
)
def test_questions_by_class_say_that_there_are_none(scores: ScoreAtlas, ask: Callable[[ScoreAtlas], Any]) -> None:
    with pytest.raises(InputError, match="has no classes: relevance starts from function:total in every sample"):
        ask(scores)


def test_selections_are_compared(atlas: crp.ConceptAtlas, scores: ScoreAtlas) -> None:
    table = scores.contrast(atlas.where(sample=range(8)))
    values = scores.matrix[:].astype("f8")
    expected = (values[:8].mean(0) - values[8:].mean(0))[table.concept]
    np.testing.assert_allclose(table.difference, expected, rtol=1e-12, atol=1e-15)


def test_all_samples_are_one_group_of_outliers_and_complexity(scores: ScoreAtlas) -> None:
    table = scores.outliers(k=20)
    assert len(table) == 20
    assert set(table.cls) == {-1}
    held = held_out_scores(scores.matrix[:].astype("f8"))
    order = np.argsort(table.sample)
    np.testing.assert_allclose(table.percentile[order], held.own_percentiles())
    assert "class" not in table.plot().axes[0].get_yticklabels()[0].get_text()
    assert set(scores.complexity().cls) == {-1}
    assert scores.outliers().against(scores).auroc[0] > 0.3


@pytest.mark.parametrize(("what", "column"), [("samples", "target"), ("top", "target"), ("moments", "class")])
def test_exported_tables_have_no_class(atlas: crp.ConceptAtlas, tmp_path: Path, what: Any, column: str) -> None:
    crp.export_atlas(atlas, tmp_path / "table.csv", what=what, verbose=False)
    assert set(pd.read_csv(tmp_path / "table.csv")[column]) == {-1}


def test_a_rule_cannot_choose_what_is_of_no_class(tmp_path: Path) -> None:
    data = TensorDataset(IMAGES, torch.zeros(20, dtype=torch.long))
    study = crp.Study(study_of(3).model, data, composite="epsilon_plus")
    with pytest.raises(InputError, match="function:total is of no class; as the target of all samples it needs none"):
        study.build_atlas(
            tmp_path / "a.h5", layers="0", target=lambda *_: [Function(torch.sum, "total")], verbose=False
        )


def test_rankings_say_what_relevance_started_from_and_show_no_class(scores: ScoreAtlas) -> None:
    ranking = scores.top(0, 3)
    assert (ranking.target == -1).all()
    assert ranking.caption == "relevance started from function:total"
    assert "target" not in ranking.shown_columns()
    assert ranking.to_frame().columns.tolist() == ["sample", "score", "position", "target"]
    activation = scores.file["0"].activation.top(0)
    assert (activation.target == -1).all()
    assert "started" not in activation.caption


@pytest.mark.parametrize(
    ("target", "words", "shown"),
    [
        ("value:2", "relevance started from output 2", False),
        (Similarity(torch.ones(3)), f"relevance started from {Similarity(torch.ones(3)).identity}", False),
        (Contrast(1, 2), "relevance started from dog against fox", True),
        ("class:1", "relevance started from dog", True),
        ("prediction", "", True),
    ],
)
def test_a_ranking_names_the_one_target_of_all_samples_in_words(
    tmp_path: Path, target: Any, words: str, shown: bool
) -> None:
    with named_study().build_atlas(tmp_path / "a.h5", layers="0", target=target, verbose=False) as atlas:
        ranking = atlas["0"].relevance.top(0, 2)
        assert ranking.caption == words
        assert ("target" in ranking.shown_columns()) == shown == (ranking.target >= 0).all()


def test_references_of_an_atlas_without_classes_stand_for_no_class(tmp_path: Path) -> None:
    study = named_study()
    with study.build_atlas(tmp_path / "a.h5", layers="0", target="value:2", verbose=False) as atlas:
        references = study.references(atlas, "0", 0, k=2)
        assert references.labels == (-1, -1)
        assert references.classes == ("", "")
        assert set(study.references(atlas, "0", 0, k=2, conditioned_on="prediction").labels) <= {0, 1, 2}
