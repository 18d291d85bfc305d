"""Relevance maximization over a dataset by definition: zennit's own hooks, one row at a time, sorted Python lists.

A row is one sample with one of its targets. Everything is kept, so rankings are plain sorts and moments plain sums of
fractions. Scores are rounded to float32 before they are ranked and before moments are taken of them, as in the file.
"""

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from zennit.canonizers import AttributeCanonizer, CompositeCanonizer, SequentialMergeBatchNorm
from zennit.core import Composite
from zennit.layer import Sum

Array = npt.NDArray[Any]
Sample = tuple[torch.Tensor, Sequence[int]]
Aggregate = Literal["sum", "max"]
NONE = -1


@dataclass(frozen=True)
class Row:
    """What one layer's concepts score for one sample and one target.

    Attributes
    ----------
    sample, target : int
        Number of the sample and a class; -1 where there is none.
    scores : list of float
        Score of each concept, as computed.
    positions : list of int
        Place of each concept's highest neuron among its neurons.
    leads : list of float
        How far that neuron is ahead of the next one, infinite if there is only one.
    """

    sample: int
    target: int
    scores: list[float]
    positions: list[int]
    leads: list[float]

    def stored(self, concept: int) -> float:
        """Score of a concept as the file has it, rounded to float32."""
        return float(np.float32(self.scores[concept]))


@dataclass(frozen=True, eq=False)
class Ranking:
    """Rows in the order of their scores, best first; without a row: -1, and NaN as the score and the gap.

    Attributes
    ----------
    score, sample, position, target : ndarray
        float32, int64, int32 and int64, each (concept, rank) or (concept, class, rank).
    gap : ndarray
        Score minus that of the next row, counting rows beyond the last rank; infinite for the very last row. float64.
    """

    score: Array
    sample: Array
    position: Array
    target: Array
    gap: Array

    @classmethod
    def empty(cls, *shape: int) -> "Ranking":
        """Ranking without a row."""
        return cls(
            score=np.full(shape, np.nan, np.float32),
            sample=np.full(shape, NONE, np.int64),
            position=np.full(shape, NONE, np.int32),
            target=np.full(shape, NONE, np.int64),
            gap=np.full(shape, np.nan),
        )

    def fill(self, place: tuple[int, ...], ranked: Sequence[Row]) -> None:
        """Write rows, already in order, into the ranks of one place, whose first index is the concept."""
        concept = place[0]
        scores = [row.stored(concept) for row in ranked] + [-math.inf]
        for rank, row in enumerate(ranked[: self.score.shape[-1]]):
            entry = (*place, rank)
            self.score[entry], self.gap[entry] = scores[rank], scores[rank] - scores[rank + 1]
            self.sample[entry], self.target[entry] = row.sample, row.target
            self.position[entry] = row.positions[concept]


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments over the rows of each class; NaN for a class without rows.

    Attributes
    ----------
    count : ndarray
        Number of rows, int64, (class,).
    mean, std, min, max : ndarray
        float64, (class, concept); the standard deviation is that of the rows as the whole population.
    """

    count: Array
    mean: Array
    std: Array
    min: Array
    max: Array


@dataclass(frozen=True, eq=False)
class Table:
    """All rows, in the order of the samples and of the targets in a sample.

    Attributes
    ----------
    sample, target : ndarray
        int64, (row,).
    score, position, lead : ndarray
        What `Row` has, (row, concept): float64 without rounding to float32, int32, float64.
    """

    sample: Array
    target: Array
    score: Array
    position: Array
    lead: Array


@dataclass(frozen=True, eq=False)
class Summary:
    """Rankings and moments of one quantity at one layer; ``rows`` are those that ``top`` ranks."""

    top: Ranking
    class_top: Ranking
    moments: Moments
    rows: Table


@dataclass(frozen=True, eq=False)
class LayerAtlas:
    """Summaries of the relevance of a layer, a row for each target, and of its activation, a row for each sample."""

    relevance: Summary
    activation: Summary


def reference_atlas(
    model: nn.Module,
    samples: Sequence[Sample],
    layers: Sequence[str],
    composite: Composite,
    *,
    n_classes: int,
    k: int,
    k_class: int,
    aggregate: Aggregate = "sum",
    abs_norm: bool = False,
    dtype: torch.dtype = torch.float64,
    canonized_activation: bool = True,
) -> dict[str, LayerAtlas]:
    """Best samples of each channel of each layer, by relevance and by activation.

    Parameters
    ----------
    model : nn.Module
        A model in evaluation mode with logits (sample, class); it is copied and stays as it is.
    samples : sequence of (Tensor, sequence of int)
        Inputs (channel, height, width) as the model takes them, each with its distinct target classes, if any.
    layers : sequence of str
        Modules; a repeated call has a suffix: ``relu``, ``relu_1``.
    composite : Composite
        Rules, and canonizers where the model needs them.
    n_classes, k, k_class : int
        Number of classes and lengths of the two rankings.
    aggregate : str
        Score of a channel: the sum of its neurons or the highest one.
    abs_norm : bool
        Whether scores are shares of the absolute scores of all channels of their layer.
    dtype : torch.dtype
        What model and inputs are converted to.
    canonized_activation : bool
        Whether activations are those of the canonized model, where a convolution's output has the BatchNorm behind it
        in it, or those of the model as it is.

    Returns
    -------
    dict of str to LayerAtlas
        For each layer its summaries.

    Raises
    ------
    ValueError
        If targets are out of range or repeated, a layer does not run or gets no relevance, or a score is not finite.
    """
    own = copy.deepcopy(model).to(dtype).requires_grad_(False)
    activation_composite = composite if canonized_activation else Composite()
    relevances: dict[str, list[Row]] = {name: [] for name in layers}
    activations: dict[str, list[Row]] = {name: [] for name in layers}
    for number, (image, targets) in enumerate(samples):
        _check_targets(number, targets, n_classes)
        x = image.detach().to(dtype)
        first = targets[0] if targets else NONE
        for name, value in activation_maps(own, activation_composite, x, layers).items():
            activations[name].append(_row(number, first, value, aggregate, abs_norm))
        for target in targets:
            for name, value in relevance_maps(own, composite, x, target, layers).items():
                relevances[name].append(_row(number, target, value, aggregate, abs_norm))
    result = {}
    for name in layers:
        by_target = [replace(row, target=target) for row in activations[name] for target in samples[row.sample][1]]
        sizes = {
            "n_concepts": len(activations[name][0].scores) if samples else 0,
            "n_classes": n_classes,
            "k": k,
            "k_class": k_class,
        }
        result[name] = LayerAtlas(
            relevance=summarize(relevances[name], relevances[name], **sizes),
            activation=summarize(activations[name], by_target, **sizes),
        )
    return result


def relevance_maps(
    model: nn.Module, composite: Composite, x: torch.Tensor, target: int, layers: Iterable[str]
) -> dict[str, torch.Tensor]:
    """Relevance (channel, ...) that arrives at the output of each layer, for one sample started at one class."""
    with torch.enable_grad(), composite.context(model) as hooked, _tapped(hooked, layers) as kept:
        leaf = x[None].clone().requires_grad_()
        output = hooked(leaf.clone())
        start = torch.zeros_like(output)
        start[0, target] = output.detach()[0, target]
        output.backward(start)
    result = {}
    for name, value in kept.items():
        if value.grad is None:
            raise ValueError(f"no relevance arrives at {name}")
        result[name] = value.grad[0]
    return result


def activation_maps(
    model: nn.Module, composite: Composite, x: torch.Tensor, layers: Iterable[str]
) -> dict[str, torch.Tensor]:
    """Output (channel, ...) of each layer for one sample, of the model as the composite's canonizers change it."""
    with torch.no_grad(), composite.context(model) as hooked, _tapped(hooked, layers) as kept:
        hooked(x[None].clone())
    return {name: value[0] for name, value in kept.items()}


