"""Inputs of a model by name: which of them are one per sample, and how they become arguments of the forward."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

import torch

from ...checks import is_integer
from ...errors import InputError
from ..nested import mapped

__all__ = ["Calling", "Inputs", "checked_calling", "checked_fixed", "is_token_ids"]

INPUT_NAME = "input"
Calling = Literal["arguments", "single", "samples"]
"""How data becomes arguments of the forward.

``"arguments"``: a dictionary gives keyword arguments, a tuple or list positional ones. ``"single"``: it is one argument
as it is. ``"samples"``: the forward takes a list with one tensor for each sample, as torchvision's detectors do.
"""
_WRAP = "wrap the model in a module whose forward takes tensors, or tuples, lists and dictionaries of them"


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The inputs of one call. Made by `Inputs.of`.

    Parameters
    ----------
    tree : Any
        A tensor, or a tuple, list, mapping or dataclass with tensors in it; for ``"samples"`` one tensor of them all.
    calling : str
        How it becomes arguments, see `Calling`.
    shared : frozenset of str
        Names of the tensors that belong to all samples alike; every other one has an entry for each.
    """

    tree: Any
    calling: Calling = "arguments"
    shared: frozenset[str] = frozenset()

    @classmethod
    def of(cls, data: Any, fixed: tuple[str | int, ...] = (), calling: Calling = "arguments") -> Inputs:
        """Return the inputs that a user's data means.

        Raises
        ------
        InputError
            If there is no tensor in it, or `fixed` names none of its inputs or all of them.
        """
        if isinstance(data, Inputs):
            return data
        inputs = cls(_stacked(data) if calling == "samples" else data, calling)
        leaves = dict(inputs.named())
        if not leaves:
            if isinstance(data, (Mapping, tuple, list)):
                raise InputError(f"the data is a {type(data).__name__} without a tensor in it")
            raise InputError(f"data is a tensor (batch, channel, height, width); got {type(data).__name__}; {_WRAP}")
        shared = {name for meant in fixed for name in inputs.belonging_to(meant)}
        own = [value for name, value in leaves.items() if name not in shared]
        if not own:
            raise InputError(f"fixed={fixed!r} names all inputs; the number of samples is that of the first other one")
        count = next((value.shape[:1] for value in own if value.ndim), torch.Size([1]))
        shared |= {name for name, value in leaves.items() if value.shape[:1] != count}
        return dataclasses.replace(inputs, shared=frozenset(shared))

    def named(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the tensors with their names, in the order of the call."""
        for _, name, value in self._top_level():
            yield from _named(name, value)

    def _top_level(self) -> Iterator[tuple[int, str, Any]]:
        """Yield position, name and content of each input."""
        if isinstance(self.tree, Mapping):
            for position, (name, value) in enumerate(self.tree.items()):
                yield position, str(name), value
        elif isinstance(self.tree, (tuple, list)):
            for position, value in enumerate(self.tree):
                yield position, f"{INPUT_NAME}_{position}" if position else INPUT_NAME, value
        else:
            yield 0, INPUT_NAME, self.tree

    def belonging_to(self, meant: str | int) -> list[str]:
        """Return the names of the tensors in an input, which is meant by its name or its position."""
        for position, label, value in self._top_level():
            inside = [name for name, _ in _named(label, value)]
            if meant in (position, label) and inside:
                return inside
            if meant in inside:
                return [str(meant)]
        known = ", ".join(repr(label) for _, label, _ in self._top_level())
        raise InputError(f"fixed names {meant!r}, which is no input with a tensor in it; the inputs are {known}")

    @property
    def samples(self) -> int:
        """Number of samples."""
        return next((int(v.shape[0]) for name, v in self.named() if name not in self.shared and v.ndim), 1)

    @property
    def by_sample(self) -> dict[str, torch.Tensor]:
        """The tensors that have an entry for each sample, by name."""
        return {name: value for name, value in self.named() if name not in self.shared}

    @property
    def starts_with_ids(self) -> bool:
        """Whether the first input with an entry for each sample could be indices into an embedding."""
        return is_token_ids(next(iter(self.by_sample.values())))

    def part(self, samples: slice) -> Inputs:
        """Return the inputs of some samples."""
        return self.replaced(lambda name, value: value if name in self.shared else value[samples])

    def replaced(self, func: Any) -> Inputs:
        """Return the inputs with ``func(name, tensor)`` in place of each tensor."""
        names = iter([name for name, _ in self.named()])
        return dataclasses.replace(self, tree=mapped(self.tree, lambda value: func(next(names), value)))

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and keyword arguments of the forward."""
        if self.calling == "samples":
            return (list(self.tree.unbind(0)),), {}
        if self.calling == "single":
            return (self.tree,), {}
        if isinstance(self.tree, Mapping):
            return (), dict(self.tree)
        return (tuple(self.tree) if isinstance(self.tree, (tuple, list)) else (self.tree,)), {}


def is_token_ids(value: torch.Tensor) -> bool:
    """Return whether a tensor could be indices into an embedding; integers with four axes are pictures."""
    return value.dtype in (torch.int32, torch.int64) and value.ndim < 4


def checked_fixed(fixed: str | int | Iterable[str | int]) -> tuple[str | int, ...]:
    """Return the names or positions of inputs that belong to all samples alike.

    Raises
    ------
    InputError
        If something is neither a name nor a position.
    """
    chosen = (fixed,) if isinstance(fixed, (str, int)) else tuple(fixed)
    wrong = [name for name in chosen if not isinstance(name, str) and not is_integer(name)]
    if wrong:
        raise InputError(f"fixed is names of inputs, or their positions in a tuple; got {wrong[0]!r}")
    return chosen


def checked_calling(calling: Calling) -> Calling:
    """Return how data becomes arguments.

    Raises
    ------
    InputError
        If there is no such way.
    """
    if calling not in get_args(Calling):
        raise InputError(f"inputs is one of {', '.join(map(repr, get_args(Calling)))}; got {calling!r}")
    return calling


def _named(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors inside of an input with their names, in the order of `mapped`."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        for index, item in enumerate(value):
            yield from _named(f"{name}.{index}", item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _named(f"{name}.{key}", item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, (type, torch.nn.Module)):
        for field in dataclasses.fields(value):
            yield from _named(f"{name}.{field.name}", getattr(value, field.name))


def _stacked(data: Any) -> torch.Tensor:
    """Return a list of samples as one tensor."""
    if isinstance(data, torch.Tensor):
        return data
    if not isinstance(data, (list, tuple)) or not data or not all(isinstance(sample, torch.Tensor) for sample in data):
        raise InputError(
            f"with inputs='samples' the data is a list with one tensor for each sample, or all of them as one tensor; "
            f"got {type(data).__name__}"
        )
    shapes = list(dict.fromkeys(tuple(sample.shape) for sample in data))
    if len(shapes) > 1:
        raise InputError(
            f"samples of different shapes, {shapes[0]} and {shapes[1]}, have no common heatmap: attribute one at a "
            f"time, or make them equal by resizing or padding"
        )
    return torch.stack(list(data))
