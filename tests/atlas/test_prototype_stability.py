"""Stability of prototypes: matched over different folds, against all permutations; what has too few samples."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import numpy as np
import pytest
from score_atlas import score_atlas
from sklearn.metrics.pairwise import cosine_similarity

from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.errors import InputError
from crp_kit.statistics.gaussian_mixture import fit_mixture
from crp_kit.statistics.stability import fold_numbers

DRAW = np.random.default_rng(1)
LABELS = np.repeat([0, 1], [90, 10])
MODE = DRAW.integers(0, 3, 100)
VALUES = 1 + DRAW.normal(0, 0.3, (100, 6)) + 2 * np.eye(3, 6)[MODE]


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScoreAtlas]:
    layer = score_atlas(tmp_path_factory.mktemp("folds") / "a.h5", LABELS.tolist(), VALUES, n_classes=2)
    yield layer
    layer.file.close()


@pytest.mark.parametrize("folds", [2, 3])
def test_prototypes_of_different_folds_are_matched_with_the_largest_sum_of_cosines(
    scores: ScoreAtlas, folds: int
) -> None:
    table = scores.prototype_stability(0, 3, folds, seed=2)
    rows = VALUES[LABELS == 0].astype("f4").astype("f8")
    fold = fold_numbers(np.zeros(len(rows), int), folds, 2)
    means = [fit_mixture(rows[fold == number], 3, seed=2).means for number in range(folds)]
    frame = table.to_frame()
    for a, b in combinations(range(folds), 2):
        values = cosine_similarity(means[a], means[b])
        best = max(permutations(range(3)), key=lambda order: sum(values[i, j] for i, j in enumerate(order)))
        part = frame[(frame.fold_a == a) & (frame.fold_b == b)]
        assert dict(zip(part.prototype_a, part.prototype_b, strict=True)) == dict(enumerate(best))
        np.testing.assert_allclose(part.cosine, values[part.prototype_a, part.prototype_b], atol=1e-12)
        others = [values[i, j] for i in range(3) for j in range(3) if j != best[i]]
        np.testing.assert_allclose(part.expected, np.mean(others), atol=1e-12)
    assert len(frame) == 3 * folds * (folds - 1) // 2
    assert table.cosine.min() > 0.98
    assert table.expected.max() < 0.9
    assert table.caption.startswith("prototypes of class 0 class 0, 90 samples in ")


def test_their_number_is_that_of_the_class_unless_it_is_asked_for(scores: ScoreAtlas) -> None:
    assert len(scores.prototype_stability(0)) == len(scores.prototypes(0)) == 3
    alone = scores.prototype_stability(1, 1)
    assert np.isnan(alone.expected).all()
    assert alone.plot().axes


def test_too_few_samples_for_the_folds_are_refused(scores: ScoreAtlas) -> None:
    with pytest.raises(InputError, match="3 prototypes of each of 2 folds need 12 rightly .* class 1 there are 10"):
        scores.prototype_stability(1, 3)
    with pytest.raises(InputError, match="folds is a whole number of at least 2"):
        scores.prototype_stability(0, folds=1)
