"""Values that a forward reads otherwise than by torch calls on floating-point numbers: in Python, or by comparisons.

What follows from them, such as the branch of an ``if`` or a mask, is a constant of the recorded graph.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch

from ..graph import Ref
from ..nested import tensors

__all__ = ["ValuesRead"]

_INTO_PYTHON = frozenset(
    "item tolist numpy equal allclose is_nonzero __array__ __bool__ __complex__ __contains__ __float__ __index__ "
    "__int__".split()
)
"""Names of calls that give no tensor, and whose result depends on values; others ask for shapes, types and devices."""


class ValuesRead:
    """Which outputs a forward reads in this way.

    Attributes
    ----------
    refs : set of Ref
    """

    def __init__(self) -> None:
        self.refs: set[Ref] = set()
        self._derived: dict[int, tuple[weakref.ref[torch.Tensor], frozenset[Ref]]] = {}

    def note_arguments(self, arguments: Any) -> None:
        """Note a call: integers and booleans among its arguments that follow from outputs are used."""
        if self._derived:
            for tensor in tensors(arguments):
                known = self._derived.get(id(tensor))
                if known is not None and known[0]() is tensor:
                    self.refs |= known[1]

    def note_result(self, raw: str, read: Iterable[Ref], outputs: Iterable[torch.Tensor]) -> None:
        """Note what a call gives that reads the values of some outputs."""
        integers = [output for output in outputs if not output.is_floating_point()]
        if raw in _INTO_PYTHON:
            self.refs |= set(read)
        for output in integers:
            self._derived[id(output)] = weakref.ref(output), frozenset(read)
