"""Scores of the concepts of a batch, as statistics take them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..file.schema import Array, Floats, Integers, Mode

__all__ = ["BatchScores", "ModeScores", "Rows"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Scores of concepts, samples ascending.

    Parameters
    ----------
    sample, target : numpy.ndarray
        (row,): number in the dataset, and class.
    score, position : numpy.ndarray
        (row, concept): the score, and the flat index of the highest value in the concept's own map.
    """

    sample: Integers
    target: Integers
    score: Floats
    position: Integers

    def taken(self, rows: Array, target: Integers | None = None) -> Rows:
        """Return some of the rows, perhaps with other targets."""
        targets = self.target[rows] if target is None else target
        return Rows(self.sample[rows], targets, self.score[rows], self.position[rows])


@dataclass(frozen=True, eq=False)
class ModeScores:
    """Relevance or activation of one layer in a batch.

    Parameters
    ----------
    by_class : Rows
        One row for each sample and target.
    first : Rows
        One row for each sample: that of its first target.
    best : Rows
        One row for each sample: for each concept, the highest score that any target gives. Its `target` may be
        (sample, concept).
    """

    by_class: Rows
    first: Rows
    best: Rows


@dataclass(frozen=True, eq=False)
class BatchScores:
    """Scores of one batch.

    Parameters
    ----------
    sample, target, prediction : numpy.ndarray
        (sample,): number in the dataset, first target and predicted class, -1 for none.
    layers : dict
        By layer name, relevance and activation.
    """

    sample: Integers
    target: Integers
    prediction: Integers
    layers: Mapping[str, Mapping[Mode, ModeScores]]
