"""Pass over samples at one layer, whose parts may be kept in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..attribution.subject import Subject
from .kept import Kept, identity_of, kept_in
from .layer_batch import LayerBatch
from .sample_choice import SampleChoice
from .step_log import Parts

__all__ = ["LayerPass"]


@dataclass(frozen=True, eq=False)
class LayerPass:
    """A pass over samples at one layer.

    Parameters
    ----------
    subject : Subject
    layer : str
    choice : SampleChoice
    checkpoint : Path, optional
        Where what is done is kept.
    """

    subject: Subject
    layer: str
    choice: SampleChoice
    checkpoint: Path | None = None

    @cached_property
    def numbers(self) -> list[int]:
        """The numbers of the samples."""
        return self.choice.numbers(self.subject)

    def kept(self, evaluation: str, **settings: Any) -> AbstractContextManager[Kept]:
        """Return a context with what is kept of an evaluation with some settings."""
        whole = {"samples": self.choice, **settings}
        return kept_in(self.checkpoint, lambda: identity_of(self.subject, evaluation, self.layer, whole))

    def batches(self, numbers: Sequence[int] | None = None) -> Iterator[LayerBatch]:
        """Yield the samples at the layer in batches, or some of them.

        Raises
        ------
        InputError
            If a sample cannot be used.
        """
        for batch in self.choice.batches(self.subject, self.numbers if numbers is None else numbers):
            yield LayerBatch(self.subject, self.layer, batch, self.choice)

    def parts(
        self,
        kept: Kept,
        step: str,
        measure: Callable[[LayerBatch], Parts],
        *,
        numbers: Sequence[int] | None = None,
        done: Callable[[int], object] = lambda samples: None,
    ) -> list[Parts]:
        """Return what each batch gives, of all samples or some; what is kept of a step is not computed again.

        `done` is called with how many samples have been added.
        """
        chosen = self.numbers if numbers is None else numbers
        parts = kept.of(step)
        before = min(len(parts) * self.choice.batch_size, len(chosen))
        done(before)
        for batch in self.batches(chosen[before:]) if before < len(chosen) else ():
            parts.append(kept.add(step, measure(batch)))
            done(len(batch.samples))
        return parts

    def mean(self, kept: Kept) -> torch.Tensor:
        """Return the mean of the layer over samples and positions, by channel; by neuron if channels are not known."""
        parts = self.parts(kept, "mean", lambda batch: {"sum": batch.summed().cpu().numpy()})
        total = torch.zeros(())
        for part in parts:
            total = total + torch.from_numpy(part["sum"])
        return total / len(self.numbers)
