"""Targets as text, as the command line has them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..class_names import class_words
from ..errors import CrpKitError, InputError
from .base import ClassName, Target
from .binary import Binary
from .boxes import Box
from .classes import Class, Contrast, Value
from .regions import IN_A_MASK, Region

__all__ = ["FORMS", "is_target_text", "parse_target", "target_words"]

FORMS = "class:ID[,ID…], contrast:ID,ID, value:INDEX[,INDEX…], region:ID, box:ID[:RANK] or binary:0"


def parse_target(text: str, *, mask: Any = None) -> Target:
    """Return the target that a text means; classes by number, name or part of a name.

    Parameters
    ----------
    text : str
        ``class:281``, ``class:Egyptian cat``, ``contrast:281,285``, ``value:4``, ``region:15``, ``box:3:0`` (class and
        rank), ``box:3:10,10,50,40`` (the box that overlaps best with this one) or ``binary:0``. Behind a further colon
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
    >>> parse_target("box:3:1")
    Box(cls=3, rank=1, iou_with=None, value='logit')
    """
    if not isinstance(text, str):
        raise InputError(f"a target is {FORMS}; got {text!r}")
    kind, colon, rest = text.partition(":")
    if mask is not None and kind != "region":
        raise InputError(f"a mask belongs to a region; the target is {text!r}")
    if kind == "box" and rest:
        return _box(rest, text)
    names, _, value = rest.rpartition(":") if ":" in rest else (rest, "", "")
    classes = [_class(part.strip()) for part in names.split(",")]
    options: dict[str, Any] = {"value": value} if value else {}
    if not colon or "" in classes or rest.endswith(":"):
        raise InputError(f"a target is {FORMS}; got {text!r}")
    if kind == "class":
        return Class(tuple(classes), **options)
    if kind == "contrast" and len(classes) == 2 and not value:
        return Contrast(*classes)
    if kind == "value" and all(isinstance(index, int) for index in classes):
        return Value(tuple(int(index) for index in classes), **options)
    if kind == "binary" and classes in ([0], [1]) and not value:
        return Binary(int(classes[0]))
    if kind == "region" and len(classes) == 1:
        return Region(classes[0], mask, **options)
    raise InputError(f"a target is {FORMS}; got {text!r}")


def target_words(start: object, classes: Sequence[str] | Mapping[int, str]) -> str:
    """Return what titles call what relevance starts from, with the names of classes where they are known.

    Parameters
    ----------
    start : Target, str or int
        A target, its identity as files have it, or a class.
    classes : sequence of str or dict
        Names of all classes, or of some by number.

    Examples
    --------
    >>> target_words("contrast:0,1", ["cat", "dog"]), target_words(1, {1: "dog"}), target_words(2, [])
    ('cat against dog', 'dog', 'class 2')
    """
    if isinstance(start, Target):
        return start.words(classes)
    if isinstance(start, int):
        return class_words(start, classes)
    text, mask = str(start), ""
    if text.startswith("region:") and re.fullmatch(r"[0-9a-f]{8}", text.rpartition(":")[2]):
        text, mask = text[:-9], IN_A_MASK
    try:
        return parse_target(text).words(classes) + mask if is_target_text(text) else text
    except CrpKitError:
        return str(start)


def is_target_text(text: object) -> bool:
    """Return whether something is meant as a target of all samples, not as words by which each sample gets its own."""
    kind, _, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    return kind in ("class", "contrast", "value", "region", "box") or (kind == "binary" and rest.isdecimal())


def _box(rest: str, text: str) -> Box:
    """Return the box that stands behind the colon of a text: class, rank or another box, start."""
    cls, which, *value = [part.strip() for part in [*rest.split(":"), "0"][: max(2, rest.count(":") + 1)]]
    options: dict[str, Any] = {"value": value[0]} if value else {}
    if cls and len(value) < 2 and which.isdecimal():
        return Box(_class(cls), int(which), **options)
    if cls and len(value) < 2 and which.count(",") == 3:
        return Box(_class(cls), iou_with=which.split(","), **options)
    raise InputError(f"a target is {FORMS}; got {text!r}")


def _class(text: str) -> ClassName:
    return int(text) if text.isdecimal() else text
