"""One block of a figure of reference samples: images as a style shows them, their heatmaps, receptive fields."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ...data.pixels import finite
from ..highlight import LEGENDS, masked_image, opaque_image
from ..image import picture
from ..look import Look
from .labels import literal, wrapped
from .panels import CELL, OUTLINE, aspect_of, show_image, show_map
from .reference_view import Box, ReferenceView

__all__ = ["ReferenceBlock", "ReferenceStyle"]

ReferenceStyle: TypeAlias = Literal["overlay", "map", "masked", "opaque", "crop"]

_LINE, _TITLE_LINE = 0.145, 0.18
"""Height of a line of a caption, and of a title, in inches."""
_LETTERS_PER_INCH = 12


@dataclass(frozen=True, eq=False)
class ReferenceBlock:
    """One block of a figure: lines of samples, best first.

    Parameters
    ----------
    view : ReferenceView
    style : str
    across : int
        Samples in a line.
    look : Look
        Of the heatmaps below the images, and the percentile of the other styles.
    heading : str
    cell : float
        Width of a sample in inches.
    """

    view: ReferenceView
    style: ReferenceStyle
    across: int
    look: Look
    heading: str
    cell: float = CELL

    @property
    def width(self) -> float:
        """In inches."""
        return self.cell * self.across

    @property
    def height(self) -> float:
        """In inches."""
        caption = max((text.count("\n") + 1 for text in self._captions), default=1)
        panel = self.cell * aspect_of(np.empty((1, *self.frame)))
        line = panel * (1 + self.with_maps) + _LINE * caption + (0.22 if self.with_maps else 0.1)
        return line * self.lines + _TITLE_LINE * (len(self._wrapped(self.heading)) + len(self._legend) + 1)

    @property
    def with_maps(self) -> bool:
        """Whether the heatmaps stand below the images."""
        return self.style in ("overlay", "map", "crop")

    @property
    def _captions(self) -> list[str]:
        """Captions whose lines fit above the samples."""
        letters = int(self.cell * _LETTERS_PER_INCH)
        return [
            "\n".join(p for line in text.splitlines() for p in wrapped(line, letters)) for text in self.view.captions
        ]

    @property
    def _legend(self) -> list[str]:
        """What darkness and lines in the pictures mean."""
        texts = [] if self.with_maps else [LEGENDS[self.style]]
        texts += ["line: around where relevance starts"] if any(map(_is_outlined, self.view.areas or ())) else []
        texts += ["box: what the strongest neuron sees"] if self.view.boxes is not None else []
        return [line for text in texts for line in self._wrapped(text)]

    @property
    def lines(self) -> int:
        """Lines of samples."""
        return max(1, math.ceil(len(self.view.images) / self.across))

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the largest heatmap, in pixels."""
        sizes = [heatmap.shape for heatmap in self.view.heatmaps]
        return max((size[0] for size in sizes), default=1), max((size[1] for size in sizes), default=1)

    def _wrapped(self, text: str) -> list[str]:
        return textwrap.wrap(text, int(max(self.width, 2.0) * _LETTERS_PER_INCH))

    def draw(self, figure: SubFigure) -> None:
        """Draw the block into a part of a figure."""
        figure.suptitle(literal("\n".join(self._wrapped(self.heading))), fontsize="medium", x=0.01, ha="left")
        panels = 1 + self.with_maps
        axes = figure.subplots(self.lines * panels, self.across, squeeze=False)
        for number in range(self.lines * self.across):
            line, column = divmod(number, self.across)
            self._sample(axes[line * panels : (line + 1) * panels, column], number)
        if self._legend:
            figure.supxlabel("\n".join(self._legend), fontsize="small", x=0.01, ha="left")

    def _sample(self, axes: npt.NDArray[Any], number: int) -> None:
        """Draw one sample into its axes, (panel,), or nothing where there is none."""
        if number >= len(self.view.images):
            for ax in axes:
                ax.set_axis_off()
            return
        image, heatmap = self.view.images[number], finite(self.view.heatmaps[number])
        pixels, region = self._styled(image, heatmap)
        show_image(axes[0], pixels, literal(self._captions[number]))
        axes[0].set_anchor("N")
        if self.with_maps:
            show_map(axes[1], image, heatmap, vmax=None, look=self.look)
            axes[1].set_anchor("N")
        if region is not None and region.any():
            _outline_region(axes[0], region)
        area = None if self.view.areas is None else self.view.areas[number]
        if _is_outlined(area):
            _outline_region(axes[-1], finite(area))
            if np.asarray(pixels).shape[:2] == finite(area).shape and self.with_maps:
                _outline_region(axes[0], finite(area))
        for ax, size in zip(axes, (np.asarray(pixels).shape[:2], heatmap.shape), strict=False):
            if self.view.boxes is not None:
                _outline_box(ax, self.view.boxes[number])
            if self.style == "crop":
                _centre(ax, size, self.frame)

    def _styled(self, image: Any, heatmap: npt.NDArray[Any]) -> tuple[Any, npt.NDArray[np.bool_] | None]:
        """Return an image as the style shows it, (height, width, 3), and the region to be outlined."""
        if self.style == "masked":
            return masked_image(image, heatmap, percentile=self.look.percentile), None
        if self.style == "opaque":
            return opaque_image(image, heatmap, percentile=self.look.percentile)
        return picture(image), None


def _is_outlined(area: Any) -> bool:
    """Return whether relevance starts somewhere in particular in an image."""
    return area is not None and np.ndim(area) == 2 and bool(np.any(finite(area)))


def _outline_region(ax: Axes, region: npt.NDArray[Any]) -> None:
    """Draw a line around a region, (height, width), along the edge of the image too."""
    height, width = region.shape
    ax.autoscale(False)
    rim = np.pad(region.astype(np.float64), 1)
    ax.contour(range(-1, width + 1), range(-1, height + 1), rim, levels=[0.5], colors=OUTLINE, linewidths=0.9)


def _outline_box(ax: Axes, box: Box) -> None:
    """Draw the edge of a receptive field, which shows on dark and light; of a volume the one in a slice."""
    axes = len(box) // 2
    (top, left), (bottom, right) = box[axes - 2 : axes], box[-2:]
    edge = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=OUTLINE, linewidth=1)
    edge.set_path_effects([withStroke(linewidth=2.6, foreground="white")])
    ax.add_patch(edge)


def _centre(ax: Axes, size: tuple[int, ...], frame: tuple[int, int]) -> None:
    """Center a part of an image in a frame, so that parts of all sizes have one scale."""
    (height, width), (frame_height, frame_width) = size, frame
    ax.set_xlim((width - frame_width) / 2 - 0.5, (width + frame_width) / 2 - 0.5)
    ax.set_ylim((height + frame_height) / 2 - 0.5, (height - frame_height) / 2 - 0.5)
    ax.spines[:].set_visible(False)
    ax.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=OUTLINE, linewidth=0.8, clip_on=False))
