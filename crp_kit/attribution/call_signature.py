"""Signature and documentation of a method, taken from the one to which it forwards its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

__all__ = ["parameters_of"]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def parameters_of(
    source: Callable[Concatenate[Any, _Parameters], Any],
) -> Callable[[Callable[..., _Result]], Callable[Concatenate[Any, _Parameters], _Result]]:
    """Give a method that forwards its arguments the signature, parameters and errors of the method that takes them."""

    def decorate(call: Callable[..., _Result]) -> Callable[Concatenate[Any, _Parameters], _Result]:
        if call.__doc__ and source.__doc__:  # neither has one under python -OO
            summary, _, result = inspect.cleandoc(call.__doc__).partition("Returns\n")
            before, _, after = inspect.cleandoc(source.__doc__).partition("Raises\n")
            parameters = before[before.index("Parameters\n") : before.index("Returns\n")]
            raises = after.partition("\n\nReferences\n")[0]
            call.__doc__ = f"{summary}{parameters}Returns\n{result}\n\nRaises\n{raises}"
        own = inspect.signature(call).return_annotation
        call.__signature__ = inspect.signature(source).replace(return_annotation=own)  # type: ignore[attr-defined]
        return call

    return decorate
