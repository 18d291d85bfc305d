"""Relevance of tokens or features: signed bars above their names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...data.pixels import finite
from ...errors import InputError
from ..image import DEFAULT_CMAP, colours, scale_of
from .labels import literal, one_line, wrapped_titles
from .narrow import in_width
from .panels import OUTLINE, ColourMap, check_count, per_row, sized_panel_axes

__all__ = ["bars"]

Floats = npt.NDArray[np.float64]

_LABELLED = 64
"""Up to this many bars, each has its name below it."""
_LETTERS = 16
_HEIGHT, _LINE = 1.1, 0.15
"""Height of a panel without its names, and of one more line of its title, in inches."""


def bars(
    maps: Any,
    *,
    names: Sequence[str] | Sequence[Sequence[str]] | None = None,
    titles: Sequence[str] | None = None,
    label: str = "token",
    columns: int | None = None,
    shared_scale: bool = False,
    cmap: ColourMap = DEFAULT_CMAP,
    width: float | None = None,
    axes: Sequence[Axes] | npt.NDArray[Any] | None = None,
) -> Figure:
    """Return a figure of the relevance of tokens or features as signed bars, a panel for each row.

    Parameters
    ----------
    maps : torch.Tensor or array
        Signed relevance, (row, token); (token,) is one row.
    names : sequence of str, or of sequences of str, optional
        Names of the tokens or features: for all rows, or for each row, or for each run of equally many rows. By
        default their numbers.
    titles : sequence of str, optional
        One for each row.
    label : str, optional
        What a bar stands for.
    columns : int, optional
        Panels in a line; by default 1, or 2 from 7 rows on where there are at most 32 bars.
    shared_scale : bool, optional
        Whether all rows have one axis of relevance and one scale of colours, which then reach the strongest.
    cmap, axes
        As for `crp_kit.views.plot.heatmaps`.
    width : float, optional
        Of a new figure, in inches, such as 3.4 for the column of a paper. By default what the panels need.

    Raises
    ------
    InputError
        If `maps` is not (row, token) or has values that are not finite, or names, titles or axes do not fit.

    Examples
    --------
    >>> figure = bars([[0.5, -0.2, 0.0]], names=["a", "red", "cat"])
    >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    ['a', 'red', 'cat']
    """
    array = finite(maps)
    rows = array[None] if array.ndim == 1 else array
    if rows.ndim != 2 or not rows.size:
        raise InputError(f"relevance of {label}s is (row, {label}) with at least one value; got shape {array.shape}")
    check_count("titles", titles, len(rows), "rows")
    names_by_row = per_row(_names(names, rows.shape[1], label), len(rows), f"lists of {label}s")
    across = columns if columns is not None else (2 if len(rows) > 6 and rows.shape[1] <= 32 else 1)
    usual = max(min(0.2 * rows.shape[1], 10.0 / max(min(across, len(rows)), 1)), 3.2)
    longest = max((len(name) for line in names_by_row if line for name in line), default=1)
    height = _HEIGHT + (0.075 * min(longest, _LETTERS) if rows.shape[1] <= _LABELLED else 0.1)
    above = wrapped_titles(titles, usual) if axes is None else list(map(one_line, titles or []))
    lines = max((title.count("\n") for title in above or []), default=0)
    figure, panels = sized_panel_axes(len(rows), across, axes, size=(usual, height + _LINE * lines))
    common = rows if shared_scale else None
    for number, (ax, row, line) in enumerate(zip(panels, rows, names_by_row, strict=False)):
        _draw(ax, row, of_scale=row if common is None else common, cmap=cmap)
        _write_names(ax, line, len(row))
        ax.set_title(above[number] if above else "", loc="left", fontsize="small")
        ax.set_ylabel("relevance", fontsize="x-small")
        if number + across >= len(rows) or axes is not None:
            ax.set_xlabel(label, fontsize="x-small")
    for unused in panels[len(rows) :]:
        unused.set_axis_off()
    return figure if width is None or axes is not None else in_width(figure, width)


def _draw(ax: Axes, row: Floats, *, of_scale: Floats, cmap: ColourMap) -> None:
    """Draw one row, with the axis and the scale of colours of some values; the outline keeps weak bars visible."""
    scale = scale_of(of_scale)
    paint = colours(row, cmap=cmap, vmax=scale) / 255
    edge = 0.5 if len(row) <= _LABELLED else 0.0
    ax.bar(np.arange(len(row)), row, color=[tuple(colour) for colour in paint], width=0.84 if edge else 1.0,
              edgecolor=OUTLINE if edge else None, linewidth=edge)  # fmt: skip
    ax.axhline(0, color=OUTLINE, linewidth=0.6)
    low, high = float(min(of_scale.min(), 0)), float(max(of_scale.max(), 0))
    gap = 0.06 * (high - low) or scale
    ax.set_ylim(low - gap, high + gap)
    ax.set_xlim(-0.8, len(row) - 0.2)
    ax.tick_params(labelsize="x-small", length=2)
    ax.yaxis.get_offset_text().set_fontsize("x-small")
    ax.spines[["top", "right"]].set_visible(False)


def _write_names(ax: Axes, names: Sequence[str] | None, count: int) -> None:
    """Write the name of each of a few bars, or the number of some of many."""
    if count <= _LABELLED and names is not None:
        shown = [literal(name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…") for name in names]
        ax.set_xticks(range(count), shown, rotation=90 if max(map(len, names)) > 2 else 0)
        return
    step = max(1, math.ceil(count / 16))
    ax.set_xticks(range(0, count, step), list(map(str, range(0, count, step))))


def _names(names: Any, count: int, label: str) -> list[list[str]] | None:
    """Return names as one list, or as one for each of several rows, of strings."""
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Sequence) or not len(names):
        raise InputError(f"names is a list of words, one for each {label}, or a list of such lists; got {names!r:.60}")
    lists = [list(names)] if isinstance(names[0], str) else [list(line) for line in names]
    for line in lists:
        if len(line) != count or not all(isinstance(word, str) for word in line):
            raise InputError(f"names has one word for each of the {count} {label}s; got {len(line)}: {line!r:.60}")
    return lists
