"""The figure of the demo: for each sample its heatmap, its top concepts and theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...errors import InputError
from ..image import DEFAULT_CMAP, PERCENTILE, picture
from ..look import Look
from .colour_bars import colour_bar
from .labels import wrapped
from .maps import concept_bars
from .narrow import with_bar_in_width
from .panels import CELL, OUTLINE, ColourMap, show_image, show_map
from .sheet import Sheet

__all__ = ["ConceptView", "SampleView", "demo_figure"]


@dataclass(frozen=True)
class ConceptView:
    """One concept of one sample, ready to be drawn.

    Parameters
    ----------
    heatmap : torch.Tensor or array
        Conditional heatmap: (height, width).
    title : str
        The concept, its share, its known meaning.
    """

    heatmap: Any
    title: str


@dataclass(frozen=True)
class SampleView:
    """One sample, its heatmap and its most relevant concepts, ready to be drawn.

    Parameters
    ----------
    image : torch.Tensor or array
        Image before normalisation, values in [0, 1]: (channel, height, width).
    title : str
        The true class, for instance.
    heatmap : torch.Tensor or array
        Of the prediction, not conditioned on concepts: (height, width).
    heatmap_title : str
    shares : torch.Tensor or array
        Signed relevance of each concept: (concept,).
    shares_title : str
    concepts : sequence of ConceptView
    labels : dict of int to str
        Names of concepts beside the bars.
    outlines : dict of str to array
        Regions to be outlined on the heatmaps, boolean: (height, width).
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


_LETTERS_PER_INCH = 11
"""In the title of the figure."""
_LINE_STYLES: tuple[Literal["solid", "dashed", "dotted", "dashdot"], ...] = ("solid", "dashed", "dotted", "dashdot")


def demo_figure(
    samples: Sequence[SampleView], *, title: str = "", cmap: ColourMap = DEFAULT_CMAP, width: float | None = None
) -> Figure:
    """Return a figure with a line for each sample: image, heatmap, top concepts, their conditional heatmaps.

    Parameters
    ----------
    samples : sequence of SampleView
    title : str, optional
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.views.image.colours`.
    width : float, optional
        Of the figure, in inches; the panels of a sample then stand in several lines. By default what they need.

    Raises
    ------
    InputError
        If there is no sample, or one of the arrays has another shape.
    """
    look = Look("overlay", PERCENTILE, cmap)
    if not samples:
        raise InputError("the figure needs at least one sample; got none")
    concepts = max(len(sample.concepts) for sample in samples)
    widths = [1.0, 1.0, 1.25, *[1.0] * concepts]
    figure = Sheet(figsize=(CELL * sum(widths) + 1.1, (CELL + 0.45) * len(samples) + 0.8), layout="constrained")
    lines = figure.subplots(len(samples), len(widths), squeeze=False, width_ratios=widths)
    for line, sample in zip(lines, samples, strict=True):
        show_image(line[0], picture(sample.image), sample.title)
        concept_bars(sample.shares, k=6, labels=sample.labels, title=sample.shares_title, cmap=cmap, axes=line[2])
        views = [ConceptView(sample.heatmap, sample.heatmap_title), *sample.concepts]
        for ax, view in zip([line[1], *line[3:]], views, strict=False):
            show_map(ax, sample.image, view.heatmap, vmax=None, look=look)
            _outline(ax, sample.outlines.values())
            ax.set_title(view.title, fontsize="x-small")
        for unused in line[3 + len(sample.concepts) :]:
            unused.set_axis_off()
    if width is not None:
        with_bar_in_width(figure, width)
        title = "\n".join(part for line in title.splitlines() for part in wrapped(line, int(_LETTERS_PER_INCH * width)))
    colour_bar(figure, list(lines.ravel()), common=None, look=look)
    if title:
        figure.suptitle(title, fontsize="medium")
    _outline_legend(figure, list(dict.fromkeys(name for sample in samples for name in sample.outlines)))
    return figure


def _outline(ax: Axes, regions: Iterable[Any]) -> None:
    for region, style in zip(regions, _LINE_STYLES, strict=False):
        mask = np.asarray(region, dtype=np.float64)
        if 0 < mask.sum() < mask.size:
            ax.contour(mask, levels=[0.5], colors=OUTLINE, linewidths=0.9, linestyles=style)


def _outline_legend(figure: Figure, names: Sequence[str]) -> None:
    if not names:
        return
    handles = [
        Line2D([], [], color=OUTLINE, linewidth=0.9, linestyle=style, label=name)
        for name, style in zip(names, _LINE_STYLES, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize="small")
