"""Matrix of scores: one for every sample and concept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..file.file_tree import ArraySpec, array_spec
from ..file.header import HALF, Header, Integers, Mode
from .base import Allocate, ArrayField, Block, Read, Statistic
from .scores import ModeScores

__all__ = ["Matrix"]

_ROWS_AT_ONCE = 4096


class Matrix(Statistic):
    """The score of every sample and concept, with the sample's first target; NaN where a sample was left out.

    Of float32, or float16 where the header says so: rankings and moments are of float32 in any case.
    """

    name, optional = "matrix", False
    fields = (ArrayField("matrix", ("sample", "concept"), "f"),)

    def __init__(self, header: Header, concepts: int, samples: int, allocate: Allocate) -> None:
        self.matrix = allocate((samples, concepts), "f2" if header.matrix_dtype == HALF else "f4", np.nan)

    @classmethod
    def applies(cls, header: Header, mode: Mode) -> bool:
        return header.matrix

    def add(self, scores: ModeScores, index: Integers) -> None:
        self.matrix[np.searchsorted(index, scores.first.sample)] = scores.first.score

    def arrays(self) -> Mapping[str, ArraySpec]:
        return {"matrix": array_spec(self.matrix)}

    def merge(self, read: Read, start: int) -> None:
        stored = read("matrix")
        for row in range(0, stored.shape[0], _ROWS_AT_ONCE):
            rows = stored[row : row + _ROWS_AT_ONCE]
            self.matrix[start + row : start + row + len(rows)] = rows

    @classmethod
    def check(cls, block: Block) -> Iterator[str]:
        matrix = block.arrays(cls)["matrix"]
        if (matrix.dtype == np.float16) != (block.header.matrix_dtype == HALF):
            yield f"the matrix is of {matrix.dtype}, which the header does not say"
        if (np.isnan(matrix) & ((block.target >= 0) & (block.prediction >= 0))).any() or np.isinf(matrix).any():
            yield "the matrix has no score of a sample that was looked at, or an infinite one"
