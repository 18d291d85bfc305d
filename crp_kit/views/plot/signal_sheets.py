"""One block of a figure of reference signals; and volumes as one slice each, which is then an image."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from ...errors import InputError
from ..image import stretched
from .panels import Colours, colour_bar, numbers, plain, write_scale
from .sheets import ReferenceView
from .signals import draw_signal

__all__ = ["SignalSheet", "sliced"]

_WIDE, _TALL, _CHANNEL, _LINE = 3.0, 1.0, 0.12, 0.15
"""Inches: width and height of a panel, height of each channel after the first, and of a line of text."""


@dataclass(frozen=True, eq=False)
class SignalSheet:
    """One block of a figure: lines of signals, best first, wrapped in the colours of their relevance.

    Parameters
    ----------
    view : ReferenceView
        Of signals (channel, time).
    across : int
        Signals in a line.
    cmap : str or zennit.cmap.ColorMap
    heading : str
    """

    view: ReferenceView
    across: int
    cmap: Colours
    heading: str

    @property
    def width(self) -> float:
        """In inches."""
        return _WIDE * self.across + 1.3

    @property
    def height(self) -> float:
        """In inches."""
        channels = max((len(np.atleast_2d(one)) for one in self.view.images), default=1)
        panel = _TALL + _CHANNEL * (min(channels, 16) - 1) + _LINE * 2.4
        return max(
            panel * self._lines + 0.5 + 0.2 * (self.view.boxes is not None) + 0.18 * self.heading.count("\n"), 2.2
        )

    @property
    def _lines(self) -> int:
        return max(1, math.ceil(len(self.view.images) / self.across))

    def draw(self, block: SubFigure) -> None:
        """Draw everything into a part of a figure."""
        heading = textwrap.wrap(self.heading, int(self.width * 12))
        block.suptitle(plain("\n".join(heading)), fontsize="medium", x=0.01, ha="left")
        if self.view.boxes is not None:
            said = "between the dashed lines: what the strongest neuron sees"
            block.supxlabel(said, fontsize="small", x=0.01, ha="left")
        places = list(block.subplots(self._lines, self.across, squeeze=False).ravel())
        count = len(self.view.images)
        for number, place in enumerate(places):
            if number < count:
                self._signal(place, number, last=number + self.across >= count)
            else:
                place.set_axis_off()
        colour_bar(block, places, common=None, cmap=self.cmap, side="above")

    def _signal(self, place: Axes, number: int, *, last: bool) -> None:
        """Draw one signal with its caption, and the edges of what the strongest neuron sees."""
        row, curve = numbers(self.view.heatmaps[number]), np.atleast_2d(numbers(self.view.images[number]))
        if curve.shape[1] != len(row):
            raise InputError(
                f"a signal of {curve.shape[1]} time steps has a heatmap of {len(row)}; let the dataset resample, not "
                f"preprocess"
            )
        draw_signal(place, row, curve, cmap=self.cmap)
        place.set_title(plain("; ".join(self.view.captions[number].splitlines())), loc="left", fontsize="x-small")
        write_scale(place, row)
        if len(curve) == 1:
            place.set_ylabel("signal", fontsize="x-small")
        if last:
            place.set_xlabel("time step", fontsize="x-small")
        if self.view.boxes is not None:
            for edge in self.view.boxes[number]:
                place.axvline(edge - 0.5, color="#1a1a1a", linewidth=0.8, linestyle=(0, (4, 2)))


def sliced(view: ReferenceView) -> ReferenceView:
    """Return volumes as one slice each, the one with most of the relevance by magnitude, in greys of their own."""
    images, heatmaps, captions = [], [], []
    for image, heatmap, caption in zip(view.images, view.heatmaps, view.captions, strict=True):
        maps, volume = numbers(heatmap), numbers(image)
        if volume.shape[-3:] != maps.shape:
            raise InputError(f"a volume {volume.shape[-3:]} has a heatmap {maps.shape}; let the dataset resize it")
        depth = int(np.abs(maps).sum((1, 2)).argmax())
        images.append(stretched(volume.reshape(-1, *maps.shape).mean(0))[depth])
        heatmaps.append(maps[depth])
        captions.append(f"{caption}\ndepth {depth} of {len(maps)}")
    return replace(view, images=images, heatmaps=heatmaps, captions=captions)
