"""Tables: aligned columns of text, data frames, and HTML for notebooks, escaped and in the notebook's own colours.

Cells may come from other people's files: what a terminal would obey is escaped.
"""

from __future__ import annotations

import html
import importlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from .errors import CrpKitError
from .printable import printable

__all__ = ["data_frame", "html_table", "more_rows", "shape_text", "text_table"]

Tone = Literal["quiet", "loud"]

# The first class of each selector and its two elements outweigh what JupyterLab and VS Code say of tables.
_STYLE = (
    ".crp-kit{overflow-x:auto}"
    ".crp-kit table{border-collapse:collapse}"
    ".crp-kit table th,.crp-kit table td{text-align:right;vertical-align:top;padding:.15em .6em;white-space:nowrap}"
    ".crp-kit table thead th{border-bottom:1px solid;vertical-align:bottom}"
    ".crp-kit table tr.crp-kit-quiet{opacity:.6}"
    ".crp-kit table tr.crp-kit-loud{font-weight:bold}"
    ".crp-kit p{margin:.2em .6em}"
)
_TEXT = "text-align:left;white-space:normal;overflow-wrap:break-word;max-width:36em"


def data_frame(data: Any, **options: Any) -> Any:
    """Return a data frame of columns by name, of a dictionary for each row, or of an array.

    Parameters
    ----------
    data : dict, list of dict or numpy.ndarray
    **options : Any
        Of ``pandas.DataFrame``.

    Raises
    ------
    CrpKitError
        If pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise CrpKitError("a data frame needs pandas: pip install 'crp-kit[statistics]'") from error
    return pandas.DataFrame(data, **options)


def shape_text(shape: Iterable[int]) -> str:
    """Return a shape such as 1x16x32x32; that of one number is 1."""
    return "x".join(map(str, shape)) or "1"


def text_table(rows: Sequence[Sequence[str]], *, left: int | None = None) -> list[str]:
    """Return the lines of a table in aligned columns, two blanks apart; the names of the columns are a row as well.

    Parameters
    ----------
    rows : sequence of sequence of str
        The cells, row by row, the same number in each.
    left : int, optional
        How many of the first columns are aligned at the left, the others at the right; by default all.

    Examples
    --------
    >>> text_table([("name", "count"), ("conv1", "3")], left=1)
    ['name   count', 'conv1      3']
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = len(widths) if left is None else left
    lines = (
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return [line.rstrip() if left == len(widths) else line for line in lines]


def html_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text_columns: Collection[str] = (),
    caption: str = "",
    hidden: int = 0,
    tones: Mapping[int, Tone] | None = None,
) -> str:
    """Return a table as HTML: numbers at the right, text at the left.

    Parameters
    ----------
    heads : sequence of str
        Names of the columns.
    rows : sequence of sequence of str
        The cells, row by row.
    text_columns : collection of str, optional
        Names of the columns that hold text; all others are taken for numbers.
    caption : str, optional
        What stands above the table.
    hidden : int, optional
        How many rows there are besides these; it is said below.
    tones : dict, optional
        Rows that matter less or more than the others, by index.

    Examples
    --------
    >>> table = html_table(["name", "count"], [["a < b", "3"]], text_columns=["name"], hidden=2)
    >>> "<td>a &lt; b</td><td>3</td>" in table, "… 2 more rows" in table
    (True, True)
    """
    left = [number for number, head in enumerate(heads, 1) if head in text_columns]
    rules = "".join(f".crp-kit-text-{column} table :is(th,td):nth-child({column}){{{_TEXT}}}" for column in left)
    classes = " ".join(["crp-kit", *(f"crp-kit-text-{column}" for column in left)])
    body = "".join(_line("td", row, (tones or {}).get(index)) for index, row in enumerate(rows))
    above = f"<p>{html.escape(printable(caption))}</p>" if caption else ""
    below = f"<p>{more_rows(hidden)}</p>" if hidden else ""
    return (
        f'<div class="{classes}"><style>{_STYLE}{rules}</style>{above}'
        f"<table><thead>{_line('th', heads)}</thead><tbody>{body}</tbody></table>{below}</div>"
    )


def _line(tag: Literal["td", "th"], cells: Sequence[str], tone: Tone | None = None) -> str:
    inner = "".join(f"<{tag}>{html.escape(printable(cell))}</{tag}>" for cell in cells)
    return f'<tr class="crp-kit-{tone}">{inner}</tr>' if tone else f"<tr>{inner}</tr>"


def more_rows(count: int) -> str:
    """Return what stands below a table of which so many rows are not shown."""
    return f"… {count:,} more row{'s' if count > 1 else ''}"
