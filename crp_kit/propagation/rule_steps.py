"""Steps under a zennit rule: linear layers with their BatchNorms, single calls and whole modules, sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from zennit.core import Hook

from ..graph.batch_norm_folding import Fold
from ..graph.graph import Node, Ref
from ..graph.nested import mapped
from ..graph.operations import Kind
from ..graph.recording.record import Recording
from ..graph.recording.shadow import with_own_state
from ..numerics import working
from .closed_form import is_declared
from .effective_weights import (
    CallUnit,
    LinearUnit,
    NormUnit,
    SpelledNorm,
    checksums_of,
    effective_unit,
    identities_of,
    layer_of,
    settings_of,
    shares_memory,
    state_of,
)
from .folded_values import factors_in_front
from .kernels.transposed_conv import linear_transpose
from .modified_forwards import ModifiedUnit, modifies_parameters
from .node_functions import inputs_of, output_of, true_function, values_of, with_constants
from .relevance import Relevance
from .sample_dependence import Samples
from .step import Absorbed, Backward, Given, Message, Pull, Step, arriving, only, sum_to
from .vjp import Transposed, described
from .zennit_rules import absorbed_by, hook_backward


@dataclass(eq=False)
class KeptUnit:
    """A linear unit under a rule, with modified parameters, until a weight or a setting of the layer changes.

    Parameters
    ----------
    key : tuple, optional
        Equal as long as the rest is right, together with `sums`.
    sums : list of float, optional
        Checksums of what the unit is made of, if anything that is kept is a copy; otherwise it sees what is written.
    sources : list of torch.Tensor, optional
        What the unit is made of: kept, so that no other tensor gets one of their identities, which are in the key.
    unit : LinearUnit, optional
    modified : dict, optional
        Its parameters as the rule modifies them.
    """

    key: tuple[Any, ...] = ()
    sums: list[float] | None = None
    sources: list[torch.Tensor] = field(default_factory=list)
    unit: LinearUnit | None = None
    modified: dict[tuple[int, bool], dict[str, torch.Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LinearStep(Step):
    """A linear unit under a zennit rule, or with the plain gradient.

    Parameters
    ----------
    to : Ref
        The linear node's input.
    hook : zennit Hook or None
    kept : KeptUnit
        That of steps which differ from this one in the shape of their maps at most; with `before`, not even in that.
    behind : int or None
        The BatchNorm node that belongs to it and is read behind it.
    before : Fold or None
        The BatchNorm that belongs to it and is in front of it; the recording is then a restated one.
    """

    to: Ref
    hook: Hook | None
    kept: KeptUnit
    behind: int | None = None
    before: Fold | None = None

    @property
    def parameters_in(self) -> Hook | None:
        return self.hook

    def node(self, recording: Recording) -> Node:
        """Return the node with the values of weights that the forward computed, which are constants."""
        node = super().node(recording)
        if node.inputs == (self.to,):
            return node
        kept = {self.to: self.to}
        args, kwargs = mapped((node.args, dict(node.kwargs)), lambda ref: kept.get(ref) or recording.value(ref), Ref)
        return replace(node, args=args, kwargs=kwargs)

    def prepare(self, recording: Recording) -> Backward:
        unit, modified = self._unit(recording)
        (x,) = values_of(recording, [self.to])
        if self.hook is None:
            transpose, dtype = linear_transpose(unit, unit.weight, x.shape) or _transposed(unit, x), unit.weight.dtype
            return lambda message: [(self.to, transpose(only(message).to(dtype)))]
        node = self.node(recording)
        module = layer_of(node, unit) if modified is None else unit
        samples = Samples(recording, self.to, Ref(self.index))
        pull = hook_backward(self.hook, module, x, where=node.name, samples=samples, modified=modified)
        return lambda message: [(self.to, pull(arriving(message)))]

    def absorbed(self, recording: Recording) -> Absorbed | None:
        if self.hook is None:
            return None
        unit, modified = self._unit(recording)
        (x,) = values_of(recording, [self.to])
        return absorbed_by(self.hook, unit, x, where=self.node(recording).name, modified=modified)

    def _unit(self, recording: Recording) -> tuple[LinearUnit, ModifiedUnit | None]:
        """Return the unit, made anew if a weight changed; for a `BasicHook` without weights, and what it modifies."""
        graph, node, fold = recording.graph, self.node(recording), self.before
        behind = None if self.behind is None else graph.nodes[self.behind]

        def effective() -> LinearUnit:
            return effective_unit(node, behind, None if fold is None else factors_in_front(graph, node, fold))

        nodes = (node, behind, None if fold is None else graph.nodes[fold.norm])
        sources, kept = state_of(*nodes), self.kept
        key = (identities_of(sources), settings_of(*nodes))
        if kept.unit is None or kept.key != key or (kept.sums is not None and kept.sums != checksums_of(sources)):
            unit = effective()
            copied = modifies_parameters(self.hook) or not shares_memory(unit, sources)
            if is_declared(self.hook):
                unit.without_values()
            kept.key, kept.sources, kept.unit, kept.modified = key, sources, unit, {}
            kept.sums = checksums_of(sources) if copied else None
        if not is_declared(self.hook):
            return kept.unit, None
        output = partial(output_of, recording, Ref(self.index if self.behind is None else self.behind))
        return kept.unit, ModifiedUnit(self.hook, effective, kept.modified, output)


def _transposed(unit: LinearUnit, x: torch.Tensor) -> Pull:
    """Return the transpose of a linear unit by autograd, where no direct one is known."""
    transposed = Transposed(lambda value: [unit(value)], [x], of=unit)
    return lambda s: transposed([s])[0]


@dataclass(frozen=True, eq=False)
class HookStep(Step):
    """A node of one signal without folded weights, or a whole module, under a zennit hook."""

    to: Ref
    hook: Hook

    @property
    def parameters_in(self) -> Hook:
        return self.hook

    def prepare(self, recording: Recording) -> Backward:
        node = self.node(recording)
        (x,) = inputs_of(recording, node, [self.to])
        unit = self._unit(recording, node)
        output = next(index for index, shape in enumerate(node.shapes) if shape is not None)
        samples = Samples(recording, self.to, Ref(self.index, output))
        pull = hook_backward(self.hook, unit, x, where=node.name, samples=samples)
        return lambda message: [(self.to, pull(arriving(message)))]

    def absorbed(self, recording: Recording) -> Absorbed | None:
        node = self.node(recording)
        if node.kind not in (Kind.BATCH_NORM, Kind.AFFINE, Kind.SUM):
            return None
        (x,) = inputs_of(recording, node, [self.to])
        return absorbed_by(self.hook, self._unit(recording, node), x, where=node.name)

    def _unit(self, recording: Recording, node: Node) -> torch.nn.Module:
        """Return the module itself, where calling it does what the node did; in-place modules would overwrite."""
        if node.kind is Kind.BATCH_NORM:
            return NormUnit(node)
        if node.kind is Kind.NORM and is_declared(self.hook):
            return SpelledNorm(with_constants(node, recording))
        value = recording.value(self.to)
        plain = node.args == (self.to,) and not node.kwargs and not getattr(node.module, "inplace", False)
        if node.module is not None and plain and working(value) is value:
            return with_own_state(node.module) if node.is_module else node.module
        return CallUnit(true_function(node, recording, [self.to]), described(node))


_SUM = CallUnit(lambda x: [x.sum(-1)], "sum")


@dataclass(frozen=True, eq=False)
class StackedStep(Step):
    """A sum or difference under a zennit rule for ``zennit.layer.Sum``, which sees the summands stacked.

    Constant summands are part of the stack, and keep their share.
    """

    to: tuple[Ref, ...]
    hook: Hook

    @property
    def parameters_in(self) -> Hook:
        return self.hook

    def prepare(self, recording: Recording) -> Backward:
        node = self.node(recording)
        pull = self._pull(recording, self._stacked(recording))

        def backward(message: Message) -> Given:
            parts = pull(arriving(message)).whole().unbind(-1)
            return [
                (ref, sum_to(part, recording.graph.shape(ref)))
                for ref, part in zip(node.args, parts, strict=True)
                if isinstance(ref, Ref) and ref in self.to
            ]

        return backward

    def absorbed(self, recording: Recording) -> Absorbed | None:
        stacked = self._stacked(recording)
        absorbed = absorbed_by(self.hook, _SUM, stacked, where=self.node(recording).name)
        summands = self.node(recording).args
        fixed = torch.tensor([not isinstance(summand, Ref) or summand not in self.to for summand in summands])
        if absorbed is None or not bool(fixed.any()):
            return absorbed
        ones = torch.ones_like(recording.values[self.index][0])[None]
        by_summand = self._pull(recording, stacked)(Relevance(ones)).whole()[0]
        return Absorbed(by_summand[..., fixed.to(by_summand.device)].sum(-1), absorbed.stabilizer)

    def _pull(self, recording: Recording, stacked: torch.Tensor) -> Callable[[Relevance], Relevance]:
        """Return the rule from relevance at the sum to that of the summands, whose samples are along the sum's axis."""
        output = Ref(self.index)
        samples = Samples(recording, output, output)
        return hook_backward(self.hook, _SUM, stacked, where=self.node(recording).name, samples=samples)

    def _stacked(self, recording: Recording) -> torch.Tensor:
        """Return the summands side by side, (*shape, summand)."""
        summands = list(self._summands(self.node(recording), recording))
        return torch.stack(torch.broadcast_tensors(*summands), -1)  # type: ignore[no-untyped-call]

    @staticmethod
    def _summands(node: Node, recording: Recording) -> Iterator[torch.Tensor]:
        like = working(recording.values[node.index][0])
        first, second = node.spec.signs
        factors = (first, node.kwargs.get("alpha", 1) * second)
        for operand, factor in zip(node.args, factors, strict=True):
            value = recording.value(operand) if isinstance(operand, Ref) else operand
            yield torch.as_tensor(value, dtype=like.dtype, device=like.device) * factor
