"""Answers about samples and structure on small random atlases, against a second writing of each definition by loops.

The atlases have ties, classes without samples and with a single one, samples without a label, with two targets or left
out, and wrong predictions; each question is asked of all samples and of a selection.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import mannwhitneyu, multivariate_normal, spearmanr
from score_atlas import score_atlas
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.metrics import roc_auc_score

import crp_kit as crp
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.atlas.query.selection import Selection
from crp_kit.atlas.questions.naming import NO_NAME
from crp_kit.errors import InputError
from crp_kit.statistics.intervals import auc_interval
from crp_kit.statistics.stability import fold_numbers

Array = npt.NDArray[Any]
SAMPLES, CONCEPTS, CLASSES = 64, 9, 6


class Case(NamedTuple):
    """A layer of an atlas, the selection that is asked, and what both hold, in float64."""

    scores: ScoreAtlas
    where: Selection | None
    values: Array
    targets: Array
    predictions: Array
    counted: Array


@pytest.fixture(scope="module", params=[(2, False), (2, True), (3, False), (3, True)], ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    seed, selected = request.param
    draw = np.random.default_rng([seed, 77])
    labels = draw.integers(0, 4, SAMPLES)  # class 4 has no sample
    labels[[3, 30]] = 5, -1
    values = np.round(2 * (draw.normal(size=(SAMPLES, CONCEPTS)) + draw.normal(size=(6, CONCEPTS))[labels])) / 4
    values += np.arange(CONCEPTS) * 37 / 1024  # seeds are such that means of different values are not equal
    values[:, 7], values[9] = 0.25, 0
    predictions = np.where(draw.uniform(size=SAMPLES) < 0.25, draw.integers(0, 4, SAMPLES), np.maximum(labels, 0))
    scores = score_atlas(
        tmp_path_factory.mktemp("second") / "a.h5", labels.tolist(), values, predictions=predictions,
        second={5: 1, 6: 2}, left_out=[11],
    )  # fmt: skip
    assert isinstance(scores.file, crp.ConceptAtlas)
    where = scores.file.where(sample=range(2, 58)) & ~scores.file.where(prediction=3) if selected else None
    counted = np.array([labels[one] >= 0 and one != 11 for one in range(SAMPLES)])
    if selected:
        counted &= np.array([2 <= one < 58 and predictions[one] != 3 for one in range(SAMPLES)])
    yield Case(scores, where, values, labels, predictions, counted)
    scores.file.close()


def negative_log_density(rows: Array, row: Array) -> float:
    """Of a Gaussian whose covariance is shrunk as by Ledoit and Wolf, by at least 0.001 and at most 0.99."""
    shrinkage = min(max(float(ledoit_wolf_shrinkage(rows)), 1e-3), 0.99)
    centred = rows - rows.mean(0)
    covariance = sum(np.outer(one, one) for one in centred) / len(rows)
    variance = np.trace(covariance) / rows.shape[1]
    shrunk = (1 - shrinkage) * covariance + shrinkage * variance * np.eye(rows.shape[1])
    return -float(multivariate_normal(rows.mean(0), shrunk).logpdf(row))


class Fit(NamedTuple):
    """Rows of a class with their folds and held-out scores."""

    rows: Array
    fold: Array
    scores: list[float]

    def of_fold(self, number: int) -> Array:
        return self.rows[self.fold != number]

    def percentile(self, row: Array) -> float:
        """Two-sided, of a row that is none of them: each fold's rows are compared with the score by the others."""
        median, nearer = float(np.median(self.scores)), 0.0
        for own, number in zip(self.scores, self.fold.tolist(), strict=True):
            distance = abs(negative_log_density(self.of_fold(number), row) - median)
            nearer += above(distance, abs(own - median))
        return 100 * (nearer + 0.5) / (len(self.rows) + 1)

    def own_percentile(self, index: int) -> float:
        distances = [abs(one - float(np.median(self.scores))) for one in self.scores]
        others = [one for number, one in enumerate(distances) if number != index]
        return 100 * (sum(above(distances[index], one) for one in others) + 0.5) / len(self.rows)


def above(value: float, other: float) -> float:
    """1, a half or 0; what differs by rounding alone is equal."""
    return 0.5 if abs(value - other) < 1e-6 else float(value > other)


def fitted(rows: Array) -> Fit:
    folds = min(5, len(rows))
    fold = np.random.default_rng(0).permutation(np.arange(len(rows)) % folds)
    scores = [negative_log_density(rows[fold != one], row) for row, one in zip(rows, fold, strict=True)]
    return Fit(rows, fold, scores)


def right_of(case: Case, cls: int) -> Array:
    return case.counted & (case.targets == cls) & (case.predictions == cls)


