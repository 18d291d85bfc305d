"""Embeddings of reference samples and of words by functions of the user, and names of concepts by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from ...attribution.subject import Subject
from ...checks import check_integer, check_seed
from ...errors import InputError
from ...statistics.arrays import Floats, Integers
from ..file.header import Mode
from ..questions.embedding_naming import WordNames, word_names
from .layer_atlas import LayerAtlas
from .reference_maps import check_origin, reference_sample

__all__ = [
    "EmbeddingFunction",
    "WordEmbedding",
    "concepts_named_by_words",
    "embedded_references",
    "word_vectors",
]

EmbeddingFunction: TypeAlias = Callable[[list[torch.Tensor]], Any]
"""From images as the dataset gives them, (channel, height, width) each, to embeddings (image, feature)."""
WordEmbedding: TypeAlias = Callable[[list[str]], Any]
"""From words to embeddings (word, feature)."""
Words: TypeAlias = tuple[list[str], Floats]
"""Words that differ, and their embeddings (word, feature)."""
_IMAGES_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class EmbeddedReferences:
    """Embeddings of the reference samples of concepts, each sample once.

    Parameters
    ----------
    vectors : array
        (sample, feature).
    rows : dict of int to array of int
        By concept the rows of its references.
    """

    vectors: Floats
    rows: Mapping[int, Integers]


def embedded_references(
    subject: Subject, layer: LayerAtlas, concepts: Iterable[int], embed: EmbeddingFunction, *, k: int, mode: Mode
) -> EmbeddedReferences:
    """Return embeddings of the first `k` references of concepts.

    Raises
    ------
    AtlasError
        If model or data are not those that the atlas was made from.
    ConceptRangeError, InputError
        If there is no such concept, or so many references; or the function fails or returns something else.
    """
    check_origin(layer.file, subject)
    samples = {concept: layer.score(mode).top(concept, k).sample for concept in concepts}
    empty = [concept for concept, numbers in samples.items() if not len(numbers)]
    if empty:
        raise InputError(f"{layer.file.path} has no reference sample of concept {empty[0]} of {layer.name!r} by {mode}")
    numbers = np.unique(np.concatenate(list(samples.values())))
    vectors = _embedded(subject, numbers.tolist(), embed)
    return EmbeddedReferences(vectors, {concept: np.searchsorted(numbers, rows) for concept, rows in samples.items()})


def _embedded(subject: Subject, numbers: Sequence[int], embed: EmbeddingFunction) -> Floats:
    """Return the embeddings of samples, (sample, feature); few images are in memory at once."""
    parts: list[Floats] = []
    for start in range(0, len(numbers), _IMAGES_AT_ONCE):
        some = numbers[start : start + _IMAGES_AT_ONCE]
        images = [reference_sample(subject.samples, number) for number in some]
        array = _of_each(_called("the embedding function", embed, images), len(images), "images")
        if parts and parts[0].shape[1] != array.shape[1]:
            raise InputError(f"the embedding function returns {parts[0].shape[1]} features, then {array.shape[1]}")
        bad = np.flatnonzero(~np.isfinite(array).all(1))
        if len(bad):
            raise InputError(f"the embedding of sample {some[int(bad[0])]} has values that are NaN or infinite")
        parts.append(array)
    return np.concatenate(parts)


def concepts_named_by_words(
    subject: Subject, layer: LayerAtlas, embed: EmbeddingFunction, words: Words, *, mode: Mode, k: int, seed: int
) -> WordNames:
    """Return names of the concepts of a layer; see `crp_kit.Study.name_concepts`."""
    scores, seed, k = layer.score(mode), check_seed(seed), check_integer("k", k, low=1)
    concepts = range(layer.n_concepts)
    embedded = embedded_references(subject, layer, concepts, embed, k=k, mode=mode)
    if words[1].shape[1] != embedded.vectors.shape[1]:
        raise InputError(
            f"images and words are embedded by one model; they have {embedded.vectors.shape[1]} and "
            f"{words[1].shape[1]} features"
        )
    references = [embedded.rows[concept] for concept in concepts]
    return word_names(scores, embedded.vectors, references, words, seed=seed)


def word_vectors(words: Any, vectors: Any = None) -> Words:
    """Return different words, and their embeddings (word, feature).

    Parameters
    ----------
    words : dict of str to array, or sequence of str
        Words, with their embeddings (feature,) or without.
    vectors : array or callable, optional
        (word, feature), or a function that returns it for a list of words.

    Raises
    ------
    InputError
        If words are no texts, or repeat, or embeddings are missing, or have another shape.
    """
    if isinstance(words, (str, bytes)) or not isinstance(words, (Mapping, Sequence, np.ndarray)):
        raise InputError(f"words is a mapping from words to vectors, or a list of words; got {type(words).__name__}")
    names = [str(word) if isinstance(word, str) else word for word in words]
    wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise InputError(f"words are texts that are not empty; got {wrong[0]!r}")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f"words differ from each other; {twice!r} is there more than once")
    if len(names) < 2:
        raise InputError(f"a name is chosen among at least two words; got {len(names)}")
    if isinstance(words, Mapping) == (vectors is not None):
        raise InputError("words is a mapping from words to vectors, or a list of words whose vectors are in vectors=")
    if callable(vectors) and not isinstance(vectors, torch.Tensor):
        array = _called("the embedding function of words", vectors, names)
    else:
        known = list(words.values()) if isinstance(words, Mapping) else vectors
        array = _called("the vectors of words", _stacked, known)
    array = _of_each(array, len(names), "words")
    bad = np.flatnonzero(~np.isfinite(array).all(1) | ~array.any(1))
    if len(bad):
        raise InputError(f"the embedding of {names[int(bad[0])]!r} is zero, NaN or infinite: it has no direction")
    return names, array


def _of_each(array: Floats, count: int, noun: str) -> Floats:
    """Return embeddings, if they are as many rows as what they are of."""
    if array.ndim != 2 or len(array) != count or not array.shape[1]:
        raise InputError(f"embeddings of {count} {noun} are ({count}, feature); got shape {array.shape}")
    return array


def _stacked(vectors: Any) -> Any:
    """Return vectors that may be a list of tensors."""
    return torch.stack(list(vectors)) if all(isinstance(one, torch.Tensor) for one in vectors) else vectors


def _called(noun: str, function: Callable[[Any], Any], argument: Any) -> Floats:
    """Return what a function of the user's own returns, as float64."""
    try:
        with torch.no_grad():
            returned = function(argument)
        if isinstance(returned, torch.Tensor):
            returned = returned.detach().to("cpu", torch.float64).numpy()
        return np.asarray(returned, np.float64)
    except Exception as error:  # of any type
        raise InputError(f"{noun} fails: {type(error).__name__}: {error}") from error
