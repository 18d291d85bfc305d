"""Scores of the concepts of a batch, as statistics take them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ..file.header import Array, Floats, Integers, Mode

__all__ = ["BatchScores", "ModeScores", "Rows", "SampleFacts"]


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
class SampleFacts:
    """What is known of samples beside scores and targets.

    Parameters
    ----------
    label, prediction : numpy.ndarray
        (sample,): first label, -1 for none, and class of the highest output.
    top_class, top_probability : numpy.ndarray
        (sample, rank): the most probable classes, the first of equals first, and the softmax of their outputs.
    logsumexp : numpy.ndarray
        (sample,), of the outputs of all classes; not-a-number where classes have no outputs of their own.
    """

    label: Integers
    prediction: Integers
    top_class: Integers
    top_probability: Floats
    logsumexp: Floats

    def arrays(self) -> dict[str, Array]:
        """Return everything by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, eq=False)
class BatchScores:
    """Scores of one batch.

    Parameters
    ----------
    sample, target : numpy.ndarray
        (sample,): number in the dataset and first target, -1 for none.
    facts : SampleFacts
    layers : dict
        By layer name, relevance and activation.
    """

    sample: Integers
    target: Integers
    facts: SampleFacts
    layers: Mapping[str, Mapping[Mode, ModeScores]]
