"""Names from attributes: searches against all formulas, AUCs against scikit-learn's, chance, errors."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from crp_kit.errors import InputError
from crp_kit.statistics import naming
from crp_kit.statistics.formula_search import Formula, SearchRules, formula_truth, search
from crp_kit.statistics.naming import name_concepts
from crp_kit.statistics.ranks import mid_ranks


def halves(samples: int, seed: int) -> tuple[Any, Any]:
    """The samples where names are searched and where they are checked."""
    order = np.random.default_rng(seed).permutation(samples)
    return np.sort(order[: samples // 2]), np.sort(order[samples // 2 :])


def random_data(samples: int, concepts: int, attributes: int, seed: int = 0) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(samples, concepts)), generator.random((samples, attributes)) < 0.3


def every_formula(attributes: int, length: int) -> list[Formula]:
    literals = list(product(range(attributes), (False, True)))
    formulas = [Formula((number,), (negated,)) for number, negated in literals]
    whole = list(formulas)
    for _ in range(1, length):
        formulas = [
            one.joined(number, negated, by_and=join)
            for one in formulas
            for number, negated in literals
            for join in (True, False)
            if number not in one.attributes
        ]
        whole += formulas
    return whole


def area_by_pairs(held: Any, values: Any) -> float:
    above = np.sign(values[held][:, None] - values[~held])
    return float((above + 1).mean() / 2)


@pytest.mark.parametrize("ties", [False, True])
def test_a_wide_beam_finds_the_best_of_all_formulas(ties: bool) -> None:
    scores, truth = random_data(60, 3, 4, seed=1)
    scores = scores.round(0) if ties else scores
    scores[:, 0] += 2 * (truth[:, 0] | (truth[:, 1] & ~truth[:, 3]))
    formulas, areas = search(mid_ranks(scores), truth, SearchRules(2, 1000))
    for concept in range(3):
        best = {1: 0.0, 2: 0.0}
        for formula in every_formula(4, 2):
            held = formula_truth(formula, truth)
            if 10 <= held.sum() <= 30:
                area = area_by_pairs(held, scores[:, concept])
                best[len(formula.attributes)] = max(best[len(formula.attributes)], area)
        expected = best[2] if best[2] >= best[1] + 0.01 else best[1]
        assert areas[concept] == pytest.approx(expected, abs=1e-12)
        held = formula_truth(formulas[concept], truth)
        assert areas[concept] == pytest.approx(roc_auc_score(held, scores[:, concept]), abs=1e-12)


def test_true_formulas_are_the_names_of_concepts_that_follow_them() -> None:
    generator = np.random.default_rng(2)
    truth = generator.random((600, 6)) < 0.4
    rules = [
        truth[:, 2], ~truth[:, 0] & truth[:, 1], (truth[:, 3] & truth[:, 4]) & ~truth[:, 5],
        (truth[:, 0] & truth[:, 1]) | (truth[:, 2] & False),
    ]  # fmt: skip
    scores = np.stack(rules, 1) + generator.normal(0, 0.25, (600, 4))
    names = name_concepts(scores, truth, beam=8)
    assert names.distinguishable.all()
    for rule, formula, support in zip(rules, names.formulas, names.support, strict=True):
        assert np.array_equal(formula_truth(formula, truth), rule)
        assert support == rule.sum()
    assert names.formulas[0].words("abcdef") == "c"
    assert names.formulas[2].words("abcdef") == "d and e and not f"


def test_the_area_on_the_other_half_is_that_of_samples_which_the_search_has_not_seen() -> None:
    scores, truth = random_data(120, 8, 5, seed=3)
    scores[:, :4] += truth[:, :4]
    names = name_concepts(scores, truth, seed=7)
    first, second = halves(120, 7)
    for concept, formula in enumerate(names.formulas):
        held = formula_truth(formula, truth)
        assert names.auc[concept] == pytest.approx(roc_auc_score(held[first], scores[first, concept]))
        assert names.auc_other_half[concept] == pytest.approx(roc_auc_score(held[second], scores[second, concept]))
        assert names.support[concept] == held.sum()


def test_the_check_is_the_one_sided_test_of_mann_and_whitney_corrected_for_ties() -> None:
    generator = np.random.default_rng(4)
    scores, held = generator.integers(0, 6, (90, 5)).astype(float), generator.random((90, 5)) < 0.3
    scores[:, 4] = 1
    areas, p = naming._checked(scores, held)
    for concept in range(4):
        values, mask = scores[:, concept], held[:, concept]
        expected = mannwhitneyu(
            values[mask], values[~mask], alternative="greater", method="asymptotic", use_continuity=False
        )
        assert p[concept] == pytest.approx(expected.pvalue)
        assert areas[concept] == pytest.approx(expected.statistic / (mask.sum() * (~mask).sum()))
    assert (areas[4], p[4]) == (0.5, 1)


@pytest.mark.parametrize("seed", range(3))
def test_concepts_that_follow_nothing_have_no_distinguishable_name(seed: int) -> None:
    scores, truth = random_data(200, 40, 8, seed=10 + seed)
    names = name_concepts(scores, truth, seed=seed)
    assert not names.distinguishable.any()
    assert 0.6 < names.null < 0.85
    assert (names.auc > names.null).mean() < 0.25
    assert abs(np.nanmean(names.auc_other_half) - 0.5) < 0.03


def test_the_null_holds_for_scores_with_ties_and_for_constant_ones() -> None:
    scores, truth = random_data(200, 30, 8, seed=5)
    names = name_concepts(np.maximum(scores - 1, 0), truth)
    assert (names.auc > names.null).mean() < 0.25
    constant = name_concepts(np.zeros((40, 2)), truth[:40])
    assert constant.auc.tolist() == [0.5, 0.5]
    assert not constant.distinguishable.any()


def test_a_seed_gives_the_same_names_each_time_whatever_the_type_of_the_scores() -> None:
    scores, truth = random_data(80, 70, 5, seed=6)
    scores = scores.astype(np.float32)
    first, second = name_concepts(scores, truth, seed=3), name_concepts(scores.astype(float), truth, seed=3)
    assert first.formulas == second.formulas
    assert np.array_equal(first.auc, second.auc)
    assert first.null == second.null


def test_a_formula_holds_in_at_most_half_of_the_samples_and_repeats_no_attribute() -> None:
    scores, truth = random_data(100, 20, 3, seed=8)
    names = name_concepts(scores, np.concatenate([truth, ~truth[:, :1], np.ones((100, 1), bool)], 1), length=4)
    first, _ = halves(100, 0)
    for formula in names.formulas:
        assert len(set(formula.attributes)) == len(formula.attributes)
    wide = np.concatenate([truth, ~truth[:, :1], np.ones((100, 1), bool)], 1)
    assert all(10 <= formula_truth(formula, wide)[first].sum() <= 25 for formula in names.formulas)


def test_formulas_are_written_with_brackets_only_where_and_meets_or() -> None:
    names = ["a", "b", "c"]
    assert Formula((1,), (True,)).words(names) == "not b"
    assert Formula((0, 1, 2), (False,) * 3, (False, False)).words(names) == "a or b or c"
    assert Formula((0, 1, 2), (False, True, False), (False, True)).words(names) == "(a or not b) and c"


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (np.full((20, 2), np.nan), np.eye(20, dtype=bool), "NaN or infinite"),
        (
            np.concatenate([np.zeros((19, 1)), [[np.inf]]]),
            np.eye(20, dtype=bool),
            "infinite in 1 rows, the first is 19",
        ),
        (np.zeros((7, 2)), np.eye(7, dtype=bool), "at least 8 samples"),
        (np.zeros((20, 2)), np.ones((20, 1), bool), "holds in 2 to 5 of 10 samples"),
        (np.zeros((20, 2)), np.ones((20, 1)), "attributes is an array of booleans"),
        (np.zeros((20, 2)), np.ones((19, 1), bool), "20 rows"),
    ],
)
def test_scores_and_attributes_that_give_no_names_are_refused(scores: Any, truth: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        name_concepts(scores, truth)


def test_a_length_of_nothing_is_refused() -> None:
    scores, truth = random_data(20, 2, 3)
    for options in ({"length": 0}, {"beam": 0}, {"length": 1.5}):
        with pytest.raises(InputError, match="whole number of at least 1"):
            name_concepts(scores, truth, **options)
