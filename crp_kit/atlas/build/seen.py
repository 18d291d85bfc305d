"""Scores of one batch, each number once: the log of a build keeps them, and statistics take them in, sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..file.header import Array, Integers, Mode
from ..statistics.scores import BatchScores, ModeScores, Rows, SampleFacts

__all__ = ["Seen", "batch_scores", "joined"]


@dataclass(frozen=True, eq=False)
class Seen:
    """What a batch gave, each number once: `batch_scores` makes of it what statistics take in, and a log keeps it.

    Parameters
    ----------
    sample : numpy.ndarray
        (sample,), numbers in the dataset.
    slots : numpy.ndarray
        (slot, sample), targets; -1 where a sample has fewer.
    facts : SampleFacts
    activations, relevances : dict
        By layer score and position, (slot, sample, concept); activations have one slot.
    """

    sample: Integers
    slots: Integers
    facts: SampleFacts
    activations: Mapping[str, tuple[Array, Array]]
    relevances: Mapping[str, tuple[Array, Array]]


def batch_scores(seen: Seen) -> BatchScores:
    """Return what a batch gave as statistics take it in."""
    first = seen.slots[0] if len(seen.slots) else np.full(len(seen.sample), -1)
    layers: dict[str, Mapping[Mode, ModeScores]] = {}
    for name, activations in seen.activations.items():
        score, position = (values[0] for values in activations)
        layers[name] = {
            "relevance": _relevance_scores(seen.sample, seen.slots, *seen.relevances[name]),
            "activation": _activation_scores(Rows(seen.sample, first, score, position), seen.slots),
        }
    return BatchScores(seen.sample, first.astype("i8"), seen.facts, layers)


def joined(parts: Sequence[Seen]) -> Seen:
    """Put samples side by side; those with fewer slots get empty ones."""
    if len(parts) == 1:
        return parts[0]
    most = max(len(part.slots) for part in parts)

    def beside(arrays: Sequence[Array], slots: int, fill: int = 0) -> Array:
        wide = (
            np.pad(array, [(0, slots - len(array)), *[(0, 0)] * (array.ndim - 1)], constant_values=fill)
            for array in arrays
        )
        return np.concatenate(list(wide), 1)

    def layers(measured: Sequence[Mapping[str, tuple[Array, Array]]], slots: int) -> dict[str, tuple[Array, Array]]:
        return {
            name: (
                beside([by_layer[name][0] for by_layer in measured], slots),
                beside([by_layer[name][1] for by_layer in measured], slots),
            )
            for name in measured[0]
        }

    return Seen(
        np.concatenate([part.sample for part in parts]),
        beside([part.slots for part in parts], most, fill=-1),
        _joined_facts([part.facts for part in parts]),
        layers([part.activations for part in parts], 1),
        layers([part.relevances for part in parts], most),
    )


def _joined_facts(parts: Sequence[SampleFacts]) -> SampleFacts:
    return SampleFacts(**{name: np.concatenate([part.arrays()[name] for part in parts]) for name in parts[0].arrays()})


def _relevance_scores(sample: Integers, slots: Integers, score: Array, position: Array) -> ModeScores:
    """Sort relevance, (slot, sample, concept), into rows: a sample has as many as it has targets."""
    held = slots >= 0
    sample_index, slot = np.nonzero(held.T)
    rows = Rows(
        sample[sample_index], slots[slot, sample_index], score[slot, sample_index], position[slot, sample_index]
    )
    if len(slots) == 1 and held.all():
        return ModeScores(rows, rows, rows)
    some = np.flatnonzero(held.any(0)) if len(slots) else np.zeros(0, int)
    first = rows.taken(np.unique(sample_index, return_index=True)[1])
    if not len(some):
        return ModeScores(rows, first, rows)
    choice = np.where(held[:, some, None], score[:, some], -np.inf).argmax(0)  # the first of equals
    picked = [np.take_along_axis(values[:, some], choice[None], 0)[0] for values in (score, position)]
    targets = slots[choice, some[:, None]]
    return ModeScores(rows, first, Rows(sample[some], targets, *picked))


def _activation_scores(rows: Rows, slots: Integers) -> ModeScores:
    """Sort activation, one row for each sample, into rows for each of its classes."""
    sample_index, slot = np.nonzero(slots.T >= 0)
    whole = np.array_equal(sample_index, np.arange(len(rows.sample)))
    by_class = rows if whole else rows.taken(sample_index, slots[slot, sample_index])
    return ModeScores(by_class, rows, rows)
