"""Concept graph as an indented list, for figures in which its columns could not be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .concept_boxes import GREY, Boxes, draw_picture
from .labels import literal, percent, wrapped
from .panels import OUTLINE

if TYPE_CHECKING:
    from ...concept_graph import ConceptNode
    from ...concept_graph.gathering import Shown

__all__ = ["ConceptList"]

# All lengths are inches, which are the units of the axes.
_MARGIN, _INDENT, _BAR, _SHARE = 0.08, 0.2, 0.34, 0.4
_LINE, _PICTURE, _GAP = 0.145, 0.46, 0.05
_LETTERS_PER_INCH = 15
_HEADING_LETTERS_PER_INCH = 11


@dataclass(frozen=True)
class _Row:
    """A line of the list: how deep it is, the name of a concept, words in grey, its share and pictures."""

    depth: int
    name: Sequence[str]
    words: Sequence[str] = ()
    share: float | None = None
    pictures: Sequence[Any] = field(default=())

    @property
    def height(self) -> float:
        """In inches."""
        text = _LINE * (len(self.name) + len(self.words)) + 0.05
        return max(text, _PICTURE + 0.06) if self.pictures else text


class ConceptList:
    """Rows of a concept graph, each concept below the one that it is part of.

    Parameters
    ----------
    shown : Shown
    boxes : Boxes
        Words and pictures of the concepts.
    heading, note : str
    width : float
        In inches.
    full : float
        The share of the longest bar.
    """

    def __init__(self, shown: Shown, boxes: Boxes, *, heading: str, note: str, width: float, full: float) -> None:
        self.shown, self.boxes, self.width, self.full = shown, boxes, width, full
        self.heading = wrapped(heading, int(width * _HEADING_LETTERS_PER_INCH))
        self.note = wrapped(note, int(width * _LETTERS_PER_INCH * 1.05))
        self.rows = list(self._rows())

    @property
    def height(self) -> float:
        """In inches."""
        head, foot = 0.19 * len(self.heading) + 0.12, 0.12 * len(self.note) + 0.16
        return head + sum(row.height for row in self.rows) + foot

    def _rows(self) -> Iterator[_Row]:
        """Yield the root and what is below it; a concept that occurs again is not written out again."""
        nodes = {node.key: node for node in self.shown.nodes}
        seen: set[tuple[str, int]] = set()

        def below(node: ConceptNode, depth: int, share: float | None) -> Iterator[_Row]:
            again = node.key in seen and bool(self.shown.ends(node.key, below=True))
            name = self.boxes.name(node) + " (above)" * again
            layer = [] if node.layer == "y" else self._wrapped(node.layer, depth)
            pictures = [] if node.key in seen else self.boxes.pictures[node.key]
            yield _Row(depth, self._wrapped(name, depth), layer, share, pictures)
            if node.key in seen:
                return
            seen.add(node.key)
            for edge in self.shown.ends(node.key, below=True):
                yield from below(nodes[edge.target], depth + 1, edge.share)
            if node.unexplained is not None:
                text = "; ".join(self.boxes.left_over(node))
                yield from [_Row(depth + 1, [], self._wrapped(text, depth + 1, beside=0))] if text else []

        yield from below(self.shown.nodes[0], 0, None)

    def _wrapped(self, text: str, depth: int, beside: int | None = None) -> list[str]:
        """Return lines of a text that has so many pictures beside it, by default the most that a concept has."""
        most = max((len(pictures) for pictures in self.boxes.pictures.values()), default=0)
        strip = (most if beside is None else beside) * (_PICTURE + _GAP)
        room = self.width - self._text_left(depth) - strip - _MARGIN
        return wrapped(text, max(10, int(room * _LETTERS_PER_INCH)))

    @staticmethod
    def _text_left(depth: int) -> float:
        return _MARGIN + _INDENT * depth + (_BAR + _SHARE if depth else 0.0)

    def draw(self, ax: Axes, colours: Mapping[bool, Any]) -> None:
        """Draw the list into axes whose units become inches, with the colours of relevance for and against."""
        ax.set_xlim(0, self.width)
        ax.set_ylim(self.height, 0)
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.text(_MARGIN, 0.06, literal("\n".join(self.heading)), fontsize=9, fontweight="bold", va="top")
        top = 0.19 * len(self.heading) + 0.12
        for row in self.rows:
            self._row(ax, row, top, colours)
            top += row.height
        ax.text(_MARGIN, top + 0.06, "\n".join(self.note), fontsize=6.5, va="top", color=GREY)

    def _row(self, ax: Axes, row: _Row, top: float, colours: Mapping[bool, Any]) -> None:
        middle, left = top + row.height / 2, _MARGIN + _INDENT * row.depth
        if row.share is not None:
            length = _BAR * min(abs(row.share) / self.full, 1.0)
            ax.add_patch(Rectangle((left, middle - 0.05), length, 0.1, facecolor=colours[row.share > 0], linewidth=0))
            ax.text(left + _BAR + _SHARE - 0.06, middle, percent(row.share), fontsize=6.5, ha="right", va="center")
        right = self.width - _MARGIN
        for pixels in reversed(row.pictures):
            right -= _PICTURE
            draw_picture(ax, pixels, (right, middle + _PICTURE / 2, _PICTURE, -_PICTURE))
            right -= _GAP
        lines = [*row.name, *row.words]
        for number, text in enumerate(lines):
            height = middle + _LINE * (number - (len(lines) - 1) / 2)
            size, colour = (7.5, OUTLINE) if number < len(row.name) else (6.5, GREY)
            ax.text(self._text_left(row.depth), height, literal(text), fontsize=size, va="center", color=colour)
