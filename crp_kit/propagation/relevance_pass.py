"""The relevance pass: a walk over the recorded graph of one forward, for many rows at once.

Relevance starts at one output and goes from node to node in the order opposite to the forward's. At each node it is
what all readers of its outputs handed on, first recorded where that is asked for, then masked, then handed to the
node's own inputs by the step that the plan has for it.

Two things make this more than a loop over nodes. **Path exclusion**: under conditions, only those edges count that are
on a path through a maximal chain of conditioned nodes, so the walk is cut into segments, each from one conditioned
output (or the start) to the conditioned outputs that it covers (`crp_kit.graph.path_exclusion`); what a segment's
edges by-pass is dropped. **Sharing**: above the topmost mask, rows with the same start values are equal, and are
carried once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ..errors import DeviceMemoryError
from ..graph.graph import Ref
from ..graph.operations import Kind
from ..graph.path_exclusion import Walk
from ..numerics import full_float32, is_finite
from .carrier import Carried, Carrier, Masks
from .coefficients import RowSplit
from .relevance import Relevance
from .relevance_balance import RelevanceBalance
from .run import Run

__all__ = ["PassResult", "relevance_pass"]


@dataclass(frozen=True)
class PassResult:
    """The relevance that one pass left where it was asked for.

    Parameters
    ----------
    inputs : dict
        Relevance at each model input, (row, *shape).
    recorded : dict
        Relevance at each output that was asked for, before that node's own mask, (row, *shape).
    gradient_nodes : frozenset of str
        Names of the nodes that handed relevance on as plain gradient, because no rule is known for them.
    coefficients : dict
        Coefficients at each output that was asked for, (row, *shape): the relevance is these times the activation.
    """

    inputs: Mapping[Ref, torch.Tensor]
    recorded: Mapping[Ref, torch.Tensor]
    gradient_nodes: frozenset[str]
    coefficients: Mapping[Ref, torch.Tensor]

    def is_finite(self) -> bool:
        """Return whether none of it is NaN or infinite."""
        return all(map(is_finite, (*self.inputs.values(), *self.recorded.values(), *self.coefficients.values())))


def relevance_pass(
    run: Run,
    start: Ref,
    seeds: torch.Tensor,
    *,
    rows: torch.Tensor,
    masks: Masks,
    record: Collection[Ref] = (),
    coefficients: Collection[Ref] = (),
    exclude_parallel: bool = True,
    to_input: bool = True,
    balance: RelevanceBalance | None = None,
    again: bool = True,
    resumed: bool = False,
) -> PassResult:
    """Run relevance from `start` down.

    A unit of a layer and a BatchNorm that the start is inside of is cut there, see `crp_kit.graph.batch_norm_folding`.

    Parameters
    ----------
    run : Run
    start : Ref
        Output at which relevance starts.
    seeds : torch.Tensor
        (seed, *shape), the distinct start values.
    rows : torch.Tensor
        (row,), which seed each row starts from. What is above the topmost mask is computed once per seed.
    masks : dict
        For each conditioned output a factor (row, *broadcast shape), or a split where its concepts mix channels.
    record : collection of Ref
        Outputs whose arriving relevance is wanted.
    coefficients : collection of Ref
        Outputs at which the coefficients of the relevance are wanted; of gradients these are the gradients.
    exclude_parallel : bool
        Count only paths on which the conditioned nodes are a maximal chain.
    to_input : bool
        Walk on to the model input; otherwise only towards the outputs of `record`.
    balance : RelevanceBalance, optional
        To be filled with what happens to the relevance of the pass's one row; relevance that is not finite is then
        noted there instead of being an error.
    again : bool
        More passes will follow: keep what this one prepares. Otherwise memory is freed on the way.
    resumed : bool
        The seeds are relevance that another pass left at `start`: it does not start there, and no unit is cut.

    Raises
    ------
    UnreachableLayerError
        If a conditioned node cannot be passed.
    ModelError
        If the forward itself made values that are not finite.
    NonFiniteRelevanceError
        If relevance becomes infinite or not-a-number.
    DeviceMemoryError
        If memory does not suffice to carry one row.
    """
    run = run if resumed else run.cut_at(start)
    walk = Walk(run.plan.flow, start, tuple(masks))
    walk.check()
    wanted = frozenset(record)
    measured = frozenset(coefficients)
    carrier = Carrier(
        run,
        walk,
        wanted,
        measured,
        measured.union(ref for ref, mask in masks.items() if isinstance(mask, RowSplit)),
        exclude_parallel=exclude_parallel,
        to_input=to_input,
        balance=balance,
    )
    exact = torch.autocast(seeds.device.type, enabled=False)
    with run.runtime.lock, torch.inference_mode(False), torch.no_grad(), exact, full_float32():
        result = _carried(carrier, seeds, rows, masks, again=again)
        # A look at each node takes time: it is done only when something is wrong, in a second pass that names the node.
        if balance is None and not result.is_finite():
            run.check_forward()
            _carried(replace(carrier, watch=True), seeds, rows, masks, again=again)
        run.rules_ran()
    run.runtime.warn_of_plain_gradients(result.gradient_nodes, run.graph)
    return result


def _carried(carrier: Carrier, seeds: torch.Tensor, rows: torch.Tensor, masks: Masks, *, again: bool) -> PassResult:
    """Return what all rows collect; parameters as for `relevance_pass`."""
    try:
        return _joined(list(_parts(carrier, seeds, rows, masks, again=again)))
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceMemoryError("the heatmaps", carrier.run.graph.batch) from error


def _parts(
    carrier: Carrier, seeds: torch.Tensor, rows: torch.Tensor, masks: Masks, *, again: bool
) -> Iterator[PassResult]:
    """Yield what some rows at a time collect; where memory does not suffice for as many, half of them.

    Rows of a part whose seeds are those of the part before it go on from where that was at the topmost masks.
    """
    run = carrier.run
    used: list[int] = []
    above: Carried | None = None
    first = 0
    while first < len(rows):
        part = slice(first, min(first + run.rows_at_once, len(rows)))
        keep = again or len(rows) > run.rows_at_once  # prepared steps, for other passes or for further rows of this one
        starts = rows[part].tolist()
        result = None
        try:
            if above is None or {*starts} != {*used} or len(used) > 1:
                above = None  # before the next is made, or both would be in memory
                used = list(dict.fromkeys(starts))
                above = carrier.above(seeds[used], keep=keep)
            rows_above = [used.index(start) for start in starts]
            masks_of_part = {ref: mask[part] for ref, mask in masks.items()}
            result = _result(carrier, carrier.below(above, rows_above, masks_of_part, keep=keep))
        except torch.cuda.OutOfMemoryError as error:
            if len(starts) == 1:
                raise DeviceMemoryError("the relevance", run.graph.batch) from error
        if result is not None:
            yield result
            first = part.stop
        else:  # only here, where the error and with it all that the part held is gone, memory is free again
            above = None
            run.carry_fewer(len(starts))


def _result(carrier: Carrier, carried: Carried) -> PassResult:
    """Return what rows have collected, each (row, *shape); zero where no relevance came."""
    graph, start = carrier.run.graph, carrier.walk.start
    inputs = [Ref(node.index) for node in graph if node.kind is Kind.INPUT] if carrier.to_input else []

    def whole(store: Mapping[Ref, Relevance], ref: Ref) -> torch.Tensor:
        if ref in store:
            return carried.expanded(store[ref]).whole()
        return carried.arrived[start].rows.new_zeros((len(carried.rows), *graph.shape(ref)))

    return PassResult(
        {ref: whole(carried.inputs, ref) for ref in inputs},
        {ref: whole(carried.recorded, ref) for ref in carrier.wanted},
        frozenset(carried.gradient_nodes),
        {ref: whole(carried.coefficients, ref) for ref in carrier.measured},
    )


def _joined(parts: Sequence[PassResult]) -> PassResult:
    """Put the rows of several results one behind the other."""
    if len(parts) == 1:
        return parts[0]
    inputs, recorded, coefficients = (
        {ref: torch.cat([store[ref] for store in stores]) for ref in stores[0]}
        for stores in zip(*((part.inputs, part.recorded, part.coefficients) for part in parts), strict=True)
    )
    nodes = frozenset[str]().union(*(part.gradient_nodes for part in parts))
    return PassResult(inputs, recorded, nodes, coefficients)
