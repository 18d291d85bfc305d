"""Relevance of tokens or features: signed bars under their words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...errors import InputError
from ..image import DEFAULT_CMAP, colours, scale_of
from .panels import OUTLINE, Colours, check_count, lined_places, numbers, per_row, plain

__all__ = ["bars"]

_LABELLED = 64
"""Up to so many bars have each a name below it."""
_LETTERS = 16
_TALL = 1.1
"""Height of a panel without its names, in inches."""


def bars(
    maps: Any,
    *,
    names: Sequence[str] | Sequence[Sequence[str]] | None = None,
    titles: Sequence[str] | None = None,
    label: str = "token",
    columns: int | None = None,
    shared_scale: bool = False,
    cmap: Colours = DEFAULT_CMAP,
    axes: Sequence[Axes] | npt.NDArray[Any] | None = None,
) -> Figure:
    """Return a figure of the relevance of tokens or features as signed bars, a panel for each row.

    Parameters
    ----------
    maps : torch.Tensor or array
        Signed relevance, (row, token); (token,) is one row.
    names : sequence of str, or of sequences of str, optional
        What each token or feature is: for all rows, or for each row, or for each run of equally many rows. By default
        its number.
    titles : sequence of str, optional
        One for each row.
    label : str, optional
        What a bar is.
    columns : int, optional
        Panels in a line; by default 1, or 2 from 7 rows on where there are at most 32 bars.
    shared_scale : bool, optional
        Whether all rows have one axis of relevance, which then reaches the strongest.
    cmap, axes
        As for `crp_kit.views.plot.heatmaps`.

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
    array = numbers(maps)
    rows = array[None] if array.ndim == 1 else array
    if rows.ndim != 2 or not rows.size:
        raise InputError(f"relevance of {label}s is (row, {label}) with at least one value; got shape {array.shape}")
    check_count("titles", titles, len(rows), "rows")
    words = per_row(_names(names, rows.shape[1], label), len(rows), f"lists of {label}s")
    across = columns if columns is not None else (2 if len(rows) > 6 and rows.shape[1] <= 32 else 1)
    wide = max(min(0.2 * rows.shape[1], 10.0 / max(min(across, len(rows)), 1)), 3.2)
    longest = max((len(word) for line in words if line for word in line), default=1)
    tall = _TALL + (0.075 * min(longest, _LETTERS) if rows.shape[1] <= _LABELLED else 0.1)
    figure, places = lined_places(len(rows), across, axes, size=(wide, tall))
    common = scale_of(rows) if shared_scale else None
    for number, (place, row, line) in enumerate(zip(places, rows, words, strict=False)):
        _draw(place, row, vmax=common, cmap=cmap)
        _write_names(place, line, len(row))
        place.set_title(plain("; ".join((titles[number] if titles else "").splitlines())), loc="left", fontsize="small")
        place.set_ylabel("relevance", fontsize="x-small")
        if number + across >= len(rows) or axes is not None:
            place.set_xlabel(label, fontsize="x-small")
    for unused in places[len(rows) :]:
        unused.set_axis_off()
    return figure


def _draw(place: Axes, row: npt.NDArray[np.float64], *, vmax: float | None, cmap: Colours) -> None:
    """Draw one row; the outline keeps weak bars visible."""
    scale = scale_of(row, vmax)
    paint = colours(row, cmap=cmap, vmax=scale) / 255
    edge = 0.5 if len(row) <= _LABELLED else 0.0
    place.bar(np.arange(len(row)), row, color=[tuple(one) for one in paint], width=0.84 if edge else 1.0,
              edgecolor=OUTLINE if edge else None, linewidth=edge)  # fmt: skip
    place.axhline(0, color=OUTLINE, linewidth=0.6)
    low, high = (-scale, scale) if vmax else (float(min(row.min(), 0)), float(max(row.max(), 0)))
    gap = 0.06 * (high - low) or scale
    place.set_ylim(low - gap, high + gap)
    place.set_xlim(-0.8, len(row) - 0.2)
    place.tick_params(labelsize="x-small", length=2)
    place.yaxis.get_offset_text().set_fontsize("x-small")
    place.spines[["top", "right"]].set_visible(False)


def _write_names(place: Axes, words: Sequence[str] | None, count: int) -> None:
    if count <= _LABELLED and words is not None:
        shown = [plain(word if len(word) <= _LETTERS else f"{word[: _LETTERS - 1]}…") for word in words]
        place.set_xticks(range(count), shown, rotation=90 if max(map(len, words)) > 2 else 0)
        return
    step = max(1, math.ceil(count / 16))
    place.set_xticks(range(0, count, step), list(map(str, range(0, count, step))))


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
