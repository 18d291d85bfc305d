"""Figures of statistics brought to a width: panels below each other, words in more lines."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, MaxNLocator

from .colour_bars import BAR_BELOW, beside
from .labels import row_distance, row_names
from .sheet import Sheet, check_width, warn_of_height

__all__ = ["in_width", "with_bar_in_width"]

_PANEL, _LABELLED, _PICTURE = 1.55, 2.4, 1.05
"""Narrowest panel in inches, with axes, with a label of its own beside other panels, and where the figure has pictures:
what is narrower goes below."""
_LETTERS_PER_INCH = 14
"""Of the smallest letters that figures have."""
_LETTER = 0.6
"""Width of a letter, of the size of its font."""
_NAMES = 0.42
"""Share of a panel's width that the names of its rows may take."""
_PER_TICK = 0.5
"""Inches for each number on an axis."""
_PER_NUMBER = 0.09
"""Inches for each row or column that has its number."""
_LINE, _LEGEND_LINE, _LOWEST = 0.15, 0.18, 1.9
"""Inches for one more line of words, for a line of a legend, and of the lowest figure."""


def in_width(figure: Figure, width: float) -> Figure:
    """Bring a figure of panels with axes to a width, and return it; the letters keep their size.

    Panels that would be too narrow go below the others, and the figure grows higher for them. Names of rows are broken
    into at most four lines, whose end is "…" where these do not hold a name; titles and labels are broken; legends
    beside a panel go below it. What is square stays square.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    width : float
        In inches, such as 3.4 for the column of a paper.

    Raises
    ------
    InputError
        If it is no number of inches from 2.4 to 100.

    Examples
    --------
    >>> figure = Figure(figsize=(10, 2), layout="constrained")
    >>> _ = figure.subplots(1, 4)
    >>> [round(float(side), 1) for side in in_width(figure, 3.4).get_size_inches()]
    [3.4, 4.0]
    """
    check_width(width)
    _bring(figure, width, room=width)
    warn_of_height(figure, width)
    return figure


def with_bar_in_width(figure: Figure, width: float) -> None:
    """Bring a figure that gets a colour bar next to a width, with room for the bar."""
    check_width(width)
    _bring(figure, width, room=width - beside(width))
    if isinstance(figure, Sheet) and not beside(width):
        figure.bar_below = True
        figure.set_figheight(figure.get_figheight() + BAR_BELOW)


def _bring(figure: Figure, width: float, *, room: float) -> None:
    """Bring a figure to a width, of which its panels have so much room."""
    before, height = (float(side) for side in figure.get_size_inches())
    panels = [ax for ax in figure.axes if ax.get_subplotspec() is not None]
    across = max((_columns(ax) for ax in panels), default=1)
    labelled = any(ax.get_ylabel() and _column(ax) for ax in panels)
    narrowest = _PICTURE if len(panels) > 1 and any(ax.images for ax in panels) else _LABELLED if labelled else _PANEL
    fitting = max(1, min(across, int(room / narrowest)))
    blocks = math.ceil(across / fitting)
    square = before > width and any(ax.get_aspect() != "auto" for ax in panels)
    higher = height * blocks * (min(1.0, room * across / (before * fitting)) if square else 1.0)
    legends = sum(_legend_below(figure, ax) for ax in panels) if before > width and len(panels) == 1 else 0.0
    figure.set_size_inches(width, max(higher, _LOWEST) + legends)
    if blocks > 1:
        _rearrange(figure, panels, (fitting, blocks))
    for ax in panels:
        _fit_rows(ax, room / fitting)
    _break_titles(figure, [figure.get_suptitle()], width)
    figure.draw_without_rendering()  # which lays the panels out
    lines = sum(map(_lines, panels))
    for ax in panels:
        _fit_words(ax, width)
        _thin_numbers(figure, ax)
    more = math.ceil((sum(map(_lines, panels)) - lines) / fitting)
    missing = max((_missing_height(figure, ax) for ax in panels), default=0.0)
    figure.set_figheight(float(figure.get_figheight()) + _LINE * max(more, 0) + missing)


def _missing_height(figure: Figure, ax: Axes) -> float:
    """Return how many inches names of rows in several lines need beyond what their panel has."""
    names = [label.get_text() for label in ax.get_yticklabels()]
    if not any("\n" in name for name in names):
        return 0.0
    return max(0.0, row_distance(names) * len(names) - float(ax.get_position().height * figure.get_figheight()))


