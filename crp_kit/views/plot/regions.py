"""Figure of a region map: regions of an image, a signal or a volume in the colours of their concepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ...checks import is_integer
from ...data.pixels import finite
from ...errors import InputError
from ...region_map.result import RegionMap
from ..image import PERCENTILE, picture
from ..look import ordinal
from .panels import OUTLINE, show_image, without_ticks
from .region_page import COLOURS, MAP_TITLE, OTHERS, Page, draw_legend, legend_entries, opacity_of
from .region_signals import signal_figure
from .region_view import ReferencePicture, RegionView, region_view
from .sheet import Sheet, check_width

__all__ = ["regions"]

_FINE = 4
"""Steps within a pixel, so that slanted lines end at its edges."""


def regions(
    region_map: RegionMap,
    *,
    most: int = 9,
    depth: int | None = None,
    title: str | None = None,
    image: Any = None,
    references: Mapping[int, Sequence[ReferencePicture]] | None = None,
    percentile: float = PERCENTILE,
    width: float | None = None,
) -> Figure:
    """Return a figure of a region map: the image, its regions coloured by dominant concept, and a legend.

    Regions are paler where their relevance per pixel is lower. Numbers in the map are concepts. A signal stands before
    its stretches; of a volume one slice is drawn, and the legend is about all of it.

    Parameters
    ----------
    region_map : RegionMap
        What `crp_kit.region_map` returns.
    most : int, optional
        Concepts that get a colour of their own, at most 9, those with the largest areas; the others are grey.
    depth : int, optional
        Which slice of a volume; by default the one with the most relevance per voxel.
    title : str, optional
        By default the layer and the class.
    image : PIL image, torch.Tensor or array, optional
        Image below the regions, by default the map's own one.
    references : dict, optional
        By concept, samples of it: pairs of an image and its conditional heatmap, or None to show the image as it is.
    percentile : float, optional
        Of the relevance per pixel, from which regions have their full colour.
    width : float, optional
        Of the figure of an image or a volume, in inches; in a narrow one the legend stands below.

    Raises
    ------
    InputError
        If `most` is not from 1 to 9, the image has not the size of the map, or there is no such slice.
    """
    view = region_view(region_map, title=title, image=image, references=references, percentile=percentile)
    check_width(width)
    if depth is not None and view.labels.ndim != 3:
        raise InputError("depth chooses a slice of a volume, and this map is of none")
    if not is_integer(most, 1, len(COLOURS)):
        raise InputError(f"most is how many concepts get a colour of their own, 1 to {len(COLOURS)}; got {most!r}")
    if view.labels.ndim == 1:
        return signal_figure(view, most)
    entries = legend_entries(view, most)
    if view.labels.ndim == 3:
        view = _slice(view, depth)
    below = picture(view.image)
    rows, columns = view.labels.shape
    if below.size != (columns, rows):
        raise InputError(
            f"the image is {below.size[0]}x{below.size[1]} pixels and the region map {columns}x{rows}: give the image "
            f"as the model saw it (resized and cropped)"
        )
    page = Page.of_width(entries, rows / columns, title=view.title, width=width)
    figure = Sheet(figsize=page.size)
    page.write_title(figure, view.title)
    show_image(page.panel(figure, 0), below, "image")
    _draw_map(page, page.panel(figure, 1), view, np.asarray(below.convert("L"), dtype=np.float64) / 255, most=most)
    draw_legend(page.legend(figure), entries, page.row)
    return figure


def _slice(view: RegionView, depth: int | None) -> RegionView:
    """Return one slice of the map of a volume, by default the one with the most relevance per voxel."""
    labels, total = view.labels, len(view.labels)
    sizes = np.bincount(labels.ravel())
    density = (np.abs(finite(view.relevance)) / sizes)[labels].sum((1, 2))
    chosen = int(density.argmax()) if depth is None else depth
    if not is_integer(chosen, 0, total - 1):
        raise InputError(f"depth is the number of a slice, from 0 to {total - 1}; got {depth!r}")
    grey = finite(view.image)[..., chosen, :, :]
    part = np.bincount(labels[chosen].ravel(), minlength=len(sizes)) / sizes
    title = f"{view.title}; depth {chosen} of {total}" + ", the most relevant" * (depth is None)
    return replace(view, title=title, image=grey, labels=labels[chosen], relevance=view.relevance * part)


def _draw_map(page: Page, ax: Axes, view: RegionView, grey: npt.NDArray[np.float64], *, most: int) -> None:
    """Draw regions in colours over the grey image, lines between concepts, and the concepts' numbers."""
    shown = list(view.concepts)[:most]
    palette = np.array([to_rgb(OTHERS)] + [to_rgb(colour) for colour in COLOURS[: len(shown)]])
    rank = {concept: number + 1 for number, concept in enumerate(shown)}
    index = np.array([rank.get(int(concept), 0) for concept in view.dominant], dtype=int)
    opacity = np.where(view.dominant < 0, 0.0, opacity_of(view))
    light = (0.4 + 0.55 * grey)[..., None]
    weight = opacity[view.labels][..., None]
    coloured = np.clip(palette[index][view.labels] * (0.6 + 0.55 * grey[..., None]), 0, 1)
    ax.imshow((1 - weight) * light + weight * coloured, interpolation="nearest")
    ax.set_title("\n".join(page.panel_title(MAP_TITLE)), fontsize="small")
    without_ticks(ax)
    owner = view.dominant[view.labels]
    _draw_borders(ax, owner)
    for concept in shown:
        _write_number(ax, owner == concept, str(concept))
    against = (view.relevance < 0)[view.labels]
    _hatch(ax, against)
    full = "" if view.percentile == 100 else f", full from the {ordinal(view.percentile)}"
    note = f"paler: less relevance per pixel{full}" + "; hatched: against the class" * bool(against.any())
    ax.set_xlabel("\n".join(page.panel_note(note)), fontsize="x-small", labelpad=3)


