"""Dependences on the input that no torch call shows, found by running the forward with gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch.autograd.function import BackwardCFunction

from ..nested import tensors
from .complex_values import ComplexValues
from .live_values import Tape

Probe = Literal["dependence", "gradients"]


class UnseenDependenceError(Exception):
    """A tensor depends on the input through something that makes no torch call that can be recorded.

    Parameters
    ----------
    path : str
        The module that was running.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"something in module {path!r} depends on the input in a way that cannot be seen")


class Detector:
    """Compares what autograd knows of the input with what was recorded, in a forward with gradients.

    Parameters
    ----------
    probe : str
        What to look for.
    tape : Tape
    hidden : ComplexValues
        What is recorded as a part of later nodes.
    """

    def __init__(self, probe: Probe, tape: Tape, hidden: ComplexValues) -> None:
        self._probe, self._tape, self._hidden = probe, tape, hidden
        self._leaves: list[torch.Tensor] = []

    def entered(self, value: torch.Tensor) -> torch.Tensor:
        """Return what the model gets in place of an input, so that whatever depends on it has a gradient."""
        self._leaves.append(value.requires_grad_())
        return value.view_as(value)

    def mark(self, written: Iterable[torch.Tensor]) -> None:
        """Let what reads tensors that were written have a gradient, if they depend on the input."""
        for tensor in written:
            if self._tape.ref(tensor) is not None and not tensor.requires_grad and tensor not in self._tape.own:
                self._leaves.append(tensor.requires_grad_())

    def check(self, tree: Any, path: str) -> None:
        """Make sure that every tensor with a gradient came from a call that was seen, and that lets a gradient pass."""
        for value in tensors(tree):
            ref, custom = self._tape.ref(value), isinstance(value.grad_fn, BackwardCFunction)
            if value.grad_fn is None or value in self._tape.own or (ref is not None and not custom):
                continue
            if self._hidden.part(value) is not None and not custom:
                continue
            looked_into = ref is not None and self._probe == "dependence" and self._tape.differentiate(ref)
            if not looked_into and self._depends(value):
                raise UnseenDependenceError(path)

    def check_dense(self, outputs: Iterable[torch.Tensor], path: str) -> None:
        """Make sure that nothing that depends on the input is sparse, of which no relevance can be seen."""
        if any(value.layout is not torch.strided for value in outputs):
            raise UnseenDependenceError(path)

    def _depends(self, value: torch.Tensor) -> bool:
        """Return whether autograd knows of a dependence on the input."""
        waiting, met = [value.grad_fn], set()
        while waiting:
            function = waiting.pop()
            if function is None or function in met:
                continue
            if any(getattr(function, "variable", None) is leaf for leaf in self._leaves):
                return True
            met.add(function)
            waiting += [following for following, _ in function.next_functions]
        return False
