"""Results of concept flipping: curves by order, the area over them, and the band of random orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..drawing import plots
from ..result_table import Column, Table
from ..statistics.intervals import mean_interval
from .orders import RANDOM
from .shown import ShownResult

if TYPE_CHECKING:
    from ..drawing import Axes, Figure

__all__ = ["AreaTable", "CurveTable", "FlippingCurves"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class CurveTable(Table):
    """Change of the output by order and number of flipped concepts.

    Parameters
    ----------
    order : numpy.ndarray
        Name of the order.
    k : numpy.ndarray
        Number of flipped concepts.
    mean, low, high : numpy.ndarray
        Mean over the samples, and its t interval; not-a-number for one sample.
    """

    order: Column
    k: Column
    mean: Column
    low: Column
    high: Column


@dataclass(frozen=True, eq=False, repr=False)
class AreaTable(Table):
    """Area over the curve by order.

    Parameters
    ----------
    order : numpy.ndarray
        Name of the order.
    aoc, low, high : numpy.ndarray
        Mean over the samples, and its t interval.
    better, better_low, better_high : numpy.ndarray
        Mean over the samples of the area minus that of the random orders, and its t interval; not-a-number without
        random orders. Where the interval holds 0, the order is not distinguishable from chance.
    """

    order: Column
    aoc: Column
    low: Column
    high: Column
    better: Column
    better_low: Column
    better_high: Column


@dataclass(frozen=True, eq=False, repr=False)
class FlippingCurves(ShownResult):
    """Change of the output as the concepts of one layer are flipped, one after the other.

    Parameters
    ----------
    layer : str
    k : numpy.ndarray
        (step,), numbers of flipped concepts; the first is 0, the last all of them.
    changes : dict
        By order: f(k) − f(0) of each sample, (sample, step); of insertion, f(k) − f(all flipped) as concepts come back.
        Random orders have one array for each: (order, sample, step).
    samples : numpy.ndarray
        (sample,), numbers in the dataset.
    settings : dict
        What was done, in words: mode, baseline, output, targets, composite.
    confidence : float
        Of the intervals.
    """

    layer: str
    k: npt.NDArray[np.int64]
    changes: Mapping[str, Floats]
    samples: npt.NDArray[np.int64]
    settings: Mapping[str, str]
    confidence: float = 0.95

    @property
    def heading(self) -> str:
        return f"FlippingCurves of {self.layer!r}: {self.k[-1]} concepts, {len(self.samples)} samples"

    @cached_property
    def areas(self) -> Mapping[str, Floats]:
        """Area of each sample by order: (sample,). Deletion: −∫ change du over u = k / concepts; insertion: +∫."""
        sign = 1.0 if self.settings["mode"] == "insertion" else -1.0
        u = self.k / self.k[-1]
        return {name: sign * np.trapezoid(self._by_sample(name), u, axis=1) for name in self.changes}

    def _by_sample(self, name: str) -> Floats:
        """Return changes (sample, step), those of random orders as their mean."""
        values = self.changes[name]
        return values.mean(0) if values.ndim > 2 else values

    @property
    def aoc(self) -> Mapping[str, float]:
        """Mean area over the samples, by order."""
        return {name: float(area.mean()) for name, area in self.areas.items()}

    @property
    def table(self) -> CurveTable:
        """Curves as a table."""
        names, blocks = list(self.changes), []
        for name in names:
            blocks.append(self._interval(self._by_sample(name)))
        mean, low, high = (np.concatenate([block[part] for block in blocks]) for part in range(3))
        return CurveTable(np.repeat(names, len(self.k)), np.tile(self.k, len(names)), mean, low, high)

    @property
    def summary(self) -> AreaTable:
        """Areas as a table, with the comparison to random orders."""
        names, chance = list(self.areas), self.areas.get(RANDOM)
        areas = [self._interval(self.areas[name][:, None]) for name in names]
        nothing = np.full((len(self.samples), 1), np.nan)
        better = [
            self._interval(nothing if chance is None or name == RANDOM else (self.areas[name] - chance)[:, None])
            for name in names
        ]
        columns = [np.array([row[part][0] for row in rows]) for rows in (areas, better) for part in range(3)]
        return AreaTable(np.array(names), *columns)

    def _interval(self, values: Floats) -> tuple[Floats, Floats, Floats]:
        """Return mean, low and high over the samples of values (sample, column): (column,) each."""
        count = np.full(values.shape[1], len(values))
        mean, std = values.mean(0), values.std(0)
        low, high = mean_interval(count, mean, std, confidence=self.confidence)
        return mean, low, high

    def random_band(self, level: float = 0.95) -> tuple[Floats, Floats] | None:
        """Return the quantiles of the mean curves of the random orders, (step,) each; None without random orders."""
        if RANDOM not in self.changes:
            return None
        curves = self.changes[RANDOM].mean(1)
        low, high = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high

    def plot(self, *, ax: Axes | None = None, width: float = 5.0) -> Figure:
        """Return a figure of the curves with the band of random orders.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.
        width : float, optional
            Of a new figure, in inches.
        """
        figure: Figure = plots().flipping_curves(self, ax=ax, width=width)
        return figure
