"""State that all forwards and passes of one engine share: a lock, the memory budget, and warnings given once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Collection

import torch

from ..errors import CrpKitWarning
from ..graph.graph import Graph
from ..rules.plain_gradient import plain_gradients

__all__ = ["Runtime"]

_VALUES_ON_CPU = 4 << 20
"""Elements of one map that are carried at once: more fit neither the cache nor the blocks that malloc keeps."""
_VALUES_ELSEWHERE = 64 << 20
_RECORDED_ON_CPU = 256 << 20
"""Bytes that a forward records for the samples that go through the model at once; their passes take about as much."""
_RECORDED_ELSEWHERE = 4 << 30


class Runtime:
    """State that all forwards and passes of one engine share.

    Attributes
    ----------
    lock : threading.RLock
        Held as long as the copy of the model may run, in forwards and in passes: one thread at a time.
    values_at_once : int or None
        How many elements of one map passes carry at once, since memory did not suffice for more; None before.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.values_at_once: int | None = None
        self._warned: set[str] = set()

    def rows_at_once(self, largest: int, device: torch.device) -> int:
        """Return how many rows a pass carries at once, from the number of elements of the largest map of one row."""
        values = self.values_at_once or (_VALUES_ON_CPU if device.type == "cpu" else _VALUES_ELSEWHERE)
        return max(1, values // largest)

    @staticmethod
    def samples_at_once(recorded: int, device: torch.device) -> int:
        """Return how many samples go through the model at once, from the bytes that a forward records for each."""
        return max(1, (_RECORDED_ON_CPU if device.type == "cpu" else _RECORDED_ELSEWHERE) // max(recorded, 1))

    def carry_fewer(self, rows: int, largest: int) -> None:
        """Halve a number of rows for which memory did not suffice, for this and all later passes."""
        torch.cuda.empty_cache()
        self.values_at_once = rows // 2 * largest
        self.warn_once(
            "the device's memory did not suffice for the rows that were carried at once: half as many are from now on, "
            "and half of those if need be. Results change by no more than rounding"
        )

    def warn_once(self, message: str) -> None:
        """Warn, unless this message was given before."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, CrpKitWarning, stacklevel=5)

    def warn_of_plain_gradients(self, names: Collection[str], graph: Graph) -> None:
        """Warn, once, at which nodes relevance passes as plain gradient because no rule is known for them."""
        for reason in plain_gradients(graph, names):
            self.warn_once(str(reason))
