"""What would make relevance depend on chance or on other samples: dropout that is on, statistics of the batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..operations import argument

_DROPOUTS = frozenset(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout".split()
)
_ATTENTION = "scaled_dot_product_attention"
_ATTENTION_PLACE, _DROPOUT_PLACE, _NORM_PLACE = 4, 2, 5


def without_dropout(
    op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the arguments of a call with its dropout switched off, or None if there is none that is on."""
    if op == _ATTENTION and argument(op, args, kwargs, "dropout_p", default=0.0):
        return _replaced(args, kwargs, _ATTENTION_PLACE, dropout_p=0.0)
    if op not in _DROPOUTS:
        return None
    name, default = _training_parameter(func)
    active = kwargs.get(name, args[_DROPOUT_PLACE] if len(args) > _DROPOUT_PLACE else default)
    possible = kwargs.get("p", args[1] if len(args) > 1 else 1)
    return _replaced(args, kwargs, _DROPOUT_PLACE, **{name: False}) if active and possible else None


def takes_batch_statistics(op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call is a BatchNorm that normalises by the statistics of the batch."""
    return op == "batch_norm" and bool(kwargs.get("training", args[_NORM_PLACE] if len(args) > _NORM_PLACE else False))


def _training_parameter(func: Callable[..., Any]) -> tuple[str, bool]:
    """Name and default of the parameter that switches dropout on."""
    if not inspect.isfunction(func):
        return "train", True
    return "training", bool(inspect.signature(func).parameters["training"].default)


def _replaced(
    args: tuple[Any, ...], kwargs: dict[str, Any], place: int, **new: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give one argument another value, however it was passed."""
    if len(args) > place:
        return (*args[:place], *new.values(), *args[place + 1 :]), kwargs
    return args, {**kwargs, **new}
