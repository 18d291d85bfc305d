"""The parts that all figures are made of: places for panels, images, maps, and what their colours mean.

Figures are made without pyplot, so nothing opens, nothing is global and nothing has to be closed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure, SubFigure

from ...errors import InputError
from ..image import ColorMap, colour_table, colours, picture

Colours: TypeAlias = str | ColorMap

CELL = 1.9
"""Width of a panel in inches."""
OUTLINE = "#1a1a1a"


def to_png(figure: Figure, *, dpi: int = 100) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def map_rows(maps: Any) -> npt.NDArray[np.float64]:
    """Return heatmaps as (row, height, width)."""
    array = numbers(maps)
    rows = array[None] if array.ndim == 2 else array
    if rows.ndim != 3 or not rows.size:
        hint = "; sum over the input channels first" if rows.ndim == 4 else ""
        raise InputError(f"heatmaps are (row, height, width) with at least one row; got shape {array.shape}{hint}")
    return rows


def numbers(values: Any) -> npt.NDArray[np.float64]:
    """Return finite numbers as an array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected a tensor or an array of real numbers; got {type(values).__name__}") from error
    wrong = int((~np.isfinite(array)).sum())
    if wrong:
        raise InputError(f"{wrong} of {array.size} values are infinite or not-a-number and cannot be drawn")
    return array


def pictures(images: Any) -> list[Any]:
    """Return one image or several as pictures."""
    if images is None:
        return []
    if isinstance(images, (torch.Tensor, np.ndarray)):
        images = images[None] if images.ndim in (2, 3) else images
    elif not isinstance(images, Sequence):
        images = [images]
    return [picture(one) for one in images]


def check_count(name: str, given: Sequence[str] | None, wanted: int, of: str) -> None:
    """Make sure that there is one text for each of several things."""
    if isinstance(given, str) or (given is not None and len(given) != wanted):
        count = "one string" if isinstance(given, str) else len(given)
        raise InputError(f"{name} has one text for each of the {wanted} {of}; got {count}")


def aspect_of(rows: npt.NDArray[Any]) -> float:
    """Height of a panel over its width, within what still makes a page."""
    height, width = rows.shape[1:]
    return min(max(float(height / width), 0.25), 4.0)


def places_for(
    panels: int, columns: int, axes: Sequence[Axes] | npt.NDArray[Any] | None, *, aspect: float, lines: int = 1
) -> tuple[Figure, list[Axes]]:
    """Axes for so many panels, given or new, and their figure."""
    if axes is not None:
        given = list(np.asarray(axes, dtype=object).ravel())
        if len(given) != panels:
            raise InputError(f"{panels} panels (maps and images) need as many axes; got {len(given)}")
        root = given[0].get_figure(root=True)
        return root, given
    across, down = _grid(panels, columns)
    figure = Figure(
        figsize=(CELL * across + 1.3, max((CELL * aspect + 0.35 + 0.17 * lines) * down + 0.2, 2.2)),
        layout="constrained",
    )
    return figure, list(figure.subplots(down, across, squeeze=False).ravel())


def _grid(panels: int, columns: int) -> tuple[int, int]:
    """Return how many panels stand side by side, and how many below each other."""
    if columns < 1:
        raise InputError(f"a figure has at least one column; got {columns}")
    across = min(columns, panels)
    return across, math.ceil(panels / across)


def lined_places(
    panels: int, columns: int, axes: Sequence[Axes] | npt.NDArray[Any] | None, *, size: tuple[float, float]
) -> tuple[Figure, list[Axes]]:
    """Axes for so many panels of a width and height in inches, given or new, and their figure."""
    if axes is not None:
        return places_for(panels, columns, axes, aspect=1)
    across, down = _grid(panels, columns)
    wide, tall = size
    page = (wide * across + 1.3, max((tall + 0.42) * down + 0.4, 2.2))
    figure = Figure(figsize=page, layout="constrained")
    return figure, list(figure.subplots(down, across, squeeze=False).ravel())


def per_row(items: Sequence[Any] | None, rows: int, what: str) -> list[Any]:
    """Return what belongs to each row: one item is for all of them, fewer items for runs of equally many rows."""
    if items is None:
        return [None] * rows
    if not len(items) or rows % len(items):
        raise InputError(f"{rows} rows cannot be shared out among {len(items)} {what}: give one of them for each row")
    return [item for item in items for _ in range(rows // len(items))]


def bare(place: Axes) -> None:
    """Take the ticks away."""
    place.set_xticks([])
    place.set_yticks([])


def show_image(place: Axes, image: Any, title: str) -> None:
    """Draw an image with its title."""
    place.imshow(np.asarray(image), interpolation="nearest")
    place.set_title(title, fontsize="small")
    bare(place)


def show_map(place: Axes, row: npt.NDArray[np.float64], *, vmax: float | None, cmap: Colours) -> None:
    """Draw a signed map; without a common scale, the magnitude of its strongest value stands below."""
    if row.ndim != 2 or not row.size:
        raise InputError(f"a heatmap is (height, width) with at least one value; got shape {row.shape}")
    place.imshow(colours(row, cmap=cmap, vmax=vmax), interpolation="nearest")
    bare(place)
    if vmax is None:
        place.set_xlabel(scale_text(row), fontsize="x-small", labelpad=2)


def scale_text(row: npt.NDArray[np.float64]) -> str:
    """Say what the strongest colour of a map stands for, where each map has its own scale."""
    strongest = float(np.abs(row).max())
    return f"± {strongest:.2g}" if strongest else "all zero"


def write_scale(place: Axes, row: npt.NDArray[np.float64]) -> None:
    """Write what the strongest colour stands for at the upper right of a panel."""
    place.set_title(scale_text(row), loc="right", fontsize="x-small")


def plain(text: str) -> str:
    """Keep dollar signs in names from being read as formulas."""
    return text.replace("$", r"\$")


def colour_bar(
    figure: Figure | SubFigure, places: list[Axes], *, common: float | None, cmap: Colours, side: str = "below"
) -> None:
    """State what the colours mean: values for a common scale, else fractions of each map's own strongest value."""
    limit = common or 1.0
    scale = ScalarMappable(Normalize(-limit, limit), ListedColormap(colour_table(cmap) / 255))
    length = min(0.9, 2.6 * figure.dpi / figure.bbox.height)
    bar = figure.colorbar(scale, ax=places, shrink=length, aspect=16, pad=0.02, ticks=[-limit, 0, limit])
    ends = ("against", "for")
    numbers = (f"−{limit:.2g}", f"+{limit:.2g}") if common else ("−max", "+max")
    bar.set_ticklabels([f"{numbers[0]}\n{ends[0]}", "0", f"{numbers[1]}\n{ends[1]}"], fontsize="x-small")
    label = "relevance" if common else f"relevance, each map on its\nown scale (± max {side} it)"
    bar.set_label(label, fontsize="x-small")
