"""Signature and documentation of a call, taken from the generator whose results it joins."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeAlias

from .result import Attribution

__all__ = ["parameters_of"]

_Parameters = ParamSpec("_Parameters")
_Call: TypeAlias = Callable[Concatenate[Any, _Parameters], Attribution]


def parameters_of(generate: Callable[Concatenate[Any, _Parameters], Any]) -> Callable[..., _Call[_Parameters]]:
    """Give a method that forwards its arguments the signature and the documentation of the method that takes them."""

    def decorate(call: Callable[..., Attribution]) -> _Call[_Parameters]:
        if call.__doc__ and generate.__doc__:  # neither has one under python -OO
            summary, _, result = inspect.cleandoc(call.__doc__).partition("Returns\n")
            before, _, raises = inspect.cleandoc(generate.__doc__).partition("Raises\n")
            parameters = before[before.index("Parameters\n") : before.index("Returns\n")]
            call.__doc__ = f"{summary}{parameters}Returns\n{result}\n\nRaises\n{raises}"
        signature = inspect.signature(generate).replace(return_annotation="Attribution")
        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return decorate
