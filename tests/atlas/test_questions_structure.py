"""Similarity of concepts as an atlas answers it, against its own matrix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atlas_case import SHAPES_LAYER, build
from matplotlib.figure import Figure

import crp_kit as crp
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.atlas.query.stored_scores import StoredScores
from crp_kit.data import ShapesDataset
from crp_kit.errors import AtlasError, ConceptRangeError, InputError
from crp_kit.statistics.similarity import matrix_similarity

COUNT = 60


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[crp.ConceptAtlas]:
    path = tmp_path_factory.mktemp("structure") / "atlas.h5"
    with build(path, ShapesDataset(COUNT), layers=[SHAPES_LAYER], matrix=True, batch_size=30, k=12) as opened:
        yield opened


@pytest.fixture
def scores(atlas: crp.ConceptAtlas) -> ScoreAtlas:
    return atlas[SHAPES_LAYER].relevance


class TestSimilarity:
    @pytest.mark.parametrize("metric", ["pearson-within", "pearson", "cosine", "spearman"])
    @pytest.mark.parametrize("selected", [False, True])
    def test_is_that_of_the_matrix(
        self, atlas: crp.ConceptAtlas, scores: ScoreAtlas, metric: Any, selected: bool
    ) -> None:
        where = ~atlas.where(label=0) if selected else None
        rows = atlas.targets != 0 if selected else np.ones(COUNT, bool)
        similar = scores.similarity(metric, where=where)
        expected = matrix_similarity(scores.matrix[:][rows].astype("f8"), metric, groups=atlas.targets[rows])
        np.testing.assert_allclose(similar.values, expected, atol=1e-9)
        assert (similar.metric, similar.n_samples) == (metric, rows.sum())

    def test_is_shown_as_pairs_or_as_a_square(self, scores: ScoreAtlas) -> None:
        similar = scores.similarity()
        frame, square = similar.to_frame(), similar.to_frame(square=True)
        assert list(frame.columns) == ["concept_a", "concept_b", "similarity"]
        assert len(frame) == scores.n_concepts * (scores.n_concepts - 1) // 2
        assert (frame.concept_a < frame.concept_b).all()
        np.testing.assert_array_equal(square.to_numpy(), similar.values)
        np.testing.assert_array_equal(similar.values[frame.concept_a, frame.concept_b], frame.similarity)
        assert similar.to_numpy() is similar.values

    def test_nearest_concepts_come_first_without_the_concept_itself(self, scores: ScoreAtlas) -> None:
        similar = scores.similarity()
        nearest = similar.nearest(3, k=4)
        others = [concept for concept in range(scores.n_concepts) if concept != 3]
        order = sorted(others, key=lambda concept: -similar.values[3, concept])
        assert nearest.concept.tolist() == order[:4]
        assert nearest.references(0, k=2).sample.tolist() == scores.top(order[0], 2).sample.tolist()
        assert isinstance(nearest.plot(), Figure)

    def test_redundancy_is_the_highest_similarity_to_another(self, scores: ScoreAtlas) -> None:
        similar = scores.similarity()
        others = similar.values.copy()
        np.fill_diagonal(others, -2)
        table = similar.redundancy()
        assert (np.diff(table.redundancy) <= 0).all()
        np.testing.assert_array_equal(table.redundancy, others.max(1)[table.concept])
        np.testing.assert_array_equal(table.nearest, others.argmax(1)[table.concept])
        assert isinstance(table.plot(), Figure)

    def test_clusters_are_cut_by_number_or_by_threshold(self, scores: ScoreAtlas) -> None:
        similar = scores.similarity()
        clusters = similar.clusters(n=5)
        assert list(clusters.columns()) == ["concept", "cluster"]
        assert sorted(np.concatenate(clusters.members)) == list(range(scores.n_concepts))
        assert len(clusters.members) == 5
        assert isinstance(clusters.plot(), Figure)
        same = similar.clusters(threshold=0.5).cluster
        np.testing.assert_array_equal(similar.clusters().cluster, same)
        assert similar.clusters(threshold=-1).cluster.max() == 0
        assert similar.clusters(threshold=1).cluster.max() == scores.n_concepts - 1

    def test_a_constant_concept_has_no_neighbours(self, scores: ScoreAtlas) -> None:
        similar = scores.similarity()
        values = similar.values.copy()
        values[2] = values[:, 2] = np.nan
        without = type(similar)(values, similar.metric, similar.n_samples, scores)
        table = without.redundancy()
        assert table.concept[-1] == 2
        assert np.isnan(table.redundancy[-1])
        assert table.nearest[-1] == -1
        assert len(without.nearest(2)) == 0
        assert 2 not in without.nearest(3, k=40).concept
        assert sorted(without.order) == list(range(scores.n_concepts))
        assert isinstance(without.plot(), Figure)

    def test_comes_from_the_gram_matrix_where_a_file_has_it(
        self, atlas: crp.ConceptAtlas, scores: ScoreAtlas, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        matrix = scores.matrix[:].astype("f8")
        one = atlas.targets[:, None] == atlas.seen
        sums = {"gram": matrix.T @ matrix, "count": one.sum(0), "sum": one.T.astype("f8") @ matrix}
        expected = {metric: scores.similarity(metric).values for metric in ("pearson-within", "pearson", "cosine")}
        arrays = StoredScores.arrays
        monkeypatch.setattr(StoredScores, "has", lambda self, name: name == "gram")
        monkeypatch.setattr(StoredScores, "arrays", lambda self, name: sums if name == "gram" else arrays(self, name))
        with monkeypatch.context() as without_matrix:
            without_matrix.setattr(StoredScores, "matrix", property(lambda self: 1 / 0))
            for metric, values in expected.items():
                np.testing.assert_allclose(scores.similarity(metric).values, values, atol=1e-9)  # type: ignore[arg-type]
        np.testing.assert_allclose(scores.similarity("pearson", where=atlas.where()).values, expected["pearson"])
        sums["count"] = sums["count"] + 1  # samples of several targets: the matrix has each once
        np.testing.assert_allclose(scores.similarity("pearson").values, expected["pearson"], atol=1e-12)

    def test_says_which_statistics_the_file_has(self, scores: ScoreAtlas) -> None:
        assert scores.has("matrix")
        assert scores.has("moments")
        assert not scores.has("overall")

    def test_refuses_what_it_cannot_answer(
        self, atlas: crp.ConceptAtlas, scores: ScoreAtlas, shapes_atlas_file: Path
    ) -> None:
        similar = scores.similarity()
        with pytest.raises(ConceptRangeError):
            similar.nearest(-1)
        with pytest.raises(InputError, match="got both"):
            similar.clusters(n=3, threshold=0.5)
        with pytest.raises(InputError, match="from 1 to 32"):
            similar.clusters(n=33)
        with pytest.raises(InputError, match="from -1 to 1"):
            similar.clusters(threshold=2)
        with pytest.raises(InputError, match="none that count"):
            scores.similarity(where=atlas.where(label=0) & atlas.where(label=1))
        with crp.ConceptAtlas(shapes_atlas_file) as other:
            with pytest.raises(AtlasError, match="matrix=True"):
                other[SHAPES_LAYER].relevance.similarity("spearman")
            with pytest.raises(InputError, match="belongs to"):
                scores.similarity(where=other.where())
