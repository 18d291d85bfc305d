"""Activations of a layer, and coefficients of its relevance, over the data of a study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..atlas.build.target_policy import TargetPolicy, UnlabelledError
from ..attribution.layer_concepts import layer_concept
from ..attribution.layer_relevance import coefficients_at
from ..attribution.layer_values import find_layer, per_sample
from ..attribution.subject import Subject
from ..concepts import ChannelConcept
from ..data.batches import Batch, batches
from ..data.samples import Form
from ..errors import InputError
from ..numerics import is_finite, working
from ..propagation.run import Run

__all__ = ["Observed", "activation_of", "channel_axis", "flat_channels", "observed", "sample_numbers"]


@dataclass(frozen=True, eq=False)
class Observed:
    """Some samples at a layer.

    Parameters
    ----------
    numbers : tuple of int
        Numbers of the samples.
    activation : torch.Tensor
        (sample, position, channel), float64 on the CPU.
    coefficient : torch.Tensor or None
        The same of the relevance by the activation, if there are targets.
    """

    numbers: tuple[int, ...]
    activation: torch.Tensor
    coefficient: torch.Tensor | None


def sample_numbers(subject: Subject, limit: int | None) -> list[int]:
    """Return the numbers of the samples, or of the first ones.

    Raises
    ------
    InputError
        If there are none.
    """
    count = len(subject.samples)
    if not count:
        raise InputError("the dataset is empty")
    return list(range(count if limit is None else min(count, limit)))


def observed(
    subject: Subject,
    layer: str,
    numbers: Sequence[int],
    *,
    targets: TargetPolicy | None = None,
    batch_size: int = 32,
) -> Iterator[Observed]:
    """Yield samples in batches, with coefficients where targets say what relevance starts from.

    Raises
    ------
    InputError
        If a sample cannot be used.
    """
    samples = replace(subject.samples, form=Form.usual([subject.samples.first_image()[0]]))
    grid = [numbers[start : start + batch_size] for start in range(0, len(numbers), batch_size)]
    for batch in batches(samples, grid):
        if batch.failures:
            failure = batch.failures[0]
            raise InputError(f"sample {failure.sample} cannot be used: {failure.reason}")
        yield _of_batch(subject, layer, batch, targets)


def _of_batch(subject: Subject, layer: str, batch: Batch, targets: TargetPolicy | None) -> Observed:
    assert batch.images is not None
    run = subject.attribution.engine.run(
        subject.normalised(batch.images), None if targets is None else subject.composite
    )
    axis = channel_axis(run, layer)
    activation = activation_of(run, layer)
    coefficient = None
    if targets is not None:
        policy = targets
        try:
            coefficient = coefficients_at(run, lambda output: policy(output, batch.labels), layer=layer)
        except UnlabelledError as error:
            raise InputError(f"sample {batch.samples[error.row]}: {error}") from error
    return Observed(
        batch.samples,
        flat_channels(activation, axis),
        None if coefficient is None else flat_channels(coefficient, axis),
    )


def activation_of(run: Run, layer: str) -> torch.Tensor:
    """Return the output of a layer, (sample, *shape).

    Raises
    ------
    InputError
        If it is not finite.
    """
    activation = per_sample(run.graph, working(run.recording.value(find_layer(run, layer)))).detach()
    if not is_finite(activation):
        raise InputError(f"{layer!r} has values that are NaN or infinite")
    return activation


def channel_axis(run: Run, layer: str) -> int:
    """Return the axis of a layer's channels, the sample axis counted."""
    concept: Any = layer_concept(run, layer, ChannelConcept())
    return int(concept.axis)


def flat_channels(values: torch.Tensor, axis: int) -> torch.Tensor:
    """Return (sample, *shape) as (sample, position, channel), in float64 on the CPU."""
    moved = values.movedim(axis, -1)
    return moved.reshape(len(moved), -1, moved.shape[-1]).double().cpu()
