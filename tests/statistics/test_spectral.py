"""Spectral embeddings and clusters: eigenvectors against numpy's, clusters against scikit-learn's, odd graphs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import block_array, csr_array
from scipy.sparse.csgraph import laplacian
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.metrics import adjusted_rand_score

from crp_kit.errors import InputError
from crp_kit.statistics import libraries
from crp_kit.statistics.spectral import clusters, eigengap, eigenvectors, neighbour_graph, spectral
from crp_kit.statistics.strategies import spectral_clusters


def blobs(sizes: list[int], features: int = 6, noise: float = 0.15, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows around unit vectors, shuffled, and the blob of each."""
    generator = np.random.default_rng(seed)
    truth = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return np.eye(features)[truth] + generator.normal(0, noise, (len(truth), features)), truth


def test_the_spectral_embedding_separates_clusters() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(30, 5)) * 0.2 + np.repeat(np.eye(5)[:3], 10, axis=0) * 2
    vectors, eigenvalues = spectral(values)
    assert (np.diff(eigenvalues) >= 0).all()
    assert eigenvalues[1] < 0.1  # two more clusters than one
    assert eigenvalues[2] > 0.3
    centres = vectors[:, :2].reshape(3, 10, 2).mean(1)
    spread = vectors[:, :2].reshape(3, 10, 2).std(1).max()
    assert min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > 5 * spread


def test_equal_rows_and_a_single_row_have_embeddings() -> None:
    for values, dimensions in ((np.ones((5, 3)), 4), (np.repeat(np.eye(3), 3, axis=0), 8), (np.ones((1, 3)), 0)):
        vectors, eigenvalues = spectral(values)
        assert vectors.shape == (len(values), dimensions)
        assert np.isfinite(vectors).all()
        assert (np.diff(eigenvalues) >= 0).all()


def test_the_spectral_embedding_is_made_of_eigenvectors_of_the_normalised_laplacian() -> None:
    values = np.random.default_rng(2).normal(size=(12, 4))
    distance = np.linalg.norm(values[:, None] - values, axis=-1)
    reach = np.sort(distance, axis=1)[:, 7]
    affinity = np.exp(-(distance**2) / np.outer(reach, reach)) * (1 - np.eye(12))
    degree = affinity.sum(1)
    matrix = np.eye(12) - affinity / np.sqrt(np.outer(degree, degree))
    vectors, eigenvalues = spectral(values)
    assert np.allclose(eigenvalues, np.linalg.eigvalsh(matrix)[1:9])
    assert np.allclose(matrix @ vectors, eigenvalues * vectors)
    assert np.allclose(vectors.T @ vectors, np.eye(8))


def test_embeddings_and_clusters_are_the_same_each_time() -> None:
    values = np.random.default_rng(3).random((40, 6))
    assert all(map(np.array_equal, spectral(values), spectral(values)))
    assert np.array_equal(clusters(values, 5), clusters(values, 5))
    first, second = (spectral_clusters(values, 3, seed=4) for _ in range(2))
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.coordinates, second.coordinates)


def test_a_graph_of_neighbours_joins_a_row_with_its_nearest_ones_and_those_whose_nearest_it_is() -> None:
    values = np.random.default_rng(4).normal(size=(40, 3))
    distance = np.linalg.norm(values[:, None] - values, axis=-1)
    np.fill_diagonal(distance, np.inf)
    nearest = distance <= np.sort(distance, axis=1)[:, [4]]
    graph = neighbour_graph(values, 5)
    assert np.array_equal(graph.toarray(), (nearest | nearest.T).astype(float))


@pytest.mark.parametrize("size", [60, 300])  # with and without ARPACK
def test_the_lowest_eigenvectors_of_a_sparse_graph_are_those_of_its_dense_laplacian(size: int) -> None:
    graph = neighbour_graph(np.random.default_rng(5).normal(size=(size, 4)), 6)
    dense = laplacian(graph, normed=True).toarray()
    vectors, eigenvalues = eigenvectors(graph, 6)
    assert np.allclose(eigenvalues, np.linalg.eigvalsh(dense)[:6], atol=1e-9)
    assert np.allclose(dense @ vectors, vectors * eigenvalues, atol=1e-7)
    assert np.allclose(vectors.T @ vectors, np.eye(6), atol=1e-7)
    degrees = np.sqrt(graph.sum(1))
    assert np.allclose(vectors[:, 0], degrees / np.linalg.norm(degrees))


def test_each_part_of_a_graph_that_falls_apart_has_its_eigenvalue_of_zero() -> None:
    generator = np.random.default_rng(6)
    parts = [neighbour_graph(generator.normal(size=(size, 3)), 12) for size in (150, 40, 200)]
    graph = csr_array(block_array([[parts[i] if i == j else None for j in range(3)] for i in range(3)]))
    vectors, eigenvalues = eigenvectors(graph, 5)
    assert (eigenvalues[:3] == 0).all()
    assert eigenvalues[3] > 1e-3
    assert np.allclose(vectors.T @ vectors, np.eye(5), atol=1e-7)
    assert np.allclose(laplacian(graph, normed=True) @ vectors, vectors * eigenvalues, atol=1e-7)


