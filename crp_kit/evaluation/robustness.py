"""Randomisation and sensitivity: shares of relevance of another class, without learned weights, and under noise."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..attribution.axes import class_axis, known_class_axis
from ..attribution.layer_relevance import Choice
from ..attribution.predicted_class import predicted_classes
from ..checks import check_integer, is_real
from ..data.random_state import random_state_kept
from ..errors import InputError
from ..progress import Progress
from ..statistics.row_correlation import row_correlation
from ..targets import Target
from .kept import Kept
from .layer_batch import LayerBatch
from .layer_pass import LayerPass
from .private_model import grouped, learned_modules, privately, shuffle
from .robustness_tables import Randomisation, Sensitivity
from .step_log import Parts

__all__ = ["randomisation", "sensitivity"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def randomisation(data: LayerPass, *, stages: int, seed: int, verbose: bool) -> Randomisation:
    """Return how shares of relevance change; see `crp_kit.evaluation.Evaluation.randomisation`."""
    check_integer("stages", stages, low=1)
    check_integer("seed", seed, low=0)
    with random_state_kept(), data.kept("randomisation", stages=stages, seed=seed) as kept:
        own, other, starts, modules = _as_it_is(data, seed, kept)
        groups = grouped(modules, stages)
        private = replace(data, subject=privately(data.subject))
        generator = torch.Generator().manual_seed(seed)
        correlations = []
        with Progress(len(groups), "randomisation", unit="stage", verbose=verbose) as bar:
            for number, group in enumerate(groups, 1):
                shuffle(private.subject.model, group, generator)
                shares = _shares_of(private, starts, kept, f"stage {number}")
                correlations.append(row_correlation(own, shares, ranks=True))
                bar.update()
    settings = {"target": str(data.choice.target), "composite": data.subject.rules_name, "seed": str(seed)}
    return Randomisation(
        data.layer,
        None if other is None else row_correlation(own, other, ranks=True),
        tuple(map(tuple, groups)),
        np.stack(correlations),
        np.array(data.numbers),
        settings,
    )


def _as_it_is(data: LayerPass, seed: int, kept: Kept) -> tuple[Floats, Floats | None, list[Choice], list[str]]:
    """Return shares of what is measured and of another class, (sample, concept), the starts, and modules with weights.

    A target has no other class.
    """

    def measure(batch: LayerBatch) -> Parts:
        classes = [start for start in batch.starts if isinstance(start, int)]
        others_of = [_other_classes(batch, classes, seed)] if classes else []
        shares = batch.shares(batch.starts, *others_of)
        modules = np.array(learned_modules(data.subject.model, batch.run.graph), str)
        known = {"classes": np.array(classes), "other": shares[1]} if classes else {}
        return {"own": shares[0], "modules": modules, **known}

    parts = data.parts(kept, "as it is", measure)
    modules = [str(module) for module in parts[0]["modules"]]
    if not modules:
        raise InputError("no module of the model with parameters runs in its forward: there is nothing to randomise")
    own = np.concatenate([part["own"] for part in parts])
    if isinstance(data.choice.target, Target):
        return own, None, [data.choice.target] * len(own), modules
    other, classes = (np.concatenate([part[name] for part in parts]) for name in ("other", "classes"))
    return own, other, classes.tolist(), modules


def _other_classes(batch: LayerBatch, classes: Sequence[int], seed: int) -> list[int]:
    """Return a random other class for each sample, which depends on the number of the sample alone."""
    count = batch.run.graph.shape(batch.run.graph.output)[class_axis(batch.run)]
    if count < 2:
        raise InputError("the model's output has one class: there is no other one to compare with")
    steps = [1 + int(np.random.default_rng([seed, number]).integers(count - 1)) for number in batch.samples]
    return [(cls + step) % count for cls, step in zip(classes, steps, strict=True)]


def _shares_of(data: LayerPass, starts: Sequence[Choice], kept: Kept, step: str) -> Floats:
    """Return the shares of chosen classes or targets, by the numbers of their samples: (sample, concept)."""

    def measure(batch: LayerBatch) -> Parts:
        return {"shares": batch.shares([starts[number] for number in batch.samples])[0]}

    return np.concatenate([part["shares"] for part in data.parts(kept, step, measure)])


def sensitivity(data: LayerPass, noise: Sequence[float], *, repeats: int, seed: int, verbose: bool) -> Sensitivity:
    """Return how shares of relevance change under noise; see `crp_kit.evaluation.Evaluation.sensitivity`."""
    levels = _checked_levels(noise)
    check_integer("repeats", repeats, low=1)
    check_integer("seed", seed, low=0)

    def measure(batch: LayerBatch) -> Parts:
        noises = [_noise(batch, repeat, seed) for repeat in range(repeats)]
        rows = []
        for level in levels:
            noisy = [batch.of_inputs(batch.inputs + level * drawn) for drawn in noises]
            rows.append(np.mean([_differences(batch, other) for other in noisy], axis=0))
        return {"differences": np.array(rows)}

    settings = {"noise": levels, "repeats": repeats, "seed": seed}
    with (
        random_state_kept(),
        data.kept("sensitivity", **settings) as kept,
        Progress(len(data.numbers), "sensitivity", unit="image", verbose=verbose) as bar,
    ):
        parts = data.parts(kept, "differences", measure, done=bar.update)
    whole = np.concatenate([part["differences"] for part in parts], axis=2)
    distances, correlations, same = whole.transpose(1, 0, 2)
    words = {"target": str(data.choice.target), "composite": data.subject.rules_name, "repeats": str(repeats)}
    return Sensitivity(
        data.layer, levels, distances, correlations, same, np.array(data.numbers), {**words, "seed": str(seed)}
    )


def _checked_levels(noise: Any) -> tuple[float, ...]:
    is_row = isinstance(noise, Sequence) or (isinstance(noise, np.ndarray) and noise.ndim == 1)
    levels = tuple(noise) if is_row else ()
    if not levels or not all(is_real(level, 0, sys.float_info.max) and level > 0 for level in levels):
        raise InputError(f"noise is levels above 0, such as (0.05, 0.2); got {noise!r}")
    return tuple(float(level) for level in levels)


def _noise(batch: LayerBatch, repeat: int, seed: int) -> torch.Tensor:
    """Return noise of the standard deviation of each sample's input, which depends on the sample's number alone."""
    drawn = []
    for number, image in zip(batch.samples, batch.inputs, strict=True):
        generator = np.random.default_rng([seed, number, repeat])
        drawn.append(torch.from_numpy(generator.standard_normal(tuple(image.shape))).to(image) * image.std())
    return torch.stack(drawn)


def _differences(batch: LayerBatch, noisy: LayerBatch) -> Floats:
    """Return distance, rank correlation and whether the class is the same, NaN where none is known: (3, sample)."""
    shares = noisy.shares(batch.starts)[0]
    distance = np.abs(shares - batch.relevance).sum(1) / 2
    correlation = row_correlation(batch.relevance, shares, ranks=True)
    first, second = (_predicted(one) for one in (batch, noisy))
    same = np.full(len(distance), np.nan) if first is None else (first == second).astype(np.float64)
    return np.stack([distance, correlation, same])


def _predicted(batch: LayerBatch) -> Integers | None:
    """Return the class that the model predicts for each sample; None where it is not known what its classes are."""
    axis = known_class_axis(batch.run)
    if axis is None:
        return None
    output = batch.run.recording.value(batch.run.graph.output)
    classes: Integers = predicted_classes(output, axis).cpu().numpy()
    return classes
