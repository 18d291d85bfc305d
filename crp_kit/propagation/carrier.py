"""Relevance on its way from node to node, along the segments of a walk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from ..errors import NonFiniteRelevanceError
from ..graph.graph import Ref
from ..graph.operations import Kind
from ..graph.path_exclusion import Segment, Walk
from ..numerics import is_finite
from .coefficients import Coefficients, RowSplit
from .own_steps import ContributionStep, GradientStep
from .relevance import Relevance, one_channel
from .relevance_balance import RelevanceBalance
from .run import Run
from .step import Given, Message

__all__ = ["Carried", "Carrier", "Masks"]

Masks = Mapping[Ref, torch.Tensor | RowSplit]
"""For each conditioned output a factor (row, *broadcast shape), or a split."""


@dataclass(eq=False)
class Carried:
    """Relevance of some rows at the outputs that it has reached.

    Parameters
    ----------
    rows : list of int
        For each of these rows, the one above the topmost mask from which it goes on: several may share one there.
    arrived : dict
        Relevance at the ends of the segments walked so far, where others begin.
    recorded, inputs, coefficients : dict
        Relevance at the outputs that were asked for, at the model's inputs, and coefficients that were asked for.
    gradient_nodes : set of str
        Names of the nodes that handed relevance on as plain gradient, because no rule is known for them.
    """

    rows: list[int]
    arrived: dict[Ref, Relevance]
    recorded: dict[Ref, Relevance] = field(default_factory=dict)
    inputs: dict[Ref, Relevance] = field(default_factory=dict)
    coefficients: dict[Ref, Relevance] = field(default_factory=dict)
    gradient_nodes: set[str] = field(default_factory=set)

    def below(self, rows: list[int]) -> Carried:
        """Return the same relevance for other rows, of which each goes on from one of these; these stay as they are."""
        arrived, recorded, inputs, coefficients = (
            {ref: relevance.shared() for ref, relevance in store.items()}
            for store in (self.arrived, self.recorded, self.inputs, self.coefficients)
        )
        return Carried(rows, arrived, recorded, inputs, coefficients, set(self.gradient_nodes))

    def expanded(self, relevance: Relevance) -> Relevance:
        """Return relevance with a row for each of these rows, where it still has those above the topmost mask."""
        if len(relevance.rows) == len(self.rows):
            return relevance
        return Relevance(relevance.rows[self.rows], relevance.factor, owned=True)

    def add(self, store: dict[Ref, Relevance], ref: Ref, relevance: Relevance) -> None:
        """Add relevance to what has arrived at an output."""
        before = store.get(ref)
        if before is not None and len(before.rows) != len(relevance.rows):
            before, relevance = self.expanded(before), self.expanded(relevance)
        store[ref] = relevance if before is None else before.plus(relevance)


@dataclass(frozen=True, eq=False)
class Carrier:
    """Carries relevance from the start of a walk to its end: what is the same for all rows of one pass.

    Parameters
    ----------
    run : Run
    walk : Walk
    wanted : frozenset of Ref
        Outputs whose arriving relevance is recorded.
    measured : frozenset of Ref
        Outputs whose coefficients are recorded.
    mixed : frozenset of Ref
        Outputs at which a condition mixes channels, and those of `measured`.
    exclude_parallel : bool
        Count only paths on which the conditioned nodes are a maximal chain.
    to_input : bool
        Go on to the model input; otherwise only towards the outputs that are wanted.
    balance : RelevanceBalance or None
        To be filled with what happens at each node.
    watch : bool, optional
        Look at what each node hands on, and raise an error where it is not finite.
    """

    run: Run
    walk: Walk
    wanted: frozenset[Ref]
    measured: frozenset[Ref]
    mixed: frozenset[Ref]
    exclude_parallel: bool
    to_input: bool
    balance: RelevanceBalance | None
    watch: bool = False

    @cached_property
    def _leading(self) -> list[int]:
        """For each node, not zero if an output that is wanted is upstream of it."""
        return self.walk.flow.upstream_marks([*self.wanted, *self.measured])

    @cached_property
    def _movers(self) -> frozenset[int]:
        """The nodes behind outputs at which coefficients are needed that move or average values: so they do with these.

        Their own outputs may be zero, as a mean of zeros is, and the coefficients there are not.
        """
        moved, movers = set(self.mixed), set[int]()
        for node in self.run.graph if moved and not self.walk.flow.gradient else ():
            step = self.run.plan.steps[node.index]
            moves = isinstance(step, GradientStep) and node.kind is Kind.STRUCTURAL
            averages = isinstance(step, ContributionStep) and node.kind is Kind.AFFINE
            if (moves or averages) and len(node.shapes) == 1 and moved.intersection(node.inputs):
                movers.add(node.index)
                moved.add(Ref(node.index))
        return frozenset(movers)

    @cached_property
    def _stated(self) -> dict[Ref, Coefficients]:
        """The outputs at which relevance is kept as coefficients; gradients are that themselves."""
        if self.walk.flow.gradient:
            return {}
        refs = [*self.mixed, *(Ref(index) for index in self._movers)]
        return {ref: Coefficients(self.run.graph.label(ref), self.run.activation(ref)) for ref in refs}

    def _at(self, ref: Ref, relevance: Relevance) -> Relevance:
        """Return relevance as it is kept at an output."""
        return self._stated[ref].of(relevance) if ref in self._stated else relevance

    @cached_property
    def _segments(self) -> tuple[Segment, ...]:
        if self.exclude_parallel:
            return self.walk.segments()
        start = self.walk.start
        return (Segment(start, (), frozenset(range(start.node + 1))),)

    @cached_property
    def _segments_above(self) -> int:
        """How many segments, from the first, are above the topmost mask: that of a start without a mask."""
        conditioned = self.walk.conditioned
        return int(self.walk.start not in conditioned and (self.exclude_parallel or not conditioned))

    def above(self, seeds: torch.Tensor, *, keep: bool) -> Carried:
        """Carry seeds, (seed, *shape), to the topmost masks; `keep` prepared steps, or drop each behind its node."""
        start = self.walk.start
        self._look(start.node, Relevance(seeds))
        carried = Carried(list(range(len(seeds))), {start: self._at(start, Relevance(seeds))})
        for segment in self._segments[: self._segments_above]:
            self._carry(carried, segment, {}, keep=keep)
        return carried

    def below(self, above: Carried, rows: list[int], masks: Masks, *, keep: bool) -> Carried:
        """Carry rows from the topmost masks on, each from one of the rows that came there.

        Parameters
        ----------
        above : Carried
        rows : list of int
            For each row the one of `above`.
        masks : dict
            For each conditioned output a factor (row, *broadcast shape), or a split.
        keep : bool
        """
        carried = above.below(rows)
        for segment in self._segments[self._segments_above :]:
            if segment.source in carried.arrived:
                # with path exclusion, each conditioned output begins a segment, where its mask is applied once
                own = {segment.source: masks[segment.source]} if self.exclude_parallel else masks
                self._carry(carried, segment, own, keep=keep)
        return carried

    def _carry(self, carried: Carried, segment: Segment, masks: Masks, *, keep: bool) -> None:
        """Carry relevance from a segment's source to its targets, or to the input.

        An edge counts if it ends in a target or in a node of the segment. One more does: behind the last mask,
        relevance may go on to an output that is recorded though no input is upstream of it, where it ends.
        """
        graph = self.run.graph
        pending: dict[Ref, Relevance] = {segment.source: carried.arrived[segment.source].shared()}
        for index in range(segment.source.node, -1, -1):
            message = self._message(carried, pending, index, masks)
            if all(part is None for part in message):
                continue
            if graph.nodes[index].kind is Kind.INPUT and message[0] is not None:
                carried.add(carried.inputs, Ref(index), message[0])
            elif self.to_input or self._leading[index]:
                for ref, relevance in self._handed_on(carried, index, message):
                    store = carried.arrived if ref in segment.targets else pending
                    counted = store is carried.arrived or ref.node in segment.nodes or self._only_wanted(segment, ref)
                    if self.balance is not None:
                        self.balance.hand_on(index, relevance.shared().whole(), counted=counted)
                    if counted:
                        carried.add(store, ref, self._at(ref, relevance))
            if not keep:
                self.run.forget(index)

    def _only_wanted(self, segment: Segment, ref: Ref) -> bool:
        """Return whether relevance that has passed all masks is wanted here or further up, though no input is there."""
        asked = ref in self.wanted or ref in self.measured
        return not segment.targets and (asked or bool(self._leading[ref.node]))

    def _message(self, carried: Carried, pending: dict[Ref, Relevance], index: int, masks: Masks) -> Message:
        """Take what arrived at a node's outputs; all parts have the same number of rows.

        Without path exclusion, some outputs of a node may be below a mask, with a row for each condition, and others
        beside it, with a row for each seed.
        """
        outputs = (Ref(index, output) for output in range(len(self.run.graph.nodes[index].shapes)))
        parts = [self._arriving(carried, pending, ref, masks) for ref in outputs]
        if len({len(part.rows) for part in parts if part is not None}) > 1:
            return [part and carried.expanded(part) for part in parts]
        return parts

    def _arriving(self, carried: Carried, pending: dict[Ref, Relevance], ref: Ref, masks: Masks) -> Relevance | None:
        """Take the relevance that arrived at an output, record it if it is wanted, and mask it."""
        relevance = pending.pop(ref, None)
        if relevance is None:
            return None
        if ref in self.mixed:
            relevance = relevance.shared()  # its rows are read below, too
            if ref in self.measured:
                carried.add(carried.coefficients, ref, Relevance(relevance.rows))
        if ref in self.wanted:
            whole = Relevance(relevance.whole())  # not owned: from here on, it has a second reader
            carried.add(carried.recorded, ref, whole)
            relevance = relevance if ref in self.mixed else whole
        masked = _masked(carried.expanded(relevance), masks[ref]) if ref in masks else relevance
        if self.balance is not None:
            self.balance.arrive(ref.node, relevance.shared().whole())
            if ref in masks:
                self.balance.mask(ref.node, relevance.shared().whole(), masked.shared().whole())
        return masked

    def _handed_on(self, carried: Carried, index: int, message: Message) -> list[tuple[Ref, Relevance]]:
        """Return what the step of a node hands to its inputs."""
        node, plan = self.run.graph.nodes[index], self.run.plan
        if node.name in plan.plain_gradient_nodes:
            carried.gradient_nodes.add(node.name)
        if self.balance is not None:
            message = [part and part.shared() for part in message]  # not owned: it is read again below
        handed_on = [
            (ref, part if isinstance(part, Relevance) else Relevance(part))
            for ref, part in (
                self._moved(index, message) if index in self._movers else self.run.backward(index)(message)
            )
        ]
        if self.balance is not None:
            by_formula = sum(part is not None for part in message) == 1 or plan.steps[index].quality == "exact"
            absorbed = self.run.absorbed(index) if by_formula else None
            self.balance.absorb(index, message, [(ref, part.shared()) for ref, part in handed_on], absorbed)
        for _, relevance in handed_on:
            self._look(index, relevance)
        return handed_on

    def _moved(self, index: int, message: Message) -> Given:
        """Return what a node that moves or averages values hands to its inputs."""
        (part,) = message
        assert part is not None
        stated, step = self._at(Ref(index), part), self.run.plan.steps[index]
        backward = self.run.backward(index)
        if isinstance(step, ContributionStep):
            return backward([Relevance(stated.rows, step.divisor_at_zero(self._stated[Ref(index)].activation))])
        moved = [
            (ref, part if isinstance(part, Relevance) else Relevance(part))
            for ref, part in backward([Relevance(stated.rows)])
        ]
        return [(ref, Relevance(part.whole(), self.run.activation(ref), owned=part.owned)) for ref, part in moved]

    def _look(self, index: int, relevance: Relevance) -> None:
        """Raise an error if the relevance that a node hands on is not finite, in a pass that looks for that."""
        if self.watch and not is_finite(relevance.whole()):
            raise NonFiniteRelevanceError(self.run.graph.nodes[index].name, self.run.plan.steps[index].rule or "start")


def _masked(relevance: Relevance, mask: torch.Tensor | RowSplit) -> Relevance:
    """Return relevance with a row for each condition, behind a mask or a split."""
    if isinstance(mask, RowSplit):
        return Relevance(mask(relevance.rows), relevance.factor, owned=True)
    channel = one_channel(mask, relevance.rows) if relevance.is_finite() else None
    return Relevance(relevance.rows * mask, relevance.factor, owned=True, channel=channel)
