"""One block of a figure of reference samples: images as a style shows them, their heatmaps, what a neuron sees."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torchvision.transforms.functional import gaussian_blur

from ...errors import InputError
from ..image import picture
from .panels import CELL, OUTLINE, Colours, aspect_of, colour_bar, numbers, plain, show_image, show_map

__all__ = ["ReferenceView", "Sheet", "Style"]

Style: TypeAlias = Literal["heatmap", "masked", "opaque", "crop"]
Box: TypeAlias = tuple[int, ...]

_RELEVANT = 0.35
"""Positive relevance, smoothed, from this share of its maximum on leaves an image as it is."""
_DARKEST, _PALEST = 0.12, 0.22
"""What is left of the brightness, or of the colour, where nothing is relevant."""
_LEGENDS: dict[Style, str] = {
    "masked": f"dark: positive relevance, smoothed, is below {_RELEVANT:.0%} of its maximum in the image",
    "opaque": f"inside the line: positive relevance, smoothed, is above {_RELEVANT:.0%} of its maximum in the image",
}
_BAR = 1.2
"""Width of a colour bar with its words, in inches."""
_LINE, _TITLE_LINE = 0.145, 0.18
"""Height of a line of a caption, and of a title, in inches."""
_LETTERS_PER_INCH = 12


@dataclass(frozen=True, eq=False)
class ReferenceView:
    """Reference samples of one concept, ready to be drawn.

    Parameters
    ----------
    subject : str
        The concept and its layer.
    ranking : str
        What ranked the samples, and where the relevance of the heatmaps starts.
    images : sequence of torch.Tensor or array
        Values in [0, 1]: (channel, height, width); or signals (channel, time), or volumes (channel, depth, height,
        width), of any range.
    heatmaps : sequence of torch.Tensor or array
        Signed relevance: (height, width), (time,) or (depth, height, width).
    captions : sequence of str
        Sample, class and score of each.
    boxes : sequence of tuple of int, or None
        Top, left, bottom and right of what the strongest neuron sees of each image; of others all starts, then all
        ends.
    """

    subject: str
    ranking: str
    images: Sequence[Any]
    heatmaps: Sequence[Any]
    captions: Sequence[str]
    boxes: Sequence[Box] | None = None

    def cropped(self) -> ReferenceView:
        """Return what lies in the boxes.

        Raises
        ------
        InputError
            If there are no boxes, or an image has not the size of its heatmap.
        """
        if self.boxes is None:
            raise InputError(
                f"no receptive fields of {self.subject} to cut out: ask for references with receptive_field=True"
            )
        for image, heatmap in zip(self.images, self.heatmaps, strict=True):
            _check_size(image.shape[-heatmap.ndim :], heatmap.shape)
        parts = [
            [
                one[(..., *map(slice, box[: len(box) // 2], box[len(box) // 2 :]))]
                for one, box in zip(several, self.boxes, strict=True)
            ]
            for several in (self.images, self.heatmaps)
        ]
        return replace(self, images=parts[0], heatmaps=parts[1], boxes=None)


@dataclass(frozen=True, eq=False)
class Sheet:
    """One block of a figure: lines of samples, best first.

    Parameters
    ----------
    view : ReferenceView
    style : str
    across : int
        Samples in a line.
    cmap : str or zennit.cmap.ColorMap
    heading : str
    """

    view: ReferenceView
    style: Style
    across: int
    cmap: Colours
    heading: str

    @property
    def width(self) -> float:
        """In inches."""
        return max(CELL * self.across + (_BAR if self.with_maps else 0.1), 3.2)

    @property
    def height(self) -> float:
        """In inches."""
        caption = max((one.count("\n") + 1 for one in self.view.captions), default=1)
        panel = CELL * aspect_of(np.empty((1, *self.frame)))
        line = panel * (1 + self.with_maps) + _LINE * caption + (0.3 if self.with_maps else 0.1)
        titles = self._wrapped(self.heading) + ([] if self.with_maps else self._wrapped(_LEGENDS[self.style]))
        return line * self.lines + _TITLE_LINE * (len(titles) + 1)

    @property
    def with_maps(self) -> bool:
        return self.style in ("heatmap", "crop")

    @property
    def lines(self) -> int:
        return max(1, math.ceil(len(self.view.images) / self.across))

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width that the largest heatmap has."""
        sizes = [one.shape for one in self.view.heatmaps]
        return max((size[0] for size in sizes), default=1), max((size[1] for size in sizes), default=1)

    def _wrapped(self, text: str) -> list[str]:
        return textwrap.wrap(text, int(self.width * _LETTERS_PER_INCH))

    def draw(self, block: SubFigure) -> None:
        """Draw everything into a part of a figure."""
        block.suptitle(plain("\n".join(self._wrapped(self.heading))), fontsize="medium", x=0.01, ha="left")
        deep = 1 + self.with_maps
        places = block.subplots(self.lines * deep, self.across, squeeze=False)
        for number in range(self.lines * self.across):
            line, column = divmod(number, self.across)
            self._sample(places[line * deep : (line + 1) * deep, column], number)
        if self.with_maps:
            colour_bar(block, list(places.ravel()), common=None, cmap=self.cmap)
        else:
            block.supxlabel("\n".join(self._wrapped(_LEGENDS[self.style])), fontsize="small", x=0.01, ha="left")

    def _sample(self, places: npt.NDArray[Any], number: int) -> None:
        """Draw one sample into its places, or nothing where there is none."""
        if number >= len(self.view.images):
            for place in places:
                place.set_axis_off()
            return
        image, heatmap = self.view.images[number], numbers(self.view.heatmaps[number])
        seen, region = _shown(image, heatmap, self.style)
        show_image(places[0], seen, plain(self.view.captions[number]))
        places[0].set_anchor("S")
        if self.with_maps:
            show_map(places[1], heatmap, vmax=None, cmap=self.cmap)
            places[1].set_anchor("N")
        if region is not None and region.any():
            _outline_region(places[0], region)
        for place, size in zip(places, (np.asarray(seen).shape[:2], heatmap.shape), strict=False):
            if self.view.boxes is not None:
                _outline_box(place, self.view.boxes[number])
            if self.style == "crop":
                _centre(place, size, self.frame)


