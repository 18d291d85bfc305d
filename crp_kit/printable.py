"""Text of files and datasets made safe to print: control characters are shown, not obeyed."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]

_ESCAPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of Unicode: control and format characters, halves of surrogates, line and paragraph separators."""
_JOINERS = "\u200c\u200d"
"""Format characters that writing needs, in Persian, Hindi or emoji."""


def printable(text: str, *, keep: str = "") -> str:
    r"""Return a text with what a terminal would obey escaped as in Python: colours, line breaks, turned directions.

    Parameters
    ----------
    text : str
    keep : str, optional
        Characters that stay as they are.

    Examples
    --------
    >>> print(printable("cat\x1b[2J\n"), printable("Käse 東京"))
    cat\x1b[2J\n Käse 東京
    """
    if text.isprintable():
        return text
    return "".join(char if char in keep or not _is_obeyed(char) else _escaped(char) for char in text)


def _is_obeyed(char: str) -> bool:
    return char not in _JOINERS and unicodedata.category(char) in _ESCAPED


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
