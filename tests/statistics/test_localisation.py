"""Scores of heatmaps against masks: by their definitions, one position after the other."""

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from crp_kit.errors import InputError
from crp_kit.statistics.localisation import localisation_scores, otsu_threshold


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(7, 6, 5)), generator.random((7, 6, 5)) < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_scores_without_ties_follow_their_definitions(seed: int) -> None:
    maps, masks = random_case(seed)
    maps += 5.0  # all positive, so that no two are equal
    scores = localisation_scores(maps, masks)
    for row, (heatmap, mask) in enumerate(zip(maps, masks, strict=True)):
        inside = [float(value) for value, is_in in zip(heatmap.ravel(), mask.ravel(), strict=True) if is_in]
        order = heatmap.ravel().argsort()[::-1]
        assert scores.mass[row] == pytest.approx(sum(inside) / heatmap.sum())
        assert scores.rank[row] == pytest.approx(mask.ravel()[order[: mask.sum()]].mean())
        assert scores.pointing[row] == mask.ravel()[order[0]]
        assert scores.mask_share[row] == mask.mean()
        best = max(np.unique(heatmap)[:-1], key=lambda level: between_classes(heatmap, level))
        selected = heatmap > best
        assert scores.iou[row] == pytest.approx((selected & mask).sum() / (selected | mask).sum())


def between_classes(values: np.ndarray, level: float) -> float:
    above = values > level
    return float(above.mean() * (~above).mean() * (values[above].mean() - values[~above].mean()) ** 2)


def test_otsu_is_near_that_of_scikit_image_which_bins() -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0, 1, 400), generator.normal(6, 1, 300)])
    assert otsu_threshold(values) == pytest.approx(threshold_otsu(values, nbins=4096), abs=0.1)
    assert otsu_threshold([2.0, 2.0]) == 2.0


def test_negative_relevance_counts_as_nothing() -> None:
    scores = localisation_scores([[[4.0, -9.0], [-1.0, 4.0]]], [[[True, True], [False, False]]])
    assert scores.mass.tolist() == [0.5]
    assert scores.rank.tolist() == [0.5]


def test_ties_give_the_expectation_over_all_orders() -> None:
    heatmap, mask = np.array([[[2.0, 1.0, 1.0, 1.0, 0.0]]]), np.array([[[True, True, False, False, True]]])
    generator, hits = np.random.default_rng(0), []
    for _ in range(4000):
        order = np.argsort(-(heatmap.ravel() + 1e-9 * generator.random(5)))[:3]
        hits.append(mask.ravel()[order].mean())
    assert localisation_scores(heatmap, mask).rank[0] == pytest.approx(np.mean(hits), abs=0.01)
    assert localisation_scores(np.ones((1, 1, 4)), np.array([[[True, False, False, False]]])).pointing[0] == 0.25


def test_an_empty_mask_and_a_map_without_positive_relevance_are_not_scored() -> None:
    maps, masks = np.array([[[1.0, 2.0]], [[-1.0, -2.0]]]), np.array([[[False, False]], [[True, False]]])
    scores = localisation_scores(maps, masks)
    assert all(np.isnan(values[0]) for values in vars(scores).values())
    assert np.isnan(scores.mass[1])
    assert np.isnan(scores.iou[1])
    assert scores.rank[1] == 0.5


def test_random_maps_have_what_chance_has() -> None:
    generator = np.random.default_rng(1)
    maps, masks = generator.random((400, 8, 8)), np.tile(generator.random((8, 8)) < 0.25, (400, 1, 1))
    scores = localisation_scores(maps, masks)
    for values in (scores.mass, scores.rank, scores.pointing):
        assert values.mean() == pytest.approx(masks[0].mean(), abs=4 * values.std() / 20)
    assert scores.iou.mean() == pytest.approx(scores.iou_by_chance.mean(), abs=0.02)


@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        (np.ones((2, 3, 3)), np.ones((2, 3, 4), bool), "of the same shape"),
        (np.ones((2, 3, 3)), np.ones((2, 3, 3)), "booleans"),
        (np.full((1, 2, 2), np.nan), np.ones((1, 2, 2), bool), "NaN"),
    ],
)
def test_other_arrays_are_refused(maps: np.ndarray, masks: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        localisation_scores(maps, masks)
