"""The relevance pass: a walk over the recorded graph of one forward, for many conditions at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from ..errors import DeviceMemoryError, ModelError, NonFiniteRelevanceError
from ..graph.axes.output_axes import batch_axes, channel_axes
from ..graph.graph import Ref
from ..graph.operations import Kind
from ..graph.path_exclusion import Segment, Walk
from ..graph.recording.record import Recording
from ..numerics import full_float32, is_finite
from .folded_values import cut_apart, restated
from .plan import Plan
from .relevance import Relevance, one_channel
from .relevance_balance import Ledger, total
from .runtime import Runtime
from .step import Backward, Losses, Message

__all__ = ["ChosenAxes", "Passed", "Run"]


@dataclass(frozen=True)
class ChosenAxes:
    """Axes that the user has named, the batch axis counted: of the output's classes, of the first input's features."""

    classes: int | None = None
    features: int | Literal["none"] | None = None


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
    """One recorded forward, ready for many relevance passes, as long as no weight changes. Made by `Engine.run`.

    Parameters
    ----------
    recording : Recording
    plan : Plan
    runtime : Runtime
    chosen : ChosenAxes, optional
    whole : Run, optional
        The run of the same recording in which no unit is cut, if one is here. Steps that both have are prepared there.
    settle : callable, optional
        Called when rules have run.
    """

    def __init__(
        self,
        recording: Recording,
        plan: Plan,
        runtime: Runtime,
        *,
        chosen: ChosenAxes = ChosenAxes(),
        whole: Run | None = None,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._settle = settle
        self.recording, self.plan, self.runtime, self.whole = recording, plan, runtime, whole
        self.chosen = chosen
        self.graph = recording.graph
        self._prepared: dict[int, Backward] = {}
        self._prepared_by_cut: dict[int, dict[int, Backward]] = {}

    def cut_at(self, start: Ref) -> Run:
        """Return the run for relevance that starts at an output: another one where that is inside of a unit."""
        plan = self.plan.cut_at(start)
        if plan is self.plan:
            return self
        # Not kept: in a cycle of references, its values would stay in memory.
        cut = Run(self.recording, plan, self.runtime, chosen=self.chosen, whole=self)
        cut._prepared = self._prepared_by_cut.setdefault(start.node, cut._prepared)
        return cut

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
        again: bool = True,
        resumed: bool = False,
    ) -> Passed:
        """Run relevance from `start` down.

        A unit of a layer and a BatchNorm that the start is inside of is cut there, see
        `crp_kit.graph.batch_norm_folding`.

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
            Walk on to the model input; otherwise only towards the outputs of `record`.
        ledger : Ledger, optional
            Books to keep, of one row; relevance that is not finite is then noted there instead of being an error.
        again : bool
            More passes will follow: keep what this one prepares. Otherwise memory is freed on the way.
        resumed : bool
            The seeds are relevance that another pass left at `start`: it does not start there, and no unit is cut.

        Raises
        ------
        UnreachableLayerError
            If a conditioned node cannot be passed.
        NonFiniteRelevanceError
            If relevance becomes infinite or not-a-number.
        DeviceMemoryError
            If memory does not suffice to carry one row.
        """
        run = self if resumed else self.cut_at(start)
        walk = Walk(run.plan.flow, start, tuple(masks))
        walk.check()

        def passed_through(watch: bool) -> Passed:
            keep = again or len(rows) > self.rows_at_once
            task = _Task(
                run,
                walk,
                exclude_parallel=exclude_parallel,
                wanted=set(record),
                to_input=to_input,
                watch=watch,
                ledger=ledger,
                keep=keep,
            )
            try:
                return _joined(list(task.parts(seeds, rows, masks)))
            except torch.cuda.OutOfMemoryError as error:
                raise DeviceMemoryError("the heatmaps", self.graph.batch) from error

        exact = torch.autocast(seeds.device.type, enabled=False)
        with self.runtime.lock, torch.inference_mode(False), torch.no_grad(), exact, full_float32():
            passed = passed_through(watch=False)
            parts = (*passed.inputs.values(), *passed.recorded.values())
            if ledger is None and not all(map(is_finite, parts)):
                self._check_forward()
                passed_through(watch=True)
            self._settle()
        self.runtime.warn_of_plain_gradients(passed.unknown, self.graph)
        return passed

    def _check_forward(self) -> None:
        """Make sure that not the forward itself made what is not finite."""
        if is_finite(self.recording.value(self.graph.output)):
            return
        for node, values in zip(self.graph, self.recording.values, strict=True):
            floats = (one for one in values if isinstance(one, torch.Tensor) and one.is_floating_point())
            if not all(map(is_finite, floats)) and node.kind is not Kind.INPUT:
                raise ModelError(
                    f"the model's own forward makes values that are NaN or infinite, first at {node.name!r} ({node.op})"
                )

    @cached_property
    def _restated(self) -> Recording:
        """The recording as the steps see it."""
        if self.whole is None:
            return restated(self.recording, self.plan.units, self.plan.maps)
        apart = [node.index for node in self.graph if not self._is_shared(node.index)]
        return cut_apart(self.whole._restated, self.recording, apart)

    def _is_shared(self, index: int) -> bool:
        """Return whether the step of a node is that of the run in which no unit is cut."""
        return self.whole is not None and self.plan.steps[index] is self.whole.plan.steps[index]

    @cached_property
    def channel_axes(self) -> Mapping[Ref, int | None]:
        """For each output, the axis along which it keeps its channels, or None if it is unknown."""
        return channel_axes(self.graph)

    @cached_property
    def batch_axes(self) -> Mapping[Ref, int | None]:
        """For each output, the axis along which its samples lie, or None if it is unknown."""
        return batch_axes(self.graph, mixing=True)

    @cached_property
    def _largest(self) -> int:
        """Values of the largest map of one row."""
        sizes = (math.prod(shape) for node in self.graph for shape in node.shapes if shape is not None)
        return max(1, *sizes)

    @property
    def rows_at_once(self) -> int:
        """How many rows are carried at once: as many as keep the largest map of them small."""
        return self.runtime.rows_at_once(self._largest, self.recording.value(self.graph.output).device)

    def carry_fewer(self, rows: int) -> None:
        """Halve a number of rows for which memory did not suffice, for this and all later passes."""
        self.runtime.carry_fewer(rows, self._largest)

    def backward(self, index: int) -> Backward:
        """Return the prepared step of a node."""
        if self.whole is not None and self._is_shared(index):
            return self.whole.backward(index)
        if index not in self._prepared:
            self._prepared[index] = self.plan.steps[index].prepare(self._restated)
            while self._restated.remarks:
                self.runtime.say(self._restated.remarks.pop())
        return self._prepared[index]

    def forget(self, index: int) -> None:
        """Drop what was prepared for a node and for those that read it."""
        if self.whole is not None:
            self.whole.forget(index)
        self._prepared.pop(index, None)
        for output in range(len(self.graph.nodes[index].shapes)):
            self._restated.working.pop(Ref(index, output), None)

    def losses(self, index: int) -> Losses | None:
        """Return what the rule of a node keeps."""
        return self.plan.steps[index].losses(self._restated)


def _joined(parts: Sequence[Passed]) -> Passed:
    """Put the rows of several passes one behind the other."""
    if len(parts) == 1:
        return parts[0]
    inputs, recorded = (
        {ref: torch.cat([one[ref] for one in several]) for ref in several[0]}
        for several in ([part.inputs for part in parts], [part.recorded for part in parts])
    )
    return Passed(inputs, recorded, frozenset().union(*(part.unknown for part in parts)))


def _shared(found: Mapping[Ref, Relevance]) -> dict[Ref, Relevance]:
    """Return the same relevance for one reader of several."""
    return {ref: relevance.shared() for ref, relevance in found.items()}


class _Task:
    """One walk of relevance: above the masks with a row for each seed, below them with one for each condition."""

    def __init__(
        self,
        run: Run,
        walk: Walk,
        *,
        exclude_parallel: bool,
        wanted: set[Ref],
        to_input: bool,
        watch: bool,
        ledger: Ledger | None,
        keep: bool,
    ) -> None:
        self.job, self.walk, self.wanted, self.watch, self.ledger, self.keep = run, walk, wanted, watch, ledger, keep
        self.graph, self.to_input, self.exclude_parallel = run.graph, to_input, exclude_parallel
        start, conditioned = walk.start, walk.conditioned
        everything = Segment(start, (), frozenset(range(start.node + 1)))
        self.segments = walk.segments() if exclude_parallel else (everything,)
        self.shared = int(start not in conditioned and (exclude_parallel or not conditioned))
        self.used: list[int] = []
        self.arrived: dict[Ref, Relevance] = {}
        self.recorded: dict[Ref, Relevance] = {}
        self.inputs: dict[Ref, Relevance] = {}
        self.unknown: set[str] = set()
        self.rows: list[int] = []
        self.leading = walk.flow.upstream_marks(list(wanted))

    def parts(self, seeds: torch.Tensor, rows: torch.Tensor, masks: Mapping[Ref, torch.Tensor]) -> Iterator[Passed]:
        """Yield what some rows at a time collect; where memory does not suffice for as many, half of them."""
        first = 0
        while first < len(rows):
            part = slice(first, min(first + self.job.rows_at_once, len(rows)))
            passed = None
            try:
                passed = self._part(seeds, rows[part].tolist(), {ref: mask[part] for ref, mask in masks.items()})
            except torch.cuda.OutOfMemoryError as error:
                if part.stop - first == 1:
                    raise DeviceMemoryError("the relevance", self.graph.batch) from error
            if passed is not None:
                yield passed
                first = part.stop
            else:  # only here, where the error and with it all that the part held is gone, memory is free again
                self._begin([], seeds[:0])
                self.job.carry_fewer(part.stop - first)
                self.keep = True

    def _part(self, seeds: torch.Tensor, rows: list[int], masks: Mapping[Ref, torch.Tensor]) -> Passed:
        """Return what some rows collect; those that start from one seed share what lies above the masks."""
        if self.used != [rows[0]] or set(rows) != set(self.used):
            used = list(dict.fromkeys(rows))
            self._begin(used, seeds[used])
            for segment in self.segments[: self.shared]:
                self._walk(segment, {})
        below = copy(self)
        below.rows = [self.used.index(one) for one in rows]
        below.arrived, below.recorded, below.inputs = map(_shared, (self.arrived, self.recorded, self.inputs))
        for segment in self.segments[self.shared :]:
            if segment.source in below.arrived:
                below._walk(segment, {segment.source: masks[segment.source]} if self.exclude_parallel else masks)
        return below._result()

    def _begin(self, used: list[int], seeds: torch.Tensor) -> None:
        """Start anew, from some of the seeds."""
        start = self.walk.start
        self._watch(start.node, Relevance(seeds))
        self.used, self.rows, self.arrived = used, list(range(len(seeds))), {start: Relevance(seeds)}
        self.recorded, self.inputs = {}, {}

    def _result(self) -> Passed:
        """Return what was collected, each (row, *shape); outputs that no relevance reached are zero."""
        inputs = [Ref(node.index) for node in self.graph if node.kind is Kind.INPUT] if self.to_input else []
        return Passed(
            {ref: self._whole(self.inputs, ref) for ref in inputs},
            {ref: self._whole(self.recorded, ref) for ref in self.wanted},
            frozenset(self.unknown),
        )

    def _whole(self, found: Mapping[Ref, Relevance], ref: Ref) -> torch.Tensor:
        if ref in found:
            return self._expanded(found[ref]).whole()
        return self.arrived[self.walk.start].rows.new_zeros((len(self.rows), *self.graph.shape(ref)))

    def _expanded(self, relevance: Relevance) -> Relevance:
        """Return one row per condition from one row per seed; seeds are numbered as they first appear."""
        if len(relevance.rows) == len(self.rows):
            return relevance
        return Relevance(relevance.rows[self.rows], relevance.factor, owned=True)

    def _add(self, store: dict[Ref, Relevance], ref: Ref, relevance: Relevance) -> None:
        before = store.get(ref)
        if before is not None and len(before.rows) != len(relevance.rows):
            before, relevance = self._expanded(before), self._expanded(relevance)
        store[ref] = relevance if before is None else before.plus(relevance)

    def _walk(self, segment: Segment, masks: Mapping[Ref, torch.Tensor]) -> None:
        """Carry relevance from a segment's source to its targets, or to the input."""
        pending: dict[Ref, Relevance] = {segment.source: self.arrived[segment.source].shared()}
        for index in range(segment.source.node, -1, -1):
            node = self.graph.nodes[index]
            message = self._message(pending, index, masks)
            if all(part is None for part in message):
                continue
            if node.kind is Kind.INPUT and message[0] is not None:
                self._add(self.inputs, Ref(index), message[0])
            elif self.to_input or self.leading[index]:
                for ref, relevance in self._handed_on(index, message):
                    store = self.arrived if ref in segment.targets else pending
                    counted = store is self.arrived or ref.node in segment.nodes or self._only_wanted(segment, ref)
                    if self.ledger is not None:
                        self.ledger.hand_on(index, relevance.whole(), counted=counted)
                    if counted:
                        self._add(store, ref, relevance)
            if not self.keep:
                self.job.forget(index)

    def _message(self, pending: dict[Ref, Relevance], index: int, masks: Mapping[Ref, torch.Tensor]) -> Message:
        """Take what arrived at a node's outputs: a row per seed for each of them, or a row per condition for each.

        Without path exclusion, some outputs of a node may lie below a mask and others beside it.
        """
        parts = [self._arriving(pending, Ref(index, i), masks) for i in range(len(self.graph.nodes[index].shapes))]
        if len({len(part.rows) for part in parts if part is not None}) > 1:
            return [part and self._expanded(part) for part in parts]
        return parts

    def _only_wanted(self, segment: Segment, ref: Ref) -> bool:
        """Return whether relevance that has passed all masks is wanted here or further up, though no input is there."""
        return not segment.targets and (ref in self.wanted or bool(self.leading[ref.node]))

    def _arriving(self, pending: dict[Ref, Relevance], ref: Ref, masks: Mapping[Ref, torch.Tensor]) -> Relevance | None:
        """Take the relevance that arrived at an output, note it if it is wanted, and mask it."""
        relevance = pending.pop(ref, None)
        if relevance is None:
            return None
        if ref in self.wanted:
            relevance = Relevance(relevance.whole())
            self._add(self.recorded, ref, relevance)
        masked = relevance
        if ref in masks:
            expanded = self._expanded(relevance)
            channel = one_channel(masks[ref], expanded.rows) if relevance.is_finite() else None
            masked = Relevance(expanded.rows * masks[ref], expanded.factor, owned=True, channel=channel)
        if self.ledger is not None:
            self.ledger.arrive(ref.node, relevance.whole())
            if ref in masks:
                self.ledger.mask(ref.node, relevance.whole(), masked.whole())
        return masked

    def _handed_on(self, index: int, message: Message) -> list[tuple[Ref, Relevance]]:
        node = self.graph.nodes[index]
        if node.name in self.job.plan.plain_gradient_nodes:
            self.unknown.add(node.name)
        kept = message if self.ledger is None else [part and Relevance(part.whole()) for part in message]
        given = [
            (ref, part if isinstance(part, Relevance) else Relevance(part))
            for ref, part in self.job.backward(index)(kept)
        ]
        if self.ledger is not None:
            self._note_losses(self.ledger, index, kept, given)
        for _, relevance in given:
            self._watch(index, relevance)
        return given

    def _watch(self, index: int, relevance: Relevance) -> None:
        if self.watch and not is_finite(relevance.whole()):
            raise NonFiniteRelevanceError(self.graph.nodes[index].name, self.job.plan.steps[index].rule or "start")

    def _note_losses(
        self, ledger: Ledger, index: int, message: Message, given: Sequence[tuple[Ref, Relevance]]
    ) -> None:
        """Write down what the rule of a node kept of the relevance of its outputs."""
        parts = [part.whole() for part in message if part is not None]
        losses = self.job.losses(index) if len(parts) == 1 or self.job.plan.steps[index].quality == "exact" else None
        handed_on = sum(total(relevance.whole()) for _, relevance in given)
        if len(parts) > 1:
            parts = [torch.cat([part.flatten() for part in parts])]
        ledger.lose(index, parts[0], handed_on, losses)