def _lines(ax: Axes) -> int:
    """Return how many line breaks are above and below a panel."""
    return "".join([ax.get_title(loc="left"), ax.get_title(), ax.get_xlabel()]).count("\n")


def _columns(ax: Axes) -> int:
    spec = ax.get_subplotspec()
    return 1 if spec is None else int(spec.get_gridspec().ncols)


def _column(ax: Axes) -> int:
    spec = ax.get_subplotspec()
    return 0 if spec is None else int(spec.colspan.start)


def _rearrange(figure: Figure, panels: list[Axes], grid: tuple[int, int]) -> None:
    """Divide each line of panels into several, of so many columns."""
    columns, blocks = grid
    places = {}
    for ax in panels:
        spec = ax.get_subplotspec()
        if spec is not None:
            line, column = spec.rowspan.start, spec.colspan.start
            places[ax] = line * blocks + column // columns, column % columns
    whole = GridSpec(1 + max(line for line, _ in places.values()), columns, figure)
    for ax, (line, column) in places.items():
        ax.set_subplotspec(whole[line, column])
        if column == 0:
            ax.tick_params(axis="y", labelleft=True)


def _legend_below(figure: Figure, ax: Axes) -> float:
    """Move a legend that is beside a panel below it, and return the inches that it takes there."""
    legend = ax.get_legend()
    if legend is None or not _is_beside(legend, ax):
        return 0.0
    names = [text.get_text() for text in legend.get_texts()]
    handles = [one for one in legend.legend_handles if one is not None]
    figure.legend(handles, names, loc="outside lower left", fontsize="x-small", frameon=False)
    legend.remove()
    return _LEGEND_LINE * len(names)


def _is_beside(legend: Legend, ax: Axes) -> bool:
    anchor = legend.get_bbox_to_anchor()
    return bool(anchor.width == 0 and ax.transAxes.inverted().transform((anchor.x0, anchor.y0))[0] > 0.99)


def _fit_words(ax: Axes, width: float) -> None:
    """Break titles and labels of a panel, in a figure of so many inches."""
    left, right = (float(side) * width for side in ax.get_position().intervalx)
    beyond = 1.6 if ax.get_aspect() == "auto" else 1.0
    _break_titles(ax, [ax.get_title(loc="left")], min(width - left, beyond * (right - left)))
    _break_titles(ax, [ax.get_title(loc="center")], right - left)
    room = min(left + right, 2 * width - left - right, 1.6 * (right - left))
    ax.xaxis.label.set_text(_broken(ax.xaxis.label, 0.9 * room))


def _fit_rows(ax: Axes, width: float) -> None:
    """Break the names of rows and their label, and leave as many numbers as have room, in so many inches."""
    letters = int(_LETTERS_PER_INCH * width)
    ax.yaxis.label.set_text(_broken(ax.yaxis.label, max(width / 2, 1.2)))
    names = [label.get_text() for label in ax.get_yticklabels()]
    if any(len(name) > _NAMES * letters for name in names):
        whole = [name.replace("\n", " ").replace(r"\$", "$") for name in names]
        ax.set_yticks(ax.get_yticks(), row_names(whole, int(_NAMES * letters)))
    locator = ax.xaxis.get_major_locator()
    if isinstance(locator, MaxNLocator):
        locator.set_params(nbins=max(2, int(width / _PER_TICK) - 1))


def _thin_numbers(figure: Figure, ax: Axes) -> None:
    """Leave as many numbers of rows and columns as have room in a figure that is laid out."""
    box = ax.get_position()
    width, height = (float(side) for side in figure.get_size_inches())
    for axis, room in ((ax.xaxis, box.width * width), (ax.yaxis, box.height * height)):
        names = [label.get_text() for label in axis.get_ticklabels()]
        step = math.ceil(len(names) * _PER_NUMBER / room)
        if step > 1 and isinstance(axis.get_major_locator(), FixedLocator) and all(map(str.isdigit, names)):
            axis.set_ticks(list(axis.get_ticklocs())[::step], names[::step])


def _break_titles(owner: Axes | Figure, titles: Sequence[str], width: float) -> None:
    """Break titles that belong to axes or a figure to so many inches; setting them anew would set their size too."""
    for text in owner.get_children():
        if isinstance(text, Text) and text.get_text() and text.get_text() in titles:
            text.set_text(_broken(text, width))


def _broken(text: Text, width: float) -> str:
    """Return a text in lines of so many inches at most."""
    letters = max(8, int(72 * width / (_LETTER * float(text.get_fontsize()))))
    return "\n".join(part for line in text.get_text().split("\n") for part in textwrap.wrap(line, letters) or [line])
