"""Similarity, complexity and stability as an atlas answers them, against its own matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from atlas_case import SHAPES_LAYER, build
from matplotlib.figure import Figure
from scipy.stats import sem, spearmanr
from scipy.stats import t as student
from score_atlas import score_atlas
from sklearn.metrics.pairwise import cosine_similarity

import crp_kit as crp
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.atlas.query.stored_scores import StoredScores
from crp_kit.data import ShapesDataset
from crp_kit.errors import AtlasError, ConceptRangeError, InputError
from crp_kit.statistics.stability import fold_numbers

COUNT = 60
Array = npt.NDArray[Any]


def within(matrix: Array, classes: Array) -> Array:
    means = np.stack([matrix[classes == cls].mean(0) for cls in classes])
    return np.corrcoef(matrix - means, rowvar=False)


REFERENCES: dict[str, Callable[[Array, Array], Array]] = {
    "pearson-within": within,
    "pearson": lambda matrix, _: np.corrcoef(matrix, rowvar=False),
    "cosine": lambda matrix, _: np.asarray(cosine_similarity(matrix.T)),
    "spearman": lambda matrix, _: np.asarray(spearmanr(matrix).statistic),
}


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
        matrix = scores.matrix[:][rows].astype("f8")
        np.testing.assert_allclose(similar.values, REFERENCES[metric](matrix, atlas.targets[rows]), atol=1e-9)
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

    def test_of_a_single_concept_has_a_cluster_an_order_and_figures(self, tmp_path: Path) -> None:
        similarity = score_atlas(tmp_path / "a.h5", [0, 0, 1], np.array([[0.1], [0.2], [0.4]])).similarity()
        assert similarity.clusters().cluster.tolist() == similarity.clusters(n=1).cluster.tolist() == [0]
        assert similarity.order.tolist() == [0]
        assert similarity.redundancy().nearest.tolist() == [-1]
        assert isinstance(similarity.plot(), Figure)

    @pytest.mark.parametrize("metric", ["pearson-within", "pearson", "cosine", "spearman"])
    def test_of_no_sample_is_refused_though_the_gram_matrix_is_there(self, tmp_path: Path, metric: Any) -> None:
        scores = score_atlas(tmp_path / "a.h5", [-1, -1], np.ones((2, 3)))
        with pytest.raises(InputError, match="none that count"):
            scores.similarity(metric)

    def test_comes_from_the_gram_matrix_where_a_file_has_it(
        self, atlas: crp.ConceptAtlas, scores: ScoreAtlas, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        matrix = scores.matrix[:].astype("f8")
        one = atlas.targets[:, None] == atlas.seen
        sums = {"gram": matrix.T @ matrix, "count": one.sum(0), "sum": one.T.astype("f8") @ matrix}
        expected = {metric: scores.similarity(metric).values for metric in ("pearson-within", "pearson", "cosine")}
        arrays = StoredScores.arrays
        monkeypatch.setattr(StoredScores, "has", lambda self, name: name in ("gram", "matrix"))
        monkeypatch.setattr(StoredScores, "arrays", lambda self, name: sums if name == "gram" else arrays(self, name))
        with monkeypatch.context() as unread:
            unread.setattr(StoredScores, "matrix", property(lambda self: 1 / 0))
            for metric, values in expected.items():
                np.testing.assert_allclose(scores.similarity(metric).values, values, atol=1e-9)  # type: ignore[arg-type]
        np.testing.assert_allclose(scores.similarity("pearson", where=atlas.where()).values, expected["pearson"])
        sums["count"] = sums["count"] - 1  # some have no target, and are missing in the sums
        np.testing.assert_allclose(scores.similarity("pearson").values, expected["pearson"], atol=1e-12)

    def test_that_the_gram_matrix_has_lost_comes_from_the_matrix(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        relevance = np.random.default_rng(0).normal(size=(40, 3))
        relevance[:, 0] = 1 + 1e-4 * relevance[:, 0]
        scores = score_atlas(tmp_path / "a.h5", [0, 1] * 20, relevance)
        matrix, one = scores.matrix[:].astype("f8"), np.eye(2)[[0, 1] * 20]
        sums = {"gram": matrix.T @ matrix, "count": one.sum(0), "sum": one.T @ matrix}
        arrays, held = StoredScores.arrays, ["gram", "matrix"]
        monkeypatch.setattr(StoredScores, "has", lambda self, name: name in held)
        monkeypatch.setattr(StoredScores, "arrays", lambda self, name: sums if name == "gram" else arrays(self, name))
        np.testing.assert_allclose(scores.similarity("pearson").values, np.corrcoef(matrix, rowvar=False), atol=1e-12)
        held.remove("matrix")
        values = scores.similarity("pearson").values
        assert np.isnan(values[0]).all()
        assert values[1, 2] == pytest.approx(np.corrcoef(matrix[:, 1], matrix[:, 2])[0, 1])

    def test_says_which_statistics_the_file_has(self, scores: ScoreAtlas) -> None:
        assert scores.has("matrix")
        assert scores.has("moments")
        assert not scores.has("overall")

    def test_refuses_what_it_cannot_answer(
        self, atlas: crp.ConceptAtlas, scores: ScoreAtlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        other = score_atlas(tmp_path / "a.h5", [0, 1, 0], np.eye(3), matrix=False)
        monkeypatch.setattr(StoredScores, "has", lambda self, name: False)
        with pytest.raises(AtlasError, match="matrix=True"):
            other.similarity("spearman")
        with pytest.raises(InputError, match="belongs to"):
            scores.similarity(where=other.file.where())


class TestComplexity:
    def test_is_that_of_each_row_with_its_sample_and_class(self, atlas: crp.ConceptAtlas, scores: ScoreAtlas) -> None:
        where = ~atlas.where(label=3)
        table = scores.complexity(where=where)
        assert list(table.columns()) == ["sample", "class", "gini", "hoyer", "n90"]
        rows = np.abs(scores.matrix[:].astype("f8"))[where.mask]
        expected = [np.abs(row[:, None] - row).sum() / (2 * len(row) * row.sum()) for row in rows]
        np.testing.assert_allclose(table.gini, expected, atol=1e-9)
        np.testing.assert_array_equal(table.sample, where.samples)
        np.testing.assert_array_equal(table.cls, atlas.targets[where.mask])
        assert isinstance(table.plot(), Figure)

    def test_by_class_has_means_with_intervals_by_t(self, atlas: crp.ConceptAtlas, scores: ScoreAtlas) -> None:
        table = scores.complexity()
        frame = table.by_class(confidence=0.9).to_frame().set_index("class")
        for cls, part in table.to_frame().groupby("class"):
            low, high = student.interval(0.9, len(part) - 1, part.n90.mean(), sem(part.n90))
            row = frame.loc[cls]
            assert row.n == len(part)
            assert (row.n90, row.n90_low, row.n90_high) == pytest.approx((part.n90.mean(), low, high))
            assert row.hoyer == pytest.approx(part.hoyer.mean())
        assert isinstance(table.by_class().plot("gini", k=3), Figure)

    def test_of_a_single_sample_has_no_interval(self, atlas: crp.ConceptAtlas, scores: ScoreAtlas) -> None:
        by_class = scores.complexity(where=atlas.where(sample=[5])).by_class()
        assert by_class.n.tolist() == [1]
        assert np.isnan(by_class.gini_low).all()
        assert not np.isnan(by_class.gini).any()

    def test_leaves_out_samples_without_relevance(self, tmp_path: Path) -> None:
        relevance = np.array([[1.0, 0.0], [0.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
        scores = score_atlas(tmp_path / "b.h5", [2, 2, 2, -1], relevance)
        table = scores.complexity()
        assert table.n90.tolist() == [1, 0, 2]
        assert table.by_class().n.tolist() == [2]
        assert table.by_class().gini.tolist() == [0.25]
        alone = score_atlas(tmp_path / "c.h5", [0, 1], relevance[[0, 2], :1]).complexity().by_class()
        assert np.isnan(alone.hoyer).all()
        assert alone.n90.tolist() == [1, 1]

    def test_refuses_what_it_cannot_answer(self, atlas: crp.ConceptAtlas, scores: ScoreAtlas) -> None:
        with pytest.raises(InputError, match="none that count"):
            scores.complexity(where=atlas.where(label=0) & atlas.where(label=1))
        with pytest.raises(InputError, match="'gini', 'hoyer', 'n90'"):
            scores.complexity().by_class().plot("entropy")


class TestStability:
    def test_of_mean_scores_is_that_of_the_folds(self, atlas: crp.ConceptAtlas, scores: ScoreAtlas) -> None:
        table = scores.stability(folds=2, k=4, seed=3, ranking="means")
        fold, matrix = fold_numbers(atlas.targets, 2, 3), scores.matrix[:].astype("f8")
        for row in table.rows():
            means = [matrix[(atlas.targets == row["class"]) & (fold == number)].mean(0) for number in (0, 1)]
            tops = [set(np.argsort(-mean)[:4].tolist()) for mean in means]
            assert row["rank_correlation"] == pytest.approx(spearmanr(*means).statistic)
            assert row["overlap"] == len(tops[0] & tops[1]) / 4
            assert row["expected"] == 4 / scores.n_concepts
        assert table.n.tolist() == np.bincount(atlas.targets)[table.cls].tolist()
        assert isinstance(table.plot(), Figure)

    def test_of_noise_is_as_by_chance_and_of_a_signal_is_not(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(10), 12)
        noise = rng.normal(size=(120, 40))
        signal = noise + 3 * rng.normal(size=(10, 40))[labels]
        by_chance = score_atlas(tmp_path / "noise.h5", labels.tolist(), noise).stability(k=8)
        clear = score_atlas(tmp_path / "signal.h5", labels.tolist(), signal).stability(k=8)
        assert abs(by_chance.rank_correlation.mean()) < 0.15
        assert abs(by_chance.overlap.mean() - 0.2) < 0.12
        assert clear.rank_correlation.min() > 0.8
        assert clear.overlap.min() > 0.6

    def test_of_a_class_with_too_few_samples_is_not_a_number(self, tmp_path: Path) -> None:
        relevance = np.random.default_rng(0).normal(size=(16, 5))
        scores = score_atlas(tmp_path / "a.h5", [0] * 5 + [1] * 5 + [2] * 3 + [3, -1, -1], relevance)
        means, markers = (scores.stability(k=2, ranking=ranking) for ranking in ("means", "markers"))  # type: ignore[arg-type]
        assert means.n.tolist() == [5, 5, 3, 1]
        assert np.isnan(means.overlap).tolist() == [False, False, False, True]
        assert np.isnan(markers.rank_correlation).tolist() == [False, False, True, True]

    def test_refuses_what_it_cannot_answer(self, atlas: crp.ConceptAtlas, scores: ScoreAtlas) -> None:
        wrong: Any = "order"
        for options in ({"folds": 1}, {"k": 0}, {"k": 33}, {"seed": -1}, {"ranking": wrong}):
            with pytest.raises(InputError):
                scores.stability(**options)
        with pytest.raises(InputError, match="no sample of any"):
            scores.stability(where=atlas.where(label=0) & atlas.where(label=1))
