"""Text in figures: names without mathematics, titles in one line, shares, and what the strongest colour stands for."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy.typing as npt

__all__ = [
    "interval_words",
    "literal",
    "one_line",
    "percent",
    "row_distance",
    "row_names",
    "scale_label",
    "shortened",
    "significant",
    "wrapped",
    "wrapped_titles",
]

_LETTERS_PER_INCH = 13.5
"""In titles of panels."""
_MOST_LINES = 4
"""Of the name of a row."""
_NAME_LINE, _NAME_GAP = 0.125, 0.03
"""Inches for a line of the name of a row, and between names."""
_BREAKS = re.compile(r"(?<=\s)|(?<=[^\W\d][.,:])(?=\w)|(?<=\d\.)(?=[^\W\d])|(?<=_)(?=[^\W_])")
"""Where a line may be broken."""


def interval_words(confidence: float) -> str:
    """Return what a legend calls intervals over the samples.

    Examples
    --------
    >>> interval_words(0.95)
    '95 % interval'
    """
    return f"{100 * confidence:g} % interval"


def literal(text: str) -> str:
    """Escape the dollar signs of a text, which matplotlib would read as mathematics."""
    return text.replace("$", r"\$")


def one_line(text: str) -> str:
    """Return a title in one line, its lines joined by semicolons, without mathematics."""
    return literal("; ".join(text.splitlines()))


def shortened(text: str, letters: int) -> str:
    """Return a text of so many letters at most, its end cut."""
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def row_names(names: Sequence[str], letters: int) -> list[str]:
    r"""Return names of rows without mathematics, broken into lines of so many letters; what four do not hold is cut.

    Examples
    --------
    >>> row_names(["Staffordshire bullterrier", "cat"], 16)
    ['Staffordshire\nbullterrier', 'cat']
    """
    broken = (textwrap.wrap(name, letters, max_lines=_MOST_LINES, placeholder="…") or [""] for name in names)
    return [literal("\n".join(lines)) for lines in broken]


def row_distance(names: Sequence[str]) -> float:
    """Return how many inches rows are apart, so that their names, in one line or several, do not touch."""
    lines = [1 + name.count("\n") for name in names]
    # Half of the lines of two neighbours are between them.
    return _NAME_GAP + _NAME_LINE * max(map(sum, pairwise(lines)), default=2 * max(lines, default=1)) / 2


def percent(share: float) -> str:
    """Return a share in percent, with one decimal where it would else be 0; smaller ones are below 0.1 %.

    Examples
    --------
    >>> percent(0.126), percent(-0.004), percent(2e-4), percent(-2e-4), percent(0.0)
    ('13 %', '-0.4 %', '<0.1 %', '-<0.1 %', '0.0 %')
    """
    if 0 < abs(share) < 5e-4:
        return "-" * (share < 0) + "<0.1 %"
    return f"{100 * share:.0f} %" if abs(share) >= 0.01 else f"{100 * share:.1f} %"


def significant(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{value:#.3g}".rstrip(".")


def scale_label(heatmap: npt.NDArray[Any], scale: float) -> str:
    """Return the magnitude that the strongest colour of a map stands for, where each map has its own scale."""
    return f"± {scale:.2g}" if heatmap.any() else "all zero"


def wrapped_titles(titles: Sequence[str] | None, width: float) -> list[str] | None:
    r"""Return titles without mathematics, whose lines fit into panels of a width in inches.

    Lines are broken at their spaces, and names of layers at their dots.

    Examples
    --------
    >>> wrapped_titles(["features.blocks.3.conv2: 24"], 1.2)
    ['features.blocks.\n3.conv2: 24']
    """
    if titles is None:
        return None
    letters = max(8, int(width * _LETTERS_PER_INCH))
    return [literal("\n".join(p for line in title.splitlines() for p in wrapped(line, letters))) for title in titles]


def wrapped(line: str, letters: int) -> list[str]:
    """Break a line at its spaces, at dots, commas, colons and underscores inside of names, and within longer words.

    Each part has so many letters at most.
    """
    lines = [""]
    for word in re.split(
        r"(?<=\s)|(?<=[^\W\d]\.)(?=\w)|(?<=\d\.)(?=[^\W\d])|(?<=_)(?=[^\W_])|(?<=[^\W\d],)(?=\w)", line
    ):
        for part in textwrap.wrap(word, letters, drop_whitespace=False) or [word]:
            if len((lines[-1] + part).rstrip()) <= letters:
                lines[-1] += part
            else:
                lines.append(part)
    return [text.rstrip() for text in lines if text.strip()] or [""]
