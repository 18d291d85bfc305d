"""One slice of the rows of an attribution: starts and masks from condition sets, relevance passes, rows in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ..concepts import ChannelConcept, Concept
from ..conditions import OUTPUT, Chunk, ConditionSet
from ..errors import ConditionError, ModelError
from ..graph.graph import Ref
from ..numerics import is_finite, working
from ..propagation.relevance_balance import RelevanceBalance
from ..propagation.relevance_pass import PassResult, relevance_pass
from ..propagation.run import Run
from ..rules.presets import Composite
from .conservation import ConservationReport, conservation
from .layer_values import (
    channel_concept,
    class_axis,
    find_layer,
    heatmap_axis,
    is_folded,
    main_input,
    per_sample,
    recordable,
    rows_per_sample,
)
from .result import Attribution

Mask = Callable[..., torch.Tensor]
InitialRelevance = float | torch.Tensor | npt.NDArray[Any] | Callable[[torch.Tensor], Any] | None


@dataclass(frozen=True)
class Request:
    """Everything that one call asks for."""

    conditions: tuple[ConditionSet, ...]
    composite: Composite | None
    record_layer: tuple[str, ...]
    mask_map: Mask | Concept | Mapping[str, Mask | Concept] | None
    start_layer: str | None
    init_rel: InitialRelevance
    on_device: torch.device | str | None
    exclude_parallel: bool
    pairing: Literal["zip", "product"]
    samples: int
    diagnose: float | None = None

    @property
    def rows(self) -> int:
        """Number of rows of the whole result."""
        return self.samples if self.pairing == "zip" else self.samples * len(self.conditions)


class Slice:
    """One slice of the rows: all of its samples under all of its condition sets, or one by one (zip)."""

    def __init__(self, run: Run, request: Request, chunk: Chunk) -> None:
        self.run, self.request, self.chunk = run, request, chunk
        self.graph = run.graph
        self.sets = request.conditions[chunk.conditions]
        self.zip = request.pairing == "zip"
        self.samples = range(*chunk.samples.indices(chunk.samples.stop))
        self.refs = self._find_conditioned()
        self.start = find_layer(run, request.start_layer or OUTPUT)
        self._check_output()
        self.main = main_input(self.graph)
        self.summed = heatmap_axis(run, self.main)
        self.recorded = recordable(run, request.record_layer, self.start)
        self.masks_by_layer = self._find_masks()
        self.started: list[tuple[list[int], torch.Tensor]] = []

    def _find_conditioned(self) -> dict[str, Ref]:
        """Return the output that each conditioned name means."""
        refs: dict[str, Ref] = {}
        for condition in self.sets:
            found: dict[Ref, str] = {}
            for name in condition.layer_names:
                refs[name] = find_layer(self.run, name)
                other = found.setdefault(refs[name], name)
                if other != name:
                    raise ConditionError(f"{other!r} and {name!r} are one node: name it once, with the ids of both")
        return refs

    def _find_masks(self) -> dict[Ref, Mask | Concept]:
        """Return the masks that were given by layer."""
        given = self.request.mask_map if isinstance(self.request.mask_map, Mapping) else {}
        used = {
            name
            for name in given
            if name != OUTPUT and (name in self.graph.names or name not in self.graph.module_names)
        }
        return {self.graph.find(name): given[name] for name in given if name in used}

    def _check_output(self) -> None:
        shape = self.graph.shape(self.graph.output)
        if shape[:1] != (self.graph.batch,):
            raise ModelError(
                f"the model's output has no batch axis in front: its shape is {tuple(shape)} for {self.graph.batch} "
                f"samples; leave it there, or choose the part with output=; an input that belongs to all samples alike "
                f"is named with CondAttribution(model, fixed=...)"
            )

    def attribution(self) -> Attribution:
        """Return the result of this slice."""
        if self.request.diagnose is not None and self.run.plan.flow.gradient:
            raise ConditionError("diagnose asks where relevance goes, but gradients flow: give a composite for LRP")
        balance = RelevanceBalance() if self.request.diagnose is not None else None
        passes = [self._pass(group, balance) for group in self._groups()]
        main = self._ordered([(group, passed.inputs[self.main]) for group, passed in passes])
        self._tell_of_other_inputs(passes, self.main)
        relevances = {
            name: self._ordered([(group, passed.recorded[ref]) for group, passed in passes])
            for name, ref in self.recorded.items()
        }
        recording = self.run.recording
        made = Attribution(
            heatmap=main if self.summed is None else main.sum(self.summed),
            input_relevance=main,
            relevances=relevances,
            activations={name: self._by_row(recording.value(ref), ref) for name, ref in self.recorded.items()},
            prediction=self._by_row(recording.value(self.graph.output), self.graph.output),
            conditions=tuple(self.sets) if self.zip else tuple(self.sets) * len(self.samples),
            samples=tuple(self.samples) if self.zip else tuple(s for s in self.samples for _ in self.sets),
            gradient_nodes=tuple(sorted({name for _, passed in passes for name in passed.gradient_nodes})),
            reached=self._reached(passes),
        )
        if balance is None or self.request.diagnose is None:
            return made
        which = f"sample {self.samples[0]}: " if self.request.samples > 1 else ""
        rules = [step.rule for step in self.run.cut_at(self.start).plan.steps]
        row = conservation(self.graph, rules, balance, title=which + made.titles()[0].replace("\n", "; "))
        return replace(made, conservation=ConservationReport((row,), self.request.diagnose))

    def _reached(self, passes: list[tuple[list[int], PassResult]]) -> torch.Tensor | None:
        """Return the share of the start that reaches the inputs of samples, (row,); None for gradients."""
        if self.run.plan.flow.gradient:
            return None
        arrived = []
        for group, passed in passes:
            own = [part for ref, part in passed.inputs.items() if not self.graph.node(ref).kwargs["shared"]]
            arrived.append((group, torch.stack([self._total(part) for part in own]).sum(0)))
        start = self._ordered(self.started)
        share = self._ordered(arrived) / start
        return torch.where(start == 0, torch.nan, share)

    def _total(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the sum over all but row and sample, (row, sample)."""
        split = rows_per_sample(self.graph, rows)
        return split.reshape(*split.shape[:2], -1).sum(2)

    def _tell_of_other_inputs(self, passes: list[tuple[list[int], PassResult]], main: Ref) -> None:
        """Warn if relevance reaches inputs that the heatmap does not show."""
        shown = {main, *self.recorded.values()}
        others = {
            ref for _, passed in passes for ref, part in passed.inputs.items() if ref not in shown and bool(part.any())
        }
        if others:
            names = [self.graph.label(ref) for ref in sorted(others)]
            own = [self.graph.label(ref) for ref in sorted(others) if not self.graph.node(ref).kwargs["shared"]]
            self.run.runtime.say(
                f"relevance also reaches the inputs {', '.join(names)}, which the heatmap does not show"
                + (f"; record_layer={own} gives it" if own else "")
            )

    # ------------------------------------------------------------------ rows

    def _groups(self) -> list[list[int]]:
        """Indices of the condition sets that name the same layers, and so walk together."""
        groups: dict[frozenset[Ref], list[int]] = {}
        for place, condition in enumerate(self.sets):
            key = frozenset(self.refs[name] for name in condition.layer_names)
            groups.setdefault(key, []).append(place)
        return list(groups.values())

    def _ordered(self, parts: list[tuple[list[int], torch.Tensor]]) -> torch.Tensor:
        """Put the relevance of all groups, (set, batch, ...) or (1, batch, ...) for zip, in the order of the rows."""
        if self.zip:
            split = [(group, per_sample(self.graph, part[0])) for group, part in parts]
            whole = split[0][1].clone(memory_format=torch.contiguous_format)
            for group, part in split[1:]:
                whole[group] = part[group]
            return self._placed(whole)
        first = parts[0][1]
        split = [(group, rows_per_sample(self.graph, part)) for group, part in parts]
        shape = (len(self.sets), *split[0][1].shape[1:])
        whole = first.new_zeros(shape)
        for group, part in split:
            whole[group] = part
        return self._placed(whole.transpose(0, 1).flatten(0, 1))

    def _by_row(self, value: torch.Tensor, ref: Ref) -> torch.Tensor:
        self.graph.sample_shape(ref)
        value = per_sample(self.graph, value)
        return self._placed(value if self.zip else value.repeat_interleave(len(self.sets), 0))

    def _placed(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self.request.on_device) if self.request.on_device is not None else value

    # ------------------------------------------------------------------ one pass

    def _pass(self, group: list[int], balance: RelevanceBalance | None) -> tuple[list[int], PassResult]:
        """Run the condition sets of one group; a balance is kept of slices of one row only."""
        seeds, rows = self._zip_seeds(group) if self.zip else self._product_seeds(group)
        self.started.append((group, self._total(seeds)[rows]))
        passed = relevance_pass(
            self.run,
            self.start,
            seeds,
            rows=rows,
            masks=self._masks(group),
            record=list(self.recorded.values()),
            exclude_parallel=self.request.exclude_parallel,
            balance=balance,
        )
        return group, passed

    def _values(self) -> torch.Tensor:
        """Start values, (batch, *shape)."""
        return working(self.run.recording.value(self.start))

    def _product_seeds(self, group: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Distinct start values (seed, batch, *shape), and which of them each set starts from."""
        value = self._values()
        initial, per_row = self._initial(value)
        keys = [(self.sets[place].targets, place if per_row else 0) for place in group]
        distinct = list(dict.fromkeys(keys))
        seeds = []
        for targets, place in distinct:
            base = initial[place] if per_row else initial
            seeds.append(base if targets is None else base * self._target_mask(targets, value))
        return torch.stack(seeds), torch.tensor([distinct.index(key) for key in keys], device=value.device)

    def _zip_seeds(self, group: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Start values (1, batch, *shape), zero for the samples of other groups."""
        value = self._values()
        initial, _ = self._initial(value)
        factors = []
        for place, condition in enumerate(self.sets):
            if place not in group:
                factors.append(torch.zeros_like(value[0]))
            elif condition.targets is None:
                factors.append(torch.ones_like(value[0]))
            else:
                factors.append(self._target_mask(condition.targets, value).expand_as(value[0]))
        each = torch.stack(factors).repeat_interleave(len(value) // len(factors), 0)  # windows or heads in the batch
        return (initial * each)[None], torch.zeros(1, dtype=torch.long, device=value.device)

    def _target_mask(self, targets: tuple[Any, ...], value: torch.Tensor) -> torch.Tensor:
        """Factor that keeps the given ids of the model output, without a batch axis."""
        if not targets:
            return value.new_zeros([1] * (value.ndim - 1))
        shape = torch.Size(value.shape[1:]) or torch.Size([1])
        mask = self._output_mask(value.ndim)(list(targets), shape, layer_name=OUTPUT)
        mask = _checked_factor(mask, OUTPUT, shape).to(value)
        return mask if value.ndim > 1 else mask.reshape(())

    def _output_mask(self, ndim: int) -> Mask:
        """Return what makes a mask of ids of the model output, which are classes unless it was said otherwise."""
        given = self.request.mask_map
        own = given.get(OUTPUT) if isinstance(given, Mapping) else None
        if own is None or own == ChannelConcept():
            return ChannelConcept(axis=class_axis(self.run) if ndim > 1 else 1).mask
        return _mask_of(own, OUTPUT)

    def _initial(self, value: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Return the start relevance, (batch, *shape), or (set, batch, *shape) if it differs by row."""
        initial, per_row = self._given_initial(value)
        if self.request.init_rel is not None and not is_finite(initial):
            raise ConditionError("init_rel is NaN or infinite")
        return initial, per_row

    def _given_initial(self, value: torch.Tensor) -> tuple[torch.Tensor, bool]:
        given = self.request.init_rel
        if given is None:
            return value, False
        if callable(given):
            made = given(value)
            if not isinstance(made, (torch.Tensor, np.ndarray, np.number, float, int)):
                raise ConditionError(f"the function init_rel has to return a tensor; it returned {type(made).__name__}")
            return self._broadcast(torch.as_tensor(made), value), False
        if isinstance(given, np.ndarray) and given.ndim:
            given = torch.from_numpy(given)
        if not isinstance(given, torch.Tensor):
            if isinstance(given, bool) or not isinstance(given, (int, float, np.number)):
                raise ConditionError(f"init_rel is a number, a tensor or a function; got {type(given).__name__}")
            return torch.full_like(value, float(given)), False
        if given.ndim != value.ndim or given.shape[0] == 1:
            return self._broadcast(given, value), False
        rows, samples = self.request.rows, self.request.samples
        self._broadcast(given[:1], value)
        if given.shape[0] == rows:
            return self._own_rows(given, value)
        if given.shape[0] == samples:
            return self._broadcast(given[self.chunk.samples], value), False
        raise ConditionError(
            f"init_rel of shape {tuple(given.shape)} fits neither the {samples} samples nor the {rows} rows; the start "
            f"has shape {tuple(value.shape)}"
        )

    def _own_rows(self, given: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Cut a start relevance with one entry per row."""
        if self.zip:
            return self._broadcast(given[self.chunk.samples], value), False
        sets = len(self.request.conditions)
        mine = given.view(-1, sets, *given.shape[1:])[self.chunk.samples, self.chunk.conditions]
        mine = mine.transpose(0, 1).to(value)
        return mine.expand(len(self.sets), *value.shape), True

    @staticmethod
    def _broadcast(given: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        try:
            return given.to(value).expand_as(value)
        except RuntimeError as error:
            raise ConditionError(
                f"init_rel of shape {tuple(given.shape)} does not fit the start, whose shape is {tuple(value.shape)}"
            ) from error

    # ------------------------------------------------------------------ masks

    def _masks(self, group: list[int]) -> dict[Ref, torch.Tensor]:
        """For each conditioned output of a group, the factor (set, batch or 1, *shape)."""
        masks: dict[Ref, torch.Tensor] = {}
        for ref in (self.refs[name] for name in self.sets[group[0]].layer_names):
            factors = []
            for place in range(len(self.sets)) if self.zip else group:
                name, ids = self._ids(place, ref) if place in group else ("", None)
                factors.append(self._factor(name, ref, ids))
            common = np.broadcast_shapes(*(factor.shape for factor in factors))
            stacked = torch.stack([factor.expand(common) for factor in factors])
            stacked = stacked[None] if self.zip else stacked[:, None]
            masks[ref] = self._folded(stacked, ref)
        return masks

    def _ids(self, place: int, ref: Ref) -> tuple[str, tuple[Any, ...]]:
        """Return what a condition set calls a node, and the ids that it names there."""
        return next((name, ids) for name, ids in self.sets[place].layers if self.refs[name] == ref)

    def _factor(self, name: str, ref: Ref, ids: tuple[Any, ...] | None) -> torch.Tensor:
        """Return the mask of one condition set at one node, without a batch axis."""
        shape = self.graph.sample_shape(ref)
        like = self.run.recording.value(ref)
        dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32
        if ids is None:
            return torch.zeros([1] * len(shape), dtype=dtype, device=like.device)
        factor = self._mask_function(name, ref)(list(ids), shape, layer_name=name)
        return _checked_factor(factor, name, shape).to(dtype=dtype, device=like.device)

    def _mask_function(self, name: str, ref: Ref) -> Mask:
        given = self.request.mask_map
        if isinstance(given, Mapping):
            given = self.masks_by_layer.get(ref)
        if given is None or ChannelConcept() in (given, getattr(given, "__self__", None)):
            return channel_concept(self.run, name).mask
        return _mask_of(given, name)

    def _folded(self, factor: torch.Tensor, ref: Ref) -> torch.Tensor:
        """Fold the windows or heads of a factor back into the batch axis, as the node has them."""
        if not is_folded(self.graph, ref):
            return factor
        windows = self.graph.sample_shape(ref)[0]
        return factor.expand(-1, self.graph.batch, windows, *factor.shape[3:]).flatten(1, 2)


def _mask_of(given: Any, name: str) -> Mask:
    """Return the mask function of a concept, or the function itself."""
    if isinstance(given, Concept):
        return given.mask
    if isinstance(given, type) or not callable(given):
        shown = f"the class {given.__name__}" if isinstance(given, type) else repr(given)
        raise ConditionError(f"the mask of {name!r} is a function or a Concept (NeuronConcept(), …); got {shown}")
    function: Mask = given
    return function


def _checked_factor(factor: Any, name: str, shape: torch.Size) -> torch.Tensor:
    """Return what a mask function made, with as many axes as the output that it is for."""
    try:
        factor.expand(shape)
    except (RuntimeError, AttributeError) as error:
        raise ConditionError(
            f"the mask of {name!r} has to be a tensor that broadcasts to {tuple(shape)}: {error}"
        ) from error
    checked: torch.Tensor = factor.reshape(*(1,) * (len(shape) - factor.ndim), *factor.shape)
    return checked
