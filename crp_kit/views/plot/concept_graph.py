"""Figure of a concept graph: layers as columns, relevance as bands between concepts, pictures of the concepts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from ...data.pixels import plane
from ..image import DEFAULT_CMAP, colours, picture
from .columns import Columns, arrange
from .concept_boxes import GREY, Boxes
from .labels import literal, percent
from .panels import ColourMap, figure_of
from .sheet import Sheet

if TYPE_CHECKING:
    from ...concept_graph import ConceptEdge
    from ...concept_graph.result import ConceptGraph

__all__ = ["concept_graph"]

_Key = tuple[str, int]

# All lengths are inches, which are the units of the axes: a figure of its own shows them in their size.
_BETWEEN = 1.25
"""From the right edge of a column to the left edge of the next."""
_APART = 0.2
"""Gap between two nodes of a column."""
_LANE = 0.22
"""Room that an edge has where it passes a column."""
_HEAD, _FOOT = 0.68, 0.72
"""Above and below the nodes."""
_MARGIN = 0.15
_NARROWEST = 4.6
_LETTERS_PER_INCH = 13
_WIDEST, _THINNEST = 11.0, 0.5
"""Width in points of an edge of the full share or more, and of none."""
_FULL = (0.1, 0.2, 0.4, 1.0)
"""Shares that the widest edge may stand for: the first one that no edge of the graph exceeds is taken."""
_LEGEND = (0.05, 0.2, 0.5)
"""Parts of that share that the legend shows."""


def concept_graph(
    graph: ConceptGraph,
    *,
    references: Mapping[_Key, Sequence[Any]] | None = None,
    heatmaps: Mapping[_Key, Any] | None = None,
    image: Any = None,
    classes: Mapping[int, str] | None = None,
    cmap: ColourMap = DEFAULT_CMAP,
    ax: Axes | None = None,
) -> Figure:
    """Return a figure of a concept graph: layers as columns, from the start at the left to the lowest at the right.

    The width of an edge is the share that the lower concept gets of what passes the upper one, on a scale that suits
    the largest of them and stands below; its colour is the sign of the relevance. The number at a node is its share of
    all relevance of the start.

    Parameters
    ----------
    graph : ConceptGraph
        Concepts and edges, as `crp_kit.ConceptGraph` has them.
    references : dict, optional
        Pictures of concepts by layer and concept, as `crp_kit.views.image.picture` takes them.
    heatmaps : dict, optional
        Signed relevance, (height, width), by layer and concept.
    image : PIL image, torch.Tensor or array, optional
        Image before normalisation: it stands in the first node, if that has no other picture.
    classes : dict, optional
        Names of classes by number.
    cmap : str or zennit.cmap.ColorMap, optional
        As for `crp_kit.views.image.colours`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; its figure is returned. A new figure of the size that the graph needs by default.

    Raises
    ------
    InputError
        If a picture is no image, or a heatmap not (height, width).
    """
    pictures = _pictures(graph, references, heatmaps, image, cmap=cmap)
    drawing = _Drawing(graph, pictures, dict(classes or {}), cmap, with_maps=bool(heatmaps))
    if ax is None:
        figure = Sheet(figsize=drawing.size)
        ax = figure.add_axes((0, 0, 1, 1))
    drawing.draw(ax)
    return figure_of(ax)


def _pictures(
    graph: ConceptGraph,
    references: Mapping[_Key, Sequence[Any]] | None,
    heatmaps: Mapping[_Key, Any] | None,
    image: Any,
    *,
    cmap: ColourMap,
) -> dict[_Key, list[Any]]:
    """Return the pictures of each node, (height, width, 3) each."""
    pictures: dict[_Key, list[Any]] = {node.key: [] for node in graph.nodes}
    for key, images in (references or {}).items():
        pictures.setdefault(key, []).extend(np.asarray(picture(image)) for image in images)
    if image is not None and not pictures[graph.root.key]:
        pictures[graph.root.key].append(np.asarray(picture(image)))
    for key, heatmap in (heatmaps or {}).items():
        pictures.setdefault(key, []).append(colours(plane(heatmap), cmap=cmap))
    return pictures


class _Drawing:
    """Positions of boxes and edges, in inches, and how they are drawn."""

    def __init__(
        self,
        graph: ConceptGraph,
        pictures: Mapping[_Key, Sequence[Any]],
        classes: Mapping[int, str],
        cmap: ColourMap,
        *,
        with_maps: bool,
    ) -> None:
        self.graph, self.classes, self.boxes = graph, classes, Boxes(graph, pictures, classes)
        self.with_maps = with_maps
        largest = max((abs(edge.share) for edge in graph.edges), default=1.0)
        self.full = next((share for share in _FULL if share >= largest), _FULL[-1])
        signs = colours(np.array([0.72, -0.72]), cmap=cmap, vmax=1) / 255
        self.positive, self.negative = (tuple(colour) for colour in signs)
        self.layers = list(reversed(graph.layers))
        columns = [[node.key for node in graph.nodes if node.layer == layer] for layer in self.layers]
        self.column = {key: number for number, keys in enumerate(columns) for key in keys}
        self.widths = [max(self.boxes.width(graph[key]) for key in keys) for keys in columns]
        self.lefts = [_MARGIN + sum(self.widths[:number]) + _BETWEEN * number for number in range(len(columns))]
        self.box_heights = {node.key: self.boxes.height(node) for node in graph.nodes}
        self.layout: Columns = arrange(
            columns,
            [(edge.source, edge.target) for edge in graph.edges],
            {key: height + _APART for key, height in self.box_heights.items()},
            lane=_LANE,
        )
        self.heading = self._heading()

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the drawing, in inches."""
        right = self.lefts[-1] + self.widths[-1] + _MARGIN
        return max(right, _NARROWEST), self.layout.total + _HEAD + _FOOT

    def _heading(self) -> str:
        """Return what the graph decomposes: a class, or a concept of a layer."""
        root, target = self.graph.root, self.graph.start.get("y")
        text = self.classes.get(root.concept, root.name) if root.kind == "class" else f"{root.layer}, {root.name}"
        text = root.title or text
        if root.kind not in ("class", "target") and target:
            first = target[0]
            text += f", for {self.classes.get(first, f'class {first}') if isinstance(first, int) else first}"
        return text + (f"; means of {self.graph.samples} samples" if self.graph.samples > 1 else "")

    def draw(self, ax: Axes) -> None:
        """Draw the graph into axes whose units become inches."""
        width, height = self.size
        ax.set_xlim(0, width)
        ax.set_ylim(-height / 2 + (_HEAD - _FOOT) / 2, height / 2 + (_HEAD - _FOOT) / 2)
        ax.set_aspect("equal")
        ax.set_axis_off()
        top = self.layout.total / 2
        ax.text(_MARGIN, top + _HEAD - 0.12, literal(self.heading), fontsize=10, va="top", fontweight="bold")
        for number, layer in enumerate(self.layers):
            middle = self.lefts[number] + self.widths[number] / 2
            text = "model output" if layer == "y" else _wrapped_name(layer, self.widths[number] + _BETWEEN - 0.15)
            ax.text(middle, top + 0.05, literal(text), fontsize=8, ha="center", va="bottom", color=GREY)
        for edge, start, end in self._ends():
            self._edge(ax, edge, start, end)
        for node in self.graph.nodes:
            number = self.column[node.key]
            frame = self.lefts[number], self.widths[number], self.layout.heights[node.key]
            self.boxes.draw(ax, node, frame)
        self._legend(ax)

    def _ends(self) -> Iterator[tuple[ConceptEdge, float, float]]:
        """Yield each edge with the heights at which it leaves its source and meets its target."""
        leaving, arriving = self._ports(by_source=True), self._ports(by_source=False)
        for edge in sorted(self.graph.edges, key=lambda edge: -abs(edge.share)):
            yield edge, leaving[edge], arriving[edge]

    def _ports(self, *, by_source: bool) -> dict[ConceptEdge, float]:
        """Return the height of one end of each edge, spread over its node in the order in which the edges leave it."""
        heights: dict[ConceptEdge, float] = {}
        for node in self.graph.nodes:
            edges = self.graph.children(node) if by_source else self.graph.parents(node)
            ordered = sorted(edges, key=lambda edge: self._towards(edge, by_source=by_source))
            step = min(self.box_heights[node.key] / (len(edges) + 1), 0.24)
            lowest = self.layout.heights[node.key] - step * (len(edges) - 1) / 2
            heights |= {edge: lowest + step * rank for rank, edge in enumerate(ordered)}
        return heights

    def _towards(self, edge: ConceptEdge, *, by_source: bool) -> float:
        """Return the height at which an edge crosses the next column, or ends in it."""
        lanes = self.layout.lanes.get((edge.source, edge.target))
        if lanes:
            return lanes[0 if by_source else -1]
        return self.layout.heights[edge.target if by_source else edge.source]

    def _edge(self, ax: Axes, edge: ConceptEdge, start: float, end: float) -> None:
        """Draw an edge as a smooth line through its lanes, with its share at the lower end."""
        first, last = self.column[edge.source], self.column[edge.target]
        points = [(self.lefts[first] + self.widths[first], start)]
        for number, height in enumerate(self.layout.lanes.get((edge.source, edge.target), ()), first + 1):
            points += [(self.lefts[number], height), (self.lefts[number] + self.widths[number], height)]
        points.append((self.lefts[last], end))
        steps, codes = [points[0]], [Path.MOVETO]
        for before, after in pairwise(points):
            middle = (before[0] + after[0]) / 2
            steps += [(middle, before[1]), (middle, after[1]), after]
            codes += [Path.CURVE4] * 3
        colour = self.positive if edge.relevance > 0 else self.negative
        line = PathPatch(
            Path(steps, codes),
            fill=False,
            edgecolor=colour,
            linewidth=_points(edge.share / self.full),
            alpha=0.75,
            capstyle="butt",
            zorder=1,
        )
        ax.add_patch(line)
        ax.text(
            points[-1][0] - 0.04,
            end,
            percent(edge.share),
            fontsize=6.5,
            ha="right",
            va="center",
            bbox={"boxstyle": "square,pad=0.08", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            zorder=2,
        )

    def _legend(self, ax: Axes) -> None:
        """Draw the legend of colours, widths and numbers."""
        signs = {edge.relevance > 0 for edge in self.graph.edges}
        handles = [Line2D([], [], color=self.positive, linewidth=4, label="speaks for the start")] * (True in signs)
        handles += [Line2D([], [], color=self.negative, linewidth=4, label="speaks against it")] * (False in signs)
        handles += [
            Line2D([], [], color="#999999", linewidth=_points(part), label=percent(part * self.full))
            for part in _LEGEND
        ]
        bottom = -self.layout.total / 2
        legend = ax.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(_MARGIN, bottom - 0.02),
            bbox_transform=ax.transData,
            ncols=len(handles),
            fontsize=7,
            frameon=False,
            borderpad=0.2,
            borderaxespad=0,
            handlelength=1.8,
            columnspacing=1.2,
        )
        legend.set_zorder(6)
        note = "at an edge: share of what passes the upper concept; at a concept: share of all relevance of the start"
        if self.with_maps:
            note += "; heatmaps: red for, blue against, each on its own scale"
        ax.text(_MARGIN, bottom - 0.36, _wrapped_text(note, self.size[0]), fontsize=7, va="top", color=GREY)


def _points(part: float) -> float:
    """Return the width in points of an edge whose share is this part of the full one."""
    return _THINNEST + (_WIDEST - _THINNEST) * min(abs(part), 1.0)


def _wrapped_name(name: str, width: float) -> str:
    """Break the name of a layer, at its dots, to lines of a width."""
    letters = max(8, int(width * _LETTERS_PER_INCH))
    return "\n".join(textwrap.wrap(name.replace(".", ". "), letters)).replace(". ", ".")


def _wrapped_text(text: str, width: float) -> str:
    return "\n".join(textwrap.wrap(text, int(width * 17)))
