"""Runs of a program by crp-kit and by the oracle, and what a comparison of them may come to."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.rules import Epsilon
from zennit.types import Linear

import crp_kit
import crp_kit.errors

from .detached import Forms, Mask
from .program import Program

EXACT = 1e-6
"""Relative to the largest value: what 1e-14 in LRP-0's denominators and float64's rounding may make of it."""
SMALLEST = 1e-5
"""Programs with a smaller live value are too near to a division by zero to be compared."""


@dataclass(frozen=True)
class Outcome:
    """What a comparison showed: ``"right"``, ``"wrong"`` or ``"skipped"``, and by how much or why."""

    status: str
    message: str = ""


RIGHT = Outcome("right")


class SkippedError(Exception):
    """The program cannot be compared."""


class WrongError(Exception):
    """The comparison failed."""


def lrp_zero(epsilon: float = 1e-14) -> LayerMapComposite:
    """LRP-0 for every linear layer."""
    return LayerMapComposite([*layer_map_base(epsilon), (Linear, Epsilon(epsilon))])


def judge(oracle: Callable[[Program], None], program: Program) -> Outcome:
    """The outcome of an oracle; an error in crp-kit is a wrong one.

    Raises
    ------
    RuntimeError, NameError and others
        If torch cannot run the program at all.
    """
    with torch.no_grad():
        program.model()(program.data())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", crp_kit.errors.CrpKitWarning)  # the result says the same
            oracle(program)
    except SkippedError as reason:
        return Outcome("skipped", str(reason))
    except WrongError as reason:
        return Outcome("wrong", str(reason))
    except CrpError as error:
        return Outcome("wrong", str(error))
    return RIGHT


class CrpError(Exception):
    """An exception from crp-kit, or a warning of torch."""


@contextmanager
def crp_errors() -> Iterator[None]:
    """Let whatever is raised inside be known as crp-kit's."""
    try:
        yield
    except crp_kit.errors.UnreachableLayerError:
        raise
    except Exception as error:
        raise CrpError(f"{type(error).__name__}: {error}") from error


def attribute(
    model: nn.Module | crp_kit.CondAttribution,
    x: torch.Tensor,
    conditions: list[dict[str, Any]],
    composite: Any,
    **options: Any,
) -> crp_kit.Attribution:
    """crp-kit's answer."""
    attribution = model if isinstance(model, crp_kit.CondAttribution) else made(model)
    with crp_errors():
        return attribution(x.clone(), conditions, composite, **{"pairing": "product", **options})


def made(model: nn.Module) -> crp_kit.CondAttribution:
    """An attribution whose heatmap is not summed: programs use the axes of their input in any way."""
    return crp_kit.CondAttribution(model, feature_axis="none")


def compare(name: str, got: torch.Tensor, right: torch.Tensor, tolerance: float = EXACT) -> None:
    """Make sure that two results agree, relative to the largest value."""
    if got.shape != right.shape:
        raise WrongError(f"{name}: shape {tuple(got.shape)}, right is {tuple(right.shape)}")
    scale = float(right.abs().max())
    error = float((got.double() - right.double()).abs().max())
    if not error <= tolerance * scale + 1e-12:
        rows = f"\n  got   {shown(got)}\n  right {shown(right)}"
        raise WrongError(f"{name}: {error / (scale + 1e-300):.2g} off{rows}")


def shown(value: torch.Tensor) -> str:
    """The first values."""
    return str([float(f"{v:.5g}") for v in value.detach().flatten()[:8].tolist()])


class Detached:
    """The oracle's run of a program: its output, and backwards with masks at nodes."""

    def __init__(self, program: Program, *, gradient: bool = False) -> None:
        self.program, self.gradient = program, gradient
        self.model = program.model().requires_grad_(False)
        self.x = program.data()
        self.forms = Forms()

    def relevance(self, target: int, masks: dict[str, Mask] | None = None) -> torch.Tensor:
        """Gradient with respect to the input, times the input under LRP; masks act on what flows back."""
        leaf = self.x.clone().requires_grad_()
        self.forms = Forms(gradient=self.gradient, masks=masks)
        output = self.program.run_detached(self.model, leaf * 1, self.forms)
        with torch.no_grad():
            plain = self.model(self.x.clone())
        if not bool(plain.isfinite().all()) or float(plain.abs().max()) > 1e4:
            raise SkippedError("the output is not finite or large")
        if not float((output.detach() - plain).abs().max()) <= 1e-9 * float(plain.abs().max()):
            raise AssertionError(f"the oracle's forward differs: seed {self.program.seed}")
        (gradient,) = torch.autograd.grad(output[:, target].sum(), leaf, retain_graph=True)
        if not bool(gradient.isfinite().all()):
            raise SkippedError("the gradient is not finite")
        if not self.gradient and (self.forms.smallest < SMALLEST or self.forms.exposed):
            raise SkippedError("a value is near zero")
        return gradient if self.gradient else gradient * self.x

    def reached(self) -> list[str]:
        """Nodes at which relevance arrived in the last backward."""
        return [name for name, factor in self.forms.factors.items() if bool(factor.any())]


def chosen(program: Program, salt: str) -> random.Random:
    """Source of choices that belong to a comparison of a program."""
    return random.Random(f"{program.seed} {salt}")
