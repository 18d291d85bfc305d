"""Results of randomisation and sensitivity: how alike shares of relevance stay when something changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..drawing import plots
from ..result_table import Column, Table
from ..statistics.intervals import mean_of_known
from .shown import ShownResult

if TYPE_CHECKING:
    from ..drawing import Figure

__all__ = ["Randomisation", "RandomisationTable", "Sensitivity", "SensitivityTable"]

Floats = npt.NDArray[np.float64]

OTHER_CLASS = "another class"


@dataclass(frozen=True, eq=False, repr=False)
class RandomisationTable(Table):
    """Rank correlation of shares of relevance with those of the model as it is.

    Parameters
    ----------
    change : numpy.ndarray
        ``"another class"``, which a target does not have, or the last of the modules that have lost their weights.
    modules : numpy.ndarray
        How many modules have.
    n : numpy.ndarray
        Samples in which the correlation is defined.
    correlation, low, high : numpy.ndarray
        Mean over these samples, and its t interval.
    """

    change: Column
    modules: Column
    n: Column
    correlation: Column
    low: Column
    high: Column


@dataclass(frozen=True, eq=False, repr=False)
class Randomisation(ShownResult):
    """Rank correlation of shares of relevance, before and after the class or the weights change.

    Parameters
    ----------
    layer : str
    other_class : numpy.ndarray or None
        (sample,), with those of another class; None where relevance starts from a target.
    stages : tuple of (tuple of str)
        Modules that lose their weights, stage by stage from the output down.
    correlations : numpy.ndarray
        (stage, sample), after all stages up to this one.
    samples : numpy.ndarray
        (sample,), numbers in the dataset.
    settings : dict
        What was done, in words: target, composite, seed.
    confidence : float
        Of the intervals.
    """

    layer: str
    other_class: Floats | None
    stages: tuple[tuple[str, ...], ...]
    correlations: Floats
    samples: npt.NDArray[np.int64]
    settings: Mapping[str, str]
    confidence: float = 0.95

    @property
    def heading(self) -> str:
        return f"Randomisation at {self.layer!r}: {len(self.samples)} samples"

    @property
    def table(self) -> RandomisationTable:
        """Means over the samples."""
        others = [] if self.other_class is None else [self.other_class]
        counts = np.cumsum([len(stage) for stage in self.stages])
        changes = [*[OTHER_CLASS] * len(others), *(stage[-1] for stage in self.stages)]
        rows = [mean_of_known(values, confidence=self.confidence) for values in (*others, *self.correlations)]
        columns = map(np.array, zip(*rows, strict=True))
        return RandomisationTable(np.array(changes), np.array([*[0] * len(others), *counts]), *columns)

    def plot(self) -> Figure:
        """Return a figure: the correlation over the number of modules without their weights."""
        figure: Figure = plots().randomisation(self)
        return figure


@dataclass(frozen=True, eq=False, repr=False)
class SensitivityTable(Table):
    """Change of shares of relevance under noise.

    Parameters
    ----------
    noise : numpy.ndarray
        Standard deviation of the noise, relative to that of the sample's model input.
    n : numpy.ndarray
        Samples.
    distance, distance_low, distance_high : numpy.ndarray
        Half of the summed magnitudes of the differences of shares, from 0 to 1: the part of relevance that goes to
        other concepts. Mean over the samples, and its t interval.
    correlation, correlation_low, correlation_high : numpy.ndarray
        Rank correlation of the shares, and its t interval.
    same_class : numpy.ndarray
        Share of noisy inputs for which the model predicts what it predicts without noise; not-a-number where it is not
        known what the classes of its output are.
    """

    noise: Column
    n: Column
    distance: Column
    distance_low: Column
    distance_high: Column
    correlation: Column
    correlation_low: Column
    correlation_high: Column
    same_class: Column


@dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(ShownResult):
    """Change of shares of relevance under seeded noise on the model's input.

    Parameters
    ----------
    layer : str
    noise : tuple of float
        Levels, relative to the standard deviation of the sample's model input.
    distances, correlations, same_class : numpy.ndarray
        (level, sample), means over the repetitions.
    samples : numpy.ndarray
        (sample,), numbers in the dataset.
    settings : dict
        What was done, in words: target, composite, repeats, seed.
    confidence : float
        Of the intervals.
    """

    layer: str
    noise: tuple[float, ...]
    distances: Floats
    correlations: Floats
    same_class: Floats
    samples: npt.NDArray[np.int64]
    settings: Mapping[str, str]
    confidence: float = 0.95

    @property
    def heading(self) -> str:
        return f"Sensitivity at {self.layer!r}: {len(self.samples)} samples"

    @property
    def table(self) -> SensitivityTable:
        """Means over the samples."""
        columns: dict[str, Any] = {"noise": np.array(self.noise)}
        for name, values in (("distance", self.distances), ("correlation", self.correlations)):
            means = [mean_of_known(row, confidence=self.confidence) for row in values]
            columns.setdefault("n", np.array([mean.n for mean in means]))
            columns[name] = np.array([mean.mean for mean in means])
            columns[f"{name}_low"] = np.array([mean.low for mean in means])
            columns[f"{name}_high"] = np.array([mean.high for mean in means])
        return SensitivityTable(**columns, same_class=self.same_class.mean(1))

    def plot(self) -> Figure:
        """Return a figure: distance and rank correlation over the noise."""
        figure: Figure = plots().sensitivity(self)
        return figure
