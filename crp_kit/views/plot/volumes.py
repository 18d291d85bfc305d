"""Relevance in volumes: the sum along the depth, and the slices that hold most of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ...checks import is_integer
from ...data.pixels import finite
from ...errors import InputError
from ..image import DEFAULT_CMAP, PERCENTILE, stretched
from ..look import Look, Style
from .colour_bars import BAR, BAR_BELOW, beside, draw_bar, with_room
from .labels import one_line, scale_label, wrapped
from .panels import CELL, ColourMap, aspect_of, check_count, per_row, show_map
from .sheet import Sheet, check_width

__all__ = ["Slices", "chosen_slices", "volumes"]

_LETTERS_PER_INCH = 15
Floats = npt.NDArray[np.float64]
Slices: TypeAlias = Literal["strongest", "central"] | Sequence[int]


def volumes(
    maps: Any,
    *,
    values: Any = None,
    titles: Sequence[str] | None = None,
    slices: Slices = "strongest",
    count: int = 3,
    shared_scale: bool = False,
    style: Style | None = None,
    percentile: float = PERCENTILE,
    cmap: ColourMap = DEFAULT_CMAP,
    width: float | None = None,
) -> Figure:
    """Return a figure of the relevance in volumes, a line for each row: the sum over the depth, and slices.

    All slices of a row have the scale of the whole volume; the sum, on white, has its own. Below each map stands the
    magnitude of its strongest colour, above a line the share of the relevance, by magnitude, that is in its slices.

    Parameters
    ----------
    maps : torch.Tensor or array
        Signed relevance, (row, depth, height, width); (depth, height, width) is one row.
    values : torch.Tensor or array, optional
        The volumes themselves, which show in grey where a slice has little relevance: (row, channel, depth, height,
        width), (row, depth, height, width), or one for all rows, or for each run of equally many rows. Channels are
        averaged, and each volume has its own range of greys.
    titles : sequence of str, optional
        One for each row.
    slices : {"strongest", "central"} or sequence of int, optional
        Which slices along the depth: those with the largest sums of magnitudes; those in the middle; or these numbers,
        counted from 0. They stand in the order of their depth.
    count : int, optional
        How many strongest or central ones.
    shared_scale : bool, optional
        Whether the slices of all rows have one scale; the sums keep their own.
    style, percentile, cmap, width
        As for `crp_kit.views.plot.heatmaps`; "overlay" and "masked" need `values`.

    Raises
    ------
    InputError
        If `maps` is not (row, depth, height, width) or has values that are not finite, there are no such slices, or
        volumes or titles do not fit.

    Examples
    --------
    >>> import torch
    >>> figure = volumes(torch.randn(1, 8, 6, 6), slices="central")
    >>> [panel.get_title() for panel in figure.axes[:4]]
    ['sum over depth', 'depth 3', 'depth 4', 'depth 5']
    """
    rows = _rows(maps)
    check_count("titles", titles, len(rows), "rows")
    below = per_row(None if values is None else _values(values, rows.shape[1:]), len(rows), "volumes")
    headings = [one_line(text) for text in titles or [""] * len(rows)]
    chosen = [chosen_slices(row, slices, count) for row in rows]
    check_width(width)
    look = Look.fitting(style, percentile, cmap, images=values is not None)
    across = 1 + len(chosen[0])
    whole = width or CELL * across + BAR
    cell = (whole - beside(width)) / across
    shares = [
        f"{_slices_label(slices, ids)} of {len(row)}: {_share(row, ids):.0%} of |relevance|"
        for row, ids in zip(rows, chosen, strict=True)
    ]
    letters = int(_LETTERS_PER_INCH * cell * across)
    above = [
        [part for line in filter(None, texts) for part in wrapped(line, letters)]
        for texts in zip(headings, shares, strict=True)
    ]
    line = max(cell * aspect_of(rows[:, 0]) + 0.6 + 0.17 * max(map(len, above)), 1.6)
    height = line * len(rows) + (0.0 if beside(width) else BAR_BELOW)
    figure = Sheet(figsize=(whole, height), layout="constrained")
    figure.bar_below = not beside(width)
    body, room = with_room(figure)
    blocks = body.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for block, row, volume, ids, texts in zip(blocks, rows, below, chosen, above, strict=True):
        block.suptitle("\n".join(texts), fontsize="small", x=0.01, ha="left")
        _draw_row(block, row, volume, ids=ids, cell=cell, vmax=look.scale(rows if shared_scale else row), look=look)
    draw_bar(room, common=None, look=look)
    return figure


def chosen_slices(row: Floats, slices: Slices, count: int) -> list[int]:
    """Return the numbers of the slices of a map (depth, height, width) to draw, ascending."""
    depth = len(row)
    if isinstance(slices, str):
        if slices not in ("strongest", "central"):
            raise InputError(f"slices is 'strongest', 'central' or numbers of slices; got {slices!r}")
        if not is_integer(count, 1):
            raise InputError(f"count is how many slices are drawn, at least 1; got {count!r}")
        count = min(count, depth)
        if slices == "central":
            first = (depth - count + 1) // 2
            return list(range(first, first + count))
        return sorted(np.argsort(-np.abs(row).sum((1, 2)), kind="stable")[:count].tolist())
    if not len(slices) or not all(is_integer(number, 0, depth - 1) for number in slices):
        raise InputError(f"slices are whole numbers from 0 to {depth - 1}; got {list(slices)!r:.60}")
    return sorted({int(number) for number in slices})


def _draw_row(
    block: SubFigure, row: Floats, volume: Floats | None, *, ids: Sequence[int], cell: float, vmax: float, look: Look
) -> None:
    """Draw the sum over the depth of one map, (depth, height, width), and its slices."""
    axes: list[Axes] = list(block.subplots(1, 1 + len(ids), squeeze=False).ravel())
    show_map(axes[0], None, row.sum(0), vmax=None, look=replace(look, style="map"))
    axes[0].set_title("\n".join(wrapped("sum over depth", int(_LETTERS_PER_INCH * cell))), fontsize="small")
    for ax, depth in zip(axes[1:], ids, strict=True):
        show_map(ax, None if volume is None else volume[depth], row[depth], vmax=vmax, look=look)
        ax.set_title(f"depth {depth}", fontsize="small")
        if look.coloured:
            ax.set_xlabel(scale_label(row, vmax), fontsize="x-small", labelpad=2)


def _slices_label(slices: Slices, ids: Sequence[int]) -> str:
    """Return the name of the slices that are drawn."""
    if not isinstance(slices, str):
        return f"slice {ids[0]}" if len(ids) == 1 else f"slices {', '.join(map(str, ids))}"
    return f"the {slices} slice" if len(ids) == 1 else f"the {len(ids)} {slices} slices"


def _share(row: Floats, ids: Sequence[int]) -> float:
    """Return the share of the magnitude of a map, (depth, height, width), that is in some slices."""
    total = float(np.abs(row).sum())
    return float(np.abs(row[list(ids)]).sum()) / total if total else 0.0


def _rows(maps: Any) -> Floats:
    """Return relevance as (row, depth, height, width)."""
    array = finite(maps)
    rows = array[None] if array.ndim == 3 else array
    if rows.ndim != 4 or not rows.size:
        raise InputError(
            f"relevance in volumes is (row, depth, height, width) with at least one value; got shape {array.shape}"
        )
    return rows


def _values(values: Any, shape: tuple[int, ...]) -> list[Floats]:
    """Return volumes as grey levels in [0, 1], (depth, height, width) each."""
    array = finite(values)
    if array.ndim not in (3, 4, 5) or array.shape[-3:] != shape or not array.size:
        raise InputError(
            f"volumes are (row, channel, depth, height, width) or (row, depth, height, width), here with {shape} "
            f"behind; got shape {array.shape}"
        )
    rows = math.prod(array.shape[:-4]) if array.ndim == 5 else array.shape[0] if array.ndim == 4 else 1
    return [stretched(volume.mean(0)) for volume in array.reshape(rows, -1, *shape)]
