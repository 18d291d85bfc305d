"""Links of a concept to concepts of the layers above and below it: the caller's own, or from co-relevance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas

__all__ = ["LINKS", "Link", "LinkSource", "Links", "co_relevance", "cosines", "strongest"]

_ROWS = 4096
LINKS = 6
_WEAKEST = 0.1
"""Correlations below this are no links."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Link:
    """One end of a link, seen from the other.

    Parameters
    ----------
    layer : str
    concept : int
    weight : float
        Signed; `Links.meaning` says of what.
    """

    layer: str
    concept: int
    weight: float


LinkSource = Callable[[str, int], tuple[Sequence[Link], Sequence[Link]]]
"""From a layer and a concept to its links up (nearer to the output) and down (nearer to the input)."""


@dataclass(frozen=True, eq=False)
class Links:
    """Links between concepts of different layers, for a report.

    Parameters
    ----------
    meaning : str
        Meaning and origin of a weight, in one sentence for the reader.
    of : callable
        From a layer and a concept to its links up (nearer to the output) and down (nearer to the input), strongest
        first. A layer or concept that is not in the report is shown without an address.
    shares : bool, optional
        Whether weights are shares, which are shown in percent.

    Examples
    --------
    >>> links = Links("Made up.", lambda layer, concept: ([Link("layer3.1.conv2", 7, 0.5)], []))
    >>> links.of("layer2.1.conv2", 3)[0]
    [Link(layer='layer3.1.conv2', concept=7, weight=0.5)]
    """

    meaning: str
    of: LinkSource
    shares: bool = False


def co_relevance(atlas: ConceptAtlas, chosen: Mapping[str, Sequence[int]], *, k: int = LINKS) -> Links | None:
    """Return links between neighbouring layers by the correlation of relevance over all samples.

    Parameters
    ----------
    atlas : ConceptAtlas
    chosen : dict of str to sequence of int
        Layers in graph order, and their concepts.
    k : int, optional
        Links of each concept in either direction.

    Returns
    -------
    links : Links or None
        ``None`` for an atlas without matrix, or of one layer only.
    """
    if not atlas.header.matrix or len(chosen) < 2:
        return None
    up: dict[tuple[str, int], list[Link]] = {}
    down: dict[tuple[str, int], list[Link]] = {}
    for (lower, low_ids), (upper, high_ids) in pairwise(chosen.items()):
        matrices = (atlas[name].relevance.matrix for name in (lower, upper))
        correlation = cosines(*matrices, centred=True)[np.ix_(low_ids, high_ids)]
        for here, there, values, kept in (
            ((lower, low_ids), (upper, high_ids), correlation, up),
            ((upper, high_ids), (lower, low_ids), correlation.T, down),
        ):
            for concept, row in zip(here[1], values, strict=True):
                best = [index for index in strongest(row, k) if row[index] >= _WEAKEST]
                kept[here[0], concept] = [Link(there[0], there[1][index], float(row[index])) for index in best]
    meaning = (
        f"Correlation of relevance over the {len(atlas.samples):,} samples of the atlas, between neighbouring layers "
        f"of this report. Concepts that are used together are not always parts of each other."
    )
    return Links(meaning, lambda layer, concept: (up.get((layer, concept), ()), down.get((layer, concept), ())))


def strongest(values: Matrix, k: int) -> list[int]:
    """Return the indices of the `k` highest positive values, best first."""
    order = np.argsort(-values, kind="stable")[:k]
    return [int(index) for index in order if values[index] > 0]


def cosines(left: Any, right: Any, *, centred: bool) -> Matrix:
    """Return the cosine similarity of the columns of two matrices, or their correlation: (left, right).

    Parameters
    ----------
    left, right : array or h5py dataset
        (row, left) and (row, right); read in blocks of rows. Rows with not-a-number are left out.
    centred : bool
        Take the columns' means off first, in a pass of its own: a nearly constant column would cancel otherwise.
    """
    shifts = _means(left, right) if centred else (np.zeros(left.shape[1]), np.zeros(right.shape[1]))
    product = np.zeros((left.shape[1], right.shape[1]))
    left_square, right_square = np.zeros(left.shape[1]), np.zeros(right.shape[1])
    for blocks in _blocks(left, right):
        first, second = (block - shift for block, shift in zip(blocks, shifts, strict=True))
        product += first.T @ second
        left_square += (first**2).sum(0)
        right_square += (second**2).sum(0)
    left_norm, right_norm = np.sqrt(left_square)[:, None], np.sqrt(right_square)[None]
    cosine: Matrix = np.divide(product, left_norm, out=np.zeros_like(product), where=left_norm > 0)
    cosine = np.divide(cosine, right_norm, out=np.zeros_like(product), where=right_norm > 0)
    return np.clip(cosine, -1, 1)


def _blocks(left: Any, right: Any) -> Iterator[tuple[Matrix, Matrix]]:
    """Yield the rows of two matrices that have no not-a-number, in blocks: (row, left) and (row, right)."""
    for start in range(0, left.shape[0], _ROWS):
        first, second = (np.asarray(part[start : start + _ROWS], "f8") for part in (left, right))
        valid = ~(np.isnan(first).any(1) | np.isnan(second).any(1))
        yield first[valid], second[valid]


def _means(left: Any, right: Any) -> tuple[Matrix, Matrix]:
    """Return the means of the columns of both: of a constant column exactly its value."""
    filled = (blocks for blocks in _blocks(left, right) if len(blocks[0]))
    head = next(filled, None)
    if head is None:
        return np.zeros(left.shape[1]), np.zeros(right.shape[1])
    left_sum, right_sum, rows = np.zeros(left.shape[1]), np.zeros(right.shape[1]), 0
    for first, second in itertools.chain([head], filled):
        left_sum += (first - head[0][0]).sum(0)
        right_sum += (second - head[1][0]).sum(0)
        rows += len(first)
    return head[0][0] + left_sum / rows, head[1][0] + right_sum / rows
