"""Every answer of an atlas is a table: data frame, array, notebook, counts, intervals, q-values, references."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import norm, pearsonr
from score_atlas import score_atlas

import crp_kit as crp
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.atlas.questions.embedding_naming import word_names
from crp_kit.errors import InputError
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


@dataclass(frozen=True)
class Said:
    """How an answer says how sure it is: counts, intervals, q-values, and whose samples its rows are.

    Parameters
    ----------
    count : str
        A column or property, or words of the caption that have the number.
    interval : str
        A column that ``low`` and ``high`` belong to, ``interval()``, or why there is none.
    q : str
        ``q``, or why there is none.
    """

    count: str
    interval: str
    q: str = "nothing is tested"


NO_PART = "describes single samples, or a division of them"
SAID = {
    "contrast": Said("n_a", "interval()", "q"),
    "markers": Said("n_b", "interval()", "q"),
    "class means": Said("n", "mean"),
    "class presence": Said("n", "fraction"),
    "pairs": Said("60 samples", "interval()"),
    "nearest": Said("60 samples", "interval()"),
    "clusters": Said("60 samples", NO_PART),
    "redundancy": Said("60 samples", "interval()"),
    "prototypes": Said("n", NO_PART),
    "prototypes of folds": Said("20 samples", NO_PART, "expected says what others have"),
    "judged": Said("20 rightly predicted samples", "interval()", "percentiles are ranks"),
    "differences": Said("a vector", NO_PART),
    "outliers": Said("n", "interval()", "percentiles are ranks"),
    "against": Said("n_other", "auroc", "intervals say whether 0.5 is inside"),
    "strategies": Said("20 samples", NO_PART),
    "strategy": Said("n_elsewhere", "auc", "q"),
    "names": Said("support", "interval()", "q"),
    "names by words": Said("n", "similarity", "q"),
    "complexity": Said("sample", NO_PART),
    "complexity by class": Said("n", "gini"),
    "stability": Said("n", "rank_correlation", "q"),
    "comparison": Said("60 common samples", "interval()"),
    "drift": Said("n_a", "interval()", "q"),
    "drift of classes": Said("n_b", "expected says what random divisions give", "q"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_each_has_counts_intervals_and_q_values_or_nothing_that_could_have_them(scores: ScoreAtlas, name: str) -> None:
    table: Any = ANSWERS[name](scores)
    columns, said = table.columns(), SAID[name]
    if " " in said.count:
        assert said.count in table.caption
    else:
        assert np.issubdtype(np.asarray(getattr(table, said.count)).dtype, np.integer)
    if said.interval == "interval()":
        (low, high), inside = table.interval(), table.interval(0.5)
        middle = next(columns[key] for key in _MIDDLES if key in columns)
        known = ~np.isnan(low)
        assert known.any()
        assert (low[known] < high[known]).any()
        assert (low[known] <= inside[0][known]).all()
        assert (inside[0][known] <= middle[known] + 1e-12).all()
        assert (middle[known] <= inside[1][known] + 1e-12).all()
        assert (inside[1][known] <= high[known]).all()
        with pytest.raises(InputError, match="confidence"):
            table.interval(1.5)
    elif " " in said.interval:
        assert not {"low", "high"} & set(columns)
    else:
        prefix = f"{said.interval}_" if f"{said.interval}_low" in columns else ""
        low, high = columns[f"{prefix}low"], columns[f"{prefix}high"]
        assert ((low <= columns[said.interval]) & (columns[said.interval] <= high)).all()
    assert ("p" in columns) <= (said.q == "q")
    if said.q == "q":
        assert ((table.q >= 0) & (table.q <= 1) | np.isnan(table.q)).all()


_MIDDLES = ("difference", "similarity", "redundancy", "percentile", "auc_other_half")


def test_cosines_and_overlaps_of_references_have_no_intervals(scores: ScoreAtlas) -> None:
    with pytest.raises(InputError, match="not of cosines"):
        scores.similarity("cosine").redundancy().interval()
    overlaps = replace(crp.compare_atlases(scores.file, scores.file, LAYER), by="references")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="overlaps of reference samples"):
        overlaps.interval()


def test_intervals_of_similarities_are_of_so_many_samples_and_classes(scores: ScoreAtlas) -> None:
    row = scores.similarity("pearson").pairs().taken(slice(0, 1))
    expected = pearsonr(*VALUES[:, [0, 1]].T.astype("f4")).confidence_interval()
    np.testing.assert_allclose(np.ravel(row.interval()), expected, rtol=1e-4)
    within = scores.similarity().pairs()
    low, high = within.interval()
    reach = norm.ppf(0.975) / np.sqrt(60 - 2 - 3)  # as many values less as there are classes beyond the first
    np.testing.assert_allclose(np.arctanh(high) - np.arctanh(low), 2 * reach, rtol=1e-9)
    chosen = scores.similarity(where=scores.file.where(label=[0, 1])).pairs().interval()  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.arctanh(chosen[1]) - np.arctanh(chosen[0]), 2 * norm.ppf(0.975) / 6, rtol=1e-9)


def test_a_group_of_one_sample_is_said_so(scores: ScoreAtlas) -> None:
    alone = scores.file.where(sample=[4])  # type: ignore[attr-defined]
    assert "(1 sample) against" in scores.contrast(alone).caption
    assert "(59 samples):" in scores.contrast(alone).caption


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
