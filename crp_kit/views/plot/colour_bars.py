"""Colour bar of a figure: what its colours stand for, beside the panels or below them."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure, SubFigure

from ..image import colour_table
from ..look import Look
from .sheet import NARROW, Sheet

__all__ = ["BAR", "BAR_BELOW", "beside", "colour_bar", "draw_bar", "with_room"]

BAR, BAR_BELOW = 1.3, 0.65
"""Inches that a colour bar with its labels takes beside the panels, or below them."""
_LONGEST = 2.6
"""Length of a bar in inches."""
_LETTERS = 42
"""In a line of its label, at most."""
_LETTERS_PER_INCH = 15


def beside(width: float | None) -> float:
    """Return the inches that the colour bar takes beside the panels of a figure, 0 where it stands below them.

    None is a figure that is as wide as its panels need.
    """
    return BAR if width is None or width >= NARROW else 0.0


def colour_bar(
    figure: Figure | SubFigure, axes: list[Axes], *, common: float | None, look: Look, side: str = "below"
) -> None:
    """Draw what the colours mean beside or below axes: values for a common scale, else parts of each map's own."""
    width, height = _inches(figure)
    upright = not getattr(figure, "bar_below", False)
    bar = figure.colorbar(
        _colours(common, look),
        ax=axes,
        location="right" if upright else "bottom",
        shrink=min(0.9, _LONGEST / (height if upright else width)),
        aspect=16 if upright else 22,
        pad=0.02,
        extend=_extend(look),
    )
    _label(bar, common, look, side=side, length=height if upright else width)


def with_room(figure: Sheet, *, title: float = 0.0) -> tuple[SubFigure, SubFigure]:
    """Divide a figure into the part for its panels and the part for one colour bar of all of them, below its title."""
    width, height = _inches(figure)
    height -= title
    if not figure.bar_below:
        parts = figure.subfigures(1, 2, squeeze=False, width_ratios=[width - BAR, BAR])
    else:
        parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[height - BAR_BELOW, BAR_BELOW])
    body, room = parts.ravel()
    return body, room


def draw_bar(room: SubFigure, *, common: float | None, look: Look, side: str = "below") -> None:
    """Draw the colour bar of a whole figure into the part that is left for it."""
    width, height = _inches(room)
    upright = width < height
    length = min(0.8, _LONGEST / (height if upright else width))
    frame = (0.06, 0.5 - length / 2, 0.1, length) if upright else (0.5 - length / 2, 0.78, length, 0.16)
    bar = room.colorbar(
        _colours(common, look),
        cax=room.add_axes(frame),
        orientation="vertical" if upright else "horizontal",
        extend=_extend(look),
    )
    _label(bar, common, look, side=side, length=height if upright else width)


def _label(bar: Colorbar, common: float | None, look: Look, *, side: str, length: float) -> None:
    """Write what a colour bar and its ends stand for, along it, in lines of a length in inches."""
    limit, upright = common or 1.0, bar.orientation == "vertical"
    gap = "\n" if upright else " "
    low, high = (f"−{limit:.2g}", f"+{limit:.2g}") if common else ("−", "+")
    bar.set_ticks([-limit, 0, limit])
    bar.set_ticklabels([f"{low}{gap}against", "0", f"{high}{gap}for"], fontsize="x-small")
    meaning = (
        f"relevance; each map has its own scale, ± {side} it: {look.scale_words}"
        if common is None
        else f"relevance; strongest colour: {look.scale_words}"
    )
    letters = min(_LETTERS, int(_LETTERS_PER_INCH * length))
    bar.set_label("\n".join(textwrap.wrap(meaning, letters)), fontsize="x-small")


def _colours(common: float | None, look: Look) -> ScalarMappable:
    limit = common or 1.0
    return ScalarMappable(Normalize(-limit, limit), ListedColormap(colour_table(look.cmap) / 255))


def _extend(look: Look) -> str:
    """Return whether larger values have the strongest colour too."""
    return "neither" if look.percentile == 100 else "both"


def _inches(figure: Figure | SubFigure) -> tuple[float, float]:
    return float(figure.bbox.width) / figure.dpi, float(figure.bbox.height) / figure.dpi
