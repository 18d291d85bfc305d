"""Classes by number, by name, or by a part of their names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .checks import is_integer
from .errors import ConceptRangeError, InputError
from .escapes import escaped
from .printable import printable

__all__ = ["checked_names", "class_label", "class_name", "class_number", "class_words"]

_SHOWN, _CANDIDATES = 5, 8


def checked_names(names: Any) -> tuple[str, ...]:
    """Return names of classes, from any sequence or array of strings, as a file can keep them.

    Raises
    ------
    InputError
        If they are something else.

    Examples
    --------
    >>> checked_names(["cat", "dog"])
    ('cat', 'dog')
    """
    import numpy as np

    listed = isinstance(names, (Sequence, np.ndarray)) and not isinstance(names, (str, bytes))
    if not listed or not all(isinstance(name, str) for name in names):
        raise InputError(f"classes is the name of each class, a sequence of strings; got {names!r:.80}")
    return tuple(escaped(str(name)) for name in names)


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


def class_name(number: int, names: Sequence[str] | Mapping[int, str]) -> str:
    """Return the name of a class among those of all, or of some by number; empty where none is known."""
    if isinstance(names, Mapping):
        return names.get(number, "")
    return names[number] if 0 <= number < len(names) else ""


def class_words(number: int, names: Sequence[str] | Mapping[int, str]) -> str:
    """Return what a title calls a class: its name, or ``"class 2"`` where none is known.

    Examples
    --------
    >>> class_words(1, ["dog", "cat"]), class_words(2, ["dog", "cat"]), class_words(2, {2: "fox"})
    ('cat', 'class 2', 'fox')
    """
    return class_name(number, names) or f"class {number}"


def class_number(cls: int | str, names: Sequence[str], count: int | None = None) -> int:
    """Return the number of a class that is said by its number, its name, or a part of its name.

    A name comes first, then the same name in another case or with other spaces, hyphens and underscores, then one of
    several names that stand in one with commas between, such as ``"tabby, tabby cat"``; then any part of a name that no
    other class has. Digits are a number where no class is named so.

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
    >>> class_number("egyptian", ["tabby, tabby cat", "tiger cat", "Egyptian cat"])
    2
    """
    if isinstance(cls, str):
        number = _number_of(cls, names)
        if number is not None:
            return number
        cls = int(cls)
    if not is_integer(cls):
        raise InputError(f"a class is a name or a whole number; got {cls!r}")
    if cls < 0 or (count is not None and cls >= count):
        raise ConceptRangeError("y", [int(cls)], count if count is not None else len(names), what="class")
    return int(cls)


def _number_of(text: str, names: Sequence[str]) -> int | None:
    """Return the class that a text names; None for digits that are no name."""
    for numbers, is_part in _matches(text, names):
        if len(numbers) == 1:
            return numbers[0]
        if numbers and is_part:
            listed = ", ".join(repr(printable(names[number])) for number in numbers[:_CANDIDATES])
            more = f" and {len(numbers) - _CANDIDATES} more" if len(numbers) > _CANDIDATES else ""
            raise InputError(f"{text!r} is part of several names: {listed}{more}; say more of the one that you mean")
        if numbers:
            raise InputError(f"several classes are named {text!r}: give a number, {' or '.join(map(str, numbers))}")
        if text.isdecimal():
            return None
    raise InputError(f"no class is named {text!r}{_hint(text, names)}")


def _matches(text: str, names: Sequence[str]) -> Iterator[tuple[list[int], bool]]:
    """Yield the classes that a text names, and whether by a part of their names, from the strictest reading on."""
    yield [number for number, name in enumerate(names) if name == text], False
    plain = _plain(text)
    spelled = [_plain(name) for name in names]
    yield [number for number, name in enumerate(spelled) if name == plain], False
    yield [number for number, name in enumerate(names) if plain in map(_plain, name.split(","))], False
    yield [number for number, name in enumerate(spelled) if plain and plain in name], True


def _plain(name: str) -> str:
    """Return a name in one case, with one space between words."""
    return " ".join(re.split(r"[\s_\-]+", name.casefold())).strip()


def _hint(name: str, names: Sequence[str]) -> str:
    """Return the end of the sentence: what was perhaps meant."""
    if not names:
        return ": no names are known, give a number"
    spelled = {_plain(part): part.strip() for whole in names for part in (*whole.split(","), whole)}
    near = [spelled[one] for one in difflib.get_close_matches(_plain(name), spelled, n=2, cutoff=0.6)]
    near = near or _with_words_like(name, names)
    first = f"; the first ones are {', '.join(map(printable, names[:_SHOWN]))}"
    return f"; did you mean {' or '.join(repr(printable(one)) for one in near)}?" if near else first


def _with_words_like(name: str, names: Sequence[str]) -> list[str]:
    """Return the first names that have words like all of these, for names of many words."""
    words = {word for whole in names for word in _plain(whole).split()}
    like = [difflib.get_close_matches(word, words, n=1, cutoff=0.75) for word in _plain(name).split()]
    chosen = {word for one in like for word in one}
    fitting = [whole for whole in names if chosen <= set(_plain(whole).split())]
    return fitting[:2] if like and all(like) else []
