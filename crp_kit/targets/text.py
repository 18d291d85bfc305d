"""Targets as text, as the command line has them."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from .base import ClassName, Target
from .classes import Class, Contrast, Value
from .regions import Region

__all__ = ["FORMS", "parse_target"]

FORMS = "class:ID[,ID…], contrast:ID,ID, value:INDEX[,INDEX…] or region:ID"


def parse_target(text: str, *, mask: Any = None) -> Target:
    """Return the target that a text means; classes by number or name.

    Parameters
    ----------
    text : str
        ``class:281``, ``class:Egyptian cat``, ``contrast:281,285``, ``value:4``, ``region:15``. Behind a further colon
        stands what the start is, such as ``class:281:probability``.
    mask : array, optional
        Of a region: bool, (height, width).

    Raises
    ------
    InputError
        If it is none of these forms.
    ConditionError
        If what it names is not possible.

    Examples
    --------
    >>> parse_target("contrast:281,285")
    Contrast(a=281, b=285)
    >>> parse_target("class:tabby:one")
    Class(ids=('tabby',), value='one')
    """
    kind, colon, rest = text.partition(":")
    if mask is not None and kind != "region":
        raise InputError(f"a mask belongs to a region; the target is {text!r}")
    names, _, value = rest.rpartition(":") if ":" in rest else (rest, "", "")
    classes = [_class(part.strip()) for part in names.split(",")]
    options: dict[str, Any] = {"value": value} if value else {}
    if not colon or "" in classes:
        raise InputError(f"a target is {FORMS}; got {text!r}")
    if kind == "class":
        return Class(tuple(classes), **options)
    if kind == "contrast" and len(classes) == 2 and not value:
        return Contrast(*classes)
    if kind == "value" and all(isinstance(index, int) for index in classes):
        return Value(tuple(int(index) for index in classes), **options)
    if kind == "region" and len(classes) == 1:
        return Region(classes[0], mask, **options)
    raise InputError(f"a target is {FORMS}; got {text!r}")


def _class(text: str) -> ClassName:
    return int(text) if text.isdecimal() else text
