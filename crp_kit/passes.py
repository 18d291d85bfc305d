"""The relevance pass: a walk over the recorded graph of one forward, for many conditions at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from .errors import ModelError, NonFiniteRelevanceError
from .graph.axes import batch_axes, channel_axes
from .graph.nodes import Ref
from .graph.ops import Kind
from .graph.paths import Segment, Walk
from .graph.record import Recording
from .ledger import Ledger, total
from .rules.assign import Plan
from .rules.folds import restated
from .rules.step import Backward, Given, Losses, Message

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Passed", "Run"]


@dataclass(frozen=True)
class Passed:
    """What one relevance pass gives.

    Parameters
    ----------
    inputs : dict
        Relevance at each model input, (row, *shape).
    recorded : dict
        Relevance at each output that was asked for, before that node's own mask, (row, *shape).
    unknown : frozenset of str
        Nodes that handed relevance on as plain gradient because their operation is not known.
    """

    inputs: Mapping[Ref, torch.Tensor]
    recorded: Mapping[Ref, torch.Tensor]
    unknown: frozenset[str]


class Run:
    """One recorded forward, ready for many relevance passes. Made by `Engine.run`.

    Parameters
    ----------
    recording : Recording
    plan : Plan
    engine : Engine
    """

    def __init__(self, recording: Recording, plan: Plan, engine: Engine) -> None:
        self.recording, self.plan, self.engine = recording, plan, engine
        self.graph = recording.graph
        self._prepared: dict[int, Backward] = {}

    def passed(
        self,
        start: Ref,
        seeds: torch.Tensor,
        *,
        rows: torch.Tensor,
        masks: Mapping[Ref, torch.Tensor],
        record: Collection[Ref] = (),
        exclude_parallel: bool = True,
        to_input: bool = True,
        ledger: Ledger | None = None,
    ) -> Passed:
        """Run relevance from `start` down.

        Parameters
        ----------
        start : Ref
            Output at which relevance starts.
        seeds : torch.Tensor
            (seed, *shape), the distinct start values.
        rows : torch.Tensor
            (row,), which seed each row starts from. What lies above the topmost mask is computed once per seed.
        masks : dict
            For each conditioned output a factor (row, *broadcast shape).
        record : collection of Ref
            Outputs whose arriving relevance is wanted.
        exclude_parallel : bool
            Count only paths on which the conditioned nodes are a maximal chain.
        to_input : bool
            Walk on to the model input; otherwise stop at the lowest node of `record`.
        ledger : Ledger, optional
            Books to keep; relevance that is not finite is then noted there instead of being an error.

        Raises
        ------
        UnreachableLayerError
            If a conditioned node cannot be passed.
        NonFiniteRelevanceError
            If relevance becomes infinite or not-a-number.
        """
        walk = Walk(self.plan.flow, start, tuple(masks))
        walk.check()

        def task(watch: bool) -> _Task:
            made = _Task(self, walk, masks=masks, rows=rows, wanted=set(record), to_input=to_input, watch=watch)
            made.run(seeds, exclude_parallel, ledger)
            return made

        exact = torch.autocast(seeds.device.type, enabled=False)
        with torch.inference_mode(False), torch.no_grad(), exact:
            passed = task(watch=False).result()
            parts = (*passed.inputs.values(), *passed.recorded.values())
            if ledger is None and not all(bool(torch.isfinite(part).all()) for part in parts):
                self._check_forward()
                task(watch=True)
        self.engine.warn_of_unknown(passed.unknown, self.graph)
        return passed

    def _check_forward(self) -> None:
        """Make sure that not the forward itself made what is not finite."""
        if bool(torch.isfinite(self.recording.value(self.graph.output)).all()):
            return
        for node, values in zip(self.graph, self.recording.values, strict=True):
            floats = (one for one in values if isinstance(one, torch.Tensor) and one.is_floating_point())
            if not all(bool(torch.isfinite(one).all()) for one in floats) and node.kind is not Kind.INPUT:
                raise ModelError(
                    f"the model's own forward makes values that are NaN or infinite, first at {node.name!r} ({node.op})"
                )

    @cached_property
    def _restated(self) -> Recording:
        """The recording as the steps see it."""
        return restated(self.recording, self.plan.units)

    @cached_property
    def channel_axes(self) -> Mapping[Ref, int | None]:
        """For each output, the axis along which it keeps its channels, or None if it is unknown."""
        return channel_axes(self.graph)

    @cached_property
    def batch_axes(self) -> Mapping[Ref, int | None]:
        """For each output, the axis along which its samples lie, or None if it is unknown."""
        return batch_axes(self.graph)

    def backward(self, index: int) -> Backward:
        """Return the prepared step of a node."""
        if index not in self._prepared:
            self._prepared[index] = self.plan.steps[index].prepare(self._restated)
        return self._prepared[index]

    def losses(self, index: int) -> Losses | None:
        """Return what the rule of a node keeps."""
        return self.plan.steps[index].losses(self._restated)


class _Task:
    """One walk of relevance for one batch of rows."""

    def __init__(
        self,
        run: Run,
        walk: Walk,
        *,
        masks: Mapping[Ref, torch.Tensor],
        rows: torch.Tensor,
        wanted: set[Ref],
        to_input: bool,
        watch: bool = False,
    ) -> None:
        self.job, self.walk, self.masks, self.rows, self.wanted, self.watch = run, walk, masks, rows, wanted, watch
        self.graph, self.to_input = run.graph, to_input
        self.ledger: Ledger | None = None
        self.arrived: dict[Ref, torch.Tensor] = {}
        self.recorded: dict[Ref, torch.Tensor] = {}
        self.inputs: dict[Ref, torch.Tensor] = {}
        self.unknown: set[str] = set()
        self.lowest = 0 if to_input else min((ref.node for ref in wanted), default=walk.start.node)

    def run(self, seeds: torch.Tensor, exclude_parallel: bool, ledger: Ledger | None) -> None:
        """Walk all segments, the start with one row per seed."""
        start, self.ledger = self.walk.start, ledger
        self._watch(start.node, seeds)
        if not exclude_parallel:
            self.arrived[start] = self._expanded(seeds) if self.masks else seeds
            self._walk(Segment(start, (), frozenset(range(start.node + 1))), self.masks)
            return
        self.arrived[start] = seeds
        for segment in self.walk.segments():
            if segment.source in self.arrived:
                mask = self.masks.get(segment.source)
                self._walk(segment, {} if mask is None else {segment.source: mask})

    def result(self) -> Passed:
        """Return what was collected, each (row, *shape); outputs that no relevance reached are zero."""
        inputs = [Ref(node.index) for node in self.graph if node.kind is Kind.INPUT] if self.to_input else []
        return Passed(
            {ref: self._whole(self.inputs, ref) for ref in inputs},
            {ref: self._whole(self.recorded, ref) for ref in self.wanted},
            frozenset(self.unknown),
        )

    def _whole(self, found: Mapping[Ref, torch.Tensor], ref: Ref) -> torch.Tensor:
        if ref in found:
            return self._expanded(found[ref])
        return self.arrived[self.walk.start].new_zeros((len(self.rows), *self.graph.shape(ref)))

    def _expanded(self, relevance: torch.Tensor) -> torch.Tensor:
        """Return one row per condition from one row per seed; seeds are numbered as they first appear."""
        return relevance if relevance.shape[0] == len(self.rows) else relevance[self.rows]

    def _add(self, store: dict[Ref, torch.Tensor], ref: Ref, relevance: torch.Tensor) -> None:
        before = store.get(ref)
        if before is not None and before.shape[0] != relevance.shape[0]:
            before, relevance = self._expanded(before), self._expanded(relevance)
        store[ref] = relevance if before is None else before + relevance

    def _walk(self, segment: Segment, masks: Mapping[Ref, torch.Tensor]) -> None:
        """Carry relevance from a segment's source to its targets, or to the input."""
        pending: dict[Ref, torch.Tensor] = {segment.source: self.arrived[segment.source]}
        for index in range(segment.source.node, self.lowest - 1, -1):
            node = self.graph.nodes[index]
            message: Message = [self._arriving(pending, Ref(index, i), masks) for i in range(len(node.shapes))]
            if all(part is None for part in message):
                continue
            if node.kind is Kind.INPUT and message[0] is not None:
                self._add(self.inputs, Ref(index), message[0])
            elif index > self.lowest or self.to_input:
                for ref, relevance in self._handed_on(index, message):
                    if ref in segment.targets:
                        self._add(self.arrived, ref, relevance)
                    elif ref.node in segment.nodes:
                        self._add(pending, ref, relevance)
                    if self.ledger is not None:
                        counted = ref in segment.targets or ref.node in segment.nodes
                        self.ledger.hand_on(index, relevance, counted=counted)

    def _arriving(
        self, pending: dict[Ref, torch.Tensor], ref: Ref, masks: Mapping[Ref, torch.Tensor]
    ) -> torch.Tensor | None:
        """Take the relevance that arrived at an output, note it if it is wanted, and mask it."""
        relevance = pending.pop(ref, None)
        if relevance is None:
            return None
        if ref in self.wanted:
            self._add(self.recorded, ref, relevance)
        masked = self._expanded(relevance) * masks[ref] if ref in masks else relevance
        if self.ledger is not None:
            self.ledger.arrive(ref.node, relevance)
            if ref in masks:
                self.ledger.mask(ref.node, relevance, masked)
        return masked

    def _handed_on(self, index: int, message: Message) -> list[tuple[Ref, torch.Tensor]]:
        node = self.graph.nodes[index]
        if node.name in self.job.plan.unknown:
            self.unknown.add(node.name)
        given = self.job.backward(index)(message)
        if self.ledger is not None:
            self._note_losses(self.ledger, index, message, given)
        for _, relevance in given:
            self._watch(index, relevance)
        return given

    def _watch(self, index: int, relevance: torch.Tensor) -> None:
        if self.watch and not bool(torch.isfinite(relevance).all()):
            raise NonFiniteRelevanceError(self.graph.nodes[index].name, self.job.plan.steps[index].rule or "start")

    def _note_losses(self, ledger: Ledger, index: int, message: Message, given: Given) -> None:
        """Write down what the rule of a node kept of the relevance of its outputs."""
        parts = [part for part in message if part is not None]
        losses = self.job.losses(index) if len(parts) == 1 or self.job.plan.steps[index].quality == "exact" else None
        handed_on = sum(total(relevance) for _, relevance in given)
        if len(parts) > 1:
            parts = [torch.cat([part.flatten() for part in parts])]
        ledger.lose(index, parts[0], handed_on, losses)
