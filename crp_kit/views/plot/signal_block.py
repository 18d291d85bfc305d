"""One block of a figure of reference signals: curves in the colours of their relevance."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from ...data.pixels import finite
from ...errors import InputError
from ..look import Look
from .labels import literal, one_line
from .panels import OUTLINE, write_scale
from .reference_view import ReferenceView
from .signals import draw_signal

__all__ = ["SignalBlock"]

_TALL, _CHANNEL, _LINE = 1.0, 0.12, 0.15
"""Inches: height of a panel, height of each channel after the first, and of a line of text."""


@dataclass(frozen=True, eq=False)
class SignalBlock:
    """One block of a figure: lines of signals, best first, wrapped in the colours of their relevance.

    Parameters
    ----------
    view : ReferenceView
        Of signals (channel, time).
    across : int
        Signals in a line.
    look : Look
    heading : str
    cell : float
        Width of a panel in inches.
    """

    view: ReferenceView
    across: int
    look: Look
    heading: str
    cell: float = 3.0

    @property
    def width(self) -> float:
        """In inches."""
        return self.cell * self.across

    @property
    def height(self) -> float:
        """In inches."""
        channels = max((len(np.atleast_2d(image)) for image in self.view.images), default=1)
        panel = _TALL + _CHANNEL * (min(channels, 16) - 1) + _LINE * 2.4
        return max(
            panel * self._lines + 0.5 + 0.2 * (self.view.boxes is not None) + 0.18 * self.heading.count("\n"), 2.2
        )

    @property
    def _lines(self) -> int:
        return max(1, math.ceil(len(self.view.images) / self.across))

    def draw(self, figure: SubFigure) -> None:
        """Draw the block into a part of a figure."""
        heading = textwrap.wrap(self.heading, int(self.width * 12))
        figure.suptitle(literal("\n".join(heading)), fontsize="medium", x=0.01, ha="left")
        if self.view.boxes is not None:
            legend = "between the dashed lines: what the strongest neuron sees"
            figure.supxlabel(legend, fontsize="small", x=0.01, ha="left")
        axes = list(figure.subplots(self._lines, self.across, squeeze=False).ravel())
        count = len(self.view.images)
        for number, ax in enumerate(axes):
            if number < count:
                self._signal(ax, number, last=number + self.across >= count)
            else:
                ax.set_axis_off()

    def _signal(self, ax: Axes, number: int, *, last: bool) -> None:
        """Draw one signal with its caption, and the edges of the strongest neuron's receptive field."""
        row, curve = finite(self.view.heatmaps[number]), np.atleast_2d(finite(self.view.images[number]))
        if curve.shape[1] != len(row):
            raise InputError(
                f"a signal of {curve.shape[1]} time steps has a heatmap of {len(row)}; let the dataset resample, not "
                f"preprocess"
            )
        draw_signal(ax, row, curve, cmap=self.look.cmap)
        ax.set_title(one_line(self.view.captions[number]), loc="left", fontsize="x-small")
        write_scale(ax, row)
        if len(curve) == 1:
            ax.set_ylabel("signal", fontsize="x-small")
        if last:
            ax.set_xlabel("time step", fontsize="x-small")
        if self.view.boxes is not None:
            for edge in self.view.boxes[number]:
                ax.axvline(edge - 0.5, color=OUTLINE, linewidth=0.8, linestyle=(0, (4, 2)))
