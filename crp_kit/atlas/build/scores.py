"""The dataset pass, one batch at a time: images in, scores and positions of every concept out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...atlas.file.header import Array, Integers
from ...attribution.layer_relevance import Choice, observe
from ...attribution.subject import Subject
from ...concepts import Aggregate, Concept
from ...data.batches import Batch
from ...errors import ConceptRangeError, CrpKitError, InputError
from ...numerics import is_finite
from ...propagation.run import Run
from ..file.header import Mode
from ..statistics.scores import BatchScores, ModeScores, Rows, SampleFacts
from .sample_facts import sample_facts
from .target_policy import TargetPolicy, UnlabelledError

__all__ = ["Collector", "Seen", "batch_scores"]


@dataclass(frozen=True, eq=False)
class Collector:
    """Turns batches into scores.

    Parameters
    ----------
    subject : Subject
    concepts : dict
        By layer.
    targets : callable
        From the model output and the samples' label ids to the classes that relevance starts from.
    aggregate : {"sum", "max"}
    abs_norm : bool
    at_once : int, optional
        How many samples of a batch go through the model at once: maps that are too large for memory to be reused cost
        more than what larger batches save. All by default.
    classes : int, optional
        Under how many classes samples can count.
    """

    subject: Subject
    concepts: Mapping[str, Concept]
    targets: TargetPolicy
    aggregate: Aggregate
    abs_norm: bool
    at_once: int = sys.maxsize
    classes: int = 0

    def run(self, images: torch.Tensor) -> Run:
        """Return the forward of images, as the dataset gives them, and the plan of its relevance pass.

        Raises
        ------
        InputError
            If the preprocessing makes no batch of finite numbers.
        """
        inputs = self.subject.normalised(images)
        if not is_finite(inputs):
            bad = sum(not is_finite(image) for image in inputs)
            raise InputError(f"preprocess makes values that are NaN or infinite from {bad} of the images")
        return self.subject.attribution.engine.run(inputs, self.subject.composite)

    def seen(self, batch: Batch) -> Seen:
        """Return what the samples of a batch show. The batch has at least one sample.

        Raises
        ------
        InputError
            If a sample cannot be used; the message names it.
        """
        return _joined([self._seen(part) for part in batch.parts(self.at_once)])

    def _seen(self, batch: Batch) -> Seen:
        """Return what some samples show."""
        assert batch.images is not None
        chosen: list[tuple[Choice, ...]] = []

        def targets(output: torch.Tensor) -> list[tuple[Choice, ...]]:
            chosen.extend(self.targets(output, batch.labels))
            return chosen

        try:
            run = self.run(batch.images)
            seen = observe(run, targets, concepts=self.concepts)
            wrong_ids = sorted(set(seen.targets[seen.targets >= self.classes].tolist()))
            if wrong_ids:
                raise ConceptRangeError("y", wrong_ids, self.classes, what="class")
        except UnlabelledError as error:
            raise InputError(f"sample {batch.samples[error.row]}: {error}") from error
        except ConceptRangeError as error:
            wrong = [n for n, ids in zip(batch.samples, chosen, strict=True) if set(ids) & set(error.ids)]
            raise InputError(f"sample {wrong[0]}: {error}" if wrong else str(error)) from error
        except CrpKitError as error:
            raise _about(batch, error) from error
        return Seen(
            np.array(batch.samples, "i8"),
            seen.targets.T.cpu().numpy(),
            sample_facts(run, seen.prediction, batch.labels, self.classes),
            {name: self._measured(seen.activations[name][None], concept) for name, concept in self.concepts.items()},
            {name: self._measured(seen.relevances[name], concept) for name, concept in self.concepts.items()},
        )

    def _measured(self, values: torch.Tensor, concept: Concept) -> tuple[Array, Array]:
        """Return score and position, (slot, sample, concept), of values (slot, sample, *shape)."""
        reference = concept.reference(values.flatten(0, 1), aggregate=self.aggregate)
        score = reference.score
        if self.abs_norm:
            total = score.abs().sum(1, keepdim=True)
            score = score / torch.where(total == 0, torch.ones_like(total), total)
        shape = (*values.shape[:2], score.shape[1])
        score = score.float()
        if not is_finite(score):
            raise InputError("a score is NaN or infinite, or too large for float32; half precision may be too small")
        return (
            score.reshape(shape).cpu().numpy(),
            reference.position.reshape(shape).to(torch.int32).cpu().numpy(),
        )


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


def _joined(parts: Sequence[Seen]) -> Seen:
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


def _about(batch: Batch, error: CrpKitError) -> InputError:
    """Return an error that says in which samples it happened."""
    span = f"{batch.samples[0]} to {batch.samples[-1]}" if len(batch.samples) > 1 else f"{batch.samples[0]}"
    return InputError(f"in the batch of samples {span}: {error}")
