"""Classes by number or by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from .checks import is_integer
from .errors import ConceptRangeError, InputError
from .printable import printable

__all__ = ["class_label", "class_number", "class_words"]

_SHOWN = 5


def class_label(number: int, names: Sequence[str]) -> str:
    """Return number and name of a class; the number alone where no name is known.

    Parameters
    ----------
    number : int
    names : sequence of str
        Names of the classes; empty where none are known.

    Examples
    --------
    >>> class_label(1, ["dog", "cat"]), class_label(2, ["dog", "cat"])
    ('1 cat', '2')
    """
    return f"{number} {names[number]}" if 0 <= number < len(names) else str(number)


def class_words(number: int, names: Sequence[str]) -> str:
    """Return what a title calls a class: its name, or ``"class 2"`` where none is known.

    Examples
    --------
    >>> class_words(1, ["dog", "cat"]), class_words(2, ["dog", "cat"])
    ('cat', 'class 2')
    """
    return names[number] if 0 <= number < len(names) and names[number] else f"class {number}"


def class_number(cls: int | str, names: Sequence[str], count: int | None = None) -> int:
    """Return the number of a class given by number or name.

    Parameters
    ----------
    cls : int or str
    names : sequence of str
        Names of the classes; empty where none are known.
    count : int, optional
        How many classes there are, where that is known.

    Raises
    ------
    ConceptRangeError
        If there is no such number.
    InputError
        If there is no class, or more than one, of this name.

    Examples
    --------
    >>> class_number("cat", ["dog", "cat"]), class_number(0, ["dog", "cat"])
    (1, 0)
    """
    if isinstance(cls, str):
        numbers = [number for number, name in enumerate(names) if name == cls]
        if not numbers:
            raise InputError(f"no class is named {cls!r}{_hint(cls, names)}")
        if len(numbers) > 1:
            raise InputError(f"several classes are named {cls!r}: give a number, {' or '.join(map(str, numbers))}")
        return numbers[0]
    if not is_integer(cls):
        raise InputError(f"a class is a name or a whole number; got {cls!r}")
    if cls < 0 or (count is not None and cls >= count):
        raise ConceptRangeError("y", [int(cls)], count if count is not None else len(names), what="class")
    return int(cls)


def _hint(name: str, names: Sequence[str]) -> str:
    """Return the end of the sentence: what was perhaps meant."""
    if not names:
        return ": no names are known, give a number"
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    first = f"; the first ones are {', '.join(map(printable, names[:_SHOWN]))}"
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else first