def _draw_borders(ax: Axes, owner: npt.NDArray[Any]) -> None:
    """Draw lines along the edges of pixels between different concepts."""
    upright = [((x + 0.5, first - 0.5), (x + 0.5, last - 0.5)) for x, first, last in _runs(owner)]
    level = [((first - 0.5, y + 0.5), (last - 0.5, y + 0.5)) for y, first, last in _runs(owner.T)]
    ax.add_collection(LineCollection([*upright, *level], colors="white", linewidths=1, capstyle="projecting"))


def _runs(owner: npt.NDArray[Any]) -> list[tuple[int, int, int]]:
    """Return the straight lines between a column and the next one: column, first row, row behind the last."""
    steps = np.diff(np.pad((owner[:, 1:] != owner[:, :-1]).astype(int), ((1, 1), (0, 0))), axis=0).T
    first, last = (np.argwhere(steps == sign) for sign in (1, -1))
    return [(int(x), int(start), int(end)) for (x, start), (_, end) in zip(first, last, strict=True)]


def _hatch(ax: Axes, mask: npt.NDArray[np.bool_]) -> None:
    """Draw slanted lines over some pixels."""
    if not mask.any():
        return
    fine = mask.repeat(_FINE, 0).repeat(_FINE, 1)
    y, x = ((np.arange(size) + 0.5) / _FINE - 0.5 for size in fine.shape)
    ax.contourf(x, y, fine.astype(float), levels=[0.5, 1.5], colors="none", hatches=["///"])


def _write_number(ax: Axes, mask: npt.NDArray[np.bool_], text: str) -> None:
    """Write a number where a concept's area is widest, if there is room for it."""
    if not mask.any():  # a concept that is not in this slice of a volume
        return
    depth, (y, x) = _deepest(mask)
    if depth < 0.022 * max(mask.shape):
        return
    written = ax.text(x, y, text, color="white", fontsize=8, weight="bold", ha="center", va="center")
    written.set_path_effects([withStroke(linewidth=2, foreground=OUTLINE)])


def _deepest(mask: npt.NDArray[np.bool_]) -> tuple[int, tuple[float, float]]:
    """Return the number of erosions until a region is empty, and a pixel (y, x) of what the last one removes."""
    depth, eroded = 0, np.pad(mask, 1)
    last = eroded
    while eroded.any():
        last, depth = eroded, depth + 1
        inner = eroded[1:-1, 1:-1] & eroded[:-2, 1:-1] & eroded[2:, 1:-1] & eroded[1:-1, :-2] & eroded[1:-1, 2:]
        eroded = np.pad(inner, 1)
    pixels = np.argwhere(last) - 1
    middle = pixels[np.abs(pixels - np.median(pixels, 0)).sum(1).argmin()]
    return depth, (float(middle[0]), float(middle[1]))
