"""Page of a figure of a region map: positions of its panels, its colours and its legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...data.pixels import finite
from ..highlight import masked_image
from ..image import picture, scale_of
from .labels import literal, wrapped
from .panels import OUTLINE, without_ticks
from .region_view import ReferencePicture, RegionView

__all__ = [
    "COLOURS",
    "MAP_TITLE",
    "NOTHING",
    "OTHERS",
    "PANEL",
    "LegendEntry",
    "Page",
    "draw_legend",
    "legend_entries",
    "opacity_of",
]

COLOURS = ("#332288", "#ddcc77", "#117733", "#cc6677", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499")
"""Paul Tol's "muted" scheme, which colour-blind people can tell apart; neighbours in the order differ in lightness."""
OTHERS, NOTHING = "#8c8c8c", "none"
_PALEST, _STRONGEST = 0.25, 0.95
"""Opacity of a colour where relevance is nearly zero, and where it is highest."""
PANEL, _ROW, _TEXT, _PICTURE = 3.3, 0.5, 1.45, 0.82
"""Inches: width of a panel, height of a line of the legend, width of its text, of a reference sample."""
_HEAD, _FOOT, _GAP = 0.7, 0.3, 0.2
_NARROWEST_PANEL, _HEADING = 1.5, 2.4
MAP_TITLE = "the most relevant concept of each region"


@dataclass(frozen=True)
class LegendEntry:
    """A line of the legend."""

    colour: str
    text: str
    detail: str
    references: Sequence[ReferencePicture] = ()


class Page:
    """Positions of the parts of the figure, in inches. The map stands below the image where the legend is long.

    Parameters
    ----------
    entries : sequence of LegendEntry
    panel_height : float
    panel_width : float or None
        Of the only panel; by default there are two, of `PANEL` each.
    """

    head, below = _HEAD, False

    def __init__(
        self, entries: Sequence[LegendEntry], panel_height: float, *, panel_width: float | None = None
    ) -> None:
        references = max((len(entry.references) for entry in entries), default=0)
        self.legend_top = 0.0
        self.row = _PICTURE + 0.08 if references else _ROW
        self.panel_height, self.panel_width = panel_height, panel_width or PANEL
        self.legend_height = self.row * len(entries)
        self.legend_width = 0.45 + _TEXT + references * (_PICTURE + 0.06)
        single = panel_width is not None
        self.stacked = not single and self.legend_height > 1.6 * panel_height
        down, self.across = (2, 1) if self.stacked else (1, 1 if single else 2)
        self.edge = 0.55 if single else _GAP
        width = self.across * (self.panel_width + _GAP) + self.edge + self.legend_width + _GAP
        height = max(down * (panel_height + _FOOT) + (down - 1) * _GAP, self.legend_height)
        self.size = (width, height + _HEAD + _GAP)

    @classmethod
    def of_width(cls, entries: Sequence[LegendEntry], aspect: float, *, title: str, width: float | None) -> Page:
        """Return the page of an image and its map, panels of one height over width, with the legend beside or below."""
        page = cls(entries, min(max(PANEL * aspect, 1.2), 8.0))
        if width is None:
            return page
        page.stacked, page.across, page.edge = False, 2, _GAP
        beside = width - page.legend_width - 4 * _GAP
        page.below = beside < 2 * _NARROWEST_PANEL
        page.panel_width = (width - 3 * _GAP) / 2 if page.below else beside / 2
        page.panel_height = page.panel_width * aspect
        lines = len(page.title_lines(title, width)) + len(page.panel_title(""))
        page.head = 0.35 + 0.17 * lines
        foot = _FOOT + 0.12 * len(page.panel_note(""))
        if page.below:
            page.legend_width = width - 2 * _GAP
            page.legend_top = page.head + page.panel_height + foot + 0.3
            page.size = (width, page.legend_top + page.legend_height + _GAP)
        else:
            page.size = (width, page.head + max(page.panel_height + foot, page.legend_height) + _GAP)
        return page

    @staticmethod
    def title_lines(title: str, width: float) -> list[str]:
        """Return the lines of the title."""
        return wrapped(title, int(width * 10))

    def panel_title(self, text: str) -> list[str]:
        """Return the lines of a title above a panel, by default of the longest."""
        return wrapped(text or MAP_TITLE, int(self.panel_width * 14))

    def panel_note(self, text: str) -> list[str]:
        """Return the lines of a note below a panel, by default of the longest."""
        return wrapped(text or "x" * 100, int(self.panel_width * 17))

    def panel(self, figure: Figure, number: int) -> Axes:
        """Return the axes of the image, or of the map."""
        right, below = (0, number) if self.stacked else (number, 0)
        left = self.edge + right * (self.panel_width + _GAP)
        top = self.head + below * (self.panel_height + _FOOT + _GAP)
        return self._axes(figure, (left, top), (self.panel_width, self.panel_height))

    def legend(self, figure: Figure) -> Axes:
        """Return the axes of the legend, in inches from its upper left corner."""
        left = _GAP if self.below else self.edge + self.across * (self.panel_width + _GAP)
        top = self.legend_top if self.below else self.head
        ax = self._axes(figure, (left, top), (self.legend_width, self.legend_height))
        ax.set(xlim=(0, self.legend_width), ylim=(self.legend_height, 0))
        ax.set_axis_off()
        return ax

    def write_title(self, figure: Figure, title: str) -> None:
        """Write the title at the upper left of the figure."""
        width, height = self.size
        lines = literal("\n".join(self.title_lines(title, width)))
        figure.text(0.12 / width, 1 - 0.12 / height, lines, ha="left", va="top", weight="bold")

    def _axes(self, figure: Figure, corner: tuple[float, float], size: tuple[float, float]) -> Axes:
        """Return axes whose upper left corner and size are in inches."""
        (left, top), (width, height), (whole_width, whole_height) = corner, size, self.size
        bottom = 1 - (top + height) / whole_height
        return figure.add_axes((left / whole_width, bottom, width / whole_width, height / whole_height))


