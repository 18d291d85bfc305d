"""Columns of a concept graph: layers from left to right, relevance as bands between the boxes of concepts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from ...concept_graph.gathering import shown_part
from ...targets.text import target_words
from ..image import colours
from .columns import Columns, arrange
from .concept_boxes import GREY, Boxes
from .labels import literal, percent, wrapped
from .panels import ColourMap

if TYPE_CHECKING:
    from ...concept_graph import ConceptEdge
    from ...concept_graph.result import ConceptGraph

__all__ = ["ConceptColumns"]

_Key = tuple[str, int]

# All lengths are inches, which are the units of the axes: a figure of its own shows them in their size.
_BETWEEN = 1.25
"""From the right edge of a column to the left edge of the next."""
_APART = 0.2
"""Gap between two nodes of a column."""
_LANE = 0.22
"""Room that an edge has where it passes a column."""
_HEAD, _LINE, _HEADING_LINE = 0.55, 0.125, 0.17
"""Above the nodes; a line of text, and of the heading."""
_NEAREST = 0.75
"""From column to column at least."""
_MARGIN = 0.15
_NARROWEST, _NARROWEST_LEGEND = 4.6, 2.9
_LETTERS_PER_INCH, _NOTE_LETTERS_PER_INCH, _HEADING_LETTERS_PER_INCH = 13, 16, 10.5
_WIDEST, _THINNEST = 11.0, 0.5
"""Width in points of an edge of the full share or more, and of none."""
_FULL = (0.1, 0.2, 0.4, 1.0)
"""Shares that the widest edge may stand for: the first one that no edge of the graph exceeds is taken."""
_LEGEND = (0.05, 0.2, 0.5)
"""Parts of that share that the legend shows."""


class ConceptColumns:
    """Positions of boxes and edges, in inches, and how they are drawn."""

    def __init__(
        self,
        graph: ConceptGraph,
        pictures: Mapping[_Key, Sequence[Any]],
        words: tuple[Mapping[int, str], Mapping[tuple[str, int], str]],
        cmap: ColourMap,
        *,
        least: float,
        note: Sequence[str],
    ) -> None:
        self.shown = shown_part(graph.nodes, graph.edges, least)
        self.graph, self.classes = graph, words[0]
        self.boxes = Boxes(self.shown, pictures, partial(graph.called, classes=words[0]), words[1])
        self.note = note
        largest = max((abs(edge.share) for edge in self.shown.edges), default=1.0)
        self.full = next((share for share in _FULL if share >= largest), _FULL[-1])
        signs = colours(np.array([0.72, -0.72]), cmap=cmap, vmax=1) / 255
        self.positive, self.negative = (tuple(colour) for colour in signs)
        known = {node.layer for node in self.shown.nodes}
        self.layers = [layer for layer in reversed(graph.layers) if layer in known]
        columns = [[node.key for node in self.shown.nodes if node.layer == layer] for layer in self.layers]
        self.column = {key: number for number, keys in enumerate(columns) for key in keys}
        self.widths = [max(self.boxes.width(graph[key]) for key in keys) for keys in columns]
        self.between, self.page, self.scale = _BETWEEN, _NARROWEST, 1.0
        self.box_heights = {node.key: self.boxes.height(node) for node in self.shown.nodes}
        self.layout: Columns = arrange(
            columns,
            [(edge.source, edge.target) for edge in self.shown.edges],
            {key: height + _APART for key, height in self.box_heights.items()},
            lane=_LANE,
        )
        self.heading = self._heading()

    @property
    def lefts(self) -> list[float]:
        """Left edge of each column."""
        return [_MARGIN + sum(self.widths[:number]) + self.between * number for number in range(len(self.widths))]

    @property
    def width(self) -> float:
        """Of the drawing in inches, before it is scaled."""
        return max(self.lefts[-1] + self.widths[-1] + _MARGIN, self.page)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the drawing in inches, before it is scaled."""
        return self.width, self.layout.total + self.head + self.foot

    @property
    def head(self) -> float:
        """Inches above the nodes."""
        return _HEAD + _HEADING_LINE * (len(self._heading_lines) - 1) + _LINE * (self._layer_lines - 1)

    @property
    def foot(self) -> float:
        """Inches below the nodes."""
        return 0.36 + _LINE * (len(self._note_lines) + 2 * (self.columns_of_legend < 5)) + 0.1

    @property
    def columns_of_legend(self) -> int:
        """As many as the narrowest drawing that has them all in one line, else two."""
        return 5 if self.page >= _NARROWEST else 2

    def fit(self, width: float) -> float:
        """Bring the columns nearer to each other for a width in inches, and return the scale that it still needs."""
        gaps = len(self.widths) - 1
        spare = width - sum(self.widths) - 2 * _MARGIN
        self.between = min(max(spare / gaps, _NEAREST), max(_BETWEEN, spare / gaps)) if gaps else _BETWEEN
        self.page = 0.0
        needed = max(self.width, _NARROWEST_LEGEND)
        self.page = max(needed, width)
        self.scale = min(1.0, width / self.page)
        return self.scale

    def _heading(self) -> str:
        """Return what the graph decomposes: a class, or a concept of a layer."""
        root, start = self.graph.root, self.graph.start.get("y")
        text = self.graph.called(root, classes=self.classes)
        if root.layer != "y":
            text = f"{root.layer}, {text}" + (f", for {target_words(start[0], self.classes)}" if start else "")
        return text + (f"; means of {self.graph.samples} samples" if self.graph.samples > 1 else "")

    def draw(self, ax: Axes) -> None:
        """Draw the graph into axes whose units become inches."""
        ax.set_xlim(0, self.width)
        ax.set_ylim(-self.layout.total / 2 - self.foot, self.layout.total / 2 + self.head)
        ax.set_aspect("equal")
        ax.set_axis_off()
        top = self.layout.total / 2
        heading = literal("\n".join(self._heading_lines))
        ax.text(_MARGIN, top + self.head - 0.1, heading, fontsize=10, va="top", fontweight="bold")
        for number in range(len(self.layers)):
            middle = self.lefts[number] + self.widths[number] / 2
            text = literal("\n".join(self._layer_name(number)))
            ax.text(middle, top + 0.05, text, fontsize=8, ha="center", va="bottom", color=GREY)
        for edge, start, end in self._ends():
            self._edge(ax, edge, start, end)
        for node in self.shown.nodes:
            number = self.column[node.key]
            frame = self.lefts[number], self.widths[number], self.layout.heights[node.key]
            self.boxes.draw(ax, node, frame)
        self._legend(ax)

    def _ends(self) -> Iterator[tuple[ConceptEdge, float, float]]:
        """Yield each edge with the heights at which it leaves its source and meets its target."""
        leaving, arriving = self._ports(by_source=True), self._ports(by_source=False)
        for edge in sorted(self.shown.edges, key=lambda edge: -abs(edge.share)):
            yield edge, leaving[edge], arriving[edge]

    def _ports(self, *, by_source: bool) -> dict[ConceptEdge, float]:
        """Return the height of one end of each edge, spread over its node in the order in which the edges leave it."""
        heights: dict[ConceptEdge, float] = {}
        for node in self.shown.nodes:
            edges = self.shown.ends(node.key, below=by_source)
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
        signs = {edge.relevance > 0 for edge in self.shown.edges}
        handles = [Line2D([], [], color=self.positive, linewidth=4 * self.scale, label="speaks for the start")] * (
            True in signs
        )
        handles += [Line2D([], [], color=self.negative, linewidth=4 * self.scale, label="speaks against it")] * (
            False in signs
        )
        handles += [
            Line2D([], [], color="#999999", linewidth=self.scale * _points(part), label=percent(part * self.full))
            for part in _LEGEND
        ]
        bottom = -self.layout.total / 2
        legend = ax.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(_MARGIN, bottom - 0.02),
            bbox_transform=ax.transData,
            ncols=min(len(handles), self.columns_of_legend),
            fontsize=7 * self.scale,
            frameon=False,
            borderpad=0.2,
            borderaxespad=0,
            handlelength=1.8,
            columnspacing=1.2,
        )
        legend.set_zorder(6)
        below = bottom - 0.34 - 2 * _LINE * (self.columns_of_legend < 5)
        ax.text(_MARGIN, below, "\n".join(self._note_lines), fontsize=7, va="top", color=GREY)

    @property
    def _note_lines(self) -> list[str]:
        note = [
            "at an edge: share of what passes the upper concept",
            "at a concept: share of all relevance of the start",
        ]
        left = " ".join(word for node in self.shown.nodes for word in self.boxes.left_over(node))
        if "absorbed" in left:
            opposite = ", (−) with the opposite sign" if "(−)" in left else ""
            note.append(f"absorbed: by biases, stabilizers and other paths{opposite}")
        return textwrap.wrap("; ".join([*note, *self.note]), int((self.width - 2 * _MARGIN) * _NOTE_LETTERS_PER_INCH))

    @property
    def _heading_lines(self) -> list[str]:
        return wrapped(self.heading, int((self.width - 2 * _MARGIN) * _HEADING_LETTERS_PER_INCH))

    @property
    def _layer_lines(self) -> int:
        return max(len(self._layer_name(number)) for number in range(len(self.layers)))

    def _layer_name(self, number: int) -> list[str]:
        """Return the lines above a column."""
        layer = self.layers[number]
        middle = self.lefts[number] + self.widths[number] / 2
        room = min(self.widths[number] + self.between - 0.15, 2 * min(middle, self.width - middle) - 0.1)
        letters = int(room * _LETTERS_PER_INCH)
        return wrapped("model output" if layer == "y" else layer, max(8, letters))


def _points(part: float) -> float:
    """Return the width in points of an edge whose share is this part of the full one."""
    return _THINNEST + (_WIDEST - _THINNEST) * min(abs(part), 1.0)
