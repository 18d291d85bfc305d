"""Rows of a result: which sample under which condition set, in blocks that share a forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..conditions import ConditionSet, Pairing
from ..errors import ConditionError

__all__ = ["RowBlock", "Rows", "paired"]


@dataclass(frozen=True)
class Rows:
    """All rows of a call, in the order of its result. Made by `paired`.

    Parameters
    ----------
    samples : int
        Number of samples.
    conditions : tuple of ConditionSet
    zipped : bool
        Whether row i is sample i under condition set i. Otherwise every sample meets every set, sets fastest.
    """

    samples: int
    conditions: tuple[ConditionSet, ...]
    zipped: bool

    def __len__(self) -> int:
        return self.samples if self.zipped else self.samples * len(self.conditions)

    def blocks(self, batch_size: int) -> Iterator[RowBlock]:
        """Cut the rows into blocks of about `batch_size`, in row order.

        A block has several samples only where each of them meets all of the condition sets in that block.
        """
        if self.zipped:
            for start in range(0, self.samples, batch_size):
                rows = range(start, min(start + batch_size, self.samples))
                yield RowBlock(self, rows, rows)
            return
        sets = len(self.conditions)
        together = max(1, batch_size // sets)
        for start in range(0, self.samples, together):
            samples = range(start, min(start + together, self.samples))
            for first in range(0, sets, batch_size):
                yield RowBlock(self, samples, range(first, min(first + batch_size, sets)))


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows that share a forward.

    Parameters
    ----------
    rows : Rows
        All rows of the call.
    samples : range
        Numbers of the block's samples.
    sets : range
        Numbers of its condition sets.
    """

    rows: Rows
    samples: range
    sets: range

    @property
    def zipped(self) -> bool:
        """Whether row i is sample i of the block under its condition set i."""
        return self.rows.zipped

    @property
    def conditions(self) -> tuple[ConditionSet, ...]:
        """The condition sets of the block."""
        return self.rows.conditions[self.sets.start : self.sets.stop]

    @property
    def sample_slice(self) -> slice:
        """The block's samples among those of the call."""
        return slice(self.samples.start, self.samples.stop)

    def row_conditions(self) -> tuple[ConditionSet, ...]:
        """Return the condition set of each row."""
        return self.conditions if self.zipped else self.conditions * len(self.samples)

    def row_samples(self) -> tuple[int, ...]:
        """Return the number of the sample of each row."""
        return tuple(self.samples) if self.zipped else tuple(s for s in self.samples for _ in self.sets)

    def by_row(self, values: torch.Tensor) -> torch.Tensor:
        """Return values of samples, (sample, ...), as (row, ...)."""
        return values if self.zipped else values.repeat_interleave(len(self.sets), 0)

    def ordered(self, parts: Sequence[tuple[list[int], torch.Tensor]]) -> torch.Tensor:
        """Return values of groups of condition sets in the order of the rows, (row, ...).

        Each part is the numbers of its sets within the block, and values (set, sample, ...); of a zipped block
        (1, sample, ...), of which those of the group's own samples count.
        """
        first = parts[0][1]
        if self.zipped:
            whole = first[0].clone(memory_format=torch.contiguous_format)
            for group, part in parts[1:]:
                whole[group] = part[0][group]
            return whole
        whole = first.new_zeros((len(self.sets), *first.shape[1:]))
        for group, part in parts:
            whole[group] = part
        return whole.transpose(0, 1).flatten(0, 1)


def paired(samples: int, conditions: tuple[ConditionSet, ...], pairing: Pairing) -> Rows:
    """Return the rows of samples and condition sets.

    Raises
    ------
    ConditionError
        If `pairing` is not known, or ``"zip"`` meets unequal lengths.
    """
    if pairing not in ("auto", "zip", "product"):
        raise ConditionError(f"pairing is 'auto', 'zip' or 'product'; got {pairing!r}")
    sets = len(conditions)
    if pairing == "zip" and samples != sets:
        raise ConditionError(
            f"pairing='zip' needs as many condition sets as samples; got {samples} samples and {sets} sets. "
            f"pairing='product' combines every sample with every set"
        )
    return Rows(samples, conditions, zipped=pairing == "zip" or (pairing == "auto" and samples == sets))
