"""Checks of numbers that a caller passes: of Python or NumPy, never booleans."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, TypeGuard

from .errors import CrpKitError, InputError

__all__ = ["check_integer", "check_seed", "is_integer", "is_real"]


def is_integer(value: Any, low: int | None = None, high: int | None = None) -> TypeGuard[int]:
    """Return whether a value is a whole number, within bounds that are included."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    number = int(value)
    return (low is None or number >= low) and (high is None or number <= high)


def is_real(value: Any, low: float, high: float) -> bool:
    """Return whether a value is a number within bounds that are included."""
    return not isinstance(value, bool) and isinstance(value, Real) and low <= float(value) <= high


def check_integer(
    name: str, value: Any, *, low: int | None = None, high: int | None = None, error: type[CrpKitError] = InputError
) -> int:
    """Return a whole number as an int.

    Parameters
    ----------
    name : str
        What the number is, at the beginning of the message.
    value
    low, high : int, optional
        Bounds, included; `high` only with `low`.
    error : type, optional
        What is raised.

    Raises
    ------
    CrpKitError
        Of the type `error`, if it is no whole number or out of bounds.

    Examples
    --------
    >>> check_integer("k", 0, low=1)
    Traceback (most recent call last):
    ...
    crp_kit.errors.InputError: k is a whole number of at least 1; got 0
    """
    if is_integer(value, low, high):
        return int(value)
    bounds = "" if low is None else f" of at least {low}" if high is None else f" from {low} to {high:,}"
    raise error(f"{name} is a whole number{bounds}; got {value!r}")


def check_seed(seed: Any) -> int:
    """Return a seed as NumPy and scikit-learn take it.

    Raises
    ------
    InputError
        If it is none.

    Examples
    --------
    >>> check_seed(0)
    0
    """
    return check_integer("seed", seed, low=0, high=(1 << 32) - 1)
