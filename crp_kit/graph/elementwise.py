"""Modules that are declared to be element-wise: their paths in a model, and a trial whether they are."""

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


def declarations(elementwise: Elementwise | Iterable[Elementwise]) -> tuple[Elementwise, ...]:
    """Return what is declared as a tuple.

    Raises
    ------
    InputError
        If something is neither a module type nor a string.
    """
    is_single = isinstance(elementwise, (str, type)) or not isinstance(elementwise, Iterable)
    declared: tuple[Any, ...] = (elementwise,) if is_single else tuple(elementwise)  # type: ignore[arg-type]
    for entry in declared:
        if not isinstance(entry, str) and not (isinstance(entry, type) and issubclass(entry, torch.nn.Module)):
            raise InputError(
                f"elementwise is module types, names of modules or patterns for them, such as [NewGELU, '*.act']; "
                f"got {entry!r}"
            )
    return declared


def declared_paths(model: torch.nn.Module, declared: Iterable[Elementwise]) -> frozenset[str]:
    """Return the paths of the modules of a model that are declared.

    Parameters
    ----------
    model : torch.nn.Module
    declared : iterable of str or module type
        A name means its module. Any other string is a pattern: a regular expression, or with wild cards. A type means
        every module of it.

    Raises
    ------
    UnknownLayerError
        If there is no such module.
    """
    first = {id(module): path for path, module in model.named_modules()}
    modules = {path: module for path, module in model.named_modules(remove_duplicate=False) if path}
    chosen: set[str] = set()
    for entry in declared:
        if isinstance(entry, type):
            paths = [path for path, module in modules.items() if isinstance(module, entry)]
            known, name = [type(module).__name__ for module in modules.values()], entry.__name__
        else:
            paths = [entry] if entry in modules else matching(entry, modules)
            known, name = list(modules), entry
        if not paths:
            what = "of type" if isinstance(entry, type) else "with the name or pattern"
            raise UnknownLayerError(name, known, f"elementwise declares modules {what} {name!r}, and there are none")
        chosen.update(first[id(modules[path])] for path in paths)
    return frozenset(chosen)


def check_elementwise(recording: Recording) -> None:
    """Make sure that each module that is declared to be element-wise is, by trying it.

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
    """Return whether outputs change where the input does not: half of its values, then the other half, are changed."""
    generator = torch.Generator().manual_seed(0)
    before = _output(node, value)
    step = value.abs().max() + 1
    for attempt in range(_TRIES):
        first_half = (torch.rand(value.shape, generator=generator) < 0.5).to(value.device)
        size = (1 + torch.rand(value.shape, generator=generator)).to(value) * step * (-1) ** attempt
        for changed in (first_half, ~first_half):
            after = _output(node, torch.where(changed, value + size, value))
            if not torch.allclose(after[~changed], before[~changed], **_rounding(before), equal_nan=True):
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