def test_outliers_are_by_percentiles_of_held_out_densities(case: Case) -> None:
    expected, left_out = {}, []
    for cls in range(CLASSES):
        right, of_class = np.flatnonzero(right_of(case, cls)), np.flatnonzero(case.counted & (case.targets == cls))
        if len(right) < 3:
            left_out += [cls] if len(of_class) else []
            continue
        fit = fitted(case.values[right])
        for sample in of_class.tolist():
            own = np.flatnonzero(right == sample)
            percentile = fit.own_percentile(own[0]) if len(own) else fit.percentile(case.values[sample])
            expected[sample] = cls, percentile
    table = case.scores.outliers(k=SAMPLES, where=case.where)
    assert table.left_out == tuple(left_out)
    assert sorted(table.sample) == sorted(expected)
    for row in table.rows():
        cls, percentile = expected[row["sample"]]
        assert row["class"] == cls
        assert row["percentile"] == pytest.approx(percentile, abs=1e-9)
    assert (np.diff(table.percentile) <= 0).all()


def test_prototypes_and_judged_vectors_are_those_of_the_right_samples(case: Case) -> None:
    right = np.flatnonzero(right_of(case, 1))
    rows, vectors = case.values[right], np.concatenate([case.values[:6], case.values[20:24] + 0.1])
    table = case.scores.prototypes(1, where=case.where)
    np.testing.assert_allclose(table.means, [rows.mean(0)], atol=1e-12)
    assert (table.n.tolist(), table.weight.tolist()) == ([len(rows)], [1.0])
    densities = np.array([negative_log_density(rows, row) for row in rows])
    nearest = densities[[right.tolist().index(sample) for sample in table.samples[0]]]
    np.testing.assert_allclose(nearest, np.sort(densities)[:8], atol=1e-9)
    judged, fit = table.judge(vectors), fitted(rows)
    np.testing.assert_allclose(judged.percentile, [fit.percentile(row) for row in vectors], atol=1e-9)
    assert not judged.prototype.any()
    difference = [value - rows[:, concept].mean() for concept, value in enumerate(vectors[0])]
    differences = judged.differences(0, k=None)
    np.testing.assert_allclose(differences.difference, [difference[one] for one in differences.concept], atol=1e-12)
    assert (np.diff(np.abs(differences.difference)) <= 1e-12).all()


def test_strategies_are_of_all_samples_of_a_class_and_their_concepts_by_pairs(case: Case) -> None:
    chosen = np.flatnonzero(case.counted & (case.targets == 0))
    table = case.scores.strategies(0, 2, k=3, where=case.where)
    assert table.sample.tolist() == chosen.tolist()
    assert table.sizes.tolist() == sorted(table.sizes.tolist(), reverse=True)
    inside, outside = (case.values[table.sample[table.strategy == number]] for number in (1, 0))
    concepts = table.concepts(1, k=None)
    for row in concepts.rows():
        pairs = [above(a, b) for a in inside[:, row["concept"]] for b in outside[:, row["concept"]]]
        assert row["auc"] == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
        assert row["mean"] == pytest.approx(inside[:, row["concept"]].mean(), abs=1e-12)
        assert row["mean_elsewhere"] == pytest.approx(outside[:, row["concept"]].mean(), abs=1e-12)
        assert (row["n"], row["n_elsewhere"]) == (len(inside), len(outside))
        ends = tuple(map(float, auc_interval(row["auc"], len(inside), len(outside))))
        assert (row["low"], row["high"]) == pytest.approx(ends, abs=1e-12)
    p = mannwhitneyu(inside, outside, method="asymptotic", use_continuity=False).pvalue[concepts.concept]
    np.testing.assert_allclose(concepts.p, p, rtol=1e-9)


@pytest.mark.parametrize(("ranking", "least"), [("markers", 2), ("means", 1)])
@pytest.mark.parametrize("folds", [2, 3])
def test_stability_is_agreement_between_all_pairs_of_folds(case: Case, ranking: Any, least: int, folds: int) -> None:
    table = case.scores.stability(folds, 3, seed=4, ranking=ranking, where=case.where)
    targets, values = case.targets[case.counted], case.values[case.counted]
    fold = fold_numbers(targets, folds, 4)
    assert table.to_frame()["class"].tolist() == sorted(set(targets.tolist()))
    for row in table.rows():
        parts = [values[(targets == row["class"]) & (fold == number)] for number in range(folds)]
        assert row["n"] == sum(map(len, parts))
        assert row["expected"] == pytest.approx(3 / CONCEPTS)
        if min(map(len, parts)) < least:
            assert np.isnan([row["rank_correlation"], row["overlap"]]).all()
            continue
        rests = [values[(targets != row["class"]) & (fold == number)] for number in range(folds)]
        orders = [part.mean(0) if ranking == "means" else welch(part, rest)
                  for part, rest in zip(parts, rests, strict=True)]  # fmt: skip
        ranks = [spearmanr(a, b).statistic for a, b in combinations(np.round(orders, 10), 2)]
        tops = [set(np.argsort(-np.round(one, 10), kind="stable")[:3].tolist()) for one in orders]
        shared = [len(a & b) / 3 for a, b in combinations(tops, 2)]
        assert row["rank_correlation"] == pytest.approx(np.mean(ranks), abs=1e-9)
        assert row["overlap"] == pytest.approx(np.mean(shared), abs=1e-12)


