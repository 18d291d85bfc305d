"""Names from embeddings: similarities against loops over samples and words, chance by planted and random references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from crp_kit.errors import InputError
from crp_kit.statistics.embedding_names import nearest_words


def drawn(samples: int = 60, features: int = 6, words: int = 4, concepts: int = 5, seed: int = 0) -> tuple[Any, ...]:
    """Random images, words, and references of concepts."""
    generator = np.random.default_rng(seed)
    references = [generator.choice(samples, 8, replace=False) for _ in range(concepts)]
    return generator.normal(1, 1, (samples, features)), generator.normal(size=(words, features)), references


def cosine(a: Any, b: Any) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_a_concept_has_the_word_that_its_references_exceed_all_references_in_by_mean_cosine() -> None:
    images, words, references = drawn()
    nearest = nearest_words(images, words, references, confidence=0.9)
    whole = [np.mean([cosine(image, word) for image in images]) for word in words]
    for concept, rows in enumerate(references):
        cosines = np.array([[cosine(images[row], word) for row in rows] for word in words])
        best = int(np.argmax(cosines.mean(1) - whole))
        assert nearest.word[concept] == best
        assert nearest.similarity[concept] == pytest.approx(cosines[best].mean(), abs=1e-12)
        assert nearest.expected[concept] == pytest.approx(whole[best], abs=1e-12)
        ends = stats.t.interval(0.9, 7, cosines[best].mean(), stats.sem(cosines[best]))
        assert (nearest.low[concept], nearest.high[concept]) == pytest.approx(ends, abs=1e-12)


def test_lengths_of_embeddings_do_not_matter() -> None:
    images, words, references = drawn(seed=1)
    scale = np.random.default_rng(2).uniform(0.1, 10, (len(images), 1))
    expected, scaled = nearest_words(images, words, references), nearest_words(images * scale, words * 7, references)
    for name in ("word", "similarity", "low", "high", "expected", "p"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(expected, name), atol=1e-12)


def test_p_is_the_share_of_all_subsets_that_exceed_some_word_by_as_much() -> None:
    from itertools import combinations

    images, words, _ = drawn(9, 4, 3, seed=3)
    references = [np.array([0, 4, 7]), np.array([1, 2, 3])]
    directions = images / np.linalg.norm(images, axis=1, keepdims=True)
    vectors = words / np.linalg.norm(words, axis=1, keepdims=True)
    gains = (directions - directions.mean(0)) @ vectors.T
    every = np.array([gains[list(rows)].mean(0).max() for rows in combinations(range(9), 3)])
    p = nearest_words(images, words, references).p
    for concept, rows in enumerate(references):
        exact = np.mean(every >= gains[rows].mean(0).max() - 1e-12)
        assert p[concept] == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 1000) + 0.002)


def test_planted_words_are_found_and_random_references_are_at_most_as_often_significant_as_chance_says() -> None:
    generator = np.random.default_rng(4)
    words = generator.normal(size=(20, 16))
    images = generator.normal(2, 1, (400, 16))
    planted = [np.arange(start, start + 10) for start in range(0, 50, 10)]
    for word, rows in enumerate(planted):
        images[rows] += 1.5 * words[word]
    nearest = nearest_words(images, words, planted)
    assert nearest.word.tolist() == [0, 1, 2, 3, 4]
    assert nearest.p.max() == 1 / 1001
    random = [generator.choice(np.arange(50, 400), 10, replace=False) for _ in range(50)]
    p = nearest_words(images[50:], words, [rows - 50 for rows in random]).p
    assert np.mean(p <= 0.05) <= 0.12  # of 50, beyond which binomial chance has 1.5 %
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_references_that_are_all_samples_or_all_alike_name_nothing() -> None:
    images, words, _ = drawn(12, seed=5)
    assert nearest_words(images, words, [np.arange(12)] * 3).p.tolist() == [1, 1, 1]
    alike = nearest_words(np.ones((12, 6)), words, [np.arange(4), np.arange(4, 8)])
    assert alike.p.tolist() == [1, 1]


def test_the_interval_of_a_single_reference_is_unknown() -> None:
    images, words, _ = drawn(seed=6)
    nearest = nearest_words(images, words, [np.array([3]), np.arange(5)])
    assert np.isnan(nearest.low).tolist() == np.isnan(nearest.high).tolist() == [True, False]
    assert np.isfinite(nearest.p).all()


def test_a_single_concept_among_many_can_be_significant() -> None:
    images, words, _ = drawn(100, seed=7)
    images[:5] = words[2]
    everything = [np.arange(100)] * 99
    p = nearest_words(images, words, [np.arange(5), *everything]).p
    assert p[0] * 100 <= 0.05


@pytest.mark.parametrize(
    ("images", "words", "references", "message"),
    [
        (np.ones((4, 3)), np.ones((1, 3)), [[0]], "among at least two words; got 1"),
        (
            np.ones((4, 3)),
            np.ones((2, 4)),
            [[0]],
            r"word vectors is an array \(row, 3 features\); got the shape \(2, 4",
        ),
        (np.ones((4, 3, 2)), np.ones((2, 3)), [[0]], r"embedded samples is an array \(row, feature\); got the shape"),
        (np.ones((4, 3)), np.zeros((2, 3)), [[0]], "word vectors is zero in 2 rows, which have no direction"),
        (np.full((4, 3), np.nan), np.ones((2, 3)), [[0]], "NaN or infinite in 4 rows"),
        (np.ones((4, 3)), np.ones((2, 3)), [[0], []], "at least one reference sample; number 1 has none"),
    ],
)
def test_embeddings_that_name_nothing_are_refused(images: Any, words: Any, references: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nearest_words(images, words, [np.array(rows, int) for rows in references])
