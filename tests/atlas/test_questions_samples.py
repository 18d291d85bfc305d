"""Prototypes, outliers and strategies of an atlas: samples that take part, judged vectors, errors, figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from atlas_case import SHAPES_LAYER, Labelled, build
from sklearn.metrics import roc_auc_score

import crp_kit as crp
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.data import demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError, ConceptRangeError, InputError
from crp_kit.statistics.gaussian_mixture import fit_mixture
from crp_kit.statistics.strategies import spectral_clusters


class Mislabelled(Labelled):
    """Images of the demo, two of which bear the label of another class."""

    def __init__(self) -> None:
        super().__init__(90)
        self.labels = list(self.labels)
        self.wrong = [3, 10]
        for number in self.wrong:
            self.labels[number] = (self.labels[number] + 1) % 8


DATA = Mislabelled()


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[crp.ConceptAtlas]:
    with build(tmp_path_factory.mktemp("samples") / "a.h5", DATA, layers=[SHAPES_LAYER], matrix=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def scores(atlas: crp.ConceptAtlas) -> ScoreAtlas:
    return atlas[SHAPES_LAYER].relevance


@pytest.fixture(scope="module")
def matrix(scores: ScoreAtlas) -> Any:
    return scores.matrix[:].astype("f8")


def right_of(atlas: crp.ConceptAtlas, cls: int) -> Any:
    return (atlas.labels == cls) & (atlas.predictions == cls)


def test_prototypes_are_of_the_rightly_predicted_samples_of_a_class(
    atlas: crp.ConceptAtlas, scores: ScoreAtlas, matrix: Any
) -> None:
    cls = int(atlas.labels[3])  # which a mislabelled image has
    rows = matrix[right_of(atlas, cls)]
    assert len(rows) < (atlas.labels == cls).sum()
    table = scores.prototypes(cls, 2)
    expected = fit_mixture(rows, 2)
    assert np.allclose(table.means, expected.means)
    assert np.allclose(table.weights, expected.weights)
    assert table.n.sum() == len(rows)
    assert list(table.to_frame().columns) == ["prototype", "weight", "n", "nearest"]
    nearest = np.argsort(expected.distances(rows), 0, kind="stable")[:8].T
    assert np.array_equal(table.samples, atlas.samples[right_of(atlas, cls)][nearest])
    assert table.nearest[0] == ", ".join(map(str, table.samples[0, :4]))
    assert np.allclose(scores.prototypes(atlas.classes[cls], 2).means, table.means)


def test_a_selection_limits_the_samples_of_prototypes(atlas: crp.ConceptAtlas, scores: ScoreAtlas) -> None:
    where = atlas.where(sample=range(40))
    table = scores.prototypes(2, where=where)
    assert set(table.samples.ravel()) <= set(range(40))
    assert table.n.sum() == (right_of(atlas, 2) & where.mask).sum()


def test_vectors_are_judged_by_percentile_and_their_nearest_prototype(scores: ScoreAtlas, matrix: Any) -> None:
    table = scores.prototypes(0, 2)
    judged = table.judge(matrix[:9])
    assert list(judged.to_frame().columns) == ["row", "prototype", "percentile"]
    held = table.fit.held_out
    assert np.array_equal(judged.prototype, table.fit.mixture.log_densities(matrix[:9]).argmax(1))
    assert np.allclose(judged.percentile, held.percentiles(held.further_scores(matrix[:9])))
    differences = judged.differences(4, k=3)
    expected = matrix[4] - table.means[judged.prototype[4]]
    assert np.allclose(differences.difference, expected[differences.concept])
    assert np.array_equal(differences.concept, np.argsort(-np.abs(expected), kind="stable")[:3])
    assert np.allclose(differences.share - differences.prototype_share, differences.difference)
    assert len(judged.differences(4, k=None)) == 32
    top = scores.top(int(differences.concept[1]), 4)
    assert np.array_equal(differences.references(1, 4).sample, top.sample)


def test_an_attribution_that_recorded_the_layer_is_judged_as_its_row_of_the_matrix(scores: ScoreAtlas) -> None:
    numbers = [0, 5, 11]
    images, labels = torch.stack([DATA[one][0] for one in numbers]), [DATA[one][1] for one in numbers]
    study = crp.Study(demo_resnet(), composite="epsilon_plus_flat", preprocess=demo_preprocess)
    attr = study.attribution(
        demo_preprocess(images), [{"y": [one]} for one in labels], "epsilon_plus_flat",
        record_layer=[SHAPES_LAYER], pairing="zip",
    )  # fmt: skip
    table = scores.prototypes(0)
    by_result, by_array = table.judge(attr), table.judge(scores.matrix[numbers])
    assert np.allclose(by_result.vectors, by_array.vectors, atol=1e-6)
    assert np.allclose(by_result.percentile, by_array.percentile, atol=100 / 12)  # one of 12 samples is itself


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((2, 31)), "vectors is an array .row, 32 concepts.; got the shape"),
        (np.full((1, 32), np.nan), "NaN or infinite in 1 rows"),
        (SimpleNamespace(relevances={}), "record_layer="),
        (SimpleNamespace(relevances={SHAPES_LAYER: torch.zeros(1, 32, 4, 4)}), "give inputs as the atlas had them"),
    ],
)
def test_vectors_that_do_not_fit_the_layer_are_refused(scores: ScoreAtlas, vectors: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        scores.prototypes(0).judge(vectors)


def test_outliers_are_the_samples_of_the_highest_percentiles(atlas: crp.ConceptAtlas, scores: ScoreAtlas) -> None:
    table = scores.outliers(k=1000)
    assert list(table.to_frame().columns) == ["sample", "class", "percentile"]
    assert sorted(table.sample) == list(range(90))
    assert np.array_equal(table.cls, atlas.labels[table.sample])
    assert (np.diff(table.percentile) <= 0).all()
    assert len(scores.outliers(k=5)) == 5
    own = scores.outliers(1, k=1000)
    assert set(own.cls) == {1}
    held = scores.prototypes(1).fit.held_out
    right = dict(zip(own.sample, own.percentile, strict=True))
    percentiles = [right[sample] for sample in atlas.samples[right_of(atlas, 1)]]
    assert np.allclose(percentiles, held.own_percentiles())


def test_wrongly_predicted_samples_are_judged_by_the_right_ones_of_their_label(
    atlas: crp.ConceptAtlas, scores: ScoreAtlas, matrix: Any
) -> None:
    sample = DATA.wrong[0]
    cls = int(atlas.labels[sample])
    table = scores.outliers(cls, k=1000)
    percentile = table.percentile[table.sample == sample][0]
    assert percentile == pytest.approx(scores.prototypes(cls).judge(matrix[[sample]]).percentile[0])


def test_classes_with_too_few_samples_are_named(atlas: crp.ConceptAtlas, scores: ScoreAtlas) -> None:
    few = atlas.where(label=3) & ~atlas.where(label=3, sample=np.flatnonzero(right_of(atlas, 3))[:2].tolist())
    table = scores.outliers(where=~few)
    assert table.left_out == (3,)
    assert "left out: 3 red triangle above dotted cross, with too few" in repr(table)
    with pytest.raises(InputError, match="class 3 of .* has fewer than 3"):
        scores.outliers(3, where=~few)
    with pytest.raises(InputError, match="of class 3 'red triangle above dotted cross' there are 2"):
        scores.prototypes(3, where=~few)


def test_another_atlas_is_detected_by_scores_and_baselines(
    atlas: crp.ConceptAtlas, scores: ScoreAtlas, tmp_path: Path
) -> None:
    class Noisy(Labelled):
        def __getitem__(self, number: int) -> tuple[torch.Tensor, Any]:
            generator = torch.Generator().manual_seed(number)
            image, label = super().__getitem__(number)
            return (image + 0.5 * torch.rand(image.shape, generator=generator)).clamp(0, 1), label

    with build(tmp_path / "b.h5", Noisy(24), layers=[SHAPES_LAYER], matrix=True) as other:
        table = scores.outliers().against(other[SHAPES_LAYER].relevance)
        assert table.method.tolist() == ["prototypes", "density", "mahalanobis", "softmax", "energy"]
        assert table.auroc[:3].min() > 0.8
        assert table.n.tolist() == [sum(right_of(atlas, cls).sum() for cls in range(8))] * 5
        assert table.n_other.tolist() == [24] * 5
        assert table.caption == ""
        fits = {cls: scores.prototypes(cls).fit.held_out for cls in range(8)}
        rows, labels = other[SHAPES_LAYER].relevance.matrix[:].astype("f8"), other.labels
        yours = [
            np.mean([one.scores(row[None])[0] for one in fits[cls].mixtures])
            for row, cls in zip(rows, labels, strict=True)
        ]
        mine = np.concatenate([fit.scores for fit in fits.values()])
        expected = roc_auc_score([0] * len(mine) + [1] * 24, [*mine, *yours])
        assert table.auroc[1] == pytest.approx(expected, abs=1e-3)
        right = np.logical_or.reduce([right_of(atlas, cls) for cls in range(8)])
        highest = [atlas.top_predictions[1][right, 0], other.top_predictions[1][:, 0]]
        expected = roc_auc_score(np.repeat([0, 1], [right.sum(), 24]), -np.concatenate(highest))
        assert table.auroc[3] == pytest.approx(expected, abs=1e-12)
        with torch.no_grad():
            images = [torch.stack([data[number][0] for number in range(len(data))]) for data in (DATA, Noisy(24))]
            outputs = [demo_resnet()(demo_preprocess(batch)).double().numpy() for batch in images]
        energies = [-np.log(np.exp(output).sum(1)) for output in outputs]
        for file, energy in zip((atlas, other), energies, strict=True):
            np.testing.assert_allclose(file.energies, energy, rtol=1e-4)
        expected = roc_auc_score(
            np.repeat([0, 1], [right.sum(), 24]), np.concatenate([energies[0][right], energies[1]])
        )
        assert table.auroc[4] == pytest.approx(expected, abs=1e-3)
        of_class = scores.outliers(1).against(other[SHAPES_LAYER].relevance)
        assert (of_class.n[0], of_class.n_other[0]) == (right_of(atlas, 1).sum(), (labels == 1).sum())
        with pytest.raises(InputError, match="asked for the same|of another model"):
            scores.outliers().against(other[SHAPES_LAYER].activation)
        with pytest.raises(InputError, match="no sample of a class"):
            scores.outliers().against(other[SHAPES_LAYER].relevance, other.where(sample=[]))


def test_strategies_are_spectral_clusters_of_the_samples_of_a_class(
    atlas: crp.ConceptAtlas, scores: ScoreAtlas, matrix: Any
) -> None:
    table = scores.strategies(1, 2, k=4)
    expected = spectral_clusters(matrix[atlas.labels == 1], 2, neighbours=4)
    assert list(table.to_frame().columns) == ["sample", "strategy", "x", "y"]
    assert np.array_equal(table.sample, np.flatnonzero(atlas.labels == 1))
    assert np.array_equal(table.strategy, expected.labels)
    assert np.allclose(np.stack([table.x, table.y], 1), expected.coordinates)
    assert table.sizes.tolist() == sorted(table.sizes, reverse=True)
    concepts = table.concepts(1, k=None)
    rows = matrix[table.sample]
    auc = [roc_auc_score(table.strategy == 1, column) for column in rows.T]
    assert np.allclose(concepts.auc, np.array(auc)[concepts.concept])
    assert (np.diff(np.abs(concepts.auc - 0.5)) <= 1e-12).all()
    assert np.allclose(concepts.mean, rows[table.strategy == 1].mean(0)[concepts.concept])
    assert np.allclose(concepts.mean_elsewhere, rows[table.strategy == 0].mean(0)[concepts.concept])
    assert concepts.n[0] + concepts.n_elsewhere[0] == len(rows)
    assert len(concepts.references(0, 3)) == 3


def test_what_tells_the_only_strategy_is_refused(scores: ScoreAtlas) -> None:
    with pytest.raises(InputError, match="all samples follow one strategy"):
        scores.strategies(1, 1).concepts(0)
    with pytest.raises(InputError, match="strategy is a whole number from 0 to 1"):
        scores.strategies(1, 2).concepts(2)


def test_all_of_them_have_figures(scores: ScoreAtlas, matrix: Any) -> None:
    prototypes, strategies = scores.prototypes(0, 2), scores.strategies(1, 2)
    judged = prototypes.judge(matrix[:3])
    for table in (prototypes, judged, judged.differences(0), scores.outliers(), strategies, strategies.concepts(0)):
        assert table.plot().axes


def test_a_missing_matrix_an_unknown_class_and_a_foreign_selection_are_refused(
    scores: ScoreAtlas, shapes_atlas_file: Path
) -> None:
    with crp.ConceptAtlas(shapes_atlas_file) as bare:
        for ask in (lambda s: s.prototypes(0), lambda s: s.outliers(), lambda s: s.strategies(0)):
            with pytest.raises(AtlasError, match="has no matrix"):
                ask(bare[SHAPES_LAYER].relevance)
        with pytest.raises(InputError, match="belongs to"):
            scores.outliers(where=bare.where(label=0))
    for ask in (lambda s: s.prototypes(8), lambda s: s.outliers(8), lambda s: s.strategies(8)):
        with pytest.raises(ConceptRangeError, match="class 8"):
            ask(scores)
