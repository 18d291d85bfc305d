"""The boxes of a concept graph: pictures of a concept above its name and shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from ...concept_graph.gathering import left_over
from .labels import literal, percent, shortened, wrapped
from .panels import OUTLINE

if TYPE_CHECKING:
    from ...concept_graph import ConceptNode
    from ...concept_graph.gathering import Shown

__all__ = ["GREY", "Boxes", "draw_picture"]

# All lengths are inches, which are the units of the axes.
_PICTURE, _GAP, _PAD = 0.82, 0.05, 0.07
_LINE = 0.145
"""Height of a line of text."""
_TEXT_WIDTH = 1.12
"""Width of a box without pictures."""
_LETTERS_PER_INCH, _LONGEST = 15.5, 9
"""Of names in boxes; a name is cut where it needs more lines than these."""
_PORT = 0.18
"""Distance of two edges where they meet one box: more than the widest edge and than the number at its end."""
GREY = "#666666"


@dataclass(frozen=True, eq=False)
class Boxes:
    """Content and size of the boxes of a graph.

    Parameters
    ----------
    shown : Shown
    pictures : dict
        By layer and concept, (height, width, 3) each.
    called : callable
        Returns the words for a concept.
    names : dict
        Names of concepts by layer and concept.
    """

    shown: Shown
    pictures: Mapping[tuple[str, int], Sequence[Any]]
    called: Callable[[ConceptNode], str]
    names: Mapping[tuple[str, int], str]

    def width(self, node: ConceptNode) -> float:
        """Return the width that a node needs, in inches."""
        strip = sum(_PICTURE * min(1.0, _aspect(pixels)) + _GAP for pixels in self.pictures[node.key]) - _GAP
        return max(_TEXT_WIDTH, strip + 2 * _PAD)

    def height(self, node: ConceptNode) -> float:
        """Return the height that a node needs for its content and for its edges, in inches."""
        strip = _PICTURE + _GAP if self.pictures[node.key] else 0.0
        ports = max(len(self.shown.ends(node.key, below=below)) for below in (True, False))
        return max(strip + _LINE * len(self._lines(node)) + 2 * _PAD, _PORT * (ports + 1))

    def _lines(self, node: ConceptNode) -> list[str]:
        """Return the lines of text of a node."""
        letters = int(self.width(node) * _LETTERS_PER_INCH)
        lines = wrapped(shortened(self.name(node), _LONGEST * letters), letters)
        share = percent(node.share)
        if node.share_std is not None and node.depth:
            share = f"{100 * node.share:.1f} ± {100 * node.share_std:.1f} %"
        fits = len(f"{lines[-1]} ({share})") <= letters + 1
        lines[-1:] = [f"{lines[-1]} ({share})"] if fits else [lines[-1], share]
        return [*lines, *self.left_over(node)]

    def name(self, node: ConceptNode) -> str:
        """Return what a node is called, and the name of its concept where one is known that does not say so."""
        words, name = self.called(node), self.names.get(node.key)
        return f"{words}: {name}" if name and name != words else words

    def left_over(self, node: ConceptNode) -> list[str]:
        """Return the words on the relevance of a decomposed concept that no shown concept gets."""
        if node.unexplained is None:
            return []
        others, absorbed = left_over(node, self.shown.at(node.key))
        sign = " (−)" if absorbed < 0 else ""
        return [f"others {percent(others)}"] * bool(others) + [f"absorbed {percent(abs(absorbed))}{sign}"] * bool(
            absorbed
        )

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
            draw_picture(ax, pixels, (x, top - _PICTURE, picture_width, _PICTURE))
            x += picture_width + _GAP
        top -= _PICTURE + _GAP if pictures else 0
        for line, text in enumerate(lines):
            quiet = line >= len(lines) - len(self.left_over(node))
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


def draw_picture(ax: Axes, pixels: Any, frame: tuple[float, float, float, float]) -> None:
    """Draw a picture into a frame (left, bottom, width, height), as large as its sides allow."""
    left, bottom, width, frame_height = frame
    height = min(abs(frame_height), width / _aspect(pixels))
    height = height if frame_height > 0 else -height
    bottom += (frame_height - height) / 2
    extent = (left, left + width, bottom, bottom + height)
    ax.imshow(pixels, extent=extent, interpolation="nearest", aspect="equal", zorder=4)
    ax.add_patch(Rectangle((left, bottom), width, height, fill=False, edgecolor=OUTLINE, linewidth=0.5, zorder=5))
