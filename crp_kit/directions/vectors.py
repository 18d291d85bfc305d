"""Concept activation vectors: the direction from one group of samples to another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
import torch

from ..attribution.subject import Subject
from ..checks import check_integer, is_integer
from ..concepts import DirectionConcept
from ..errors import InputError
from ..statistics.dictionary_learning import separating_direction
from .fit import provenance_of
from .observations import activation_of, channel_axis, flat_channels, observed

__all__ = ["VectorMethod", "concept_vector"]

VectorMethod = Literal["pattern", "logistic", "difference"]
_ALIKE = 1e-9
"""Difference of two means, relative to the longest row, that is rounding. All methods go by this difference."""


def concept_vector(
    subject: Subject, a: Any, b: Any, *, layer: str, method: VectorMethod, name: str, batch_size: int
) -> DirectionConcept:
    """Return the direction from samples `b` to samples `a`; see `crp_kit.Study.concept_vector`."""
    if method not in get_args(VectorMethod):
        raise InputError(f"method is 'pattern', 'logistic' or 'difference'; got {method!r}")
    check_integer("batch_size", batch_size, low=1)
    groups = {}
    for what, samples in (("samples_a", a), ("samples_b", b)):
        groups[what] = _means(subject, layer, samples, what=what, batch_size=batch_size)
    first, second = groups.values()
    size = np.linalg.norm(np.concatenate([first, second]), axis=1).max()
    if np.linalg.norm(first.mean(0) - second.mean(0)) <= _ALIKE * size:
        raise InputError(f"both groups of samples are the same at {layer!r}, so that no direction leads to one of them")
    direction = _direction(first, second, method)
    length = np.linalg.norm(direction)
    concept = DirectionConcept(direction[None] / length, mean=(first.mean(0) + second.mean(0)) / 2, names=[name])
    concept.provenance = {
        **provenance_of(subject, layer, len(first) + len(second)),
        "method": method,
        "samples_a": len(first),
        "samples_b": len(second),
    }
    return concept


def _direction(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any], method: VectorMethod) -> np.ndarray[Any, Any]:
    """Return the direction, (channel,), of no length in particular."""
    if method == "logistic":
        return separating_direction(first, second)
    if method == "difference":
        difference: np.ndarray[Any, Any] = first.mean(0) - second.mean(0)
        return difference
    rows, target = np.concatenate([first, second]), np.repeat([1.0, 0.0], [len(first), len(second)])
    target = target - target.mean()
    pattern: np.ndarray[Any, Any] = target @ (rows - rows.mean(0)) / (target @ target)
    return pattern


def _means(subject: Subject, layer: str, samples: Any, *, what: str, batch_size: int) -> np.ndarray[Any, Any]:
    """Return the mean activation of each sample over its positions, (sample, channel)."""
    if isinstance(samples, torch.Tensor) and samples.is_floating_point():
        means = _of_images(subject, layer, samples)
    else:
        numbers = samples.tolist() if hasattr(samples, "tolist") else samples
        numbers = list(numbers) if isinstance(numbers, Iterable) else [numbers]
        wrong = [number for number in numbers if not is_integer(number, 0, len(subject.samples) - 1)]
        if wrong:
            raise InputError(
                f"{what} is numbers of samples, from 0 to {len(subject.samples) - 1}, or a batch of images; got "
                f"{wrong[0]!r}"
            )
        parts = observed(subject, layer, numbers, batch_size=batch_size) if numbers else ()
        means = torch.cat([part.activation.mean(1) for part in parts]) if numbers else torch.zeros(0, 0)
    if not len(means):
        raise InputError(f"{what} is empty: a concept activation vector needs samples with the concept and without it")
    values: np.ndarray[Any, Any] = means.numpy()
    return values


def _of_images(subject: Subject, layer: str, images: torch.Tensor) -> torch.Tensor:
    if not len(images):
        return torch.zeros(0, 0)
    run = subject.attribution.engine.run(subject.inputs(images), None)
    return flat_channels(activation_of(run, layer), channel_axis(run, layer)).mean(1)
