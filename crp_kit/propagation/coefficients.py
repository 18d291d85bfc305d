"""Coefficients of relevance: what an activation is multiplied with to give the relevance at its output.

Directions need them: relevance of a channel that is zero is zero, and its coefficient is not. Where relevance comes as
rows times a factor that is the activation itself, the rows are the coefficients, and nothing is divided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..errors import ConditionError
from .relevance import Relevance

__all__ = ["Coefficients", "RowSplit"]


@dataclass(frozen=True, eq=False)
class RowSplit:
    """What passes at an output whose concepts mix channels, instead of a mask.

    Parameters
    ----------
    passed : callable
        From coefficients, (row, *shape), of the rows of a slice to the coefficients that pass.
    rows : slice, optional
        Which rows of the pass these are; all by default.
    """

    passed: Callable[[torch.Tensor, slice], torch.Tensor]
    rows: slice = field(default_factory=lambda: slice(None))

    def __getitem__(self, rows: slice) -> RowSplit:
        return RowSplit(self.passed, rows)

    def __call__(self, coefficients: torch.Tensor) -> torch.Tensor:
        return self.passed(coefficients, self.rows)


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Relevance at one output, stated as rows times the activation.

    Parameters
    ----------
    name : str
        Name of the node, for error messages.
    activation : torch.Tensor
        (*shape).
    """

    name: str
    activation: torch.Tensor
    _ratios: dict[int, tuple[torch.Tensor, torch.Tensor | None]] = field(default_factory=dict)

    def of(self, relevance: Relevance) -> Relevance:
        """Return the same relevance, with the activation as its factor.

        Raises
        ------
        ConditionError
            If there is relevance where the activation is zero.
        """
        factor = relevance.factor
        if factor is self.activation:
            return relevance
        if factor is None or factor.shape != self.activation.shape:
            rows = relevance.whole()
            return Relevance(_quotient(rows, self.activation, self.name), self.activation, owned=True)
        ratio = self._ratio(factor)
        if ratio is None:
            return Relevance(relevance.rows, self.activation, owned=relevance.owned)
        return Relevance(relevance.rows * ratio, self.activation, owned=True)

    def _ratio(self, factor: torch.Tensor) -> torch.Tensor | None:
        """Return a factor by the activation, (*shape), or None if they are equal.

        Where all quotients are one number, as for the subtrahend of a difference, it holds where both are zero, too.
        """
        if id(factor) not in self._ratios:
            ratio: torch.Tensor | None = None
            if not torch.equal(factor, self.activation):
                ratio = _quotient(factor, self.activation, self.name)
                known = ratio[self.activation != 0]
                if known.numel():
                    low, high = torch.aminmax(known)
                    ratio = low if bool(low == high) else ratio
            self._ratios[id(factor)] = factor, ratio  # with the factor, so that its id stays its own
        return self._ratios[id(factor)][1]


def _quotient(values: torch.Tensor, activation: torch.Tensor, name: str) -> torch.Tensor:
    """Return values by the activation, and zero where both are zero."""
    zero = activation == 0
    if bool(((values != 0) & zero).any()):
        raise ConditionError(
            f"relevance arrives at {name!r} where its activation is zero, so that it is no multiple of the activation "
            f"and directions cannot divide it: name a layer behind the one that has the rule for inputs"
        )
    return torch.where(zero, 0.0, values / torch.where(zero, 1.0, activation)).to(activation.dtype)
