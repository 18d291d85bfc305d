"""Evaluation mode as crp-kit needs it: dropout that is on is switched off, statistics of the batch are found out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..operations import OperationSpec, Trait

WITH_DROPOUT = frozenset({Trait.ATTENTION, Trait.DROPOUT})
"""Traits of operations that may drop values at random."""
_OF_ATTENTION = "dropout_p"
_TRAINING = 2
"""Position of the argument that switches dropout on."""


def without_dropout(
    spec: OperationSpec, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the arguments of a call with its dropout switched off, or None if there is none that is on."""
    if spec.has(Trait.ATTENTION) and spec.argument(args, kwargs, _OF_ATTENTION, default=0.0):
        return _replaced(args, kwargs, spec.parameters.index(_OF_ATTENTION), **{_OF_ATTENTION: 0.0})
    if not spec.has(Trait.DROPOUT):
        return None
    name, default = _training_parameter(func)
    active = kwargs.get(name, args[_TRAINING] if len(args) > _TRAINING else default)
    possible = kwargs.get("p", args[1] if len(args) > 1 else 1)
    return _replaced(args, kwargs, _TRAINING, **{name: False}) if active and possible else None


def takes_batch_statistics(spec: OperationSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a BatchNorm normalises by the statistics of the batch."""
    return bool(spec.argument(args, kwargs, "training", default=False))


def _training_parameter(func: Callable[..., Any]) -> tuple[str, bool]:
    """Name and default of the parameter that switches dropout on."""
    if not inspect.isfunction(func):
        return "train", True
    return "training", bool(inspect.signature(func).parameters["training"].default)


def _replaced(
    args: tuple[Any, ...], kwargs: dict[str, Any], position: int, **new: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give one argument another value, however it was passed."""
    if len(args) > position:
        return (*args[:position], *new.values(), *args[position + 1 :]), kwargs
    return args, {**kwargs, **new}