@pytest.mark.parametrize("sizes", [[70, 40, 25], [200, 90], [50, 49, 48, 47]])
def test_the_eigengap_counts_blobs_and_clusters_are_the_blobs(sizes: list[int]) -> None:
    values, truth = blobs(sizes)
    result = spectral_clusters(values)
    assert np.bincount(result.labels).tolist() == sorted(sizes, reverse=True)
    assert adjusted_rand_score(truth, result.labels) == 1


def test_clusters_of_joined_blobs_are_about_those_of_scikit_learn() -> None:
    values, _ = blobs([80, 60, 50], noise=0.28, seed=1)
    result = spectral_clusters(values, 3, neighbours=8)
    peer = SpectralClustering(3, affinity="precomputed_nearest_neighbors", n_neighbors=9, random_state=0)
    distance = np.linalg.norm(values[:, None] - values, axis=-1)
    assert adjusted_rand_score(peer.fit_predict(distance), result.labels) > 0.9


def test_rows_without_structure_are_one_cluster() -> None:
    for seed in range(8):
        values = np.random.default_rng(seed).normal(size=(150, 16))
        assert spectral_clusters(values).labels.tolist() == [0] * 150


def test_equal_rows_and_more_parts_than_the_gap_may_count_have_clusters() -> None:
    assert len(spectral_clusters(np.ones((20, 3)), 2).labels) == 20
    values = np.repeat(np.arange(12.0), 15)[:, None]
    assert np.bincount(spectral_clusters(values, neighbours=5).labels).tolist() == [15] * 12
    few = spectral_clusters(np.eye(3), neighbours=10)
    assert few.coordinates.shape == (3, 2)


def test_the_eigengap_of_a_single_value_is_one() -> None:
    assert eigengap(np.zeros(1)) == 1


@pytest.mark.parametrize(
    ("values", "n", "message"),
    [
        (np.zeros((2, 3)), None, "at least 3 rows; got 2"),
        (np.full((5, 3), np.nan), None, "NaN or infinite in 5 rows"),
        (np.zeros((5, 3)), 6, "n is a whole number from 1 to 5"),
        (np.zeros(5), None, r"got the shape \(5,\)"),
    ],
)
def test_what_cannot_be_clustered_is_refused(values: np.ndarray, n: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        spectral_clusters(values, n)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(libraries, "import_module", missing)
    with pytest.raises(Exception, match=r"pip install 'crp-kit\[statistics\]'"):
        spectral_clusters(np.random.default_rng(0).normal(size=(10, 2)))


def laplacian_of(values: np.ndarray, k: int) -> np.ndarray:
    """The normalised Laplacian by its definition: nearest neighbours from all distances, joined in both directions."""
    distance = np.linalg.norm(values[:, None] - values, axis=-1)
    np.fill_diagonal(distance, np.inf)
    joined = np.zeros(distance.shape)
    np.put_along_axis(joined, np.argsort(distance, axis=1)[:, :k], 1, axis=1)
    joined = np.maximum(joined, joined.T)
    degree = joined.sum(1)
    return np.eye(len(values)) - joined / np.sqrt(np.outer(degree, degree))


@pytest.mark.parametrize(
    ("sizes", "noise", "constant"), [([20, 15, 9], 0.35, 0), ([30, 25], 0.4, 3), ([12] * 4, 0.3, 1)]
)
def test_strategies_are_clusters_of_the_eigenvectors_by_their_definition(
    sizes: list[int], noise: float, constant: int
) -> None:
    values, _ = blobs(sizes, noise=noise, seed=len(sizes))
    values[:, len(sizes) : len(sizes) + constant] = 0.25
    found = spectral_clusters(values, len(sizes))
    eigenvalues, vectors = np.linalg.eigh(laplacian_of(values, 10))
    assert np.allclose(found.eigenvalues, np.maximum(eigenvalues[: len(found.eigenvalues)], 0), atol=1e-10)
    for axis in range(2):
        assert abs(found.coordinates[:, axis] @ vectors[:, axis + 1]) == pytest.approx(1, abs=1e-8)
    unit = vectors[:, : len(sizes)] / np.linalg.norm(vectors[:, : len(sizes)], axis=1, keepdims=True)
    expected = KMeans(len(sizes), n_init=10, random_state=0).fit_predict(unit)
    assert adjusted_rand_score(found.labels, expected) == 1
    peer = SpectralClustering(len(sizes), affinity="precomputed", random_state=0)
    graph = 1 - np.isclose(laplacian_of(values, 10), 0) - np.eye(len(values))
    assert adjusted_rand_score(found.labels, peer.fit_predict(graph)) > 0.8  # it takes rows of another length
    assert (np.diff(np.bincount(found.labels)) <= 0).all()


def test_three_rows_and_rows_that_occur_often_have_strategies() -> None:
    assert len(spectral_clusters(np.eye(3), 3).labels) == 3
    values = np.repeat(np.eye(4)[:2], [9, 6], axis=0)
    found = spectral_clusters(values, 2, neighbours=4)
    assert found.labels.tolist() == [0] * 9 + [1] * 6
