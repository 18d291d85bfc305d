"""One forward, many relevance backwards: an interpreter over the recorded graph."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from .errors import CrpKitWarning, ModelError, NonFiniteRelevanceError
from .graph.axes import batch_axes, channel_axes
from .graph.nodes import Graph, Ref
from .graph.ops import Kind
from .graph.paths import Segment, Walk
from .graph.record import OutputSelector, Recording, record, seen_through
from .graph.shadow import fingerprint, make_shadow, unwrap
from .rules.assign import Plan, make_plan, mapped_containers
from .rules.presets import Composite
from .rules.step import Backward, Message

_KEPT = 16
"""Composites, and recorded structures for each of them, that are remembered."""


@dataclass
class _View:
    """A copy of the model, and how far it can be looked into: its opaque modules, for the structures looked at."""

    shadow: torch.nn.Module
    opaque: frozenset[str]
    gradients: bool
    looked: set[Any] = field(default_factory=set)


@dataclass
class _Planned:
    """What was planned for one composite, by recorded structure; it keeps the composite alive."""

    view: _View
    composite: Composite | None
    plans: OrderedDict[Any, Plan] = field(default_factory=OrderedDict)


class Engine:
    """Records forwards of a model and runs relevance backwards through them. The model is never touched.

    Parameters
    ----------
    model : torch.nn.Module
    output : str, int or callable, optional
        Which part of the model's output is attributed.
    """

    def __init__(self, model: torch.nn.Module, output: OutputSelector = None) -> None:
        self.model, self.output = model, output
        self._shadow: torch.nn.Module | None = None
        self._views: dict[tuple[frozenset[str], bool], _View] = {}
        self._planned: OrderedDict[int, _Planned] = OrderedDict()
        self._fingerprint: tuple[Any, ...] = ()
        self._said: set[str] = set()
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle and copy model and output; what was recorded and planned is made anew."""
        return {"model": self.model, "output": self.output}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["model"], state["output"])  # type: ignore[misc]

    def run(self, data: Any, composite: Composite | None) -> Run:
        """Record one forward and plan the relevance pass.

        Raises
        ------
        ModelError
            If the forward fails or its output cannot be attributed.
        """
        self._warn_of_training()
        with self._lock, torch.inference_mode(False):
            return self._run(data, composite)

    def _run(self, data: Any, composite: Composite | None) -> Run:
        planned = self._planned_for(composite)
        recording = self._record(planned.view, data)
        plan = planned.plans.get(recording.graph.signature)
        if plan is None:
            plan = planned.plans[recording.graph.signature] = make_plan(recording.graph, composite)
            if len(planned.plans) > _KEPT:
                planned.plans.popitem(last=False)
        planned.plans.move_to_end(recording.graph.signature)
        for note in recording.notes:
            self.say(note)
        return Run(recording, plan, self)

    def _record(self, view: _View, data: Any) -> Recording:
        """Record a forward; one whose structure is new is searched for modules whose inside cannot be seen."""
        if not view.looked:
            self._look(view, data)
        recording = record(view.shadow, data, output=self.output, opaque=view.opaque)
        if view.looked and recording.graph.signature not in view.looked and self._look(view, data):
            recording = record(view.shadow, data, output=self.output, opaque=view.opaque)
        view.looked.add(recording.graph.signature)
        return recording

    def _look(self, view: _View, data: Any) -> bool:
        """Find modules whose inside cannot be seen; return whether there are new ones."""
        before = view.opaque
        view.opaque = seen_through(view.shadow, data, output=self.output, opaque=before, gradients=view.gradients)
        return view.opaque != before

    def _planned_for(self, composite: Composite | None) -> _Planned:
        """Return what is kept for a composite, made anew when the model's parts were replaced.

        All composites share one shadow, except those with canonizers, which get a private one, remade at every call.
        """
        current = fingerprint(self.model)
        if self._shadow is None or current != self._fingerprint:
            self._views.clear()
            self._planned.clear()
            self._fingerprint, self._shadow = current, make_shadow(self.model)
        if composite is not None and composite.canonizers:
            private = make_shadow(self.model, private=True)
            for canonizer in composite.canonizers:
                canonizer.apply(private)
            return _Planned(_View(private, mapped_containers(composite, private), gradients=False), composite)
        planned = self._planned.get(id(composite))
        if planned is None:
            key = mapped_containers(composite, self._shadow), composite is None
            view = self._views.setdefault(key, _View(self._shadow, *key))
            planned = self._planned[id(composite)] = _Planned(view, composite)
            if len(self._planned) > _KEPT:
                self._planned.popitem(last=False)
        return planned

    def _warn_of_training(self) -> None:
        model = unwrap(self.model)
        affected = sorted(
            {type(m).__name__ for m in model.modules() if m.training and type(m).__name__.startswith(_MODES)}
        )
        if affected:
            self.say(
                f"the model is in training mode; the attribution runs a copy in evaluation mode "
                f"({', '.join(affected)} differ) and leaves the model's own mode as it is"
            )

    def say(self, message: str) -> None:
        """Warn, once for each message."""
        if message not in self._said:
            self._said.add(message)
            warnings.warn(message, CrpKitWarning, stacklevel=5)

    def warn_of_unknown(self, names: Collection[str], graph: Graph) -> None:
        """Say, once, which operations hand relevance on as plain gradient because no rule is known for them."""
        ops = {node.op for node in graph if node.name in names}
        if ops:
            self.say(
                f"no rule is known for the operation{'s' if len(ops) > 1 else ''} {', '.join(sorted(ops))} (at "
                f"{', '.join(sorted(names)[:5])}); relevance passes there as plain gradient"
            )


