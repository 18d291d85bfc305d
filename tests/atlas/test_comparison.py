"""Comparison of atlases: concepts that a permutation hides are matched, and drift is found where there is some."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment
from scipy.stats import false_discovery_control, mannwhitneyu, ttest_ind
from score_atlas import score_atlas

import crp_kit as crp
from crp_kit.atlas import drift
from crp_kit.atlas.common_samples import common_samples
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.errors import AtlasError, InputError, UnknownLayerError

Array = npt.NDArray[Any]
LAYER = "layer0"
RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2], 12)[RNG.permutation(36)].tolist()
RELEVANCE = RNG.normal(size=(36, 6))
ORDER = np.array([3, 5, 0, 1, 4, 2])


def atlas_of(path: Path, relevance: Array, labels: Any = None, *, dataset: str = "", **options: Any) -> Any:
    """An atlas, of a dataset of its own if that has a name."""
    labels = LABELS if labels is None else labels
    atlas = score_atlas(path, labels, relevance, **options).file
    if dataset:
        atlas.header = replace(atlas.header, dataset_sha256=dataset)
    return atlas


class TestComparison:
    def test_finds_concepts_that_were_numbered_anew(self, tmp_path: Path) -> None:
        noise = RELEVANCE[:, ORDER] * 3 + 0.3 * RNG.normal(size=(36, 6))
        a, b = atlas_of(tmp_path / "a.h5", RELEVANCE), atlas_of(tmp_path / "b.h5", noise)
        table = crp.compare_atlases(a, b, LAYER)
        assert list(table.to_frame().columns) == ["concept_a", "concept_b", "similarity"]
        assert (ORDER[table.concept_b] == table.concept_a).all()
        assert len(table) == 6
        assert (np.diff(table.similarity) <= 0).all()
        assert (table.by, table.n_samples) == ("scores", 36)
        oracle = np.corrcoef(RELEVANCE.astype("f4"), noise.astype("f4"), rowvar=False)[:6, 6:]
        np.testing.assert_allclose(table.values, oracle, atol=1e-9)
        rows, columns = linear_sum_assignment(-oracle)
        assert table.similarity.sum() == pytest.approx(oracle[rows, columns].sum())
        assert isinstance(table.plot(), Figure)

    @pytest.mark.parametrize("metric", ["pearson", "pearson-within"])
    def test_matches_by_the_hungarian_method_on_correlations_by_hand(self, tmp_path: Path, metric: Any) -> None:
        # Ties, a class of a single sample, classes of which the other atlas has none, a concept that never varies.
        draw = np.random.default_rng(3)
        labels = draw.permutation(np.repeat([0, 1, 2, 3], [9, 8, 1, 6]))
        relevance = draw.integers(-2, 3, (24, 5)) / 4
        other = np.concatenate([relevance[:, [3, 0, 4]] + draw.integers(0, 2, (24, 3)) / 4, draw.random((24, 3))], 1)
        relevance[:, 2] = 0.125
        left_out = np.flatnonzero(labels == 3).tolist()
        a = atlas_of(tmp_path / "a.h5", relevance, labels.tolist())
        b = atlas_of(tmp_path / "b.h5", other, labels.tolist(), left_out=left_out)
        table = crp.compare_atlases(a, b, LAYER, threshold=-1, metric=metric)
        common = [row for row in range(24) if row not in left_out]
        columns = [np.asarray(values, "f4").astype("f8")[common] for values in (relevance, other)]
        group = labels[common] if metric == "pearson-within" else np.zeros(len(common), int)
        for values in columns:
            for number in np.unique(group):
                values[group == number] -= values[group == number].mean(0)
        expected = np.full((5, 6), np.nan)
        for i, one in enumerate(columns[0].T):
            for j, another in enumerate(columns[1].T):
                if i != 2:
                    expected[i, j] = (one * another).sum() / np.sqrt((one**2).sum() * (another**2).sum())
        assert table.n_samples == len(common)
        np.testing.assert_allclose(table.values, expected, atol=1e-9)
        rows, matched = linear_sum_assignment(-expected[[0, 1, 3, 4]])
        assert sorted(table.concept_a.tolist()) == [0, 1, 3, 4]
        assert table.similarity.sum() == pytest.approx(expected[[0, 1, 3, 4]][rows, matched].sum())
        assert table.unique_a.tolist() == [2]

    def test_leaves_concepts_below_the_threshold_alone(self, tmp_path: Path) -> None:
        other = np.concatenate([RELEVANCE[:, :3], RNG.normal(size=(36, 5))], axis=1)
        a, b = atlas_of(tmp_path / "a.h5", RELEVANCE), atlas_of(tmp_path / "b.h5", other)
        table = crp.compare_atlases(a, b, LAYER, threshold=0.9)
        assert table.concept_a.tolist() == table.concept_b.tolist()
        assert sorted(table.concept_a) == [0, 1, 2]
        assert (table.unique_a.tolist(), table.unique_b.tolist()) == ([3, 4, 5], [3, 4, 5, 6, 7])
        assert "3 pairs of concepts with a similarity of at least 0.9; 3 concepts of 'layer0' and 5" in repr(table)
        first = a[LAYER].relevance.top(int(table.concept_a[0]), 3).sample.tolist()
        assert [ranking.sample.tolist() for ranking in table.references(0, k=3)] == [first] * 2
        assert isinstance(table.plot(), Figure)

    def test_within_classes_removes_what_a_class_shares(self, tmp_path: Path) -> None:
        level = 10 * RNG.normal(size=(3, 1))[LABELS]
        a, b = (atlas_of(tmp_path / name, RNG.normal(size=(36, 4)) + level) for name in ("a.h5", "b.h5"))
        assert crp.compare_atlases(a, b, LAYER).similarity.min() > 0.9
        assert len(crp.compare_atlases(a, b, LAYER, threshold=0.7, metric="pearson-within")) == 0

    def test_takes_the_samples_of_one_name(self, tmp_path: Path) -> None:
        order = RNG.permutation(36)
        a = atlas_of(tmp_path / "a.h5", RELEVANCE, dataset="a")
        b = atlas_of(tmp_path / "b.h5", RELEVANCE[order], np.array(LABELS)[order].tolist(), dataset="b")
        a.identifiers = tuple(f"image {number}" for number in range(36))
        b.identifiers = ("new", "new", *(f"image {number}" for number in order[2:]))
        table = crp.compare_atlases(a, b, LAYER)
        assert (table.concept_a == table.concept_b).all()
        np.testing.assert_allclose(table.similarity, 1)
        assert table.n_samples == 34

    def test_takes_reference_samples_where_there_is_no_matrix(self, tmp_path: Path) -> None:
        a = atlas_of(tmp_path / "a.h5", RELEVANCE, k=5)
        b = atlas_of(tmp_path / "b.h5", RELEVANCE[:, ORDER] + 1, k=5, matrix=False)
        table = crp.compare_atlases(a, b, LAYER)
        assert (ORDER[table.concept_b] == table.concept_a).all()
        assert table.by == "references"
        tops = [set(a[LAYER].relevance.top(concept).sample.tolist()) for concept in range(6)]
        expected = [
            [len(tops[one] & tops[other]) / len(tops[one] | tops[other]) for other in ORDER] for one in range(6)
        ]
        np.testing.assert_allclose(table.values, expected)

    def test_compares_only_references_that_both_atlases_have(self, tmp_path: Path) -> None:
        a = atlas_of(tmp_path / "a.h5", RELEVANCE, k=4, matrix=False, dataset="a")
        b = atlas_of(tmp_path / "b.h5", RELEVANCE, k=4, matrix=False, dataset="b")
        top = a[LAYER].relevance.top(2).sample
        b.identifiers = tuple(f"photo {number}" if number in top[:2] else f"other {number}" for number in range(36))
        table = crp.compare_atlases(a, b, LAYER, threshold=1)
        assert table.values[2, 2] == 1
        assert table.n_samples == 2

    def test_refuses_what_cannot_be_compared(self, tmp_path: Path) -> None:
        a = atlas_of(tmp_path / "a.h5", RELEVANCE, dataset="a")
        b = atlas_of(tmp_path / "b.h5", RELEVANCE, dataset="b")
        b.identifiers = tuple(f"other {number}" for number in range(36))
        with pytest.raises(InputError, match="no sample in common, by number, name or content"):
            crp.compare_atlases(a, b, LAYER)
        with pytest.raises(InputError, match="from -1 to 1"):
            crp.compare_atlases(a, a, LAYER, threshold=50)
        wrong: Any = "cosine"
        with pytest.raises(InputError, match="'pearson' or 'pearson-within'"):
            crp.compare_atlases(a, a, LAYER, metric=wrong)
        with pytest.raises(InputError, match="mode is"):
            crp.compare_atlases(a, a, LAYER, mode=wrong)
        with pytest.raises(UnknownLayerError):
            crp.compare_atlases(a, b, LAYER, "layer9")


class TestCommonSamples:
    def test_without_names_are_those_of_one_number_and_content(self, tmp_path: Path) -> None:
        a = atlas_of(tmp_path / "a.h5", RELEVANCE, dataset="a")
        b = atlas_of(tmp_path / "b.h5", RELEVANCE[:20], LABELS[:20], dataset="b")
        a.identifiers = None
        assert len(common_samples(a, b)) == 0
        for digests, count in (("3:aa 5:bb", 20), ("3:aa 5:xx", 0), ("7:aa", 0)):
            a.header = replace(a.header, sample_digests="3:aa 5:bb 90:cc")
            b.header = replace(b.header, sample_digests=digests)
            assert len(common_samples(a, b)) == count


def moved(relevance: Array, cls: int) -> Array:
    """Relevance where the samples of a class use another concept."""
    changed = relevance.copy()
    changed[np.array(LABELS) == cls, 4] += 4
    return changed


class TestDrift:
    def test_has_the_tests_of_scipy_for_each_class_and_concept(self, tmp_path: Path) -> None:
        other = RNG.normal(size=(36, 6))
        table = drift(atlas_of(tmp_path / "a.h5", RELEVANCE), atlas_of(tmp_path / "b.h5", other), LAYER, k=None)
        assert len(table) == 18
        p = []
        for row in table.rows():
            chosen = np.array(LABELS) == row["class"]
            one, two = (values.astype("f4").astype("f8")[chosen, row["concept"]] for values in (RELEVANCE, other))
            welch = ttest_ind(one, two, equal_var=False)
            assert (row["t"], row["p"], row["df"]) == pytest.approx((welch.statistic, welch.pvalue, welch.df))
            assert row["auc"] == pytest.approx(mannwhitneyu(one, two).statistic / 144)
            assert row["difference"] == pytest.approx(one.mean() - two.mean())
            p.append(welch.pvalue)
        np.testing.assert_allclose(table.q, false_discovery_control(p))
        assert (np.diff(np.abs(table.t)) <= 0).all()
        few = drift(atlas_of(tmp_path / "a2.h5", RELEVANCE), atlas_of(tmp_path / "b2.h5", other), LAYER, k=2)
        assert np.bincount(few.cls).tolist() == [2, 2, 2]
        np.testing.assert_array_equal(few.q[0], table.q[0])

    def test_is_found_in_the_class_and_concept_that_have_it(self, tmp_path: Path) -> None:
        other = moved(RNG.normal(size=(36, 6)), 1)
        table = drift(atlas_of(tmp_path / "a.h5", RELEVANCE), atlas_of(tmp_path / "b.h5", other), LAYER)
        assert table.drifted()
        assert (table.cls[0], table.concept[0]) == (1, 4)
        assert table.g[0] < -1
        assert (table.classes.q < 0.05).tolist() == [False, True, False]
        assert table.classes.total_variation[1] > table.classes.expected[1]
        assert "layer0', 3 classes: p = 0.005 that any has moved as far without drift" in repr(table)
        first = table.references(0, k=2)
        assert all(np.isin(ranking.sample, np.flatnonzero(np.array(LABELS) == 1)).all() for ranking in first)
        assert all(isinstance(part.plot(), Figure) for part in (table, table.classes))

    def test_is_not_found_in_the_same_scores(self, tmp_path: Path) -> None:
        atlas = atlas_of(tmp_path / "a.h5", RELEVANCE)
        table = drift(atlas, atlas, LAYER)
        assert not table.drifted()
        assert table.overall == 1
        assert (table.classes.total_variation == 0).all()
        assert "p = 1 that any has moved" in repr(table)

    def test_depends_on_the_seed_alone(self, tmp_path: Path) -> None:
        a, b = atlas_of(tmp_path / "a.h5", RELEVANCE), atlas_of(tmp_path / "b.h5", RNG.normal(size=(36, 6)))
        first, again, other = (drift(a, b, LAYER, seed=seed).classes.expected for seed in (4, 4, 5))
        assert (first == again).all()
        assert (first != other).all()

    def test_does_not_depend_on_how_many_classes_are_read_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a, b = atlas_of(tmp_path / "a.h5", RELEVANCE), atlas_of(tmp_path / "b.h5", RNG.normal(size=(36, 6)))
        whole = drift(a, b, LAYER)
        monkeypatch.setattr("crp_kit.atlas.atlas_drift._BYTES_AT_ONCE", 1)
        np.testing.assert_array_equal(drift(a, b, LAYER).t, whole.t)

    def test_of_single_samples_has_no_test(self, tmp_path: Path) -> None:
        a = atlas_of(tmp_path / "a.h5", RELEVANCE[:3], [0, 1, 1])
        b = atlas_of(tmp_path / "b.h5", RELEVANCE[3:7], [0, 1, 1, 2])
        table = drift(a, b, LAYER)
        assert table.classes.cls.tolist() == [0, 1]
        assert np.isnan(table.t[table.cls == 0]).all()
        assert table.classes.p[0] == 1
        assert not np.isnan(table.t[table.cls == 1]).any()

    def test_refuses_what_cannot_be_compared(self, tmp_path: Path) -> None:
        a, narrow = atlas_of(tmp_path / "a.h5", RELEVANCE), atlas_of(tmp_path / "b.h5", RELEVANCE[:, :3])
        with pytest.raises(InputError, match=r"same concepts; .* has 6 of them and .* 3"):
            drift(a, narrow, LAYER)
        apart = atlas_of(tmp_path / "c.h5", RELEVANCE[:2], [5, 6])
        with pytest.raises(InputError, match="no class has samples in both"):
            drift(a, apart, LAYER)
        few = atlas_of(tmp_path / "d.h5", RELEVANCE, n_classes=3)
        with pytest.raises(InputError, match="same classes; .* has 10 of them and .* 3"):
            drift(a, few, LAYER)
        apart.classes = ("other", *apart.classes[1:])
        with pytest.raises(InputError, match="'class 0' in .* is 'other' in"):
            drift(a, apart, LAYER)
        with pytest.raises(AtlasError, match="matrix"):
            drift(a, atlas_of(tmp_path / "e.h5", RELEVANCE, matrix=False), LAYER)
        with pytest.raises(InputError, match="level is between"):
            drift(a, a, LAYER).drifted(5)


def test_a_layer_answers_by_relevance_and_by_activation(tmp_path: Path) -> None:
    scores = score_atlas(tmp_path / "a.h5", LABELS, RELEVANCE)
    activation = crp.ConceptAtlas(tmp_path / "a.h5")[LAYER].activation
    assert isinstance(scores, ScoreAtlas)
    np.testing.assert_allclose(
        activation.similarity("pearson").values, np.corrcoef(np.abs(RELEVANCE.astype("f4")), rowvar=False), atol=1e-9
    )
