"""Orders in which the concepts of a layer are flipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import CrpKitError, InputError
from .layer_batch import LayerBatch

__all__ = ["PROTOTYPE", "RANDOM", "Order", "OrderFunction", "Orders", "Scores", "class_prototypes", "random_orders"]

Floats = npt.NDArray[np.floating]
Order = npt.NDArray[np.integer]
OrderFunction: TypeAlias = Callable[[Floats, Floats], npt.ArrayLike]
"""From relevance and activation, (sample, concept) each, to concepts in order: (concept,) or (sample, concept)."""

RANDOM, PROTOTYPE = "random", "prototype"


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of some samples, from which orders follow.

    Parameters
    ----------
    batch : LayerBatch
    rows : slice
        Which of all samples these are.
    prototypes : numpy.ndarray or None
        Mean relevance in the other samples of each sample's class, (all samples, concept).
    """

    batch: LayerBatch
    rows: slice
    prototypes: Floats | None

    @property
    def prototype(self) -> Floats:
        assert self.prototypes is not None
        return self.prototypes[self.rows]


_KNOWN: dict[str, Callable[[Scores], npt.ArrayLike]] = {
    "relevance": lambda scores: _highest_first(scores.batch.relevance),
    "activation": lambda scores: _highest_first(scores.batch.activation),
    "least_relevant": lambda scores: _highest_first(-scores.batch.relevance),
    PROTOTYPE: lambda scores: _highest_first(scores.prototype),
}


def _highest_first(values: Floats) -> Order:
    return np.argsort(-values, axis=1, kind="stable")


class Orders:
    """Orders by name, checked.

    Parameters
    ----------
    orders : sequence of str, or dict
        Names of orders; in a dictionary, by a name of the user's own, also functions and arrays.

    Attributes
    ----------
    names, random : tuple of str
        Names of all orders, and of those that are random.
    identity : dict
        Orders by name, as they were asked for.

    Raises
    ------
    InputError
        If there is none, or one is not known.
    """

    def __init__(self, orders: Sequence[str] | Mapping[str, OrderFunction | npt.ArrayLike | str]) -> None:
        if not isinstance(orders, (Mapping, Sequence)):
            raise InputError(
                f"orders is names such as ('relevance', 'random'), or a dictionary of orders by name; got "
                f"{type(orders).__name__}"
            )
        asked = dict(orders) if isinstance(orders, Mapping) else {name: name for name in _names(orders)}
        if not asked:
            raise InputError("give at least one order, such as 'relevance'")
        self.random = tuple(str(name) for name, order in asked.items() if _is_word(order, RANDOM))
        self.needs_prototypes = any(_is_word(order, PROTOTYPE) for order in asked.values())
        self._functions = {str(name): _function(order) for name, order in asked.items() if not _is_word(order, RANDOM)}
        self.names = tuple(map(str, asked))
        self.identity = asked

    def ranked(self, name: str, scores: Scores) -> Order:
        """Return the concepts in an order, which is not random, for each sample: (sample, concept).

        Raises
        ------
        InputError
            If a function of the user's own fails, or it is something else than each concept once.
        """
        shape = len(scores.batch.samples), scores.batch.n_concepts
        try:
            order = np.asarray(self._functions[name](scores))
        except CrpKitError:
            raise
        except Exception as error:  # of the user's own
            raise InputError(f"the order {name!r} fails: {type(error).__name__}: {error}") from error
        whole = np.broadcast_to(order, shape) if order.shape == shape[1:] else order
        if whole.shape != shape or not np.array_equal(np.sort(whole, 1), np.tile(np.arange(shape[1]), (shape[0], 1))):
            raise InputError(
                f"an order has each of the {shape[1]} concepts once, (concept,) or (sample, concept) for "
                f"{shape[0]} samples; {name!r} is an array of shape {order.shape}"
            )
        return whole.astype(np.int64)


def _names(orders: Sequence[str]) -> list[str]:
    return [orders] if isinstance(orders, str) else list(orders)


def _is_word(order: Any, word: str) -> bool:
    return isinstance(order, str) and order == word


def _function(order: Any) -> Callable[[Scores], npt.ArrayLike]:
    """Return the function of an order that is named, a function, or an array."""
    if callable(order):
        function: OrderFunction = order
        return lambda scores: function(scores.batch.relevance, scores.batch.activation)
    if isinstance(order, str):
        if order not in _KNOWN:
            known = ", ".join(map(repr, [*_KNOWN, RANDOM]))
            raise InputError(f"an order is {known}, or in a dictionary a function or an array; got {order!r}")
        return _KNOWN[order]
    array = np.asarray(order)
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2):
        raise InputError(f"an order is an array of whole numbers, (concept,) or (sample, concept); got {array.dtype}, "
                         f"of shape {array.shape}")  # fmt: skip
    return lambda scores: array if array.ndim == 1 else array[scores.rows]


def class_prototypes(relevance: Floats, starts: npt.NDArray[Any], samples: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the mean relevance in the other samples of each sample's class or target: (sample, concept).

    Parameters
    ----------
    relevance : numpy.ndarray
        (sample, concept).
    starts : numpy.ndarray
        (sample,), the class or target of each in words.
    samples : sequence of int
        Their numbers, for messages.

    Raises
    ------
    InputError
        If a sample is the only one of its class or target.
    """
    _, group, sizes = np.unique(starts, return_inverse=True, return_counts=True)
    others = (sizes - 1)[group]
    alone = np.flatnonzero(others == 0)
    if len(alone):
        raise InputError(
            f"the order 'prototype' is the mean relevance in the other samples of a class, and sample "
            f"{samples[alone[0]]} is the only one of {starts[alone[0]]}: evaluate more samples, or leave it out"
        )
    totals = np.zeros((len(sizes), relevance.shape[1]))
    np.add.at(totals, group, relevance)
    means: npt.NDArray[np.float64] = (totals[group] - relevance) / others[:, None]
    return means


def random_orders(concepts: int, count: int, seed: int) -> Order:
    """Return seeded random orders, the same for all samples and methods: (order, concept)."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(concepts) for _ in range(count)])
