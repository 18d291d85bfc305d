"""The parts of a figure of a region map: what is drawn, the page, its colours and its legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..image import picture
from .panels import OUTLINE, bare, numbers, plain
from .sheets import _shown

__all__ = [
    "COLOURS",
    "NOTHING",
    "OTHERS",
    "PANEL",
    "Entry",
    "Page",
    "ReferencePicture",
    "RegionView",
    "draw_legend",
    "entries_of",
    "opacity_of",
]

ReferencePicture: TypeAlias = tuple[Any, Any]
"""An image, (channel, height, width), and its conditional heatmap, (height, width), or None."""

COLOURS = ("#332288", "#ddcc77", "#117733", "#cc6677", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499")
"""Paul Tol's "muted" scheme, which colour-blind people can tell apart; neighbours in the order differ in lightness."""
OTHERS, NOTHING = "#8c8c8c", "none"
_PALEST, _STRONGEST = 0.25, 0.95
"""Opacity of a colour where relevance is nearly zero, and where it is highest."""
PANEL, _ROW, _TEXT, _PICTURE = 3.3, 0.5, 1.45, 0.82
"""Inches: width of a panel, height of a line of the legend, width of its text, of a reference sample."""
_HEAD, _FOOT, _GAP = 0.7, 0.3, 0.2


@dataclass(frozen=True, eq=False)
class RegionView:
    """A region map, ready to be drawn. The fields are those of `crp_kit.RegionMap`, and:

    Parameters
    ----------
    title : str
    references : dict
        By concept, samples of it: pairs of an image and its conditional heatmap, or None to show the image as it is.
    """  # noqa: D400

    title: str
    image: Any
    labels: npt.NDArray[Any]
    dominant: npt.NDArray[Any]
    relevance: npt.NDArray[Any]
    concepts: Sequence[int]
    areas: Sequence[float] | npt.NDArray[Any]
    shares: Sequence[float] | npt.NDArray[Any]
    references: Mapping[int, Sequence[ReferencePicture]] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A line of the legend."""

    colour: str
    text: str
    detail: str
    references: Sequence[ReferencePicture] = ()


class Page:
    """Where the parts of the figure are, in inches. The map stands below the image where the legend is long."""

    def __init__(self, entries: Sequence[Entry], tall: float, *, panel: float | None = None) -> None:
        """Two panels, or one of another width."""
        across = max((len(one.references) for one in entries), default=0)
        self.row = _PICTURE + 0.08 if across else _ROW
        self.tall, self.long = tall, self.row * len(entries)
        self.wide_panel = panel or PANEL
        self.stacked = panel is None and self.long > 1.6 * tall
        self.wide = 0.45 + _TEXT + across * (_PICTURE + 0.06)
        down, self.across = (2, 1) if self.stacked else (1, 2 if panel is None else 1)
        self.edge = _GAP if panel is None else 0.55
        inner = max(down * (tall + _FOOT) + (down - 1) * _GAP, self.long)
        self.size = (self.across * (self.wide_panel + _GAP) + self.edge + self.wide + _GAP, inner + _HEAD + _GAP)

    def panel(self, figure: Figure, number: int) -> Axes:
        """Return the axes of the image, or of the map."""
        right, below = (0, number) if self.stacked else (number, 0)
        left, top = self.edge + right * (self.wide_panel + _GAP), _HEAD + below * (self.tall + _FOOT + _GAP)
        return self._axes(figure, (left, top), self.wide_panel, self.tall)

    def legend(self, figure: Figure) -> Axes:
        """Return the axes of the legend, in inches from its upper left corner."""
        left = self.edge + self.across * (self.wide_panel + _GAP)
        axes = self._axes(figure, (left, _HEAD), self.wide, self.long)
        axes.set(xlim=(0, self.wide), ylim=(self.long, 0))
        axes.set_axis_off()
        return axes

    def _axes(self, figure: Figure, corner: tuple[float, float], wide: float, tall: float) -> Axes:
        (left, top), (width, height) = corner, self.size
        return figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))


def entries_of(view: RegionView, most: int) -> list[Entry]:
    """Return the lines of the legend: concepts with colours, the others, and what has none."""
    noun = ("signal", "image", "volume")[view.labels.ndim - 1]
    found = [
        Entry(
            colour,
            f"concept {concept}",
            f"{area:.0%} of the {noun}\n{share:+.1%} of the relevance",
            view.references.get(concept, ()),
        )
        for colour, concept, area, share in zip(COLOURS[:most], view.concepts, view.areas, view.shares, strict=False)
    ]
    others = np.asarray(view.areas)[most:]
    if others.size:
        word = "concept" if len(others) == 1 else "concepts"
        found.append(Entry(OTHERS, f"{len(others)} other {word}", f"{others.sum():.0%} of the {noun}"))
    nothing = 1 - float(np.sum(view.areas))
    if nothing > 0.5 / view.labels.size:
        found.append(Entry(NOTHING, "no concept", f"{nothing:.0%} of the {noun}"))
    return found


def opacity_of(view: RegionView) -> npt.NDArray[np.float64]:
    """Return how strong the colour of each region is, by its relevance per pixel: (region,)."""
    size = np.bincount(view.labels.ravel(), minlength=len(view.dominant))
    density = np.abs(numbers(view.relevance)) / np.maximum(size, 1)
    strongest = float(density.max(initial=0.0)) or 1.0
    found: npt.NDArray[np.float64] = _PALEST + (_STRONGEST - _PALEST) * np.sqrt(density / strongest)
    return found


def draw_legend(place: Axes, entries: Sequence[Entry], row: float) -> None:
    """Draw the legend line by line; the axes count inches from the upper left."""
    if any(entry.references for entry in entries):
        place.text(0.45 + _TEXT, -0.08, "samples in which it is most relevant", fontsize="small", va="bottom")
    for number, entry in enumerate(entries):
        top = number * row
        middle = top + row / 2
        edge = OUTLINE if entry.colour == NOTHING else entry.colour
        place.add_patch(
            Rectangle((0, middle - 0.13), 0.26, 0.26, facecolor=entry.colour, edgecolor=edge, linewidth=0.8)
        )
        place.text(0.38, middle - 0.06, plain(entry.text), fontsize=9, va="bottom", weight="bold")
        place.text(0.38, middle - 0.05, plain(entry.detail), fontsize=7, va="top", color="#333333", linespacing=1.25)
        for column, (image, heatmap) in enumerate(entry.references):
            left = 0.45 + _TEXT + column * (_PICTURE + 0.06)
            _draw_picture(place, image, heatmap, (left, top))


def _draw_picture(place: Axes, image: Any, heatmap: Any, corner: tuple[float, float]) -> None:
    """Draw a reference sample, dark where it has little relevance, into its place in the legend."""
    seen = picture(image) if heatmap is None else _shown(image, numbers(heatmap), "masked")[0]
    pixels = np.asarray(seen)
    high, wide = (size / max(pixels.shape[:2]) * _PICTURE for size in pixels.shape[:2])
    left, top = corner
    inner = place.inset_axes((left, top, wide, high), transform=place.transData)
    inner.imshow(pixels, interpolation="antialiased")
    bare(inner)
    inner.spines[:].set_linewidth(0.4)
