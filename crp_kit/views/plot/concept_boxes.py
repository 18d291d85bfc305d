"""The boxes of a concept graph: pictures of a concept above its name and shares."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from .labels import literal, percent
from .panels import OUTLINE

if TYPE_CHECKING:
    from ...concept_graph import ConceptNode
    from ...concept_graph.result import ConceptGraph

__all__ = ["GREY", "Boxes"]

# All lengths are inches, which are the units of the axes.
_PICTURE, _GAP, _PAD = 0.82, 0.05, 0.07
_LINE = 0.145
"""Height of a line of text."""
_TEXT_WIDTH = 1.12
"""Width of a box without pictures."""
_PORT = 0.14
"""Distance of two edges where they meet one box."""
GREY = "#666666"


@dataclass(frozen=True, eq=False)
class Boxes:
    """Content and size of the boxes of a graph.

    Parameters
    ----------
    graph : GraphView
    pictures : dict
        By layer and concept, (height, width, 3) each.
    classes : dict
        Names of classes by number.
    """

    graph: ConceptGraph
    pictures: Mapping[tuple[str, int], Sequence[Any]]
    classes: Mapping[int, str]

    def width(self, node: ConceptNode) -> float:
        """Return the width that a node needs, in inches."""
        strip = sum(_PICTURE * min(1.0, _aspect(pixels)) + _GAP for pixels in self.pictures[node.key]) - _GAP
        return max(_TEXT_WIDTH, strip + 2 * _PAD)

    def height(self, node: ConceptNode) -> float:
        """Return the height that a node needs for its content and for its edges, in inches."""
        strip = _PICTURE + _GAP if self.pictures[node.key] else 0.0
        ports = max(len(self.graph.parents(node)), len(self.graph.children(node)))
        return max(strip + _LINE * len(self._lines(node)) + 2 * _PAD, _PORT * (ports + 1))

    def _lines(self, node: ConceptNode) -> list[str]:
        """Return the lines of text of a node."""
        named = self.classes.get(node.concept) if node.kind == "class" else None
        lines = textwrap.wrap(named or node.name, 20, max_lines=3, placeholder=" …")
        share = percent(node.share)
        if node.share_std is not None and node.depth:
            share = f"{100 * node.share:.1f} ± {100 * node.share_std:.1f} %"
        lines[-1:] = [f"{lines[-1]} ({share})"] if len(lines[-1]) + len(share) < 17 else [lines[-1], share]
        return [*lines, f"not shown {percent(node.unexplained)}"] if node.unexplained is not None else lines

    def draw(self, ax: Axes, node: ConceptNode, frame: tuple[float, float, float]) -> None:
        """Draw a box with its pictures and text: left edge, width, and the height of its middle."""
        (left, width, middle), height = frame, self.height(node)
        box = FancyBboxPatch(
            (left, middle - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.07",
            facecolor="white",
            edgecolor=OUTLINE,
            linewidth=1.6 if node.depth == 0 else 0.9,
            zorder=3,
        )
        ax.add_patch(box)
        lines = self._lines(node)
        pictures = self.pictures[node.key]
        content = _LINE * len(lines) + (_PICTURE + _GAP if pictures else 0)
        top = middle + content / 2
        widths = [_PICTURE * min(1.0, _aspect(pixels)) for pixels in pictures]
        x = left + (width - sum(widths) - _GAP * (len(widths) - 1)) / 2
        for pixels, picture_width in zip(pictures, widths, strict=True):
            _draw_picture(ax, pixels, (x, top - _PICTURE, picture_width, _PICTURE))
            x += picture_width + _GAP
        top -= _PICTURE + _GAP if pictures else 0
        for line, text in enumerate(lines):
            quiet = node.unexplained is not None and line == len(lines) - 1
            ax.text(
                left + width / 2,
                top - _LINE * (line + 0.5),
                literal(text),
                fontsize=6.5 if quiet else 7.5,
                color=GREY if quiet else OUTLINE,
                ha="center",
                va="center",
                zorder=5,
            )


def _aspect(pixels: Any) -> float:
    """Width over height."""
    return float(pixels.shape[1] / pixels.shape[0])


def _draw_picture(ax: Axes, pixels: Any, frame: tuple[float, float, float, float]) -> None:
    """Draw a picture into a frame (left, bottom, width, height), as large as its sides allow."""
    left, bottom, width, frame_height = frame
    height = min(frame_height, width / _aspect(pixels))
    bottom += (frame_height - height) / 2
    extent = (left, left + width, bottom, bottom + height)
    ax.imshow(pixels, extent=extent, interpolation="nearest", aspect="equal", zorder=4)
    ax.add_patch(Rectangle((left, bottom), width, height, fill=False, edgecolor=OUTLINE, linewidth=0.5, zorder=5))
