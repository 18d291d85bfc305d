"""Relevance in volumes: the sum along the depth, and the slices that hold most of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ...checks import is_integer
from ...data.pixels import finite
from ...errors import InputError
from ..image import DEFAULT_CMAP, overlay, scale_of, stretched
from .labels import one_line, scale_label
from .panels import CELL, ColourMap, aspect_of, check_count, colour_bar, per_row, show_map, without_ticks

__all__ = ["Slices", "chosen_slices", "volumes"]

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
    cmap: ColourMap = DEFAULT_CMAP,
) -> Figure:
    """Return a figure of the relevance in volumes, a line for each row: the sum over the depth, and slices.

    All slices of a row have the scale of the whole volume; the sum has its own. Below each map stands the magnitude of
    its strongest colour, above a line the share of the relevance, by magnitude, that is in its slices.

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
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.views.image.colours`.

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
    across = 1 + len(chosen[0])
    height = max(CELL * aspect_of(rows[:, 0]) + 0.6 + 0.17 * (1 + any(headings)), 2.2)
    figure = Figure(figsize=(CELL * across + 1.3, height * len(rows)), layout="constrained")
    blocks = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for block, row, volume, ids, heading in zip(blocks, rows, below, chosen, headings, strict=True):
        share = f"{_slices_label(slices, ids)} of {len(row)}: {_share(row, ids):.0%} of |relevance|"
        block.suptitle("\n".join(filter(None, [heading, share])), fontsize="small", x=0.01, ha="left")
        _draw_row(block, row, volume, ids=ids, vmax=scale_of(rows if shared_scale else row), cmap=cmap)
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
    block: SubFigure, row: Floats, volume: Floats | None, *, ids: Sequence[int], vmax: float, cmap: ColourMap
) -> None:
    """Draw the sum over the depth of one map, (depth, height, width), and its slices."""
    axes: list[Axes] = list(block.subplots(1, 1 + len(ids), squeeze=False).ravel())
    show_map(axes[0], row.sum(0), vmax=None, cmap=cmap)
    axes[0].set_title("sum over depth", fontsize="small")
    for ax, depth in zip(axes[1:], ids, strict=True):
        if volume is None:
            show_map(ax, row[depth], vmax=vmax, cmap=cmap)
        else:
            mixed = overlay(volume[depth], row[depth], vmax=vmax, cmap=cmap)
            ax.imshow(np.asarray(mixed), interpolation="nearest")
            without_ticks(ax)
        ax.set_title(f"depth {depth}", fontsize="small")
        ax.set_xlabel(scale_label(np.array([vmax])) if row.any() else "all zero", fontsize="x-small", labelpad=2)
    colour_bar(block, axes, common=None, cmap=cmap)


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
