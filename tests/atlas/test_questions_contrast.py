"""Contrasts, markers, mistakes and confusions of an atlas, against scipy on the scores themselves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from score_atlas import score_atlas, scored_pass

import crp_kit as crp
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.atlas.questions import matrix_rows
from crp_kit.atlas.questions.contrast_table import ContrastTable
from crp_kit.errors import AtlasError, ConceptRangeError, InputError

Array = npt.NDArray[Any]

COLUMNS = ["concept", "n_a", "n_b", "mean_a", "mean_b", "difference", "t", "df", "p", "q", "g", "auc"]
DRAW = np.random.default_rng(3)
SAMPLES, CONCEPTS = 170, 70
LABELS = DRAW.integers(0, 4, SAMPLES)
LABELS[0] = 7  # the only sample of its class
LEFT_OUT, UNLABELLED = 11, 12
LABELS[UNLABELLED] = -1
PREDICTIONS = np.where(DRAW.uniform(size=SAMPLES) < 0.7, DRAW.integers(0, 4, SAMPLES), np.maximum(LABELS, 0))
VALUES = (DRAW.normal(size=(SAMPLES, CONCEPTS)) + DRAW.normal(size=(8, CONCEPTS))[LABELS]).astype("f4")
VALUES[:, 5] = np.round(VALUES[:, 5])  # ties
VALUES[:, 6] = 0.1  # constant
SEEN = np.arange(SAMPLES) != LEFT_OUT
HAS_CLASS = SEEN & (LABELS >= 0)
ROUNDED = 3e-6
"""How far t from moments in float32 may be off, of 1 or of t: 1e-6 here, 9e-6 over both layers of the demo's atlas."""
ROUNDED_MEAN = 2.0**-24 * 4
"""How far a mean from moments in float32 may be off: half a unit in the last digit of a class mean below 4."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contrast")


@pytest.fixture(scope="module")
def scores(folder: Path) -> ScoreAtlas:
    return score_atlas(folder / "atlas.h5", LABELS.tolist(), VALUES, predictions=PREDICTIONS, left_out=[LEFT_OUT])


@pytest.fixture(scope="module")
def without(folder: Path) -> ScoreAtlas:
    """The same without a matrix."""
    options: dict[str, Any] = {"predictions": PREDICTIONS, "left_out": [LEFT_OUT], "matrix": False}
    return score_atlas(folder / "without.h5", LABELS.tolist(), VALUES, **options)


def atlas_of(scores: ScoreAtlas) -> crp.ConceptAtlas:
    assert isinstance(scores.file, crp.ConceptAtlas)
    return scores.file


def check(table: ContrastTable, a: Array, b: Array, *, rounding: float = 0.0) -> None:
    """Compare a whole table with scipy on the values of both groups, in float64."""
    assert list(table.to_frame()) == COLUMNS
    first, second = VALUES[a].astype("f8"), VALUES[b].astype("f8")
    varying = np.ptp(VALUES, axis=0) > 0
    expected = stats.ttest_ind(first[:, varying], second[:, varying], equal_var=False)
    inverse, close = table.taken(np.argsort(table.concept)), max(rounding, 1e-10)
    np.testing.assert_array_equal(inverse.concept, np.arange(CONCEPTS))
    assert set(table.n_a) == {len(first)} and set(table.n_b) == {len(second)}  # noqa: PT018
    for name, values in (("mean_a", first.mean(0)), ("mean_b", second.mean(0))):
        np.testing.assert_allclose(getattr(inverse, name), values, rtol=1e-13, atol=ROUNDED_MEAN if rounding else 1e-14)
    np.testing.assert_array_equal(table.difference, table.mean_a - table.mean_b)
    np.testing.assert_allclose(inverse.t[varying], expected.statistic, rtol=close, atol=close)
    np.testing.assert_allclose(inverse.df[varying], expected.df, rtol=close)
    np.testing.assert_allclose(inverse.p[varying], expected.pvalue, rtol=20 * close)
    np.testing.assert_allclose(inverse.q[varying], stats.false_discovery_control(inverse.p[varying]), rtol=1e-12)
    areas = stats.mannwhitneyu(first, second).statistic / (len(first) * len(second))
    np.testing.assert_allclose(inverse.auc, areas, rtol=1e-14)
    assert np.isnan([inverse.t[6], inverse.p[6], inverse.q[6], inverse.g[6]]).all()
    assert table.concept[-1] == 6
    assert (np.diff(np.abs(table.t[:-1])) <= 0).all()


# -------------------------------------------------------------------------------------------------- groups and routes


def test_two_classes_are_compared(scores: ScoreAtlas) -> None:
    check(scores.contrast(0, "class 1"), HAS_CLASS & (LABELS == 0), HAS_CLASS & (LABELS == 1))


def test_a_class_is_compared_with_all_others(scores: ScoreAtlas) -> None:
    check(scores.contrast(2), HAS_CLASS & (LABELS == 2), HAS_CLASS & (LABELS != 2))


def test_concepts_that_vary_little_lose_no_digits(folder: Path) -> None:
    labels = np.arange(60) % 3
    values = (0.7 + 1e-6 * np.random.default_rng(5).normal(size=(60, 4))).astype("f4")
    table = score_atlas(folder / "little.h5", labels.tolist(), values).contrast(0, 1)
    first, second = (values[labels == cls].astype("f8") for cls in (0, 1))
    expected = stats.ttest_ind(first, second, equal_var=False)
    inverse = np.argsort(table.concept)
    np.testing.assert_allclose(table.t[inverse], expected.statistic, rtol=1e-6)
    np.testing.assert_allclose(table.p[inverse], expected.pvalue, rtol=1e-6)


def test_two_selections_are_compared_by_the_matrix(scores: ScoreAtlas) -> None:
    atlas, numbers = atlas_of(scores), np.arange(SAMPLES)
    first, second = atlas.where(sample=range(60)), atlas.where(sample=range(90, 170))
    check(scores.contrast(first, second), HAS_CLASS & (numbers < 60), HAS_CLASS & (numbers >= 90))


def test_a_selection_is_compared_with_all_other_samples_that_have_relevance(scores: ScoreAtlas) -> None:
    chosen = np.arange(SAMPLES) < 60
    table = scores.contrast(atlas_of(scores).where(sample=range(60)))
    check(table, HAS_CLASS & chosen, HAS_CLASS & ~chosen)


def test_a_class_is_compared_with_a_selection(scores: ScoreAtlas) -> None:
    chosen = atlas_of(scores).where(label=[1, 2])
    check(scores.contrast(0, chosen), HAS_CLASS & (LABELS == 0), HAS_CLASS & np.isin(LABELS, [1, 2]))


def test_where_restricts_both_groups(scores: ScoreAtlas) -> None:
    numbers, where = np.arange(SAMPLES), atlas_of(scores).where(sample=range(100))
    kept = HAS_CLASS & (numbers < 100)
    check(scores.contrast(0, 1, where=where), kept & (LABELS == 0), kept & (LABELS == 1))
    check(scores.contrast(0, where=where), kept & (LABELS == 0), kept & (LABELS != 0))


def test_moments_agree_with_the_matrix_up_to_their_rounding(scores: ScoreAtlas, without: ScoreAtlas) -> None:
    for a, b in ((0, 1), (3, None)):
        by_moments, by_matrix = (
            table.taken(np.argsort(table.concept)) for table in (without.contrast(a, b), scores.contrast(a, b))
        )
        for name in ("mean_a", "mean_b"):
            np.testing.assert_allclose(getattr(by_moments, name), getattr(by_matrix, name), rtol=0, atol=ROUNDED_MEAN)
        for name in ("t", "df", "g"):
            values = getattr(by_moments, name), getattr(by_matrix, name)
            np.testing.assert_allclose(*values, rtol=ROUNDED, atol=ROUNDED)
        np.testing.assert_array_equal(by_moments.n_a, by_matrix.n_a)


def test_without_a_matrix_classes_are_compared_but_for_the_auc(without: ScoreAtlas) -> None:
    table = without.contrast(0, 1)
    assert np.isnan(table.auc).all()
    assert table.caption.endswith("started from each sample's label; no auc without a matrix")


def test_without_a_matrix_selections_are_refused_and_it_is_said_how_to_add_one(without: ScoreAtlas) -> None:
    atlas = atlas_of(without)
    for ask in (
        lambda: without.contrast(atlas.where(label=0)),
        lambda: without.contrast(0, 1, where=atlas.where(correct=True)),
        lambda: without.mistakes(0),
        lambda: without.confusion(0, 1),
    ):
        with pytest.raises(
            AtlasError, match=r"no matrix: add it with study.add_matrix\(atlas\), or build the atlas with"
        ):
            ask()


def test_a_sample_without_a_target_has_activation_and_counts_among_selected_ones(scores: ScoreAtlas) -> None:
    activation, atlas = atlas_of(scores)["layer0"].activation, atlas_of(scores)
    chosen = atlas.where(sample=range(60))
    assert activation.contrast(chosen).n_a[0] == scores.contrast(chosen).n_a[0] + 1 == 59
    assert activation.contrast(0).n_b[0] == scores.contrast(0).n_b[0]
    assert activation.contrast(0).caption.endswith("activation of the concepts of 'layer0'")


@pytest.mark.parametrize("budget", [1, 1 << 15, 1 << 18])
def test_a_large_matrix_is_read_some_columns_at_a_time(
    scores: ScoreAtlas, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas = atlas_of(scores)
    whole = scores.contrast(atlas.where(label=0))
    monkeypatch.setattr(matrix_rows, "_BYTES_AT_ONCE", budget)
    monkeypatch.setattr(matrix_rows, "_CHUNK", (16, 8))
    parts = scores.contrast(atlas.where(label=0))
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_a_class_of_one_sample_has_differences_and_ranks_alone(scores: ScoreAtlas) -> None:
    table = scores.contrast(7, 0)
    assert table.n_a[0] == 1
    assert np.isnan([table.t, table.df, table.p, table.q, table.g]).all()
    np.testing.assert_array_equal(table.concept, np.arange(CONCEPTS))
    expected = (VALUES[0] > VALUES[HAS_CLASS & (LABELS == 0)]).mean(0)
    np.testing.assert_allclose(table.auc[table.concept != 5][:5], expected[:5])


def test_samples_with_several_targets_count_in_each_class_and_have_no_auc(tmp_path: Path) -> None:
    values = DRAW.normal(size=(12, 3))
    with score_atlas(tmp_path / "atlas.h5", [0, 1] * 6, values, second={0: 1, 2: 1}).file as file:
        table = file["layer0"].relevance.contrast(0, 1)  # type: ignore[index]
        assert (table.n_a[0], table.n_b[0]) == (6, 8)
        assert np.isnan(table.auc).all()
        assert "samples have several targets" in table.caption


@pytest.mark.parametrize(
    ("target", "words"),
    [("label", "each sample's label"), ("prediction", "each sample's prediction"), ("top:0.1", "the target 'top:0.1'")],
)
def test_the_caption_says_where_relevance_started(tmp_path: Path, target: str, words: str) -> None:
    layer = score_atlas(tmp_path / "atlas.h5", [0, 1] * 3, DRAW.normal(size=(6, 2)), target=target)
    table = layer.contrast(0, 1)
    expected = (
        f"class 0 (3 samples) against class 1 (3 samples): relevance of the concepts of 'layer0', started from {words}"
    )
    assert table.caption == expected.replace("class 0", "class 0 class 0").replace("class 1", "class 1 class 1")
    assert repr(table).startswith(table.caption)
    assert "(1 sample) against " in replace(table, n_a=np.ones_like(table.n_a)).caption
    assert "started from" in table._repr_html_()
    atlas_of(layer).close()


# ------------------------------------------------------------------------------------------------- wrong questions


def test_groups_that_share_samples_are_refused(scores: ScoreAtlas) -> None:
    atlas = atlas_of(scores)
    first, second = atlas.where(sample=range(50)), atlas.where(sample=range(40, 90))
    with pytest.raises(InputError, match=r"50 samples by number share 10 samples of .* such as by a & ~b"):
        scores.contrast(first, second)
    scores.contrast(first & ~second, second)
    scores.contrast(first, second, where=~(first & second))
    with pytest.raises(InputError, match="class 2 class 2 is both of them"):
        scores.contrast(2, "class 2")
    with pytest.raises(InputError, match="share"):
        scores.contrast(2, atlas.where(label=2))


def test_groups_without_samples_are_refused(scores: ScoreAtlas, without: ScoreAtlas) -> None:
    nothing = atlas_of(scores).where(sample=[])
    for ask in (
        lambda: scores.contrast(0, 5),
        lambda: without.contrast(5),
        lambda: scores.contrast(nothing),
        lambda: scores.contrast(0, where=nothing),
        lambda: scores.contrast(atlas_of(scores).where()),
        lambda: scores.markers(5),
    ):
        with pytest.raises(InputError, match="no sample is in the group"):
            ask()


def test_what_is_no_class_and_selections_of_another_atlas_are_refused(scores: ScoreAtlas, tmp_path: Path) -> None:
    other = score_atlas(tmp_path / "other.h5", [0, 1], np.ones((2, 3)))
    foreign = atlas_of(other).where(label=0)
    for ask in (lambda: scores.contrast(foreign), lambda: scores.contrast(0, foreign),
                lambda: scores.contrast(0, 1, where=foreign)):  # fmt: skip
        with pytest.raises(InputError, match="belongs to"):
            ask()
    with pytest.raises(ConceptRangeError):
        scores.contrast(0, 10)
    with pytest.raises(InputError, match="no class is named 'dog'"):
        scores.contrast("dog")
    atlas_of(other).close()


# --------------------------------------------------------------------------------------------------------- markers


def test_markers_are_the_first_of_the_contrast_with_the_rest_that_are_stronger(scores: ScoreAtlas) -> None:
    whole = scores.contrast(1)
    expected = [row for row in whole.rows() if row["mean_a"] > row["mean_b"]]
    assert [*scores.markers(1, k=7).rows()] == expected[:7]
    assert len(scores.markers(1)) == 10
    everything = scores.markers(1, k=CONCEPTS)
    assert len(everything) == len(expected) < CONCEPTS


def test_markers_are_of_selections_too_and_of_some_samples(scores: ScoreAtlas) -> None:
    where = atlas_of(scores).where(sample=range(120))
    table = scores.markers(atlas_of(scores).where(label=[0, 1]), k=5, where=where)
    kept = HAS_CLASS & (np.arange(SAMPLES) < 120)
    assert table.n_a[0] == (kept & (LABELS < 2)).sum()
    assert table.n_a[0] + table.n_b[0] == kept.sum()
    assert (table.difference > 0).all()


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None])
def test_a_number_of_markers_that_is_none_is_refused(scores: ScoreAtlas, k: Any) -> None:
    with pytest.raises(InputError, match="k is a whole number of at least 1"):
        scores.markers(0, k)


# -------------------------------------------------------------------------------------------------------- mistakes


def test_mistakes_are_the_right_against_the_wrong_predictions_of_a_class(scores: ScoreAtlas) -> None:
    of_class = HAS_CLASS & (LABELS == 1)
    table = scores.mistakes("class 1")
    check(table, of_class & (PREDICTIONS == 1), of_class & (PREDICTIONS != 1))
    assert table.groups == ("class 1 class 1 predicted right", "class 1 class 1 predicted wrong")
    assert "started from each sample's label" in table.caption


def test_a_confusion_is_what_was_taken_for_a_class_against_that_class(scores: ScoreAtlas) -> None:
    table = scores.confusion(2, 3)
    taken, right = (HAS_CLASS & (label == LABELS) & (PREDICTIONS == 3) for label in (2, 3))
    check(table, taken, right)
    assert table.groups == ("class 2 class 2 predicted as class 3 class 3", "class 3 class 3 predicted right")


def test_where_restricts_mistakes_and_confusions(scores: ScoreAtlas) -> None:
    where, kept = atlas_of(scores).where(sample=range(140)), HAS_CLASS & (np.arange(SAMPLES) < 140)
    of_class = kept & (LABELS == 1)
    check(scores.mistakes(1, where=where), of_class & (PREDICTIONS == 1), of_class & (PREDICTIONS != 1))
    taken, right = (kept & (label == LABELS) & (PREDICTIONS == 0) for label in (2, 0))
    check(scores.confusion(2, 0, where=where), taken, right)


def test_a_class_without_mistakes_and_a_confusion_with_itself_are_refused(scores: ScoreAtlas, tmp_path: Path) -> None:
    perfect = score_atlas(tmp_path / "atlas.h5", [0, 1] * 3, DRAW.normal(size=(6, 2)))
    with pytest.raises(InputError, match="no sample is in the group: class 0 class 0 predicted wrong"):
        perfect.mistakes(0)
    with pytest.raises(InputError, match="no sample is in the group: class 1 class 1 predicted as class 0 class 0"):
        perfect.confusion(1, 0)
    with pytest.raises(InputError, match="a confusion is of two classes; got class 1 class 1 twice"):
        scores.confusion(1, "class 1")
    atlas_of(perfect).close()


# ----------------------------------------------------------------------------------------------------------- table


def test_intervals_of_the_differences_are_those_of_scipy_in_whatever_rows(scores: ScoreAtlas) -> None:
    first, second = HAS_CLASS & (LABELS == 0), HAS_CLASS & (LABELS == 1)
    table = scores.contrast(0, 1).taken(slice(4, 20))
    a, b = (VALUES[group][:, table.concept].astype("f8") for group in (first, second))
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    np.testing.assert_allclose(table.interval(0.9), [interval.low, interval.high], rtol=0, atol=2 * ROUNDED_MEAN)


def test_a_row_has_the_references_of_its_concept(scores: ScoreAtlas) -> None:
    table = scores.contrast(0, 1)
    ranking = table.references(3, k=4)
    np.testing.assert_array_equal(ranking.sample, scores.top(int(table.concept[3]), 4).sample)


def test_the_synthetic_pass_writes_sound_atlases(folder: Path, scores: ScoreAtlas) -> None:
    assert scores.file.path.exists()
    path = scored_pass([0, 1, 1], np.ones((3, 2))).write(folder / "sound.h5")
    assert crp.verify_atlas(path) == ()


@pytest.mark.parametrize("width", [3.4, 7.0])
def test_the_figure_shows_both_means_and_the_difference_of_the_first_concepts(scores: ScoreAtlas, width: float) -> None:
    table = scores.contrast(0, 1)
    figure = table.plot(5, confidence=0.9, width=width)
    means, differences = figure.axes
    assert figure.get_figwidth() == width
    assert [tick.get_text() for tick in means.get_yticklabels()] == [str(concept) for concept in table.concept[:5]]
    second, first = (np.asarray(dots.get_offsets())[:, 0] for dots in means.collections[1:])
    np.testing.assert_allclose(first, table.mean_a[:5])
    np.testing.assert_allclose(second, table.mean_b[:5])
    ends = np.array([segment[:, 0] for segment in differences.collections[0].get_segments()])  # type: ignore[attr-defined]
    np.testing.assert_allclose(ends.T, [values[:5] for values in table.interval(0.9)])
    figure.draw_without_rendering()


def test_a_figure_of_one_sample_and_of_a_constant_concept_is_drawn_without_intervals(scores: ScoreAtlas) -> None:
    scores.contrast(7, 0).plot(CONCEPTS).draw_without_rendering()


def test_there_is_no_figure_of_no_rows(scores: ScoreAtlas) -> None:
    table = scores.contrast(0, 1)
    with pytest.raises(InputError, match="there is nothing to draw: no concept of class 0 class 0 against class 1"):
        table.taken(slice(0)).plot()
    with pytest.raises(InputError, match="k is a whole number of at least 1"):
        table.plot(0)
