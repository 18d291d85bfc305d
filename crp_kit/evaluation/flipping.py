"""Flipping of concepts: the model's output as the concepts of a layer are replaced, for each sample along an order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from ..atlas.build.settings import parse_shard
from ..attribution.layer_relevance import Choice
from ..checks import check_integer
from ..data.random_state import random_state_kept
from ..errors import InputError
from ..progress import Progress
from .curves import FlippingCurves
from .kept import Kept
from .layer_batch import Baseline, LayerBatch
from .layer_pass import LayerPass
from .measure import Output, check_output, check_word
from .orders import Order, Orders, Scores, class_prototypes, random_orders
from .step_log import Parts

__all__ = ["FlippingOptions", "flipping_curves"]

Mode = Literal["deletion", "insertion"]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FlippingOptions:
    """Settings of one evaluation, checked."""

    mode: Mode = "deletion"
    baseline: Baseline = "mean"
    output: Output = "logit"
    steps: int | None = 32
    repeats: int = 10
    seed: int = 0
    shard: tuple[int, int] | str | None = None

    def __post_init__(self) -> None:
        check_word("baseline", self.baseline, get_args(Baseline))
        if self.steps is not None:
            check_integer("steps", self.steps, low=2)
        check_integer("repeats", self.repeats, low=1)
        check_integer("seed", self.seed, low=0)
        parse_shard(self.shard)

    def grid(self, concepts: int) -> Counts:
        """Return the numbers of flipped concepts, from 0 to all: (step,)."""
        if self.steps is None or self.steps > concepts:
            return np.arange(concepts + 1)
        return np.unique(np.linspace(0, concepts, self.steps).round().astype(np.int64))

    def part(self, count: int) -> slice:
        """Return which of so many samples belong to the shard.

        Raises
        ------
        InputError
            If there are fewer samples than shards.
        """
        number, shards = parse_shard(self.shard)
        if shards > count:
            raise InputError(f"{count} samples cannot be divided into {shards} shards")
        return slice(number * count // shards, (number + 1) * count // shards)


def flipping_curves(data: LayerPass, orders: Orders, options: FlippingOptions, *, verbose: bool) -> FlippingCurves:
    """Return the curves of all samples; see `crp_kit.evaluation.Evaluation.flipping`."""
    check_output(options.output, data.choice.target)
    numbers = data.numbers[options.part(len(data.numbers))]
    with random_state_kept(), data.kept(options.mode, orders=orders.identity, **vars(options)) as kept:
        mean = data.mean(kept) if options.baseline == "mean" else None
        prototypes = _prototypes(data, kept) if orders.needs_prototypes else None

        def curves(batch: LayerBatch) -> Parts:
            flipping = _BatchFlipping(batch, mean, options)
            scores = Scores(batch, slice(batch.samples[0], batch.samples[-1] + 1), prototypes)
            changes = (flipping.along(name, orders, scores) for name in orders.names)
            return {"k": options.grid(batch.n_concepts), **{f"curves {n}": one for n, one in enumerate(changes)}}

        with Progress(len(numbers), options.mode, unit="image", verbose=verbose) as bar:
            parts = data.parts(kept, "curves", curves, numbers=numbers, done=bar.update)
    settings = {"mode": options.mode, "baseline": options.baseline, "output": options.output}
    return FlippingCurves(
        data.layer,
        parts[0]["k"],
        {name: np.concatenate([one[f"curves {n}"] for one in parts], axis=-2) for n, name in enumerate(orders.names)},
        np.array(numbers),
        {**settings, "target": str(data.choice.target), "composite": data.subject.rules_name},
    )


def _prototypes(data: LayerPass, kept: Kept) -> Floats:
    """Return the mean relevance in the other samples of each sample's class or target: (sample, concept)."""

    def measure(batch: LayerBatch) -> Parts:
        return {"relevance": batch.relevance, "starts": np.array(list(map(_named, batch.starts)))}

    parts = data.parts(kept, "prototypes", measure)
    relevance, starts = (np.concatenate([part[name] for part in parts]) for name in ("relevance", "starts"))
    return class_prototypes(relevance, starts, data.numbers)


def _named(start: Choice) -> str:
    return f"class {start}" if isinstance(start, int) else f"target {start}"


class _BatchFlipping:
    """Outputs of some samples under flipped concepts."""

    def __init__(self, batch: LayerBatch, mean: torch.Tensor | None, options: FlippingOptions) -> None:
        self._batch, self._options = batch, options
        self._replacement = batch.replacement(options.baseline, mean)

    def along(self, name: str, orders: Orders, scores: Scores) -> Floats:
        """Return the changes along an order, (sample, step), or along random orders, (order, sample, step)."""
        if name not in orders.random:
            return self.curves(orders.ranked(name, scores))
        shuffled = random_orders(self._batch.n_concepts, self._options.repeats, self._options.seed)
        return np.stack([self.curves(np.tile(order, (len(self._batch.samples), 1))) for order in shuffled])

    def curves(self, order: Order) -> Floats:
        """Return f(k) − f(0) along an order, (sample, step); of insertion, where f(0) has all concepts flipped."""
        grid, at_once = self._options.grid(self._batch.n_concepts), self._batch.run.rows_at_once
        rank = np.argsort(order, axis=1)
        parts = []
        for start in range(0, len(grid), at_once):
            rows = self._flipped(rank, grid[start : start + at_once])
            parts.append(self._batch.measured(self._batch.suffix(rows), self._options.output))
        curves: Floats = np.concatenate(parts, 1)
        return curves - curves[:, :1]

    def _flipped(self, rank: Order, counts: Counts) -> torch.Tensor:
        """Return values with the first concepts of an order replaced, or all but these: (count, sample, *shape)."""
        first = rank < counts[:, None, None]
        members = ~first if self._options.mode == "insertion" else first
        return self._batch.replaced(members, self._replacement)
