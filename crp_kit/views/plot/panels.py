"""Parts of all figures: axes for panels, images, signed maps, and the colour bar.

Figures are made without pyplot, so nothing opens, nothing is global and nothing has to be closed.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ...data.pixels import finite, plane
from ...errors import InputError
from ..image import ColorMap, picture
from ..look import Look
from .colour_bars import BAR, BAR_BELOW, beside
from .labels import scale_label
from .sheet import Sheet, check_width, warn_of_height

__all__ = [
    "CELL",
    "OUTLINE",
    "ColourMap",
    "aspect_of",
    "check_count",
    "columns_in",
    "figure_of",
    "map_rows",
    "panel_axes",
    "per_row",
    "pictures",
    "show_image",
    "show_map",
    "sized_panel_axes",
    "to_png",
    "without_ticks",
    "write_legend",
    "write_scale",
]

ColourMap: TypeAlias = str | ColorMap

CELL = 1.9
"""Width of a panel in inches."""
OUTLINE = "#1a1a1a"
_SMALLEST_CELL, _LEGEND_LETTERS_PER_INCH = 1.0, 16


def to_png(figure: Figure, *, dpi: int = 100) -> bytes:
    """Return a figure as a PNG file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    dpi : int, optional
        Pixels per inch.

    Returns
    -------
    bytes
        The content of the file.

    Examples
    --------
    >>> to_png(Figure(figsize=(1, 1)))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes belong to, however deep they are in its subfigures."""
    return cast(Figure, ax.get_figure(root=True))


def map_rows(maps: Any) -> npt.NDArray[np.float64]:
    """Return heatmaps as (row, height, width)."""
    array = finite(maps)
    rows = array[None] if array.ndim == 2 else array
    if rows.ndim != 3 or not rows.size:
        hint = "; sum over the input channels first" if rows.ndim == 4 else ""
        raise InputError(f"heatmaps are (row, height, width) with at least one row; got shape {array.shape}{hint}")
    return rows


def pictures(images: Any) -> list[Any]:
    """Return one image or several as pictures."""
    if images is None:
        return []
    if isinstance(images, (torch.Tensor, np.ndarray)):
        images = images[None] if images.ndim in (2, 3) else images
    elif not isinstance(images, Sequence):
        images = [images]
    return [picture(image) for image in images]


def check_count(name: str, strings: Sequence[str] | None, wanted: int, of: str) -> None:
    """Make sure that there is one string for each row, image, …."""
    if isinstance(strings, str) or (strings is not None and len(strings) != wanted):
        count = "one string" if isinstance(strings, str) else len(strings)
        raise InputError(f"{name} has one text for each of the {wanted} {of}; got {count}")


def per_row(items: Sequence[Any] | None, rows: int, what: str) -> list[Any]:
    """Return the item of each row: one item is for all of them, fewer items for runs of equally many rows."""
    if items is None:
        return [None] * rows
    if not len(items) or rows % len(items):
        raise InputError(f"{rows} rows cannot be shared out among {len(items)} {what}: give one of them for each row")
    return [item for item in items for _ in range(rows // len(items))]


def aspect_of(rows: npt.NDArray[Any]) -> float:
    """Height of a panel over its width, within what still makes a page."""
    height, width = rows.shape[1:]
    return min(max(float(height / width), 0.25), 4.0)


def panel_axes(
    panels: int,
    columns: int,
    axes: Sequence[Axes] | npt.NDArray[Any] | None,
    *,
    aspect: float,
    lines: int = 1,
    width: float | None = None,
) -> tuple[Figure, list[Axes]]:
    """Return the axes of panels of one aspect, the caller's or new ones, and their figure.

    Titles have `lines` lines of text. A figure of a width has as many of the columns as can be read in it.
    """
    if axes is not None:
        return _callers_axes(panels, axes)
    if width is None:
        return _new_axes(panels, columns, (CELL, CELL * aspect + 0.35 + 0.17 * lines), foot=0.2)
    check_width(width)
    across = columns_in(width, min(columns, panels))
    cell = (width - beside(width)) / across
    size = cell, (cell - 0.1) * aspect + 0.22 + 0.15 * lines
    figure, new = _new_axes(panels, across, size, foot=0.05, width=width)
    warn_of_height(figure, width)
    return figure, new


def columns_in(width: float, columns: int) -> int:
    """Return how many of the columns a width in inches has room for, beside or above a colour bar."""
    return max(1, min(columns, int((width - beside(width)) / _SMALLEST_CELL)))


def sized_panel_axes(
    panels: int, columns: int, axes: Sequence[Axes] | npt.NDArray[Any] | None, *, size: tuple[float, float]
) -> tuple[Figure, list[Axes]]:
    """Return the axes of panels of a width and height in inches, the caller's or new ones, and their figure."""
    if axes is not None:
        return _callers_axes(panels, axes)
    width, height = size
    return _new_axes(panels, columns, (width, height + 0.42), foot=0.4)


def _callers_axes(panels: int, axes: Sequence[Axes] | npt.NDArray[Any]) -> tuple[Figure, list[Axes]]:
    flat: list[Axes] = list(np.asarray(axes, dtype=object).ravel())
    if len(flat) != panels:
        raise InputError(f"{panels} panels (maps and images) need as many axes; got {len(flat)}")
    return figure_of(flat[0]), flat


def _new_axes(
    panels: int, columns: int, cell: tuple[float, float], *, foot: float, width: float | None = None
) -> tuple[Figure, list[Axes]]:
    """Return a figure whose cells have a width and height in inches, with room for a colour bar."""
    if columns < 1:
        raise InputError(f"a figure has at least one column; got {columns}")
    across = min(columns, panels)
    down = math.ceil(panels / across)
    whole = cell[0] * across + BAR if width is None else width
    below = 0.0 if beside(width) else BAR_BELOW
    figure = Sheet(figsize=(whole, max(cell[1] * down + foot + below, 2.2)), layout="constrained")
    figure.bar_below = bool(below)
    return figure, list(figure.subplots(down, across, squeeze=False).ravel())


def without_ticks(ax: Axes) -> None:
    """Take the ticks away."""
    ax.set_xticks([])
    ax.set_yticks([])


def show_image(ax: Axes, image: Any, title: str) -> None:
    """Draw an image with its title."""
    ax.imshow(np.asarray(image), interpolation="nearest")
    ax.set_title(title, fontsize="small")
    without_ticks(ax)


def show_map(ax: Axes, image: Any, heatmap: Any, *, vmax: float | None, look: Look) -> None:
    """Draw a signed map (height, width), over its image where the look wants it.

    Without a common scale, the magnitude of its strongest colour stands below.
    """
    row = plane(heatmap)
    ax.imshow(np.asarray(look.draw(image, row, vmax=vmax)), interpolation="nearest")
    without_ticks(ax)
    if vmax is None and look.coloured:
        ax.set_xlabel(scale_label(row, look.scale(row)), fontsize="x-small", labelpad=2)


def write_scale(ax: Axes, row: npt.NDArray[np.float64]) -> None:
    """Write what the strongest colour stands for at the upper right of a panel."""
    ax.set_title(scale_label(row, float(np.abs(row).max())), loc="right", fontsize="x-small")


def write_legend(figure: Figure | SubFigure, text: str) -> None:
    """Write what a figure without colours shows below its panels."""
    letters = int(_LEGEND_LETTERS_PER_INCH * float(figure.bbox.width) / figure.dpi)
    figure.supxlabel("\n".join(textwrap.wrap(text, letters)), fontsize="x-small", x=0.01, ha="left")
