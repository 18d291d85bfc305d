"""Means of concepts by class, and how often they are among the strongest, against scipy on the scores themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from score_atlas import score_atlas

import crp_kit as crp
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.atlas.questions import matrix_rows
from crp_kit.errors import AtlasError, InputError

Array = npt.NDArray[Any]

DRAW = np.random.default_rng(4)
SAMPLES, CONCEPTS = 130, 6
LABELS = DRAW.choice([1, 3, 8], SAMPLES)
LABELS[5], LABELS[9] = 4, -1  # the only sample of its class, and one without
LEFT_OUT = 70
VALUES = DRAW.normal(size=(SAMPLES, CONCEPTS)).astype("f4")
VALUES[:40] = np.round(VALUES[:40])  # ties
VALUES[3] = -1  # nothing positive
CLASSES = [1, 3, 4, 8]
SEEN = (np.arange(SAMPLES) != LEFT_OUT) & (LABELS >= 0)


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> ScoreAtlas:
    path = tmp_path_factory.mktemp("means") / "atlas.h5"
    return score_atlas(path, LABELS.tolist(), VALUES, left_out=[LEFT_OUT], k=20, k_class=3)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> ScoreAtlas:
    path = tmp_path_factory.mktemp("means") / "without.h5"
    return score_atlas(path, LABELS.tolist(), VALUES, left_out=[LEFT_OUT], matrix=False)


def atlas_of(scores: ScoreAtlas) -> crp.ConceptAtlas:
    assert isinstance(scores.file, crp.ConceptAtlas)
    return scores.file


def check_means(scores: ScoreAtlas, kept: Array, where: Any, *, rtol: float) -> None:
    frame = scores.class_means(0.9, where=where).to_frame()
    assert list(frame) == ["class", "concept", "n", "mean", "low", "high"]
    classes = sorted(set(LABELS[kept].tolist()))
    assert frame["class"].tolist() == np.repeat(classes, CONCEPTS).tolist()
    assert frame["concept"].tolist() == [*range(CONCEPTS)] * len(classes)
    for number in classes:
        values, rows = VALUES[kept & (number == LABELS)].astype("f8"), frame[frame["class"] == number]
        assert set(rows["n"]) == {len(values)}
        np.testing.assert_allclose(rows["mean"], values.mean(0), rtol=rtol)
        if len(values) > 1:
            low, high = stats.t.interval(0.9, len(values) - 1, values.mean(0), stats.sem(values))
            np.testing.assert_allclose(rows[["low", "high"]], np.stack([low, high], 1), rtol=10 * rtol, atol=rtol)
        else:
            assert np.isnan(rows[["low", "high"]].to_numpy()).all()


def test_every_class_that_occurs_has_its_means_with_the_intervals_of_scipy(
    scores: ScoreAtlas, without: ScoreAtlas
) -> None:
    for either in (scores, without):
        check_means(either, SEEN, None, rtol=1.2e-7)


@pytest.mark.parametrize("chunk", [7, 256])
def test_where_restricts_the_samples(scores: ScoreAtlas, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_rows, "_CHUNK", (chunk, 64))
    monkeypatch.setattr(matrix_rows, "_BYTES_AT_ONCE", 8 * 3 * chunk * 4 * CONCEPTS)
    check_means(scores, SEEN, atlas_of(scores).where(), rtol=1e-12)
    chosen = np.isin(np.arange(SAMPLES), [0, 1, 2, 60, 61, 62, 63, 64, LEFT_OUT, 71, 72, 120, 129])
    check_means(scores, SEEN & chosen, atlas_of(scores).where(sample=np.flatnonzero(chosen)), rtol=1e-12)


def test_presence_is_the_fraction_of_samples_with_a_concept_among_the_strongest(scores: ScoreAtlas) -> None:
    chosen = np.arange(SAMPLES) < 100
    for where, kept in ((None, SEEN), (atlas_of(scores).where(sample=range(100)), SEEN & chosen)):
        frame = scores.class_presence(2, 0.9, where=where).to_frame()
        assert list(frame) == ["class", "concept", "n", "count", "fraction", "low", "high"]
        assert frame["class"].tolist() == np.repeat(CLASSES, CONCEPTS).tolist()
        for row in frame.to_dict("records"):
            values, concept = VALUES[kept & (row["class"] == LABELS)].tolist(), row["concept"]
            strong = [one[concept] > 0 and sum(other > one[concept] for other in one) < 2 for one in values]
            assert (row["n"], row["count"]) == (len(values), sum(strong))
            assert row["fraction"] == sum(strong) / len(values)
            interval = stats.binomtest(sum(strong), len(values)).proportion_ci(0.9, method="wilson")
            np.testing.assert_allclose([row["low"], row["high"]], [interval.low, interval.high], rtol=1e-10, atol=1e-15)


def test_all_concepts_are_among_as_many_strongest_if_they_are_positive(scores: ScoreAtlas) -> None:
    table = scores.class_presence(CONCEPTS)
    expected = [(VALUES[SEEN & (number == LABELS)] > 0).sum(0) for number in CLASSES]
    np.testing.assert_array_equal(table.count.reshape(-1, CONCEPTS), expected)


def test_captions_say_what_the_numbers_are(scores: ScoreAtlas) -> None:
    origin = "relevance of the concepts of 'layer0', started from each sample's label"
    assert scores.class_means().caption == f"mean {origin}"
    words = "fraction of samples with the concept among the 3 strongest: "
    assert scores.class_presence(3).caption == words + origin


def test_a_row_has_the_references_of_its_concept_in_its_class(scores: ScoreAtlas) -> None:
    for table in (scores.class_means(), scores.class_presence()):
        row = CONCEPTS + 2
        expected = scores.class_top(2, 3, 3)
        np.testing.assert_array_equal(table.references(row, k=3).sample, expected.sample)
        with pytest.raises(InputError, match="the atlas holds 3 per ranking"):
            table.references(row)


@pytest.mark.parametrize("m", [0, CONCEPTS + 1, 2.0, True])
def test_a_number_of_strongest_concepts_that_is_none_is_refused(scores: ScoreAtlas, m: Any) -> None:
    with pytest.raises(InputError, match="m is a whole number from 1 to 6"):
        scores.class_presence(m)


def test_a_confidence_that_is_none_is_refused(scores: ScoreAtlas) -> None:
    for ask in (scores.class_means, lambda confidence: scores.class_presence(5, confidence)):
        with pytest.raises(InputError, match="confidence is between 0 and 1"):
            ask(95)


def test_nothing_selected_and_no_matrix_are_refused(scores: ScoreAtlas, without: ScoreAtlas) -> None:
    atlas, nothing = atlas_of(without), atlas_of(scores).where(sample=[9])
    for ask in (scores.class_means, scores.class_presence):
        with pytest.raises(InputError, match="that counts has a class"):
            ask(where=nothing)
    for ask in (lambda: without.class_means(where=atlas.where()), without.class_presence):
        with pytest.raises(AtlasError, match=r"no matrix: add it with study.add_matrix"):
            ask()
    with pytest.raises(InputError, match="belongs to"):
        scores.class_means(where=atlas.where())


@pytest.mark.parametrize("width", [3.4, 7.0])
def test_figures_have_a_line_for_each_class_and_a_column_for_each_concept(scores: ScoreAtlas, width: float) -> None:
    for table in (scores.class_means(), scores.class_presence()):
        figure = table.plot(4, classes=3, width=width)
        ax = figure.axes[0]
        assert figure.get_figwidth() == width
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1 class 1", "3 class 3", "8 class 8"]
        concepts = [int(tick.get_text()) for tick in ax.get_xticklabels()]
        assert len(set(concepts)) == 4
        assert len(np.asarray(ax.collections[0].get_offsets())) == 12
        figure.draw_without_rendering()


def test_figures_take_tables_with_rows_left_out_and_refuse_empty_ones(scores: ScoreAtlas) -> None:
    for table in (scores.class_means(), scores.class_presence()):
        part = table.taken(np.arange(len(table)) % 5 > 0).plot()
        assert len(np.asarray(part.axes[0].collections[0].get_offsets())) == len(table) - len(range(0, len(table), 5))
        with pytest.raises(InputError, match="there is nothing to draw"):
            table.taken(slice(0)).plot()
        for wrong in ({"k": 0}, {"classes": 0}):
            with pytest.raises(InputError, match="is a whole number of at least 1"):
                table.plot(**wrong)


def test_tables_are_drawn_when_their_file_is_closed(tmp_path: Path) -> None:
    layer = score_atlas(tmp_path / "atlas.h5", [0, 1] * 5, VALUES[10:20])
    with atlas_of(layer):
        tables = layer.class_means(), layer.class_presence(), layer.contrast(0, 1)
    for table in tables:
        table.plot().draw_without_rendering()
        assert repr(table)


def test_means_of_an_atlas_whose_samples_have_no_class_are_refused(tmp_path: Path) -> None:
    scores = score_atlas(tmp_path / "a.h5", [-1, -1], np.ones((2, 3)))
    with pytest.raises(InputError, match="no sample of .* has one"):
        scores.class_means()
