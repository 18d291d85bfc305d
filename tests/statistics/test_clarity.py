"""Clarity, polysemanticity and clusters of reference samples: by their definitions."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import cosine_similarity

from crp_kit.errors import InputError
from crp_kit.statistics.clarity import clarity, polysemanticity, silhouette, unit_clusters


def test_clarity_is_the_mean_cosine_of_all_pairs() -> None:
    embeddings = np.random.default_rng(0).normal(size=(9, 5))
    cosines = cosine_similarity(embeddings)
    pairs = [cosines[pair] for pair in combinations(range(9), 2)]
    assert clarity(embeddings) == pytest.approx(np.mean(pairs))
    assert clarity(7 * np.ones((4, 3))) == pytest.approx(1)
    assert np.isnan(clarity([[1.0, 2.0]]))


def test_polysemanticity_is_one_minus_the_cosine_of_two_centres() -> None:
    generator = np.random.default_rng(1)
    embeddings = np.concatenate([generator.normal(3, 1, (10, 4)), generator.normal(-3, 1, (8, 4))])
    centres = KMeans(2, n_init=10, random_state=0).fit(embeddings).cluster_centers_
    assert polysemanticity(embeddings) == pytest.approx(1 - cosine_similarity(centres)[0, 1])
    assert polysemanticity(embeddings) > 1
    assert np.isnan(polysemanticity(np.ones((5, 2))))


def test_units_are_numbered_by_size_and_then_by_their_first_row() -> None:
    rows = np.array([[9.0, 0], [0, 9], [0, 9.1], [0, 9], [9, 0.1], [5, 5], [5.1, 5]])
    assert unit_clusters(rows, 3).tolist() == [1, 0, 0, 0, 1, 2, 2]
    assert silhouette(rows, unit_clusters(rows, 3)) > 0.9
    assert np.isnan(silhouette(rows, np.zeros(7, int)))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="has no direction; row 1 is"):
        clarity([[1.0, 2.0], [0.0, 0.0]])
    with pytest.raises(InputError, match="NaN"):
        polysemanticity([[1.0, np.nan], [1.0, 2.0]])
    with pytest.raises(InputError, match="3 clusters need as many vectors that differ; there are 2"):
        unit_clusters([[1.0], [2.0], [1.0]], 3)
