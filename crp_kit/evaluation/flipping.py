"""Flipping of concepts: the model's output as the concepts of a layer are replaced, for each sample along an order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from ..attribution.axes import check_class_output
from ..attribution.layer_concepts import layer_concepts
from ..attribution.layer_relevance import observe
from ..attribution.layer_values import find_layer, is_folded
from ..attribution.masks import concept_mask
from ..attribution.subject import Subject
from ..checks import check_integer
from ..data.batches import Batch, batches
from ..data.labels import label_ids, label_or_none
from ..data.random_state import random_state_kept
from ..data.samples import Form
from ..errors import ConditionError, InputError
from ..graph.graph import Ref
from ..progress import Progress
from ..propagation.run import Run
from ..propagation.suffix import Suffix
from ..targets import Target, parse_target
from .curves import FlippingCurves
from .measure import Output, Start, measure_of
from .orders import Order, OrderFunction, checked_orders, random_orders, ranked

__all__ = ["Baseline", "FlippingOptions", "Output", "Start", "flipping_curves", "start_of"]

Baseline = Literal["mean", "zero", "own"]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FlippingOptions:
    """Settings of one evaluation, checked."""

    mode: Literal["deletion", "insertion"]
    baseline: Baseline
    output: Output
    target: Start | Target
    steps: int | None
    repeats: int
    limit: int | None
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        choices: dict[str, tuple[str, ...]] = {
            "baseline": ("mean", "zero", "own"),
            "output": ("logit", "probability"),
        }
        if isinstance(self.target, Target):
            choices["output"] = ("logit",)
        else:
            choices["target"] = ("prediction", "label")
        for name, words in choices.items():
            if getattr(self, name) not in words:
                raise InputError(f"{name} is {', '.join(map(repr, words))}; got {getattr(self, name)!r}")
        for name, low in (("steps", 2), ("limit", 1)):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), low=low)
        for name, low in (("repeats", 1), ("batch_size", 1), ("seed", 0)):
            check_integer(name, getattr(self, name), low=low)

    def grid(self, concepts: int) -> Counts:
        """Return the numbers of flipped concepts, from 0 to all: (step,)."""
        if self.steps is None or self.steps > concepts:
            return np.arange(concepts + 1)
        return np.unique(np.linspace(0, concepts, self.steps).round().astype(np.int64))


def flipping_curves(
    subject: Subject,
    layer: str,
    orders: Sequence[str] | Mapping[str, OrderFunction | str],
    options: FlippingOptions,
    *,
    verbose: bool,
) -> FlippingCurves:
    """Return the curves of all samples; see `Evaluation.flipping`."""
    functions = checked_orders(orders)
    changes: dict[str, list[Floats]] = {name: [] for name in functions}
    with random_state_kept():
        numbers = _sample_numbers(subject, options.limit)
        mean = _mean(subject, layer, _batches(subject, numbers, options)) if options.baseline == "mean" else None
        with Progress(len(numbers), options.mode, unit="image", verbose=verbose) as bar:
            for batch in _batches(subject, numbers, options):
                flipping = _BatchFlipping(subject, layer, batch, options)
                for name, function in functions.items():
                    changes[name].append(flipping.curves(function, mean))
                bar.update(len(batch.samples))
    settings = {"mode": options.mode, "baseline": options.baseline, "output": options.output}
    return FlippingCurves(
        layer,
        options.grid(flipping.n_concepts),
        {name: np.concatenate(parts, axis=-2) for name, parts in changes.items()},
        np.array(numbers),
        {**settings, "target": str(options.target), "composite": subject.rules_name},
    )


def _sample_numbers(subject: Subject, limit: int | None) -> list[int]:
    count = len(subject.samples)
    if not count:
        raise InputError("the dataset is empty")
    return list(range(count if limit is None else min(count, limit)))


def _batches(subject: Subject, numbers: Sequence[int], options: FlippingOptions) -> Iterator[Batch]:
    """Yield the samples in batches.

    Raises
    ------
    InputError
        If one cannot be used.
    """
    reader = label_ids if options.target == "label" else label_or_none
    samples = replace(subject.samples, form=Form.usual([subject.samples.first_image()[0]]), labels=reader)
    size = options.batch_size
    for batch in batches(samples, [numbers[start : start + size] for start in range(0, len(numbers), size)]):
        if batch.failures:
            raise InputError(f"sample {batch.failures[0].sample} cannot be used: {batch.failures[0].reason}")
        yield batch


def _forward(subject: Subject, batch: Batch) -> tuple[torch.Tensor, Run]:
    """Return the model inputs of a batch, and their recorded forward."""
    assert batch.images is not None
    inputs = subject.normalised(batch.images)
    return inputs, subject.attribution.engine.run(inputs, None)


def _positions(run: Run, ref: Ref) -> list[int]:
    """Return the axes of an output that are neither samples nor channels; none if its channels are not known."""
    channels = run.channel_axes.get(ref)
    return [] if channels is None else [axis for axis in range(1, len(run.graph.shape(ref))) if axis != channels]


def _mean(subject: Subject, layer: str, data: Iterator[Batch]) -> torch.Tensor:
    """Return the mean of a layer over samples and positions, by channel; by neuron where channels are not known."""
    total, count = torch.zeros(()), 0
    for batch in data:
        _, run = _forward(subject, batch)
        ref = find_layer(run, layer)
        values, over = run.recording.value(ref).double(), _positions(run, ref)
        total = total.to(values) + (values.mean(over, keepdim=True) if over else values).sum(0)
        count += len(batch.samples)
    return total / count


class _BatchFlipping:
    """Some samples: their relevance and activation at a layer, and their outputs under flipped concepts."""

    def __init__(self, subject: Subject, layer: str, batch: Batch, options: FlippingOptions) -> None:
        self._options, self._layer = options, layer
        inputs, self._run = _forward(subject, batch)
        check_class_output(self._run)
        self._ref = find_layer(self._run, layer)
        if is_folded(self._run.graph, self._ref):
            raise ConditionError(f"{layer!r} keeps windows or heads in its batch axis: flip a layer that does not")
        self._suffix = Suffix(self._run, self._ref)
        if not self._suffix.nodes:
            raise ConditionError(f"the model's output does not depend on {layer!r}, or {layer!r} is the output itself")
        self._value = self._run.recording.value(self._ref)
        self._measure = measure_of(self._run, batch, options.target, options.output)
        self._concept = layer_concepts(self._run, [layer], subject.concepts)[layer]
        run = subject.attribution.engine.run(inputs, subject.composite)
        observed = observe(run, lambda _: self._measure.starts, concepts={layer: self._concept})
        relevance = self._concept.attribute(observed.relevances[layer][0], abs_norm=True)
        activation = self._concept.attribute(observed.activations[layer], abs_norm=False)
        self._scores = relevance.double().cpu().numpy(), activation.double().cpu().numpy()

    @property
    def n_concepts(self) -> int:
        return int(self._scores[0].shape[1])

    def curves(self, function: OrderFunction | None, mean: torch.Tensor | None) -> Floats:
        """Return the changes along an order, (sample, step); along random orders (order, sample, step)."""
        replacement = self._replacement(mean)
        if function is not None:
            return self._changes(ranked(function, *self._scores), replacement)
        shuffled = random_orders(self.n_concepts, self._options.repeats, self._options.seed)
        samples = len(self._value)
        return np.stack([self._changes(np.tile(order, (samples, 1)), replacement) for order in shuffled])

    def _changes(self, order: Order, replacement: torch.Tensor) -> Floats:
        """Return f(k) − f(0) of each sample; of insertion, where f(0) has all concepts flipped."""
        grid, at_once = self._options.grid(self.n_concepts), self._run.rows_at_once
        parts = []
        for start in range(0, len(grid), at_once):
            rows = torch.stack(
                [self._flipped(order, int(count), replacement) for count in grid[start : start + at_once]]
            )
            parts.append(self._measure(self._suffix(rows)))
        curves: Floats = np.concatenate(parts, 1)
        return curves - curves[:, :1]

    def _flipped(self, order: Order, count: int, replacement: torch.Tensor) -> torch.Tensor:
        """Return values with the first concepts of an order replaced, or all but these: (sample, *shape)."""
        ids = order[:, count:] if self._options.mode == "insertion" else order[:, :count]
        chosen = [tuple(sample) for sample in ids.tolist()]
        known = {concepts: self._mask(concepts) for concepts in dict.fromkeys(chosen)}  # one for all, in random orders
        masks = torch.stack([known[concepts] for concepts in chosen])
        return torch.lerp(self._value, replacement.expand_as(self._value), masks.to(self._value))

    def _mask(self, ids: Sequence[int]) -> torch.Tensor:
        """Return 1 where a concept is flipped, of one sample's shape or with axes of size 1."""
        if not ids:
            return self._value.new_zeros(self._mask([0]).shape)
        return concept_mask(self._run, self._layer, ids, self._concept.mask)

    def _replacement(self, mean: torch.Tensor | None) -> torch.Tensor:
        """Return what flipped concepts are replaced by; it broadcasts to the layer's values."""
        if self._options.baseline == "zero":
            return self._value.new_zeros([1] * self._value.ndim)
        if mean is not None:
            return mean.to(self._value)[None]
        over = _positions(self._run, self._ref)
        if not over:
            raise InputError(f"{self._layer!r} has no positions for a mean of a concept's own; choose another baseline")
        return self._value.mean(over, keepdim=True)


def start_of(subject: Subject, target: str | Target) -> Start | Target:
    """Return what is measured: a word, or a target with its classes by number, also one that is given as text."""
    if isinstance(target, str) and ":" in target:
        target = parse_target(target)
    return target.numbered(subject.class_number) if isinstance(target, Target) else target  # type: ignore[return-value]
