"""Histograms of several columns of numbers, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...errors import InputError
from .labels import one_line, significant
from .panels import OUTLINE, sized_panel_axes

__all__ = ["distributions"]

_SIZE = 2.6, 1.9
_BINS = 40
_COLOUR = "#9db4cf"


def distributions(
    columns: Mapping[str, Any], *, title: str = "", axes: Sequence[Axes] | npt.NDArray[Any] | None = None
) -> Figure:
    """Return a figure with a histogram of each column, and a line at its median.

    Parameters
    ----------
    columns : dict
        Numbers, (value,), by what they are; those that are not finite are left out.
    title : str, optional
    axes : sequence of matplotlib Axes, optional
        Where to draw, in the order of the columns; their figure is returned. A new figure by default.

    Raises
    ------
    InputError
        If there is no column.

    Examples
    --------
    >>> figure = distributions({"height": [1.0, 2.0, 2.0], "weight": [3.0, 4.0]})
    >>> [panel.get_xlabel() for panel in figure.axes]
    ['height', 'weight']
    """
    if not columns:
        raise InputError("a figure of distributions needs at least one column")
    figure, panels = sized_panel_axes(len(columns), len(columns), axes, size=_SIZE)
    for ax, (label, values) in zip(panels, columns.items(), strict=True):
        _draw(ax, np.asarray(values))
        ax.set_xlabel(one_line(label), fontsize="x-small")
    panels[0].set_ylabel("samples", fontsize="x-small")
    if title and axes is None:
        figure.suptitle(one_line(title), fontsize="small")
    return figure


def _draw(ax: Axes, values: npt.NDArray[Any]) -> None:
    numbers = values[np.isfinite(values)]
    if numbers.size:
        ax.hist(numbers, bins=_bins(numbers), color=_COLOUR, edgecolor="white", linewidth=0.4)
        median = float(np.median(numbers))
        ax.axvline(median, color=OUTLINE, linewidth=1.0)
        ax.set_title(f"median {significant(median)}", fontsize="x-small", loc="right")
    ax.tick_params(labelsize="x-small", length=2)
    ax.spines[["top", "right"]].set_visible(False)


def _bins(numbers: npt.NDArray[Any]) -> Any:
    """Return the edges of the bins: a bin for each of a few whole numbers."""
    low, high = numbers.min(), numbers.max()
    if numbers.dtype.kind in "iu" and high - low < _BINS:
        return np.arange(low, high + 2) - 0.5
    return min(_BINS, max(8, int(np.sqrt(numbers.size))))
