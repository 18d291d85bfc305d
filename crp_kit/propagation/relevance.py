"""Relevance on its way through the graph: rows of values times a factor that all rows share.

Most rules end with a multiplication by the input and begin with one by ``1 / z``. Neither depends on the condition, so
the two are multiplied once, and the rows of all conditions once with their product, in place where nobody else reads
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..numerics import is_finite

__all__ = ["Relevance", "Scaling", "is_zero", "one_channel"]


@dataclass(eq=False)
class Relevance:
    """Relevance at one output.

    Parameters
    ----------
    rows : torch.Tensor
        (row, *shape).
    factor : torch.Tensor or None
        What every row is still to be multiplied with: (*shape).
    owned : bool
        The rows may be overwritten, see below.
    channel : torch.Tensor or None
        (row,), the only channel in which a row is not zero, where a mask has left one: axis 2 of the rows.

    Notes
    -----
    Who owns rows: whoever computed them into memory that no other tensor reads, until it hands them on to one reader,
    which then owns them. What is handed to more than one reader is `shared` and owned by none of them, and neither is a
    tensor that a step returns without saying so. Only `whole`, `plus` and `Scaling` overwrite, each what it owns; the
    factor belongs to all conditions and is never overwritten.
    """

    rows: torch.Tensor
    factor: torch.Tensor | None = None
    owned: bool = False
    channel: torch.Tensor | None = None

    def whole(self) -> torch.Tensor:
        """Return the relevance itself, (row, *shape)."""
        if self.factor is None:
            return self.rows
        if not self.owned:
            return self.rows * self.factor
        self.rows, self.factor = _times(self.rows, self.factor, owned=True), None
        return self.rows

    def is_finite(self) -> bool:
        """Return whether all of it is, rows and factor."""
        parts = [self.rows] if self.factor is None else [self.rows, self.factor]
        return all(map(is_finite, parts))

    def shared(self) -> Relevance:
        """Return the same relevance for one reader of several."""
        return Relevance(self.rows, self.factor, channel=self.channel)

    def plus(self, other: Relevance) -> Relevance:
        """Return the sum of two relevances of the same rows."""
        if self.factor is other.factor:
            first, second = (self, other) if self.owned else (other, self)
            return Relevance(_plus(first.rows, second.rows, owned=first.owned), self.factor, owned=True)
        if other.factor is None:
            return other.plus_whole(self)
        return self.plus_whole(other)

    def plus_whole(self, other: Relevance) -> Relevance:
        """Return the sum, without a factor."""
        fresh = self.owned or self.factor is not None
        total = self.whole()
        if other.factor is not None and fresh and total.dtype == other.rows.dtype == other.factor.dtype:
            return Relevance(total.addcmul_(other.rows, other.factor), owned=True)
        return Relevance(_plus(total, other.whole(), owned=fresh), owned=True)


class Scaling:
    """The multiplication of relevance with a factor; its products with the factors that arrive are kept.

    Parameters
    ----------
    factor : torch.Tensor
        (*shape).
    """

    def __init__(self, factor: torch.Tensor) -> None:
        self.factor = factor
        self._products: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._silenced: dict[int, bool] = {}

    def __call__(self, relevance: Relevance) -> torch.Tensor:
        """Return all of it multiplied, (row, *shape), as values that only the caller has."""
        rows, above = relevance.rows, relevance.factor
        if above is None:
            return _times(rows, self.factor, owned=relevance.owned)
        if len(rows) == 1 and id(above) not in self._products:  # a product for one row would cost what it saves
            return _times(_times(rows, above, owned=relevance.owned), self.factor, owned=True)
        return _times(rows, self._product(above), owned=relevance.owned)

    def in_channel(self, relevance: Relevance, channel: torch.Tensor) -> torch.Tensor:
        """Return one channel of each row multiplied, (row, sample, ...)."""
        found = relevance.rows[torch.arange(len(channel), device=channel.device), :, channel]
        for factor in (relevance.factor, self.factor):
            if factor is not None:
                found = found * factor[:, channel].transpose(0, 1)
        return found.to(self.factor.dtype)

    def silences(self, relevance: Relevance) -> bool:
        """Return whether nothing is left of any row, since the factor is zero wherever the relevance is not."""
        above = relevance.factor
        if above is None:
            return is_zero((relevance.rows != 0).any(0) * self.factor)
        if id(above) not in self._silenced:
            self._silenced[id(above)] = is_zero(self._product(above))
        return self._silenced[id(above)]

    def _product(self, above: torch.Tensor) -> torch.Tensor:
        if id(above) not in self._products:
            self._products[id(above)] = above, above * self.factor  # with `above`, so that its id stays its own
        return self._products[id(above)][1]


def one_channel(mask: torch.Tensor, rows: torch.Tensor) -> torch.Tensor | None:
    """Return the one channel that a mask leaves of each row, (row,), or None if it leaves more of some row.

    Parameters
    ----------
    mask : torch.Tensor
        (row, sample or 1, channel, ...).
    rows : torch.Tensor
        What is masked: (row, sample, channel, ...).
    """
    if mask.ndim < 4 or mask.shape[2] != rows.shape[2]:
        return None
    left = (mask != 0).flatten(3).any(3).any(1)
    return left.int().argmax(1).expand(len(rows)) if int(left.sum(1).max()) == 1 else None


def is_zero(value: torch.Tensor) -> bool:
    """Return whether all values are zero; a NaN is none."""
    if value.numel() == 0:
        return True
    value = value[tuple(slice(None) if stride else 0 for stride in value.stride())]  # once, what is broadcast
    if value.ndim and bool(value[..., 0].any()):  # mostly, a few values tell
        return False
    lying = value if value.is_contiguous() or value.ndim != 4 else value.permute(0, 2, 3, 1)  # aminmax copies others
    return not any(torch.stack(torch.aminmax(lying)).tolist())


def _times(rows: torch.Tensor, factor: torch.Tensor, *, owned: bool) -> torch.Tensor:
    if owned and rows.dtype == factor.dtype:
        return rows.mul_(factor)
    return (rows * factor).to(factor.dtype)


def _plus(first: torch.Tensor, second: torch.Tensor, *, owned: bool) -> torch.Tensor:
    return first.add_(second) if owned and first.dtype == second.dtype else first + second
