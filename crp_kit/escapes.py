"""Escapes of text from outside: reversible ones for names that a file keeps, and single lines for messages."""

from __future__ import annotations

import re

__all__ = ["escaped", "is_storable", "is_writable", "one_line", "single_line"]

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line breaks, and the surrogates by which Python spells bytes of a file name that is not UTF-8."""
_ESCAPE = re.compile(r"\\(?:\\|x[0-9a-f]{2}|u[0-9a-f]{4})")
_MOST = 300
"""Characters of a message that is somebody else's."""


def is_writable(text: str) -> bool:
    """Return whether a text has neither control characters nor line breaks, and can be written as UTF-8."""
    return _UNWRITABLE.search(text) is None


def is_storable(text: str) -> bool:
    """Return whether a text can be written as UTF-8 and has no NUL, which ends a string in HDF5."""
    return _UNSTORABLE.search(text) is None


def escaped(text: str, *, free: bool = False) -> str:
    r"""Return a name as one line that can be written as UTF-8; different names stay different.

    Names are returned as they are, but for those with control characters, line breaks or bytes that are no UTF-8, and
    those that look as if they were escaped already: in these, backslashes are doubled, and what cannot be written
    becomes ``\x0a`` or ``\udce9``. In free text, such as a command, line breaks and control characters may stay.

    Examples
    --------
    >>> escaped("red fox"), escaped("caf\udce9"), escaped("two\nlines")
    ('red fox', 'caf\\udce9', 'two\\x0alines')
    """
    if (is_storable(text) if free else is_writable(text)) and _ESCAPE.search(text) is None:
        return text
    return _spelt_out(text.replace("\\", "\\\\"))


def single_line(text: str) -> str:
    """Return a text as one line that can be written as UTF-8, of any length."""
    return _spelt_out(re.sub(r"\s*[\r\n\v\f\x85\u2028\u2029]\s*", " ", text.strip()))


def one_line(text: str) -> str:
    """Return somebody else's message as one line that can be written as UTF-8, without its end if it is long."""
    line = single_line(text)
    return line if len(line) <= _MOST else f"{line[: _MOST - 2]} …"


def _spelt_out(text: str) -> str:
    return _UNWRITABLE.sub(lambda match: _code(ord(match[0])), text)


def _code(point: int) -> str:
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}"