def welch(a: Array, b: Array) -> Array:
    """t of each concept, 0 for one that never varies."""
    error = np.sqrt(a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b))
    return np.array([d / e if e > 0 else 0.0 for d, e in zip(a.mean(0) - b.mean(0), error, strict=True)])


def test_complexity_is_that_of_each_sample_and_means_are_of_those_with_any_score(case: Case) -> None:
    table = case.scores.complexity(where=case.where)
    chosen = np.flatnonzero(case.counted)
    assert table.sample.tolist() == chosen.tolist()
    assert table.cls.tolist() == case.targets[chosen].tolist()
    measured: dict[int, list[tuple[float, float, int]]] = {}
    for row in table.rows():
        sizes = sorted((abs(value) for value in case.values[row["sample"]].tolist()), reverse=True)
        if not any(sizes):
            assert np.isnan([row["gini"], row["hoyer"]]).all()
            continue
        total = sum(sizes)
        gini = sum(abs(a - b) for a in sizes for b in sizes) / (2 * CONCEPTS * total)
        hoyer = (CONCEPTS**0.5 - total / sum(one**2 for one in sizes) ** 0.5) / (CONCEPTS**0.5 - 1)
        n90 = next(count for count in range(1, CONCEPTS + 1) if sum(sizes[:count]) >= 0.9 * total - 1e-9)
        assert (row["gini"], row["hoyer"]) == pytest.approx((gini, hoyer), abs=1e-12)
        assert row["n90"] == n90
        measured.setdefault(row["class"], []).append((gini, hoyer, n90))
    for row in table.by_class().rows():
        means = np.mean(measured[row["class"]], 0)
        assert (row["gini"], row["hoyer"], row["n90"]) == pytest.approx(tuple(means))
        assert row["n"] == len(measured.pop(row["class"]))
    assert not measured


def test_names_of_one_attribute_are_those_of_the_highest_area(case: Case) -> None:
    draw = np.random.default_rng(8)
    truth = {name: draw.random(SAMPLES) < 0.4 for name in "abc"} | {
        "high": case.values[:, 2] > np.quantile(case.values[:, 2], 0.7)
    }
    table = case.scores.file[case.scores.layer].name_concepts(truth, 1, where=case.where, seed=2)  # type: ignore[index]
    chosen = np.flatnonzero(case.counted)
    order = np.random.default_rng(2).permutation(len(chosen))
    first, second = (chosen[np.sort(part)] for part in np.split(order, [len(chosen) // 2]))
    literals = truth | {f"not {name}": ~held for name, held in truth.items()}
    low, high = min(10, len(first) / 4), len(first) / 2
    for row in table.rows():
        column = case.values[:, row["concept"]]
        areas = {name: roc_auc_score(held[first], column[first]) for name, held in literals.items()
                 if low <= held[first].sum() <= high}  # fmt: skip
        assert row["auc"] == pytest.approx(max(areas.values()), abs=1e-12)
        best = [name for name, area in areas.items() if area >= row["auc"] - 1e-12]
        assert row["name"] in {*best, NO_NAME}
        checked = {round(float(roc_auc_score(literals[name][second], column[second])), 12) for name in best}
        assert round(row["auc_other_half"], 12) in checked
        assert row["support"] in {int(literals[name][chosen].sum()) for name in best}
        assert row["name"] == NO_NAME or row["auc"] > row["null"]


def test_mistakes_and_confusions_are_of_labels_and_predictions_among_the_samples_that_count(case: Case) -> None:
    of_class = case.counted & (case.targets == 1)
    taken, right = (case.counted & (case.targets == cls) & (case.predictions == 1) for cls in (2, 1))
    for ask, a, b in (
        (lambda: case.scores.mistakes(1, case.where), of_class & (case.predictions == 1),
         of_class & (case.predictions != 1)),
        (lambda: case.scores.confusion(2, 1, case.where), taken, right),
    ):  # fmt: skip
        if not a.any() or not b.any():
            with pytest.raises(InputError, match="no sample is in the group"):
                ask()
            continue
        table = ask()
        assert (table.n_a[0], table.n_b[0]) == (a.sum(), b.sum())
        for row in table.rows():
            first, second = case.values[a, row["concept"]], case.values[b, row["concept"]]
            assert row["difference"] == pytest.approx(first.mean() - second.mean(), abs=1e-12)
            area = sum(above(x, y) for x in first for y in second) / (len(first) * len(second))
            assert row["auc"] == pytest.approx(area, abs=1e-12)
