"""Columns of a pass with one row for each sample: targets, labels, predictions, and the most probable classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..file.file_tree import ArraySpec, array_spec
from ..file.hdf5_reader import H5File
from ..file.header import Array, Header, Integers
from ..file.sample_arrays import sample_arrays
from ..statistics.scores import BatchScores

__all__ = ["SampleColumns"]


class SampleColumns:
    """What a pass has found out of each sample beside scores.

    Parameters
    ----------
    header : Header
    index : numpy.ndarray
        (sample,), numbers of the samples in the dataset, ascending.
    """

    def __init__(self, header: Header, index: Integers) -> None:
        self._index = index
        self._fields = {field.name: field for field in sample_arrays(header)}
        self.values: dict[str, Array] = {name: field.empty(header, len(index)) for name, field in self._fields.items()}
        """By name: (sample,), or (sample, rank)."""

    def add(self, batch: BatchScores) -> None:
        """Take in the samples of a batch."""
        rows = np.searchsorted(self._index, batch.sample)
        facts: Mapping[str, Array] = {"target": batch.target, **batch.facts.arrays()}
        for name, values in self.values.items():
            values[rows] = facts[name]

    def merge(self, file: H5File, start: int) -> None:
        """Add a part, whose samples begin at `start`. What an older part lacks, the whole lacks."""
        for name in list(self.values):
            field = self._fields[name]
            if field.optional and not file.has(field.path):
                del self.values[name]
            else:
                stored = file.array(field.path)[:]
                self.values[name][start : start + len(stored)] = stored

    def leave_out_optional(self) -> None:
        """Leave out what rankings of other programs do not say."""
        self.values = {name: values for name, values in self.values.items() if not self._fields[name].optional}

    def arrays(self) -> dict[str, ArraySpec]:
        """Return the arrays of the file by path."""
        return {self._fields[name].path: array_spec(values) for name, values in self.values.items()}
