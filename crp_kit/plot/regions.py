"""The region map of an image: its regions in the colours of their concepts, and a legend that says what these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..errors import InputError
from ..image import picture
from .panels import OUTLINE, bare, numbers, show_image
from .sheets import _shown, plain

__all__ = ["ReferencePicture", "RegionView", "regions"]

ReferencePicture: TypeAlias = tuple[Any, Any]
"""An image, (channel, height, width), and its conditional heatmap, (height, width), or None."""

_COLOURS = ("#332288", "#ddcc77", "#117733", "#cc6677", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499")
"""Paul Tol's "muted" scheme, which colour-blind people can tell apart; neighbours in the order differ in lightness."""
_OTHERS, _NOTHING = "#8c8c8c", "none"
_PALEST, _STRONGEST = 0.25, 0.95
"""Opacity of a colour where relevance is nearly zero, and where it is highest."""
_PANEL, _ROW, _TEXT, _PICTURE = 3.3, 0.5, 1.45, 0.82
"""Inches: width of a panel, height of a line of the legend, width of its text, of a reference sample."""
_FINE = 4
"""Steps within a pixel, so that slanted lines end at its edges."""
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
class _Entry:
    """A line of the legend."""

    colour: str
    text: str
    detail: str
    references: Sequence[ReferencePicture] = ()


def regions(view: RegionView, *, most: int = 9) -> Figure:
    """Return a figure of a region map: the image, its regions coloured by dominant concept, and a legend.

    Regions are paler where their relevance per pixel is lower. Numbers in the map are concepts.

    Parameters
    ----------
    view : RegionView
    most : int, optional
        Concepts that get a colour of their own, at most 9, those with the largest areas; the others are grey.

    Raises
    ------
    InputError
        If `most` is no such number, or the image has not the size of the map.
    """
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= len(_COLOURS):
        raise InputError(f"most is how many concepts get a colour of their own, 1 to {len(_COLOURS)}; got {most!r}")
    below = picture(view.image)
    height, width = view.labels.shape
    if below.size != (width, height):
        raise InputError(
            f"the image is {below.size[0]}x{below.size[1]} pixels and the region map {width}x{height}: give the image "
            f"as the model saw it (resized and cropped)"
        )
    entries = _entries(view, most)
    tall = min(max(_PANEL * height / width, 1.2), 8.0)
    page = _Page(entries, tall)
    figure = Figure(figsize=page.size)
    figure.text(0.12 / page.size[0], 1 - 0.2 / page.size[1], plain(view.title), ha="left", va="top", weight="bold")
    show_image(page.panel(figure, 0), below, "image")
    _draw_map(page.panel(figure, 1), view, np.asarray(below.convert("L"), dtype=np.float64) / 255, most)
    _draw_legend(page.legend(figure), entries, page.row)
    return figure


class _Page:
    """Where the parts of the figure are, in inches. The map stands below the image where the legend is long."""

    def __init__(self, entries: Sequence[_Entry], tall: float) -> None:
        across = max((len(one.references) for one in entries), default=0)
        self.row = _PICTURE + 0.08 if across else _ROW
        self.tall, self.long = tall, self.row * len(entries)
        self.stacked = self.long > 1.6 * tall
        self.wide = 0.45 + _TEXT + across * (_PICTURE + 0.06)
        down, self.across = (2, 1) if self.stacked else (1, 2)
        inner = max(down * (tall + _FOOT) + (down - 1) * _GAP, self.long)
        self.size = (self.across * (_PANEL + _GAP) + _GAP + self.wide + _GAP, inner + _HEAD + _GAP)

    def panel(self, figure: Figure, number: int) -> Axes:
        """Return the axes of the image, or of the map."""
        right, below = (0, number) if self.stacked else (number, 0)
        left, top = _GAP + right * (_PANEL + _GAP), _HEAD + below * (self.tall + _FOOT + _GAP)
        return self._axes(figure, (left, top), _PANEL, self.tall)

    def legend(self, figure: Figure) -> Axes:
        """Return the axes of the legend, in inches from its upper left corner."""
        left = _GAP + self.across * (_PANEL + _GAP)
        axes = self._axes(figure, (left, _HEAD), self.wide, self.long)
        axes.set(xlim=(0, self.wide), ylim=(self.long, 0))
        axes.set_axis_off()
        return axes

    def _axes(self, figure: Figure, corner: tuple[float, float], wide: float, tall: float) -> Axes:
        (left, top), (width, height) = corner, self.size
        return figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))


def _entries(view: RegionView, most: int) -> list[_Entry]:
    """Return the lines of the legend: concepts with colours, the others, and what has none."""
    found = [
        _Entry(
            colour,
            f"concept {concept}",
            f"{area:.0%} of the image\n{share:+.1%} of the relevance",
            view.references.get(concept, ()),
        )
        for colour, concept, area, share in zip(_COLOURS[:most], view.concepts, view.areas, view.shares, strict=False)
    ]
    others = np.asarray(view.areas)[most:]
    if others.size:
        word = "concept" if len(others) == 1 else "concepts"
        found.append(_Entry(_OTHERS, f"{len(others)} other {word}", f"{others.sum():.0%} of the image"))
    nothing = 1 - float(np.sum(view.areas))
    if nothing > 0.5 / view.labels.size:
        found.append(_Entry(_NOTHING, "no concept", f"{nothing:.0%} of the image"))
    return found