def summarize(
    rows: Sequence[Row], class_rows: Sequence[Row], *, n_concepts: int, n_classes: int, k: int, k_class: int
) -> Summary:
    """Rankings and moments of rows that may have been made by hand.

    Parameters
    ----------
    rows : sequence of Row
        Rows that ``top`` ranks; of one sample, in the order of its targets.
    class_rows : sequence of Row
        Rows that count for the class that is their target.
    n_concepts, n_classes, k, k_class : int
        Sizes of the arrays.

    Returns
    -------
    Summary
        Everything in the file's shapes.
    """
    top = Ranking.empty(n_concepts, k)
    class_top = Ranking.empty(n_concepts, n_classes, k_class)
    for concept in range(n_concepts):
        top.fill((concept,), _ranked(rows, concept))
        for target in range(n_classes):
            class_top.fill((concept, target), _ranked(_of_class(class_rows, target), concept))
    return Summary(top, class_top, _moments(class_rows, n_concepts, n_classes), _table(rows, n_concepts))


class ExactMergeBatchNorm(SequentialMergeBatchNorm):  # type: ignore[misc]
    """Merging of BatchNorms that leaves identities behind.

    zennit 0.5.1 leaves their epsilon, so that a merged BatchNorm still divides by the root of 1 + epsilon.
    """

    def register(self, linears: Sequence[nn.Module], batch_norm: Any) -> None:
        self._epsilon = batch_norm.eps
        super().register(linears, batch_norm)
        batch_norm.eps = 0.0

    def remove(self) -> None:
        super().remove()
        self.batch_norm.eps = self._epsilon


def residual_canonizer() -> CompositeCanonizer:
    """Canonizer of ResNets of basic blocks, found by the names of their parts; the blocks' sums become modules."""
    return CompositeCanonizer([ExactMergeBatchNorm(), AttributeCanonizer(_with_sum_module)])


