"""How right LRP-epsilon is on a model, beside an oracle: the one computation behind the tests and the tables."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from oracles import zoo
from oracles.families import build
from oracles.signals import Data
from oracles.start import called, output_tensor, scalar_start
from oracles.whole_model import whole_model_relevance
from torch import nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.core import Composite
from zennit.rules import Epsilon
from zennit.torchvision import ResNetCanonizer, VGGCanonizer
from zennit.types import Linear

import crp_kit

EPSILON = 1e-14
"""Small enough that the rule is LRP-0 to float64 precision, which is what the oracle computes."""


def lrp_zero(**options: object) -> Composite:
    """Return LRP-epsilon for every linear layer, with an epsilon of almost nothing."""
    return LayerMapComposite([*layer_map_base(EPSILON), (Linear, Epsilon(EPSILON))], **options)


def attribution_of(model: nn.Module, output: object) -> crp_kit.CondAttribution:
    """Return the attribution of a model; some give a dictionary."""
    part = next((key for key in ("out", "logits") if key in output), None) if isinstance(output, Mapping) else None
    return crp_kit.CondAttribution(model, output=part)


@dataclass(frozen=True)
class Measured:
    """A check, the seconds that it took, what crp-kit warned of, and zennit's error where it was asked for."""

    check: Check
    seconds: float
    warnings: tuple[str, ...]
    zennit: float | None = None


@dataclass(frozen=True)
class Check:
    """Relative error of the input relevance to the oracle, relative error of its sum to the logit, number of nodes."""

    error: float
    conservation: float
    nodes: int

    def right(self, limit: float) -> bool:
        """Return whether both errors are numbers below a limit."""
        return self.error < limit and self.conservation < limit


def maker(label: str, *, full: bool = False) -> Callable[..., tuple[nn.Module, Data]]:
    """Return what builds a model: ``group:name`` of the zoo, or the name of a family."""
    group, _, name = label.rpartition(":")
    return partial(zoo.build, zoo.entry(group, name)) if group else partial(build, name, full=full)


def check(label: str, *, full: bool = False) -> Check:
    """Compare crp-kit with the whole-model oracle on one model."""
    return check_built(maker(label, full=full))


def measure(label: str, *, full: bool = False, zennit: bool = False) -> Measured:
    """Check one model, with warnings kept instead of shown."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = check(label, full=full)
    seconds = time.perf_counter() - start
    kept = dict.fromkeys(str(one.message) for one in said if issubclass(one.category, crp_kit.CrpKitWarning))
    return Measured(found, seconds, tuple(kept), zennit_error(label, full=full) if zennit else None)


def check_built(make: Callable[..., tuple[nn.Module, Data]]) -> Check:
    """Compare crp-kit with the whole-model oracle on what a function makes, with biases and without."""
    error, nodes = oracle_error(*make())
    return Check(error, conservation_error(*make(biases=False)), nodes)


def oracle_error(model: nn.Module, data: Data) -> tuple[float, int]:
    """Return the relative error of the input relevance, and the number of nodes."""
    with torch.no_grad():
        raw = called(model, data)
    _, selection = scalar_start(raw)
    expected, _ = whole_model_relevance(model, data, selection)
    attribution = attribution_of(model, raw)
    found = attribution(data, {}, lrp_zero(), init_rel=lambda value: value * selection).input_relevance
    return relative(found, expected), len(attribution.graph(data))


def conservation_error(model: nn.Module, data: Data) -> float:
    """Return how far the relevance of a model without biases is from summing to the logit.

    Raises
    ------
    ValueError
        If the logit is zero, so that there is nothing to conserve.
    """
    with torch.no_grad():
        raw = called(model, data)
    output, selection = scalar_start(raw)
    found = attribution_of(model, raw)(data, {}, lrp_zero(), init_rel=lambda value: value * selection)
    logit = float((output * selection).sum())
    if not logit:
        raise ValueError("without biases, the model's logit is zero: there is nothing to conserve")
    return abs(float(found.input_relevance.sum()) - logit) / abs(logit)


def zennit_error(name: str, *, full: bool = False) -> float:
    """Return the relative error of zennit's own backward, with the best of its canonizers for the family."""
    model, x = build(name, full=full)
    with torch.no_grad():
        _, selection = scalar_start(model(x))
    return min(
        _zennit_error(model, x, selection, canonizer)
        for canonizer in (SequentialMergeBatchNorm, ResNetCanonizer, VGGCanonizer)
    )


def _zennit_error(model: nn.Module, x: torch.Tensor, selection: torch.Tensor, canonizer: type) -> float:
    """Return the relative error of zennit's backward with one canonizer; infinite where that cannot be applied."""
    expected, _ = whole_model_relevance(model, x, selection)
    own, leaf = copy.deepcopy(model).requires_grad_(), x.clone().requires_grad_()
    try:
        with warnings.catch_warnings(), lrp_zero(canonizers=[canonizer()]).context(own) as modified:
            warnings.simplefilter("ignore")
            output = output_tensor(modified(leaf))
            (found,) = torch.autograd.grad(output, leaf, output.detach() * selection)
    except RuntimeError:
        return math.inf
    return relative(found, expected)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the norm of the difference relative to the norm of what was expected."""
    return float((found - expected).norm() / expected.norm())
