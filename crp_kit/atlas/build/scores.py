"""The dataset pass, one batch at a time: images in, scores and positions of every concept out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ...attribution.layer_relevance import Choice, observe
from ...attribution.subject import Subject
from ...concepts import Aggregate, Concept
from ...data.batches import Batch
from ...errors import ConceptRangeError, CrpKitError, InputError
from ...numerics import is_finite
from ...propagation.run import Run
from ..file.header import Array
from .sample_facts import sample_facts
from .seen import Seen, joined
from .target_policy import TargetPolicy, UnlabelledError

__all__ = ["Collector"]


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
        return joined([self._seen(part) for part in batch.parts(self.at_once)])

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


def _about(batch: Batch, error: CrpKitError) -> InputError:
    """Return an error that says in which samples it happened."""
    span = f"{batch.samples[0]} to {batch.samples[-1]}" if len(batch.samples) > 1 else f"{batch.samples[0]}"
    return InputError(f"in the batch of samples {span}: {error}")