_MODES = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "BatchNorm", "SyncBatchNorm", "StochasticDepth")
"""How the names begin of modules that behave differently in training."""


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
            made.run(seeds, exclude_parallel)
            return made

        exact = torch.autocast(seeds.device.type, enabled=False)
        with torch.inference_mode(False), torch.no_grad(), exact:
            passed = task(watch=False).result()
            parts = (*passed.inputs.values(), *passed.recorded.values())
            if not all(bool(torch.isfinite(part).all()) for part in parts):
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
            self._prepared[index] = self.plan.steps[index].prepare(self.recording)
        return self._prepared[index]


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
        self.arrived: dict[Ref, torch.Tensor] = {}
        self.recorded: dict[Ref, torch.Tensor] = {}
        self.inputs: dict[Ref, torch.Tensor] = {}
        self.unknown: set[str] = set()
        self.lowest = 0 if to_input else min((ref.node for ref in wanted), default=walk.start.node)

    def run(self, seeds: torch.Tensor, exclude_parallel: bool) -> None:
        """Walk all segments, the start with one row per seed."""
        start = self.walk.start
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

    def _arriving(
        self, pending: dict[Ref, torch.Tensor], ref: Ref, masks: Mapping[Ref, torch.Tensor]
    ) -> torch.Tensor | None:
        """Take the relevance that arrived at an output, note it if it is wanted, and mask it."""
        relevance = pending.pop(ref, None)
        if relevance is None:
            return None
        if ref in self.wanted:
            self._add(self.recorded, ref, relevance)
        return self._expanded(relevance) * masks[ref] if ref in masks else relevance

    def _handed_on(self, index: int, message: Message) -> list[tuple[Ref, torch.Tensor]]:
        node = self.graph.nodes[index]
        if node.name in self.job.plan.unknown:
            self.unknown.add(node.name)
        given = self.job.backward(index)(message)
        for _, relevance in given:
            self._watch(index, relevance)
        return given

    def _watch(self, index: int, relevance: torch.Tensor) -> None:
        if self.watch and not bool(torch.isfinite(relevance).all()):
            raise NonFiniteRelevanceError(self.graph.nodes[index].name, self.job.plan.steps[index].rule or "start")
