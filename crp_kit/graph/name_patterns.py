"""Names by pattern: a regular expression for whole names, or wild cards."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

__all__ = ["is_plain", "matching"]


def is_plain(string: str) -> bool:
    """Return whether a string can only be meant as a name: it has no character that patterns are made of.

    Examples
    --------
    >>> is_plain("layer1.0.conv1"), is_plain("layer1.*")
    (True, False)
    """
    return re.fullmatch(r"[\w.:]+", string) is not None


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a pattern matches, in the order given.

    Parameters
    ----------
    pattern : str
        A regular expression, such as ``"layer[34].*conv3"``; if that matches no whole name, wild cards, such as
        ``"*.conv3"``.
    names : iterable of str

    Examples
    --------
    >>> matching("*conv1", ["conv1", "layer1.0.conv1", "layer1.0.conv2"])
    ['conv1', 'layer1.0.conv1']
    """
    known = list(names)
    expression = _compiled(pattern)
    return [name for name in known if expression.fullmatch(name)] or fnmatch.filter(known, pattern)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error:
        return re.compile(re.escape(pattern))
