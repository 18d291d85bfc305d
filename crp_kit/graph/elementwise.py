"""Modules that are declared to work value by value: which of a model they are, and whether they do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import torch

from ..errors import InputError, ModelError, UnknownLayerError
from .graph import Node
from .name_patterns import matching
from .operations import Kind
from .recording.record import Recording

__all__ = ["Elementwise", "check_elementwise", "declarations", "declared_paths"]

Elementwise: TypeAlias = str | type[torch.nn.Module]
"""A module type, or the name of a module, or a pattern for names."""


def declarations(given: Elementwise | Iterable[Elementwise]) -> tuple[Elementwise, ...]:
    """Return what is declared, one by one.

    Raises
    ------
    InputError
        If something is neither a module type nor a text.
    """
    one = isinstance(given, (str, type)) or not isinstance(given, Iterable)
    several: tuple[Any, ...] = (given,) if one else tuple(given)  # type: ignore[arg-type]
    for declared in several:
        if not isinstance(declared, str) and not (isinstance(declared, type) and issubclass(declared, torch.nn.Module)):
            raise InputError(
                f"elementwise is module types, names of modules or patterns for them, such as [NewGELU, '*.act']; "
                f"got {declared!r}"
            )
    return several


def declared_paths(model: torch.nn.Module, declared: Iterable[Elementwise]) -> frozenset[str]:
    """Return the paths of the modules of a model that are declared.

    Parameters
    ----------
    model : torch.nn.Module
    declared : iterable of str or module type
        A name means its module. Any other text is a pattern: a regular expression, or with wild cards. A type means
        every module of it.

    Raises
    ------
    UnknownLayerError
        If there is no such module.
    """
    first = {id(module): path for path, module in model.named_modules()}
    modules = {path: module for path, module in model.named_modules(remove_duplicate=False) if path}
    found: set[str] = set()
    for one in declared:
        if isinstance(one, type):
            paths = [path for path, module in modules.items() if isinstance(module, one)]
            known, text = [type(module).__name__ for module in modules.values()], one.__name__
        else:
            paths = [one] if one in modules else matching(one, modules)
            known, text = list(modules), one
        if not paths:
            what = "of type" if isinstance(one, type) else "with the name or pattern"
            raise UnknownLayerError(text, known, f"elementwise declares modules {what} {text!r}, and there are none")
        found.update(first[id(modules[path])] for path in paths)
    return frozenset(found)


def check_elementwise(recording: Recording) -> None:
    """Make sure that each module that is declared to work value by value does, by trying it.

    Raises
    ------
    ModelError
        If one returns anything but a value for each value of its one input, or a value that depends on other ones.
    """
    for node in recording.graph:
        if node.is_module and node.kind is Kind.ACTIVATION:
            _check_shapes(node, recording)
            if _mixes(node, recording.value(node.inputs[0])):
                raise _refused(node, "a value of its output depends on other values of its input than its own")


def _check_shapes(node: Node, recording: Recording) -> None:
    outputs = [value for value in recording.values[node.index] if isinstance(value, torch.Tensor)]
    if len(node.inputs) != 1 or len(outputs) != 1:
        raise _refused(node, f"it takes {len(node.inputs)} tensors with relevance and returns {len(outputs)}")
    before, after = recording.graph.shape(node.inputs[0]), outputs[0].shape
    if before != after:
        raise _refused(node, f"it returns shape {tuple(after)} for an input of shape {tuple(before)}")


def _refused(node: Node, reason: str) -> ModelError:
    return ModelError(
        f"module {node.owner!r} ({node.func.__name__}) is declared elementwise, but {reason}; expected is one value "
        f"for each value of its one input, a function of that value alone. Leave it out of elementwise="
    )


_TRIES = 2


def _mixes(node: Node, value: torch.Tensor) -> bool:
    """Return whether outputs change where the input does not: half of its values, then the others, are moved."""
    generator = torch.Generator().manual_seed(0)
    before = _output(node, value)
    step = value.abs().max() + 1
    for attempt in range(_TRIES):
        half = (torch.rand(value.shape, generator=generator) < 0.5).to(value.device)
        size = (1 + torch.rand(value.shape, generator=generator)).to(value) * step * (-1) ** attempt
        for moved in (half, ~half):
            after = _output(node, torch.where(moved, value + size, value))
            if not torch.allclose(after[~moved], before[~moved], **_rounding(before), equal_nan=True):
                return True
    return False


@torch.no_grad()
def _output(node: Node, value: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = node.call({node.inputs[0]: value.clone()})[0]
    return result


def _rounding(value: torch.Tensor) -> dict[str, float]:
    """Return what counts as equal: a function of one value, computed twice, may differ in its last bits."""
    epsilon = 4 * torch.finfo(value.dtype).eps
    finite = value[torch.isfinite(value)]
    return {"rtol": epsilon, "atol": epsilon * float(finite.abs().max()) if finite.numel() else 0.0}
