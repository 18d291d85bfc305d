"""Names of concepts from embeddings of their reference samples and of words, beside what random samples give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from .arrays import Floats, Integers, finite_rows
from .intervals import mean_interval

__all__ = ["NearestWords", "nearest_words"]

_LEAST_DRAWS = 1000
_DRAWS_OF_A_CONCEPT = 20
"""So many that the q-value of a single concept among all can be 5 %."""
_VALUES_AT_ONCE = 1 << 22
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class NearestWords:
    """The word of each concept, all (concept,).

    Parameters
    ----------
    word : array of int
        Number of the word whose similarity exceeds the expected one most.
    similarity : array
        Mean cosine of the concept's references with that word.
    low, high : array
        Student's interval of this mean over the references; not-a-number for a single one.
    expected : array
        Mean cosine of all references of all concepts with that word.
    p : array
        How often as many random ones of these exceed what is expected of some word by as much.
    """

    word: Integers
    similarity: Floats
    low: Floats
    high: Floats
    expected: Floats
    p: Floats


def nearest_words(
    images: Any, words: Any, references: Sequence[Integers], *, confidence: float = 0.95, seed: int = 0
) -> NearestWords:
    """Return for each concept the word that its references are nearer to than those of other concepts.

    The similarity is the mean cosine. Some words are near to all images, so that it is compared with its mean over the
    references of all concepts, each once. The null is the largest difference to any word for as many samples that are
    drawn without replacement from these.

    Parameters
    ----------
    images : array
        (sample, feature), embeddings of all references.
    words : array
        (word, feature), embeddings of at least two words by the same model.
    references : sequence of array of int
        Of each concept the rows of `images` that are its references, at least one.
    confidence : float, optional
        Between 0 and 1.
    seed : int, optional
        Of the draws.

    Raises
    ------
    InputError
        If sizes differ, a value is not finite, an embedding is zero, there is a single word, or a concept has no
        reference.

    References
    ----------
    Dreyer et al., "Mechanistic understanding and validation of large AI models with SemanticLens", Nature Machine
    Intelligence 7, 2025: the cosine of words with the mean of embedded references, less that of an empty prompt.

    Oikarinen and Weng, "CLIP-Dissect: automatic description of neuron representations in deep vision networks", ICLR
    2023: words by embeddings of the images that a neuron prefers.

    Examples
    --------
    >>> images = np.array([[1.0, 0.1], [0.9, 0.0], [1.0, 0.0], [0.0, 2.0], [0.1, 1.0], [0.0, 1.0]])
    >>> nearest = nearest_words(images, [[1.0, 0.0], [0.0, 1.0]], [np.arange(3), np.arange(3, 6)])
    >>> nearest.word, nearest.similarity.round(3)
    (array([0, 1]), array([0.998, 0.998]))
    """
    samples = _directions("the array of embedded samples", images)
    vectors = _directions("the array of word vectors", words, columns=samples.shape[1])
    if len(vectors) < 2:
        raise InputError(f"a name is chosen among at least two words; got {len(vectors)}")
    sizes = np.array([len(rows) for rows in references])
    if not sizes.all():
        raise InputError(f"each concept has at least one reference sample; number {int(sizes.argmin())} has none")
    centre = samples.mean(0)
    means = np.stack([samples[rows].mean(0) for rows in references])
    word, gain = _largest(means - centre, vectors)
    cosines = [samples[rows] @ vectors[best] for rows, best in zip(references, word.tolist(), strict=True)]
    mean, std = (np.array([float(of(values)) for values in cosines]) for of in (np.mean, np.std))
    low, high = mean_interval(sizes, mean, std, confidence=confidence)
    draws, p = max(_LEAST_DRAWS, _DRAWS_OF_A_CONCEPT * len(sizes)), np.empty(len(sizes))
    for size in np.unique(sizes).tolist():
        alike = sizes == size
        chance = np.sort(_by_chance(samples - centre, vectors, (draws, size), seed))
        above = len(chance) - np.searchsorted(chance, gain[alike] - _ROUNDING)
        p[alike] = (1 + above) / (1 + len(chance))
    return NearestWords(word, mean, low, high, vectors[word] @ centre, p)


def _directions(noun: str, values: Any, columns: int | None = None) -> Floats:
    """Return rows divided by their lengths."""
    rows = finite_rows(noun, values, columns=columns, axis="feature")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    zero = np.flatnonzero(lengths[:, 0] == 0)
    if len(zero):
        raise InputError(f"{noun} is zero in {len(zero)} rows, which have no direction; the first is {zero[0]}")
    directions: Floats = rows / lengths
    return directions


def _largest(means: Floats, vectors: Floats) -> tuple[Integers, Floats]:
    """Return the word with the highest product of each row, and that product: (row,)."""
    step = max(1, _VALUES_AT_ONCE // len(vectors))
    words, products = np.empty(len(means), np.int64), np.empty(len(means))
    for start in range(0, len(means), step):
        part = slice(start, start + step)
        values = means[part] @ vectors.T
        words[part] = values.argmax(1)
        products[part] = values.max(1)
    return words, products


def _by_chance(centred: Floats, vectors: Floats, shape: tuple[int, int], seed: int) -> Floats:
    """Return the highest product with any word of the mean of random samples: (draw,), for a shape (draw, sample)."""
    draws, size = shape
    generator = np.random.default_rng([seed, size])
    step = max(1, _VALUES_AT_ONCE // (size * centred.shape[1]))
    highest = []
    for start in range(0, draws, step):
        drawn = [generator.choice(len(centred), size, replace=False) for _ in range(min(step, draws - start))]
        highest.append(_largest(centred[np.stack(drawn)].mean(1), vectors)[1])
    return np.concatenate(highest)
