"""Rules that depend on more than one sample: detected by a trial on two batchings, and run sample by sample.

A rule whose functions take a mean, a maximum or a norm over everything gives a sample other relevance in another batch.
Results must not depend on ``batch_size``, so such a rule gets each sample alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from zennit import rules as zennit_rules
from zennit.core import BasicHook, Hook

from ..errors import CompositeError
from ..graph.axes.output_axes import MIXED, batch_axes
from ..graph.graph import Ref
from ..graph.recording.record import Recording
from ..rules.attnlrp import SoftmaxTaylor
from ..rules.parameters import rule_parameters
from .closed_form import known_rule
from .relevance import Relevance

__all__ = ["Samples", "mapper_by_sample", "sample_by_sample"]

Pulled = Callable[[Relevance], Relevance]
_Mapper = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_ELEMENTWISE = (
    SoftmaxTaylor,
    zennit_rules.Pass,
    zennit_rules.ReLUDeconvNet,
    zennit_rules.ReLUGuidedBackprop,
    zennit_rules.ReLUBetaSmooth,
)
"""Hooks that are known to look at one element, or one sample, at a time."""
_LARGE = 1e3
_TRIED: WeakKeyDictionary[Any, dict[Any, bool | None]] = WeakKeyDictionary()
"""Whether a rule or mapper depends on the batch, by shapes and types; None if that could not be tried."""


@dataclass(frozen=True)
class Samples:
    """The axes along which the samples of one node are, and the recording that takes remarks about its rule.

    Parameters
    ----------
    recording : Recording
    input, output : Ref
        What the rule reads and what its node gives.
    """

    recording: Recording
    input: Ref
    output: Ref

    @property
    def count(self) -> int:
        return self.recording.graph.batch

    def axis(self, ref: Ref) -> int | None:
        """Return the axis along which an output has its samples, perhaps several windows or heads of each.

        It is not that of `crp_kit.propagation.run.Run.batch_axes`, which also says where the samples are of an output
        that mixes them: there, a sample has no part of its own that a rule could be given.
        """
        axis = batch_axes(self.recording.graph)[ref]
        return None if axis == MIXED else axis

    @property
    def shape(self) -> torch.Size:
        """Shape of the output."""
        return self.recording.graph.shape(self.output)

    def known_axis(self, ref: Ref, rule: str, where: str) -> int:
        """Return the axis of the samples, which a rule that depends on the batch needs.

        Raises
        ------
        CompositeError
            If samples have no axis that the graph knows.
        """
        axis = self.axis(ref)
        if axis is None:
            raise CompositeError(
                f"the rule {rule} at {where!r} depends on other samples of the batch, and it is not known along which "
                f"axis of {tuple(self.recording.graph.shape(ref))} the samples are, so that it cannot be applied to "
                f"each alone: give one sample at a time (batch_size=1)"
            )
        return axis

    def remark(self, rule: str, depends: bool | None) -> None:
        """Leave a remark for the user on a rule that depends on the batch, or of which that is unknown (None)."""
        if depends is None:
            self.recording.remarks.append(
                f"whether the rule {rule} depends on other samples of a batch could not be tried; batch_size=1 gives "
                f"each sample alone"
            )
        else:
            self.recording.remarks.append(
                f"the rule {rule} depends on other samples of a batch: it is applied to one sample after the other, so "
                f"that results do not depend on batch_size"
            )


def sample_by_sample(
    rule: Hook | Callable[..., Any],
    make: Callable[[torch.Tensor], Pulled],
    x: torch.Tensor,
    samples: Samples,
    *,
    where: str,
) -> Pulled | None:
    """Return a rule that gets each sample alone, or None for one that does not depend on the others anyway.

    Parameters
    ----------
    rule : zennit Hook or callable
    make : callable
        From the input of a unit to the function from relevance at its output to that at its input.
    x : torch.Tensor
    samples : Samples
    where : str
        Name of the node, for errors.

    Raises
    ------
    CompositeError
        If the rule depends on the batch and samples have no axis of their own.
    """
    if samples.count == 1 or not x.numel():
        return None
    outcomes = _outcomes(rule)
    if "known" not in outcomes:
        outcomes["known"] = _is_known(rule)
    if outcomes["known"]:
        return None
    key = (x.shape, samples.shape, x.dtype, x.device.type)
    if key not in outcomes:
        outcomes[key] = _depends_on_others(make, x, samples)
    depends, name = outcomes[key], getattr(rule, "__name__", type(rule).__name__)
    if depends is not False:
        samples.remark(name, depends)
    if not depends:
        return None
    below, above = (samples.known_axis(ref, name, where) for ref in (samples.input, samples.output))
    alone = [make(part) for part in _parts(x, below, samples.count)]

    def pull(relevance: Relevance) -> Relevance:
        parts = _parts(relevance.whole(), above + 1, samples.count)
        pulled = [backward(Relevance(part)).whole() for backward, part in zip(alone, parts, strict=True)]
        return Relevance(torch.cat(pulled, below + 1), owned=True)

    return pull


def mapper_by_sample(mapper: _Mapper, z: torch.Tensor, samples: Samples, *, rule: str) -> _Mapper:
    """Return a mapper that gets each sample alone, or the same one if it does not depend on the others anyway.

    Parameters
    ----------
    mapper : callable
        From what is multiplied and an output to their product.
    z : torch.Tensor
        Such an output.
    samples : Samples
    rule : str
    """
    if samples.count == 1 or not z.numel() or not z.ndim:
        return mapper
    outcomes, key = _outcomes(mapper), (z.shape, z.dtype, z.device.type)
    if key not in outcomes:
        axis = samples.axis(samples.output) or 0
        pairs = _batches(next(_parts(z, axis, samples.count)), axis)
        outcomes[key] = _differ([mapper(z.new_ones(()), pair) for pair in pairs], axis)
    if not outcomes[key]:
        return mapper
    samples.remark(rule, True)
    axis = samples.known_axis(samples.output, rule, samples.recording.graph.label(samples.output))

    def mapped(multiplied: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        whole = multiplied.expand_as(output)
        pairs = zip(_parts(whole, axis, samples.count), _parts(output, axis, samples.count), strict=True)
        return torch.cat([mapper(*pair) for pair in pairs], axis)

    return mapped


def _is_known(rule: Hook | Callable[..., Any]) -> bool:
    """Return whether a rule is one of zennit's or crp-kit's that looks at one sample at a time."""
    if not isinstance(rule, BasicHook) or type(rule) in _ELEMENTWISE:
        return type(rule) in _ELEMENTWISE
    if known_rule(rule) is None:
        return False
    parameters = rule_parameters(rule)
    return all(isinstance(parameters.get(name, 0.0), (int, float)) for name in ("epsilon", "stabilizer"))


def _parts(value: torch.Tensor, axis: int, count: int) -> Iterator[torch.Tensor]:
    """Yield each sample of a tensor."""
    size = max(1, value.shape[axis] // count)
    return (value.narrow(axis, start, size) for start in range(0, size * count, size))


def _batches(sample: torch.Tensor, axis: int) -> list[torch.Tensor]:
    """Return batches of a sample with one much larger and with one of zeros: behind it, then in front of it."""
    large = _LARGE * (sample + torch.where(sample < 0, -1.0, 1.0).to(sample))
    others = (large, torch.zeros_like(sample))
    pairs = (*((sample, other) for other in others), *((other, sample) for other in others))
    return [torch.cat(pair, axis) for pair in pairs]


def _differ(results: list[torch.Tensor], axis: int) -> bool:
    """Return whether what a rule gives a sample differs between batches that differ in the other one."""
    size = results[0].shape[axis] // 2
    pairs = ((results[0], results[1], 0), (results[2], results[3], size))
    for beside_large, beside_zero, start in pairs:
        first, second = beside_large.narrow(axis, start, size), beside_zero.narrow(axis, start, size)
        tolerance = 1e-3 * torch.finfo(first.dtype).eps ** 0.5
        largest = float(torch.nan_to_num(first).abs().max()) if first.numel() else 0.0
        if not torch.allclose(first, second, rtol=tolerance, atol=tolerance * largest, equal_nan=True):
            return True
    return False


def _depends_on_others(make: Callable[[torch.Tensor], Pulled], x: torch.Tensor, samples: Samples) -> bool | None:
    """Return whether a rule depends on other samples, or None if its unit cannot be run on two of them."""
    below, above = samples.axis(samples.input) or 0, samples.axis(samples.output) or 0
    size = max(1, samples.shape[above] // samples.count)
    generator = torch.Generator().manual_seed(0)
    shape = [size if axis == above else full for axis, full in enumerate(samples.shape)]
    drawn = torch.randn(shape, generator=generator).to(x)
    batches = zip(_batches(next(_parts(x, below, samples.count)), below), _batches(drawn, above), strict=True)
    try:
        results = [make(pair)(Relevance(seed[None])).whole()[0] for pair, seed in batches]
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception:  # noqa: BLE001, a user's rule or module may take no other number of samples
        return None
    return _differ(results, below)


def _outcomes(rule: Any) -> dict[Any, bool | None]:
    """Return what trials of a rule or mapper showed, by shapes and types."""
    return _TRIED.setdefault(rule, {})
