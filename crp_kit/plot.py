"""Matplotlib figures: conditional heatmaps, the most relevant concepts, and both of them for the demo.

Figures are made without pyplot, so nothing opens, nothing is global and nothing has to be closed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from .errors import InputError
from .image import DEFAULT_CMAP, ColorMap, colour_table, colours, picture, scale_of

__all__ = ["ConceptView", "SampleView", "concept_bars", "demo_figure", "heatmaps", "to_png"]

Colours: TypeAlias = str | ColorMap

_CELL = 1.9  # inches
_OUTLINE = "#1a1a1a"


def heatmaps(
    maps: Any,
    *,
    images: Any = None,
    titles: Sequence[str] | None = None,
    image_titles: Sequence[str] | None = None,
    columns: int | None = None,
    shared_scale: bool = False,
    cmap: Colours = DEFAULT_CMAP,
    axes: Sequence[Axes] | npt.NDArray[Any] | None = None,
) -> Figure:
    """Return a figure of signed heatmaps with their colour scale.

    Positive relevance is red, negative blue, zero white; the scale is always symmetric about zero.

    Parameters
    ----------
    maps : torch.Tensor or array
        Signed relevance, (row, height, width); (height, width) is one row.
    images : sequence or torch.Tensor, optional
        What the model saw, as `crp_kit.image.picture` takes it: one image for all rows, one for each row, or one for
        each run of equally many rows. Each image stands left of its rows.
    titles, image_titles : sequence of str, optional
        One title for each row, and for each image.
    columns : int, optional
        Panels in a line; by default one image and its rows in a line, up to eight.
    shared_scale : bool, optional
        Whether all maps have the scale of the strongest. By default each has its own; the number below a map is then
        the magnitude of its strongest colour.
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.image.colours`.
    axes : sequence of matplotlib Axes, optional
        Where to draw, in the order of the panels; their figure is returned. A new figure by default.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with ``figure.savefig("maps.png")``; a notebook shows it as it is.

    Raises
    ------
    InputError
        If `maps` is not (row, height, width) or has values that are not finite, or if the number of images, titles or
        axes does not fit.

    Examples
    --------
    >>> figure = heatmaps(torch.randn(3, 8, 8), titles=["a", "b", "c"])
    >>> [panel.get_title() for panel in figure.axes[:3]]
    ['a', 'b', 'c']
    """
    rows = _rows(maps)
    _check_count("titles", titles, len(rows), "rows")
    pictures = _pictures(images)
    _check_count("image_titles", image_titles, len(pictures), "images")
    if pictures and len(rows) % len(pictures):
        raise InputError(
            f"{len(rows)} rows cannot be shared out among {len(pictures)} images: give one image for each row"
        )
    run = len(rows) // len(pictures) if pictures else len(rows)
    panels = len(rows) + len(pictures)
    figure, places = _places(panels, columns or min(run + bool(pictures), 8), axes, aspect=_aspect(rows))
    common = scale_of(rows) if shared_scale or len(rows) == 1 else None
    free, drawn = iter(places), []
    for number, row in enumerate(rows):
        if pictures and number % run == 0:
            index = number // run
            _show_image(next(free), pictures[index], image_titles[index] if image_titles else "")
        drawn.append(next(free))
        _show_map(drawn[-1], row, vmax=common, cmap=cmap)
        drawn[-1].set_title(titles[number] if titles else "", fontsize="small")
    for unused in free:
        unused.set_axis_off()
    _colour_bar(figure, drawn if axes is not None else list(places), common=common, cmap=cmap)
    return figure


def concept_bars(
    shares: Any,
    *,
    k: int = 8,
    labels: Mapping[int, str] | None = None,
    title: str = "",
    cmap: Colours = DEFAULT_CMAP,
    axes: Axes | None = None,
) -> Figure:
    """Return a figure of the concepts that matter most to one sample, as signed horizontal bars.

    Parameters
    ----------
    shares : torch.Tensor or array
        Signed relevance of each concept: concept. Shares whose magnitudes sum to 1, as `Concept.attribute` gives
        them, are shown in percent.
    k : int, optional
        Number of bars, the strongest at the top.
    labels : dict, optional
        What to call a concept instead of its number.
    title : str, optional
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.image.colours`.
    axes : matplotlib Axes, optional
        Where to draw; its figure is returned. A new figure by default.

    Raises
    ------
    InputError
        If `shares` is not one finite number for each concept, or `k` is not positive.

    Examples
    --------
    >>> figure = concept_bars([0.1, -0.3, 0.6], k=2)
    >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    ['2', '1']
    """
    values = _numbers(shares)
    if values.ndim != 1 or not values.size:
        raise InputError(f"shares have one number for each concept of one sample; got shape {values.shape}")
    if k < 1:
        raise InputError(f"k is the number of bars, at least 1; got {k}")
    figure, (place,) = _places(1, 1, None if axes is None else [axes], aspect=0.3 + 0.11 * min(k, values.size))
    order = np.argsort(-np.abs(values), kind="stable")[:k]
    percent = math.isclose(float(np.abs(values).sum()), 1, rel_tol=1e-3)
    shown = values[order] * (100 if percent else 1)
    signs = colours(np.sign(shown) * 0.75, cmap=cmap, vmax=1) / 255
    place.barh(range(len(order)), shown, color=[tuple(one) for one in signs], height=0.72)
    for height, value in enumerate(shown):
        text = f"{value:+.1f} %" if percent else f"{value:+.3g}"
        place.annotate(
            text,
            (value, height),
            xytext=(3 if value >= 0 else -3, 0),
            textcoords="offset points",
            ha="left" if value >= 0 else "right",
            va="center",
            fontsize="x-small",
        )
    names = {int(one): str(int(one)) for one in order} | dict(labels or {})
    place.set_yticks(range(len(order)), [names[int(one)] for one in order], fontsize="x-small")
    place.set_ylim(len(order) - 0.5, -0.5)
    place.axvline(0, color=_OUTLINE, linewidth=0.8)
    place.margins(x=0.35)
    place.tick_params(axis="x", labelsize="x-small")
    place.tick_params(axis="y", length=0)
    place.spines[["top", "right", "left"]].set_visible(False)
    place.set_xlabel("share of |relevance| (%)" if percent else "relevance", fontsize="x-small")
    place.set_title(title, fontsize="small")
    return figure


def to_png(figure: Figure, *, dpi: int = 100) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


@dataclass(frozen=True)
class ConceptView:
    """One concept of one sample, ready to be drawn.

    Parameters
    ----------
    heatmap : torch.Tensor or array
        Conditional heatmap: height, width.
    title : str
        The concept, its share, what it is known to stand for.
    """

    heatmap: Any
    title: str


@dataclass(frozen=True)
class SampleView:
    """One sample and what a model makes of it, ready to be drawn.

    Parameters
    ----------
    image : torch.Tensor or array
        What the model saw, values in [0, 1]: channel, height, width.
    title : str
        The true class, for instance.
    heatmap : torch.Tensor or array
        Of the prediction, not conditioned on concepts: height, width.
    heatmap_title : str
    shares : torch.Tensor or array
        Signed relevance of each concept: concept.
    shares_title : str
    concepts : sequence of ConceptView
    labels : dict of int to str
        What to call concepts beside the bars.
    outlines : dict of str to array
        Regions to be outlined on the heatmaps, boolean: height, width.
    """

    image: Any
    title: str
    heatmap: Any
    heatmap_title: str
    shares: Any
    shares_title: str = ""
    concepts: Sequence[ConceptView] = ()
    labels: Mapping[int, str] = field(default_factory=dict)
    outlines: Mapping[str, Any] = field(default_factory=dict)


_LINE_STYLES: tuple[Literal["solid", "dashed", "dotted", "dashdot"], ...] = ("solid", "dashed", "dotted", "dashdot")


def demo_figure(samples: Sequence[SampleView], *, title: str = "", cmap: Colours = DEFAULT_CMAP) -> Figure:
    """Return a figure with a line for each sample: image, heatmap, top concepts, their conditional heatmaps.

    Parameters
    ----------
    samples : sequence of SampleView
    title : str, optional
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.image.colours`.

    Raises
    ------
    InputError
        If there is no sample, or one of the arrays is not what it should be.
    """
    if not samples:
        raise InputError("the figure needs at least one sample; got none")
    concepts = max(len(one.concepts) for one in samples)
    widths = [1.0, 1.0, 1.25, *[1.0] * concepts]
    figure = Figure(figsize=(_CELL * sum(widths) + 1.1, (_CELL + 0.45) * len(samples) + 0.8), layout="constrained")
    lines = figure.subplots(len(samples), len(widths), squeeze=False, width_ratios=widths)
    for line, sample in zip(lines, samples, strict=True):
        _show_image(line[0], picture(sample.image), sample.title)
        concept_bars(sample.shares, k=6, labels=sample.labels, title=sample.shares_title, cmap=cmap, axes=line[2])
        views = [ConceptView(sample.heatmap, sample.heatmap_title), *sample.concepts]
        for place, view in zip([line[1], *line[3:]], views, strict=False):
            _show_map(place, _numbers(view.heatmap), vmax=None, cmap=cmap)
            _outline(place, sample.outlines.values())
            place.set_title(view.title, fontsize="x-small")
        for unused in line[3 + len(sample.concepts) :]:
            unused.set_axis_off()
    _colour_bar(figure, list(lines.ravel()), common=None, cmap=cmap)
    if title:
        figure.suptitle(title, fontsize="medium")
    _outline_legend(figure, list(dict.fromkeys(name for one in samples for name in one.outlines)))
    return figure


def _outline(place: Axes, regions: Iterable[Any]) -> None:
    for region, style in zip(regions, _LINE_STYLES, strict=False):
        mask = np.asarray(region, dtype=np.float64)
        if 0 < mask.sum() < mask.size:
            place.contour(mask, levels=[0.5], colors=_OUTLINE, linewidths=0.9, linestyles=style)


def _outline_legend(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    if not names:
        return
    handles = [
        Line2D([], [], color=_OUTLINE, linewidth=0.9, linestyle=style, label=name)
        for name, style in zip(names, _LINE_STYLES, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize="small")


def _rows(maps: Any) -> npt.NDArray[np.float64]:
    array = _numbers(maps)
    rows = array[None] if array.ndim == 2 else array
    if rows.ndim != 3 or not rows.size:
        hint = "; sum over the input channels first" if rows.ndim == 4 else ""
        raise InputError(f"heatmaps are (row, height, width) with at least one row; got shape {array.shape}{hint}")
    return rows


def _numbers(values: Any) -> npt.NDArray[np.float64]:
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


def _pictures(images: Any) -> list[Any]:
    if images is None:
        return []
    if isinstance(images, (torch.Tensor, np.ndarray)):
        images = images[None] if images.ndim in (2, 3) else images
    elif not isinstance(images, Sequence):
        images = [images]
    return [picture(one) for one in images]


def _check_count(name: str, given: Sequence[str] | None, wanted: int, of: str) -> None:
    if isinstance(given, str) or (given is not None and len(given) != wanted):
        count = "one string" if isinstance(given, str) else len(given)
        raise InputError(f"{name} has one text for each of the {wanted} {of}; got {count}")


def _aspect(rows: npt.NDArray[Any]) -> float:
    """Height of a panel over its width, within what still makes a page."""
    height, width = rows.shape[1:]
    return min(max(float(height / width), 0.25), 4.0)


def _places(
    panels: int, columns: int, axes: Sequence[Axes] | npt.NDArray[Any] | None, *, aspect: float
) -> tuple[Figure, list[Axes]]:
    """Axes for so many panels, given or new, and their figure."""
    if axes is not None:
        given = list(np.asarray(axes, dtype=object).ravel())
        if len(given) != panels:
            raise InputError(f"{panels} panels (maps and images) need as many axes; got {len(given)}")
        root = given[0].get_figure(root=True)
        return root, given
    if columns < 1:
        raise InputError(f"a figure has at least one column; got {columns}")
    across = min(columns, panels)
    down = math.ceil(panels / across)
    figure = Figure(figsize=(_CELL * across + 1.3, max((_CELL * aspect + 0.5) * down + 0.2, 2.2)), layout="constrained")
    return figure, list(figure.subplots(down, across, squeeze=False).ravel())


def _bare(place: Axes) -> None:
    place.set_xticks([])
    place.set_yticks([])


def _show_image(place: Axes, image: Any, title: str) -> None:
    place.imshow(np.asarray(image), interpolation="nearest")
    place.set_title(title, fontsize="small")
    _bare(place)


def _show_map(place: Axes, row: npt.NDArray[np.float64], *, vmax: float | None, cmap: Colours) -> None:
    if row.ndim != 2 or not row.size:
        raise InputError(f"a heatmap is (height, width) with at least one value; got shape {row.shape}")
    place.imshow(colours(row, cmap=cmap, vmax=vmax), interpolation="nearest")
    _bare(place)
    if vmax is None:
        strongest = float(np.abs(row).max())
        place.set_xlabel(f"± {strongest:.2g}" if strongest else "all zero", fontsize="x-small", labelpad=2)


def _colour_bar(figure: Figure, places: list[Axes], *, common: float | None, cmap: Colours) -> None:
    """State what the colours mean: values for a common scale, else fractions of each map's own strongest value."""
    limit = common or 1.0
    scale = ScalarMappable(Normalize(-limit, limit), ListedColormap(colour_table(cmap) / 255))
    length = min(0.9, 2.6 / figure.get_figheight())
    bar = figure.colorbar(scale, ax=places, shrink=length, aspect=16, pad=0.02, ticks=[-limit, 0, limit])
    ends = ("against", "for")
    numbers = (f"−{limit:.2g}", f"+{limit:.2g}") if common else ("−max", "+max")
    bar.set_ticklabels([f"{numbers[0]}\n{ends[0]}", "0", f"{numbers[1]}\n{ends[1]}"], fontsize="x-small")
    label = "relevance" if common else "relevance, each map on its\nown scale (± max below it)"
    bar.set_label(label, fontsize="x-small")
