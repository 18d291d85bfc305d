"""Every answer of an atlas is a table: data frame, array, notebook, caption, figure, and references of its concepts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from score_atlas import score_atlas

import crp_kit as crp
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.atlas.questions.embedding_naming import word_names
from crp_kit.result_table import Table

DRAW = np.random.default_rng(0)
LABELS = np.arange(60) % 3
VALUES = DRAW.normal(size=(60, 5)) + 2 * np.eye(3, 5)[LABELS]
LAYER = "layer0"

ANSWERS: dict[str, Callable[[ScoreAtlas], Table]] = {
    "contrast": lambda s: s.contrast(0, 1),
    "markers": lambda s: s.markers(1),
    "class means": lambda s: s.class_means(),
    "class presence": lambda s: s.class_presence(2),
    "pairs": lambda s: s.similarity().pairs(),
    "nearest": lambda s: s.similarity().nearest(2),
    "clusters": lambda s: s.similarity().clusters(2),
    "redundancy": lambda s: s.similarity().redundancy(),
    "prototypes": lambda s: s.prototypes(0, 2),
    "prototypes of folds": lambda s: s.prototype_stability(0, 2),
    "judged": lambda s: s.prototypes(0).judge(VALUES),
    "differences": lambda s: s.prototypes(0).judge(VALUES).differences(3),
    "outliers": lambda s: s.outliers(),
    "against": lambda s: s.outliers().against(s),
    "strategies": lambda s: s.strategies(0, 2),
    "strategy": lambda s: s.strategies(0, 2).concepts(1),
    "names": lambda s: s.file[LAYER].name_concepts({"b": LABELS == 1}, 1),  # type: ignore[index]
    "names by words": lambda s: word_names(s, VALUES, [np.arange(9)] * 5, (["a", "b"], np.eye(2, 5)), seed=0),
    "complexity": lambda s: s.complexity(),
    "complexity by class": lambda s: s.complexity().by_class(),
    "stability": lambda s: s.stability(k=2),
    "comparison": lambda s: crp.compare_atlases(s.file, s.file, LAYER),  # type: ignore[arg-type]
    "drift": lambda s: crp.atlas.drift(s.file, s.file, LAYER),  # type: ignore[arg-type]
    "drift of classes": lambda s: crp.atlas.drift(s.file, s.file, LAYER).classes,  # type: ignore[arg-type]
}


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScoreAtlas]:
    layer = score_atlas(tmp_path_factory.mktemp("tables") / "a.h5", LABELS.tolist(), VALUES, n_classes=3, k_class=4)
    yield layer
    layer.file.close()


@pytest.mark.parametrize("name", ANSWERS)
def test_each_has_every_form(scores: ScoreAtlas, name: str) -> None:
    table = ANSWERS[name](scores)
    frame, array, columns = table.to_frame(), table.to_numpy(), table.columns()
    assert list(frame.columns) == list(array.dtype.names) == list(columns)
    assert len(table) == len(frame) == len(array) > 0
    for column, values in columns.items():
        np.testing.assert_array_equal(array[column], values)
        np.testing.assert_array_equal(frame[column].to_numpy(), values)
    assert table.caption or name == "against"  # of which the caption is what could not be compared
    assert repr(table).startswith(table.caption)
    assert "<table" in table._repr_html_()
    assert isinstance(table.plot(), Figure)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ANSWERS)
def test_each_row_of_a_concept_leads_to_its_references(scores: ScoreAtlas, name: str) -> None:
    table: Any = ANSWERS[name](scores)
    columns, row = table.columns(), len(table) - 1
    wanted = [columns[key][row] for key in ("concept", "concept_a", "concept_b") if key in columns]
    if not wanted:
        assert not hasattr(table, "references")
        return
    found = table.references(row, 3)
    rankings = found if isinstance(found, tuple) else (found,)
    chosen = np.flatnonzero(columns["class"][row] == LABELS) if "class" in columns else np.arange(60)
    for concept, ranking in zip(wanted * (len(rankings) // len(wanted)), rankings, strict=True):
        order = chosen[np.argsort(-VALUES[chosen, concept].astype("f4"), kind="stable")]
        assert ranking.sample.tolist() == order[:3].tolist()


def test_all_public_answers_are_here(scores: ScoreAtlas) -> None:
    answers = {type(ask(scores)).__name__ for ask in ANSWERS.values()}
    questions = {one.__name__ for one in _subclasses(Table) if ".atlas." in one.__module__ and not _is_base(one)}
    assert questions - answers == {"SampleRanking", "ConceptRanking", "ClassRanking", "ConceptStatistics"}


def _subclasses(cls: type) -> Iterator[type]:
    for one in cls.__subclasses__():
        yield one
        yield from _subclasses(one)


def _is_base(cls: type) -> bool:
    return cls.__name__ in {"ConceptRows", "ClassConceptRows", "NamedRows", "_ConceptTable"}
