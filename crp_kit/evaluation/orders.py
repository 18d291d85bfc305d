"""Orders in which the concepts of a layer are flipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["RANDOM", "Order", "OrderFunction", "checked_orders", "random_orders", "ranked"]

Floats = npt.NDArray[np.floating]
Order = npt.NDArray[np.integer]
OrderFunction: TypeAlias = Callable[[Floats, Floats], npt.ArrayLike]
"""From relevance and activation, (sample, concept) each, to concepts in order: (concept,) or (sample, concept)."""

RANDOM = "random"
_KNOWN: dict[str, OrderFunction] = {
    "relevance": lambda relevance, activation: np.argsort(-relevance, axis=1, kind="stable"),
    "activation": lambda relevance, activation: np.argsort(-activation, axis=1, kind="stable"),
    "least_relevant": lambda relevance, activation: np.argsort(relevance, axis=1, kind="stable"),
}


def checked_orders(orders: Sequence[str] | Mapping[str, OrderFunction | str]) -> dict[str, OrderFunction | None]:
    """Return the function of each order by name; None for the random ones.

    Raises
    ------
    InputError
        If there is none, or one is not known.
    """
    asked = dict(orders) if isinstance(orders, Mapping) else {name: name for name in _names(orders)}
    if not asked:
        raise InputError("give at least one order, such as 'relevance'")
    functions: dict[str, OrderFunction | None] = {}
    for name, order in asked.items():
        if callable(order):
            functions[str(name)] = order
        elif order == RANDOM:
            functions[str(name)] = None
        elif order in _KNOWN:
            functions[str(name)] = _KNOWN[order]
        else:
            known = ", ".join(map(repr, [*_KNOWN, RANDOM]))
            raise InputError(f"an order is {known}, or in a dictionary a function; got {order!r}")
    return functions


def _names(orders: Sequence[str]) -> list[str]:
    return [orders] if isinstance(orders, str) else list(orders)


def ranked(function: OrderFunction, relevance: Floats, activation: Floats) -> Order:
    """Return the concepts in an order for each sample: (sample, concept).

    Raises
    ------
    InputError
        If the function returns something else than each concept once.
    """
    order = np.asarray(function(relevance, activation))
    if order.ndim == 1:
        order = np.broadcast_to(order, relevance.shape) if order.shape == relevance.shape[1:] else order
    if order.shape != relevance.shape or not np.array_equal(np.sort(order, 1), np.argsort(np.zeros(order.shape), 1)):
        raise InputError(
            f"an order has each of the {relevance.shape[1]} concepts once, (concept,) or (sample, concept) for "
            f"{len(relevance)} samples; the function returned an array of shape {order.shape}"
        )
    return order.astype(np.int64)


def random_orders(concepts: int, count: int, seed: int) -> Order:
    """Return seeded random orders, the same for all samples and methods: (order, concept)."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(concepts) for _ in range(count)])