def _shown(image: Any, heatmap: npt.NDArray[Any], style: Style) -> tuple[Any, npt.NDArray[Any] | None]:
    """Return an image as a style shows it, (height, width, channel), and what is to be outlined."""
    whole = picture(image)
    if style not in _LEGENDS:
        return whole, None
    pixels = np.asarray(whole, dtype=np.float64) / 255
    _check_size(pixels.shape[:2], heatmap.shape)
    relevance = _smoothed(heatmap)
    if style == "masked":
        weight = np.clip(relevance / _RELEVANT, 0, 1)[..., None]
        return pixels * (_DARKEST + (1 - _DARKEST) * weight), None
    region = relevance > _RELEVANT
    return np.where(region[..., None], pixels, 1 - _PALEST * (1 - pixels)), region


def _check_size(image: Sequence[int], heatmap: Sequence[int]) -> None:
    """Make sure that places in a heatmap are places in its image."""
    if tuple(image) != tuple(heatmap):
        raise InputError(
            f"an image of {tuple(image)} pixels has a heatmap of {tuple(heatmap)}, and places in one are none in the "
            f"other; let the dataset resize and crop, not preprocess, or take style 'heatmap'"
        )


def _smoothed(heatmap: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return positive relevance, smoothed, as shares of its maximum: (height, width)."""
    positive = torch.as_tensor(heatmap, dtype=torch.float32).clamp_min(0)[None]
    if not bool(positive.any()):
        return np.zeros(heatmap.shape)
    width = min(int(min(heatmap.shape) / 12) * 2 + 3, 2 * min(heatmap.shape) - 1)
    smooth = gaussian_blur(positive, [width, width])[0]
    found: npt.NDArray[Any] = (smooth / smooth.max()).double().numpy()
    return found


def _outline_region(place: Axes, region: npt.NDArray[Any]) -> None:
    """Draw a line around a region, (height, width), along the edge of the image too."""
    height, width = region.shape
    place.autoscale(False)
    rim = np.pad(region.astype(np.float64), 1)
    place.contour(range(-1, width + 1), range(-1, height + 1), rim, levels=[0.5], colors=OUTLINE, linewidths=0.9)


def _outline_box(place: Axes, box: Box) -> None:
    """Draw the edge of a receptive field, which shows on dark and light; of a volume the one in a slice."""
    axes = len(box) // 2
    (top, left), (bottom, right) = box[axes - 2 : axes], box[-2:]
    edge = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=OUTLINE, linewidth=1)
    edge.set_path_effects([withStroke(linewidth=2.6, foreground="white")])
    place.add_patch(edge)


def _centre(place: Axes, size: tuple[int, ...], frame: tuple[int, int]) -> None:
    """Put a part of an image into the middle of a frame, so that parts of all sizes have one scale."""
    (height, width), (high, wide) = size, frame
    place.set_xlim((width - wide) / 2 - 0.5, (width + wide) / 2 - 0.5)
    place.set_ylim((height + high) / 2 - 0.5, (height - high) / 2 - 0.5)
    place.spines[:].set_visible(False)
    place.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=OUTLINE, linewidth=0.8, clip_on=False))