def _with_sum_module(_: str, module: nn.Module) -> dict[str, Any] | None:
    """Attributes that let a basic block add by a module, which gets a rule; ``None`` for any other module."""
    parts = dict(module.named_children())
    if not {"conv1", "bn1", "relu", "conv2", "bn2"} <= set(parts) or not hasattr(module, "downsample"):
        return None
    total, downsample = Sum(), parts.get("downsample", nn.Identity())

    def forward(x: torch.Tensor) -> torch.Tensor:
        inner = parts["relu"](parts["bn1"](parts["conv1"](x)))
        branches = [parts["bn2"](parts["conv2"](inner)), downsample(x)]
        result: torch.Tensor = parts["relu"](total(torch.stack(branches, dim=-1)))
        return result

    return {"forward": forward, "sum_of_branches": total}


@contextmanager
def _tapped(model: nn.Module, layers: Iterable[str]) -> Iterator[Mapping[str, torch.Tensor]]:
    """Collect the outputs of the named layers, in the order of the names, while the model runs."""
    wanted = list(layers)
    found: dict[str, torch.Tensor] = {}
    kept: dict[str, torch.Tensor] = {}
    calls: Counter[str] = Counter()

    def tap(path: str) -> Callable[[nn.Module, Any, Any], Any]:
        def keep(module: nn.Module, args: Any, output: Any) -> Any:
            name = f"{path}_{calls[path]}" if calls[path] else path
            calls[path] += 1
            if name not in wanted:
                return output
            # The first copy is no other module's output, as that of a dropout would be; the second may be overwritten.
            found[name] = output.clone()
            if found[name].requires_grad:
                found[name].retain_grad()
            return found[name].clone()

        return keep

    handles = [module.register_forward_hook(tap(path)) for path, module in model.named_modules()]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(f"layers that did not run: {missing}")
    kept.update((name, found[name]) for name in wanted)


def _row(sample: int, target: int, value: torch.Tensor, aggregate: Aggregate, abs_norm: bool) -> Row:
    """Scores of the channels of one layer, from its relevance or activation (channel, ...)."""
    channels: list[list[float]] = value.detach().reshape(len(value), -1).tolist()
    scores = [math.fsum(neurons) if aggregate == "sum" else max(neurons) for neurons in channels]
    if not all(math.isfinite(one) for one in scores):
        raise ValueError(f"sample {sample}, target {target}: a score is not finite")
    total = math.fsum(abs(one) for one in scores)
    if abs_norm and total:
        scores = [one / total for one in scores]
    positions = [neurons.index(max(neurons)) for neurons in channels]
    return Row(sample, target, scores, positions, [_lead(neurons) for neurons in channels])


def _lead(neurons: list[float]) -> float:
    """Difference of the highest neuron and the next one."""
    second, first = sorted([-math.inf, *neurons])[-2:]
    return first - second


def _ranked(rows: Sequence[Row], concept: int) -> list[Row]:
    """Best row of each sample, by descending score; of equal ones the smaller sample, the earlier target first."""
    # Sorting keeps the order of what is equal, so equal rows of one sample stay in the order of its targets.
    best: dict[int, Row] = {}
    for row in sorted(rows, key=lambda row: (-row.stored(concept), row.sample)):
        best.setdefault(row.sample, row)
    return list(best.values())


def _of_class(rows: Iterable[Row], target: int) -> list[Row]:
    """Rows of one class."""
    return [row for row in rows if row.target == target]


def _moments(rows: Sequence[Row], n_concepts: int, n_classes: int) -> Moments:
    """Moments of the rows of each class."""
    count = np.zeros(n_classes, np.int64)
    values = np.full((4, n_classes, n_concepts), np.nan)
    for target in range(n_classes):
        members = _of_class(rows, target)
        count[target] = len(members)
        for concept in range(n_concepts if members else 0):
            values[:, target, concept] = _exact_moments([row.stored(concept) for row in members])
    return Moments(count, *values)


def _exact_moments(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean, standard deviation, minimum and maximum, each rounded only at its end."""
    n, exact = len(values), [Fraction(value) for value in values]
    total = sum(exact, Fraction(0))
    variance = sum((value * value for value in exact), Fraction(0)) / n - (total / n) ** 2
    return float(total / n), math.sqrt(variance), min(values), max(values)


def _table(rows: Sequence[Row], n_concepts: int) -> Table:
    """Rows as arrays."""
    shape = (len(rows), n_concepts)
    return Table(
        sample=np.array([row.sample for row in rows], np.int64),
        target=np.array([row.target for row in rows], np.int64),
        score=np.array([row.scores for row in rows], np.float64).reshape(shape),
        position=np.array([row.positions for row in rows], np.int32).reshape(shape),
        lead=np.array([row.leads for row in rows], np.float64).reshape(shape),
    )


def _check_targets(sample: int, targets: Sequence[int], n_classes: int) -> None:
    """Refuse targets that are no class or come twice."""
    if any(not 0 <= target < n_classes for target in targets) or len(set(targets)) < len(targets):
        raise ValueError(f"sample {sample}: expected distinct classes below {n_classes}, got {list(targets)}")
