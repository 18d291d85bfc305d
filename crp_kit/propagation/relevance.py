"""Relevance on its way through the graph: rows times a factor that all rows share, and ownership of the rows.

Why factored
    Most rules end with a multiplication by the input and begin with one by ``1 / z``. Neither depends on the condition,
    so that relevance between two nodes is kept as ``rows * factor``: the factor ``x`` of the node above is multiplied
    with the ``1 / z`` of the node below once, and the rows of all conditions once with their product.

Ownership
    A batch of rows is the largest thing in memory, so it is multiplied and summed in place where possible. One rule
    says where: **rows may be overwritten by the one reader that they have, and by none if they have several.**
    `Relevance.owned` says which of the two holds:

    - It is set by whoever has just computed the rows into new memory, and passes them to one reader together with the
      `Relevance`. That reader owns them from then on; the maker does not look at them again.
    - It is not set in all other cases, and that is the default: start values, recorded values, what a step returns as a
      bare tensor, which may be another's, and what `Relevance.shared` gives to each of several readers. Disjoint
      parts of owned rows (slices of a concatenation) have one reader each, and are owned.

    Only this file overwrites: `Relevance.whole`, `Relevance.plus`, `Relevance.plus_whole` and `Scaling`, and only rows
    that are owned. The factor belongs to all rows, and to the next pass: it is never overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..numerics import is_finite

__all__ = ["Relevance", "Scaling", "are_zero", "is_zero", "one_channel"]


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
        This is the only reader of the rows, and may overwrite them: see the module's description.
    channel : torch.Tensor or None
        (row,), the only channel in which a row is not zero, where a mask has left one: axis 2 of the rows.
    """

    rows: torch.Tensor
    factor: torch.Tensor | None = None
    owned: bool = False
    channel: torch.Tensor | None = None

    def whole(self) -> torch.Tensor:
        """Return rows times factor, (row, *shape); owned rows become that themselves."""
        if self.factor is None:
            return self.rows
        if not self.owned:
            return self.rows * self.factor
        self.rows, self.factor = _times(self.rows, self.factor, owned=True), None
        return self.rows

    def is_finite(self) -> bool:
        """Return whether neither rows nor factor have a NaN or an infinity."""
        return is_finite(self.rows) and (self.factor is None or is_finite(self.factor))

    def shared(self) -> Relevance:
        """Return the same relevance for one reader of several, which owns nothing."""
        return Relevance(self.rows, self.factor, channel=self.channel)

    def plus(self, other: Relevance) -> Relevance:
        """Return the sum of the relevance that two readers of one output sent up; neither is used again."""
        if self.factor is other.factor:
            first, second = (self, other) if self.owned else (other, self)
            return Relevance(_plus(first.rows, second.rows, owned=first.owned), self.factor, owned=True)
        if other.factor is None:
            return other.plus_whole(self)
        return self.plus_whole(other)

    def plus_whole(self, other: Relevance) -> Relevance:
        """Return the sum, without a factor."""
        fresh = self.owned or self.factor is not None  # rows times a factor are new memory
        total = self.whole()
        if other.factor is not None and fresh and total.dtype == other.rows.dtype == other.factor.dtype:
            return Relevance(total.addcmul_(other.rows, other.factor), owned=True)
        return Relevance(_plus(total, other.whole(), owned=fresh), owned=True)


class Scaling:
    """Multiplication of relevance with one factor; its products with the factors that arrive are kept.

    Parameters
    ----------
    factor : torch.Tensor
        (*shape).
    """

    def __init__(self, factor: torch.Tensor) -> None:
        self.factor = factor
        self._products: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._zero_products: dict[int, bool] = {}

    def __call__(self, relevance: Relevance) -> torch.Tensor:
        """Return the product, (row, *shape), in memory that is the caller's own."""
        rows, above = relevance.rows, relevance.factor
        if above is None:
            return _times(rows, self.factor, owned=relevance.owned)
        if len(rows) == 1 and id(above) not in self._products:  # a product for one row would cost what it saves
            return _times(_times(rows, above, owned=relevance.owned), self.factor, owned=True)
        return _times(rows, self._product(above), owned=relevance.owned)

    def in_channel(self, relevance: Relevance, channel: torch.Tensor) -> torch.Tensor:
        """Return the product in one channel of each row, (row, sample, ...)."""
        product = relevance.rows[torch.arange(len(channel), device=channel.device), :, channel]
        for factor in (relevance.factor, self.factor):
            if factor is not None:
                product = product * factor[:, channel].transpose(0, 1)
        return product.to(self.factor.dtype)

    def zeroes(self, relevance: Relevance) -> bool:
        """Return whether the product is zero in every row, since the factor is zero wherever the relevance is not."""
        above = relevance.factor
        if above is None:
            return is_zero((relevance.rows != 0).any(0) * self.factor)
        if id(above) not in self._zero_products:
            self._zero_products[id(above)] = is_zero(self._product(above))
        return self._zero_products[id(above)]

    def _product(self, above: torch.Tensor) -> torch.Tensor:
        """Return the product with a factor that arrived, (*shape)."""
        if id(above) not in self._products:
            product = (above * self.factor).to(self.factor.dtype)
            self._products[id(above)] = above, product  # with `above`, so that its id stays its own
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
    """Return whether all values are zero; a NaN is not."""
    return are_zero([value])[0]


def are_zero(values: Sequence[torch.Tensor]) -> list[bool]:
    """Return for each tensor whether all its values are zero; a device is asked once or twice for all of them."""
    in_memory = [_once(value) for value in values if value.numel()]
    if not in_memory:
        return [True] * len(values)
    some = torch.stack([value[..., 0].any() for value in in_memory]).tolist()  # mostly, some of the first are not zero
    unknown = [value for value, nonzero in zip(in_memory, some, strict=True) if not nonzero]
    ranges = iter(torch.stack([torch.stack(torch.aminmax(value)) for value in unknown]).tolist() if unknown else ())
    zero = iter([not nonzero and not any(next(ranges)) for nonzero in some])
    return [not value.numel() or next(zero) for value in values]


def _once(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor with each element in memory once, in an order in which a map is not copied."""
    value = value[tuple(slice(None) if stride else 0 for stride in value.stride())]
    value = value if value.ndim else value[None]
    return value if value.is_contiguous() or value.ndim != 4 else value.permute(0, 2, 3, 1)


def _times(rows: torch.Tensor, factor: torch.Tensor, *, owned: bool) -> torch.Tensor:
    """Return rows times a factor in the factor's precision, in place if they are owned."""
    if owned and rows.dtype == factor.dtype:
        return rows.mul_(factor)
    return (rows * factor).to(factor.dtype)


def _plus(first: torch.Tensor, second: torch.Tensor, *, owned: bool) -> torch.Tensor:
    """Return the sum, in place of the first if that is owned."""
    return first.add_(second) if owned and first.dtype == second.dtype else first + second