def _draw_map(place: Axes, view: RegionView, grey: npt.NDArray[np.float64], most: int) -> None:
    """Draw regions in colours over the grey image, lines between concepts, and the concepts' numbers."""
    shown = list(view.concepts)[:most]
    palette = np.array([to_rgb(_OTHERS)] + [to_rgb(one) for one in _COLOURS[: len(shown)]])
    rank = {concept: number + 1 for number, concept in enumerate(shown)}
    index = np.array([rank.get(int(one), 0) for one in view.dominant], dtype=int)
    opacity = np.where(view.dominant < 0, 0.0, _opacity(view))
    light = (0.4 + 0.55 * grey)[..., None]
    weight = opacity[view.labels][..., None]
    coloured = np.clip(palette[index][view.labels] * (0.6 + 0.55 * grey[..., None]), 0, 1)
    place.imshow((1 - weight) * light + weight * coloured, interpolation="nearest")
    place.set_title("the most relevant concept of each region", fontsize="small")
    bare(place)
    owner = view.dominant[view.labels]
    _draw_borders(place, owner)
    for concept in shown:
        _write_number(place, owner == concept, str(concept))
    against = (view.relevance < 0)[view.labels]
    _hatch(place, against)
    said = "paler: less relevance per pixel" + "; hatched: against the class" * bool(against.any())
    place.set_xlabel(said, fontsize="x-small", labelpad=3)


def _opacity(view: RegionView) -> npt.NDArray[np.float64]:
    """Return how strong the colour of each region is, by its relevance per pixel: (region,)."""
    size = np.bincount(view.labels.ravel(), minlength=len(view.dominant))
    density = np.abs(numbers(view.relevance)) / np.maximum(size, 1)
    strongest = float(density.max(initial=0.0)) or 1.0
    found: npt.NDArray[np.float64] = _PALEST + (_STRONGEST - _PALEST) * np.sqrt(density / strongest)
    return found


def _draw_borders(place: Axes, owner: npt.NDArray[Any]) -> None:
    """Draw lines along the edges of pixels between different concepts."""
    upright = [((x + 0.5, first - 0.5), (x + 0.5, last - 0.5)) for x, first, last in _runs(owner)]
    level = [((first - 0.5, y + 0.5), (last - 0.5, y + 0.5)) for y, first, last in _runs(owner.T)]
    place.add_collection(LineCollection([*upright, *level], colors="white", linewidths=1, capstyle="projecting"))


def _runs(owner: npt.NDArray[Any]) -> list[tuple[int, int, int]]:
    """Return the straight lines between a column and the next one: column, first row, row behind the last."""
    steps = np.diff(np.pad((owner[:, 1:] != owner[:, :-1]).astype(int), ((1, 1), (0, 0))), axis=0).T
    first, last = (np.argwhere(steps == sign) for sign in (1, -1))
    return [(int(x), int(start), int(end)) for (x, start), (_, end) in zip(first, last, strict=True)]


def _hatch(place: Axes, mask: npt.NDArray[np.bool_]) -> None:
    """Draw slanted lines over some pixels."""
    if not mask.any():
        return
    fine = mask.repeat(_FINE, 0).repeat(_FINE, 1)
    y, x = ((np.arange(size) + 0.5) / _FINE - 0.5 for size in fine.shape)
    place.contourf(x, y, fine.astype(float), levels=[0.5, 1.5], colors="none", hatches=["///"])


def _write_number(place: Axes, mask: npt.NDArray[np.bool_], text: str) -> None:
    """Write a number where a concept's area is widest, if there is room for it."""
    depth, (y, x) = _deepest(mask)
    wanted = 0.022 * max(mask.shape)
    if depth < wanted:
        return
    written = place.text(x, y, text, color="white", fontsize=8, weight="bold", ha="center", va="center")
    written.set_path_effects([withStroke(linewidth=2, foreground=OUTLINE)])


def _deepest(mask: npt.NDArray[np.bool_]) -> tuple[int, tuple[float, float]]:
    """Return how often a region can be eroded, and a place that is left longest."""
    depth, left = 0, np.pad(mask, 1)
    rest = left
    while left.any():
        rest, depth = left, depth + 1
        inner = left[1:-1, 1:-1] & left[:-2, 1:-1] & left[2:, 1:-1] & left[1:-1, :-2] & left[1:-1, 2:]
        left = np.pad(inner, 1)
    places = np.argwhere(rest) - 1
    middle = places[np.abs(places - np.median(places, 0)).sum(1).argmin()]
    return depth, (float(middle[0]), float(middle[1]))


def _draw_legend(place: Axes, entries: Sequence[_Entry], row: float) -> None:
    """Draw the legend line by line; the axes count inches from the upper left."""
    if any(entry.references for entry in entries):
        place.text(0.45 + _TEXT, -0.08, "samples in which it is most relevant", fontsize="small", va="bottom")
    for number, entry in enumerate(entries):
        top = number * row
        middle = top + row / 2
        edge = OUTLINE if entry.colour == _NOTHING else entry.colour
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
