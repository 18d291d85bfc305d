"""Attribution of blocks of rows: relevance passes by group of condition sets, results in the order of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from tqdm import tqdm

from ..concepts import MixedConcept
from ..conditions import OUTPUT
from ..errors import ConditionError, ModelError
from ..graph.graph import Ref
from ..graph.recording.inputs import Inputs
from ..propagation.engine import Engine
from ..propagation.relevance_balance import RelevanceBalance
from ..propagation.relevance_pass import PassResult, relevance_pass
from ..propagation.run import Run
from ..rules.presets import Composite
from .axes import heatmap_axis
from .conservation import ConservationReport, conservation
from .layer_values import find_layer, main_input, per_sample, recordable, rows_per_sample
from .masks import ConditionMasks, MaskMap
from .mixed_layers import apart_at, concept_relevance
from .recorded import Recorded
from .result import Attribution
from .rows import RowBlock, Rows
from .start_relevance import InitialRelevance, StartRelevance, initial_relevance

__all__ = ["CallOptions", "attribute_blocks"]

_Parts: TypeAlias = list[tuple[list[int], torch.Tensor]]
"""By group: the numbers of its condition sets in the block, and their values (set, sample, ...)."""


@dataclass(frozen=True)
class CallOptions:
    """What one call asks for besides its rows; see `CondAttribution.generate`."""

    composite: Composite | None
    record_layer: tuple[str, ...]
    mask_map: MaskMap
    start_layer: str | None
    init_rel: InitialRelevance
    on_device: torch.device | None
    exclude_parallel: bool
    diagnose: float | None
    """The share of the start from which relevance that no rule explains is worth a warning, if balances are asked."""


def attribute_blocks(
    engine: Engine, inputs: Inputs, rows: Rows, options: CallOptions, *, batch_size: int, verbose: bool
) -> Iterator[Attribution]:
    """Yield the result of each block of rows; blocks of the same samples, one behind the other, share a forward.

    Raises
    ------
    ConditionError
        If a condition, a mask or the start relevance has no meaning.
    ModelError
        If the model's output has no batch axis.
    """
    run, ran = None, None
    engine.check_samples(inputs, options.composite)
    with tqdm(total=len(rows), unit="map", disable=not verbose) as bar:
        for block in rows.blocks(batch_size):
            if run is None or ran != block.samples:
                run, ran = engine.run(inputs.part(block.sample_slice), options.composite), block.samples
            part = _Block(run, block, options).attribution()
            for problem in part.conservation.warnings() if part.conservation else ():
                engine.runtime.warn_once(problem)
            bar.update(len(part))
            yield part


class _Block:
    """The rows of a block, and the outputs of the recorded graph that matter for them."""

    def __init__(self, run: Run, block: RowBlock, options: CallOptions) -> None:
        self.block, self.options, self.graph = block, options, run.graph
        self.masks = ConditionMasks(run, block, options.mask_map)
        self.divided = self.masks.mixed(options.record_layer)
        """Recorded layers whose concepts mix channels: the relevance of each is asked for."""
        self.run = apart_at(self.masks.run, self.divided.values())
        self.start = find_layer(run, options.start_layer or OUTPUT)
        self._check_output()
        self.main = main_input(self.graph)
        self.summed = heatmap_axis(run, self.main)
        self.recorded = recordable(run, options.record_layer, self.start)
        self.started: _Parts = []

    def _check_output(self) -> None:
        shape = self.graph.shape(self.graph.output)
        if shape[:1] != (self.graph.batch,):
            raise ModelError(
                f"the model's output has no batch axis in front: its shape is {tuple(shape)} for {self.graph.batch} "
                f"samples; leave it there, or choose the part with output=; an input that belongs to all samples alike "
                f"is named with CondAttribution(model, fixed=...)"
            )

    def attribution(self) -> Attribution:
        """Return the result of the block."""
        threshold = self.options.diagnose
        if threshold is not None and self.run.plan.flow.gradient:
            raise ConditionError("diagnose asks where relevance goes, but gradients flow: give a composite for LRP")
        balance = RelevanceBalance() if threshold is not None else None
        passes = [(group, self._pass(group, balance)) for group in self.masks.groups()]
        relevance = self._ordered([(group, passed.inputs[self.main]) for group, passed in passes])
        self._warn_of_other_inputs([passed for _, passed in passes])
        relevances = {
            name: self._ordered([(group, passed.recorded[ref]) for group, passed in passes])
            for name, ref in self.recorded.items()
        }
        result = Attribution(
            heatmap=relevance if self.summed is None else relevance.sum(self.summed),
            input_relevance=relevance,
            relevances=Recorded(relevances),
            activations=Recorded({name: self._forward_values(ref) for name, ref in self.recorded.items()}),
            prediction=self._forward_values(self.graph.output),
            conditions=self.block.row_conditions(),
            samples=self.block.row_samples(),
            gradient_nodes=tuple(sorted({name for _, passed in passes for name in passed.gradient_nodes})),
            reached=self._reached(passes),
            by_concept=self._by_concept(passes),
        )
        if balance is None or threshold is None:
            return result
        return replace(result, conservation=self._conservation(balance, result.titles()[0], threshold))

    def _pass(self, group: list[int], balance: RelevanceBalance | None) -> PassResult:
        """Run the condition sets of one group; a relevance balance is that of a single row."""
        seeds, rows = self._zipped_seeds(group) if self.block.zipped else self._distinct_seeds(group)
        self.started.append((group, self._totals(seeds)[rows]))
        return relevance_pass(
            self.run,
            self.start,
            seeds,
            rows=rows,
            masks=self.masks.of_group(group, self.start if self.options.init_rel is None else None),
            record=list(self.recorded.values()),
            coefficients=[] if self.run.plan.flow.gradient else list(self.divided.values()),
            exclude_parallel=self.options.exclude_parallel,
            balance=balance,
        )

    def _start(self) -> tuple[StartRelevance, torch.Tensor, bool]:
        """Return the start, what its targets are chosen from, and whether that differs by row."""
        start = StartRelevance(self.run, self.start, mask_of=self.masks.function)
        return start, *initial_relevance(self.options.init_rel, start.values, self.block)

    def _distinct_seeds(self, group: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return distinct start relevance (seed, batch, *shape), and which of it each set starts from: (set,)."""
        start, initial, by_row = self._start()
        keys = [(self.block.conditions[number].targets, number if by_row else 0) for number in group]
        distinct = list(dict.fromkeys(keys))
        if by_row:
            initial = initial[[number for _, number in distinct]]
        seeds = start.seeds([[targets] for targets, _ in distinct], initial)
        return seeds, torch.tensor([distinct.index(key) for key in keys], device=seeds.device)

    def _zipped_seeds(self, group: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return start relevance (1, batch, *shape), zero for the samples of other groups."""
        start, initial, _ = self._start()
        conditions = self.block.conditions
        targets = [conditions[number].targets if number in group else () for number in range(len(conditions))]
        return start.seeds([targets], initial), torch.zeros(1, dtype=torch.long, device=initial.device)

    def _reached(self, passes: Sequence[tuple[list[int], PassResult]]) -> torch.Tensor | None:
        """Return the share of the start that reaches the inputs of samples, (row,); None for gradients."""
        if self.run.plan.flow.gradient:
            return None
        arrived: _Parts = []
        for group, passed in passes:
            own = [part for ref, part in passed.inputs.items() if not self._is_shared(ref)]
            arrived.append((group, torch.stack([self._totals(part) for part in own]).sum(0)))
        start, share = self._ordered(self.started), self._ordered(arrived)
        return torch.where(start == 0, torch.nan, share / start)

    def _by_concept(self, passes: Sequence[tuple[list[int], PassResult]]) -> dict[str, torch.Tensor]:
        """Return the relevance of concepts that mix channels, (row, concept, *position), by layer."""
        if self.run.plan.flow.gradient:
            return {}
        relevances = {}
        for name, ref in self.divided.items():
            concept = self.masks.concept(name)
            assert isinstance(concept, MixedConcept)
            parts = [
                (group, concept_relevance(self.run, name, concept, passed.coefficients[ref]))
                for group, passed in passes
            ]
            relevances[name] = self._on_device(self.block.ordered(parts))
        return relevances

    def _totals(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all but row and sample, (row, sample)."""
        split = rows_per_sample(self.graph, values)
        return split.reshape(*split.shape[:2], -1).sum(2)

    def _warn_of_other_inputs(self, passes: Sequence[PassResult]) -> None:
        """Warn if relevance reaches inputs that the heatmap does not show."""
        shown = {self.main, *self.recorded.values()}
        arrived = ((ref, part) for passed in passes for ref, part in passed.inputs.items() if ref not in shown)
        others = sorted({ref for ref, part in arrived if bool(part.any())})
        if others:
            names = [self.graph.label(ref) for ref in others]
            own = [self.graph.label(ref) for ref in others if not self._is_shared(ref)]
            self.run.runtime.warn_once(
                f"relevance also reaches the inputs {', '.join(names)}, which the heatmap does not show"
                + (f"; record_layer={own} gives it" if own else "")
            )

    def _is_shared(self, ref: Ref) -> bool:
        """Return whether an input belongs to all samples alike."""
        return bool(self.graph.node(ref).kwargs["shared"])

    def _ordered(self, parts: _Parts) -> torch.Tensor:
        """Return relevance of all groups, (set, batch, ...) or (1, batch, ...), in the order of the rows."""
        split = [(group, rows_per_sample(self.graph, part)) for group, part in parts]
        return self._on_device(self.block.ordered(split))

    def _forward_values(self, ref: Ref) -> torch.Tensor:
        """Return the forward value of an output, (row, ...)."""
        self.graph.sample_shape(ref)  # raises where the batch is not the first axis
        return self._on_device(self.block.by_row(per_sample(self.graph, self.run.recording.value(ref))))

    def _on_device(self, values: torch.Tensor) -> torch.Tensor:
        return values.to(self.options.on_device) if self.options.on_device is not None else values

    def _conservation(self, balance: RelevanceBalance, title: str, threshold: float) -> ConservationReport:
        """Return the report of the block's only row."""
        sample = f"sample {self.block.samples[0]}: " if self.block.rows.samples > 1 else ""
        rules = [step.rule for step in self.run.cut_at(self.start).plan.steps]
        row = conservation(self.graph, rules, balance, title=sample + title.replace("\n", "; "))
        return ConservationReport((row,), threshold)
