"""Reading of the scores of chosen samples, in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import AtlasError, InputError
from ...statistics.threads import on_threads
from ..query.selection import Mask, Selection, looked_at
from ..query.stored_scores import StoredScores

__all__ = ["column_blocks", "row_blocks", "score_matrix", "score_rows", "scored"]

Array = npt.NDArray[Any]

_BYTES_AT_ONCE = 1 << 29
"""Of a block; of what is cut from the file at once it is an eighth."""
_TRANSPOSED = 64
"""Rows that are turned into columns at once: few enough for the processor's cache."""
_CHUNK = 256, 64
"""Rows and columns of a chunk of a wide matrix in the file, which no block cuts: each is unpacked once."""


def score_matrix(scores: StoredScores, purpose: str) -> Any:
    """Return the matrix (sample, concept), which a purpose needs.

    Raises
    ------
    AtlasError
        If the atlas is without.
    """
    if not scores.has("matrix"):
        raise AtlasError(
            f"{purpose} needs the scores of every sample, and {scores.file.path} has no matrix: add it with "
            f"study.add_matrix(atlas), or build the atlas with matrix=True"
        )
    return scores.matrix


def scored(scores: StoredScores, where: Selection | None = None) -> Mask:
    """Return which samples have scores: those that were looked at, and for relevance have a target to start from.

    Raises
    ------
    InputError
        If `where`, of which alone they are, is no selection, or belongs to another atlas.
    """
    mask = looked_at(scores.file)
    if scores.mode == "relevance":
        mask = mask & (scores.file.targets >= 0)
    if where is None:
        return mask
    if not isinstance(where, Selection):
        raise InputError(
            f"where is a selection, such as atlas.where(label=0) or atlas.where(sample=[3, 5]); got "
            f"{type(where).__name__}"
        )
    where.check_belongs(scores.file)
    return mask & where.mask


def column_blocks(matrix: Any, groups: Sequence[Mask]) -> Iterator[tuple[slice, list[Array]]]:
    """Yield some concepts at once: which they are, and the scores of each group of samples, (sample, concept).

    In memory a concept's scores lie side by side. Samples of several groups are read once.
    """
    _, concepts = matrix.shape
    member = np.logical_or.reduce(groups)
    row_bytes = 4 * sum(int(group.sum()) for group in groups)
    step = max(_CHUNK[1], _BYTES_AT_ONCE // max(row_bytes, 1) // _CHUNK[1] * _CHUNK[1])
    for start in range(0, concepts, step):
        columns = slice(start, min(start + step, concepts))
        blocks = [np.empty((columns.stop - start, int(group.sum())), np.float32) for group in groups]
        filled = [0] * len(groups)
        for part, values in _read(matrix, _parts(member, 4 * (columns.stop - start)), columns):
            for number, group in enumerate(groups):
                chosen = np.flatnonzero(group[part])
                for first in range(0, len(chosen), _TRANSPOSED):
                    rows = chosen[first : first + _TRANSPOSED]
                    blocks[number][:, filled[number] : filled[number] + len(rows)] = values[rows].T
                    filled[number] += len(rows)
        yield columns, [block.T for block in blocks]


def row_blocks(matrix: Any, mask: Mask) -> Iterator[tuple[Array, Array]]:
    """Yield some samples at once: their numbers among all, (sample,), and their scores, (sample, concept)."""
    for part, values in _read(matrix, _parts(mask, 4 * matrix.shape[1]), slice(None)):
        chosen = np.flatnonzero(mask[part])
        yield part.start + chosen, values if len(chosen) == len(values) else values[chosen]


def score_rows(scores: StoredScores, mask: Mask) -> Array:
    """Return the scores of some samples in memory: (row, concept), float32."""
    rows, filled = np.empty((int(mask.sum()), scores.n_concepts), np.float32), 0
    for _, values in row_blocks(scores.matrix, mask):
        rows[filled : filled + len(values)] = values
        filled += len(values)
    return rows


def _read(matrix: Any, parts: Iterator[slice], columns: slice) -> Iterator[tuple[slice, Array]]:
    """Yield slices of rows and what the matrix holds there."""
    return on_threads(lambda part: (part, matrix[part, columns]), parts)


def _parts(mask: Mask, row_bytes: int) -> Iterator[slice]:
    """Yield the slices of rows that hold chosen ones: whole chunks, neighbours together up to a size."""
    rows = _CHUNK[0]
    at_once = max(1, _BYTES_AT_ONCE // 8 // (row_bytes * rows))
    held = np.unique(np.flatnonzero(mask) // rows)
    for run in np.split(held, np.flatnonzero(np.diff(held) > 1) + 1):
        for start in range(0, len(run), at_once):
            chunks = run[start : start + at_once]
            yield slice(int(chunks[0]) * rows, min((int(chunks[-1]) + 1) * rows, len(mask)))