def legend_entries(view: RegionView, most: int) -> list[LegendEntry]:
    """Return the lines of the legend: concepts with colours, the others, and what has none."""
    noun = ("signal", "image", "volume")[view.labels.ndim - 1]
    entries = [
        LegendEntry(
            colour,
            view.called(concept),
            f"{area:.0%} of the {noun}\n{share:+.1%} of the relevance",
            view.references.get(concept, ()),
        )
        for colour, concept, area, share in zip(COLOURS[:most], view.concepts, view.areas, view.shares, strict=False)
    ]
    others = np.asarray(view.areas)[most:]
    if others.size:
        word = "concept" if len(others) == 1 else "concepts"
        entries.append(LegendEntry(OTHERS, f"{len(others)} other {word}", f"{others.sum():.0%} of the {noun}"))
    nothing = 1 - float(np.sum(view.areas))
    if nothing > 0.5 / view.labels.size:
        entries.append(LegendEntry(NOTHING, "no concept", f"{nothing:.0%} of the {noun}"))
    return entries


def opacity_of(view: RegionView) -> npt.NDArray[np.float64]:
    """Return the opacity of the colour of each region, by its relevance per pixel: (region,)."""
    size = np.bincount(view.labels.ravel(), minlength=len(view.dominant))
    density = np.abs(finite(view.relevance)) / np.maximum(size, 1)
    part = np.minimum(density / scale_of(density[view.labels], percentile=view.percentile), 1.0)
    opacity: npt.NDArray[np.float64] = _PALEST + (_STRONGEST - _PALEST) * np.sqrt(part)
    return opacity


def draw_legend(ax: Axes, entries: Sequence[LegendEntry], row: float) -> None:
    """Draw the legend line by line, in axes whose units are inches from the upper left."""
    if any(entry.references for entry in entries):
        right = float(ax.get_xlim()[1])
        left, side = (0.45 + _TEXT, "left") if right > 0.45 + _TEXT + _HEADING else (right, "right")
        ax.text(left, -0.08, "samples in which it is most relevant", fontsize="small", va="bottom", ha=side)
    for number, entry in enumerate(entries):
        top = number * row
        middle = top + row / 2
        edge = OUTLINE if entry.colour == NOTHING else entry.colour
        ax.add_patch(Rectangle((0, middle - 0.13), 0.26, 0.26, facecolor=entry.colour, edgecolor=edge, linewidth=0.8))
        ax.text(0.38, middle - 0.06, literal(entry.text), fontsize=9, va="bottom", weight="bold")
        ax.text(0.38, middle - 0.05, literal(entry.detail), fontsize=7, va="top", color="#333333", linespacing=1.25)
        room = float(ax.get_xlim()[1]) - 0.45 - _TEXT + 0.06
        for column, (image, heatmap) in enumerate(entry.references[: int(room / (_PICTURE + 0.06) + 1e-6)]):
            left = 0.45 + _TEXT + column * (_PICTURE + 0.06)
            _draw_picture(ax, image, heatmap, (left, top))


def _draw_picture(ax: Axes, image: Any, heatmap: Any, corner: tuple[float, float]) -> None:
    """Draw a reference sample, dark where it has little relevance, with its upper left corner there, in inches."""
    pixels = np.asarray(picture(image)) if heatmap is None else masked_image(image, finite(heatmap))
    height, width = (size / max(pixels.shape[:2]) * _PICTURE for size in pixels.shape[:2])
    inner = ax.inset_axes((*corner, width, height), transform=ax.transData)
    inner.imshow(pixels, interpolation="antialiased")
    without_ticks(inner)
    inner.spines[:].set_linewidth(0.4)
