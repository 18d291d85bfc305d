"""Start relevance: the values of an output or `init_rel`, restricted to the targets of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ..conditions import OUTPUT
from ..errors import ConditionError
from ..graph.graph import Ref
from ..numerics import is_finite, working
from ..propagation.run import Run
from ..targets import Target
from .axes import known_class_axis
from .layer_concepts import layer_concept
from .masks import Mask, broadcast_stack, concept_mask
from .rows import RowBlock

__all__ = ["InitialRelevance", "StartRelevance", "TargetIds", "initial_relevance", "target_of"]

InitialRelevance: TypeAlias = float | torch.Tensor | npt.NDArray[Any] | Callable[[torch.Tensor], Any] | None
TargetIds: TypeAlias = tuple[Any, ...] | None
"""Ids of the model output from which relevance starts, or one `Target`: none of them for (), everything for None."""

_ROUNDING = 1e-4
"""Difference of two starts of one sample, relative to the largest value, that is rounding."""


def target_of(ids: TargetIds) -> Target | None:
    """Return the target that stands for ids of the model output, if one does.

    Raises
    ------
    ConditionError
        If it does not stand alone.
    """
    targets = [target for target in ids or () if isinstance(target, Target)]
    if targets and len(ids or ()) > 1:
        raise ConditionError(f"a target stands alone in 'y'; got {targets[0]} and others: give each a condition set")
    return targets[0] if targets else None


class StartRelevance:
    """Relevance with which passes begin at one output.

    Parameters
    ----------
    run : Run
    start : Ref
    mask_of : callable, optional
        Returns the mask function of a layer by name, of target ids for ``"y"``; by default these are classes.
    """

    def __init__(self, run: Run, start: Ref, *, mask_of: Callable[[str], Mask] | None = None) -> None:
        self.run, self._mask_of = run, mask_of
        self.values = working(run.recording.value(start))
        """The output's own values: (batch, *shape)."""

    def seeds(self, targets: Iterable[Sequence[TargetIds]], initial: torch.Tensor | None = None) -> torch.Tensor:
        """Return the start relevance of some seeds: (seed, batch, *shape).

        Parameters
        ----------
        targets : iterable of sequence of tuple or None
            By seed: the target ids of all samples as the only entry, or an entry for each sample.
        initial : torch.Tensor, optional
            (batch, *shape) or (seed, batch, *shape), what is restricted to the targets; by default the output's values.
        """
        rows, masks = list(targets), dict[TargetIds, torch.Tensor]()
        for ids in dict.fromkeys(ids for row in rows for ids in row):
            masks[ids] = self._target_mask(() if target_of(ids) else ids)
        names, factors = list(masks), broadcast_stack(list(masks.values()))
        numbers = torch.tensor([[names.index(ids) for ids in row] for row in rows], device=factors.device)
        chosen = factors[numbers]  # (seed, sample or 1, *shape)
        if chosen.shape[1] > 1:  # an output may keep windows or heads in its batch axis
            chosen = chosen.repeat_interleave(len(self.values) // chosen.shape[1], 1)
        seeds: torch.Tensor = (self.values if initial is None else initial) * chosen
        for seed, row in enumerate(rows):
            for number, ids in enumerate(row):
                target = target_of(ids)
                if target is not None:
                    samples = slice(None) if len(row) == 1 else slice(number, number + 1)
                    seeds[seed, samples] = self._target_relevance(target, self.values[samples])
        return seeds

    def _target_relevance(self, target: Target, outputs: torch.Tensor) -> torch.Tensor:
        """Return start relevance of a target for some samples, (sample, *shape), each on its own."""
        axis = known_class_axis(self.run)
        of_sample = partial(target.relevance, class_axis=None if axis is None else axis - 1)
        starts = [of_sample(output) for output in outputs]
        for start in starts:
            if not isinstance(start, torch.Tensor) or start.shape != outputs.shape[1:] or not is_finite(start):
                shape = tuple(outputs.shape[1:])
                raise ConditionError(f"the start relevance of {target} has to be finite, of the output's shape {shape}")
        if float((of_sample(outputs[0]) - starts[0]).abs().max()) > _ROUNDING * float(starts[0].abs().max()):
            raise ConditionError(
                f"the start relevance of {target} differs when its sample is asked for again: it has to depend on the "
                f"output of this sample alone, not on those before it or on chance"
            )
        return torch.stack(starts).to(outputs)

    def _target_mask(self, ids: TargetIds) -> torch.Tensor:
        """Return the factor of target ids, without a batch axis."""
        if not ids:
            return self.values.new_full([1] * (self.values.ndim - 1), float(ids is None))
        function = layer_concept(self.run, OUTPUT).mask if self._mask_of is None else self._mask_of(OUTPUT)
        return concept_mask(self.run, OUTPUT, ids, function)


def initial_relevance(init_rel: InitialRelevance, values: torch.Tensor, block: RowBlock) -> tuple[torch.Tensor, bool]:
    """Return what a block starts from before targets are chosen, and whether it differs by row.

    Parameters
    ----------
    init_rel : float, torch.Tensor, array, callable or None
        As in `CondAttribution`.
    values : torch.Tensor
        (batch, *shape), the values of the start.
    block : RowBlock

    Returns
    -------
    relevance : torch.Tensor
        (batch, *shape), or (set, batch, *shape) if it differs by row.
    by_row : bool

    Raises
    ------
    ConditionError
        If `init_rel` has another type or shape, or is not finite.
    """
    if init_rel is None:
        return values, False
    if callable(init_rel):
        init_rel = init_rel(values)
        if not isinstance(init_rel, (torch.Tensor, np.ndarray, np.number, float, int)):
            raise ConditionError(f"the function init_rel has to return a tensor; it returned {type(init_rel).__name__}")
        relevance, by_row = _broadcast(torch.as_tensor(init_rel), values), False
    elif isinstance(init_rel, torch.Tensor) or (isinstance(init_rel, np.ndarray) and init_rel.ndim):
        relevance, by_row = _of_block(torch.as_tensor(init_rel), values, block)
    elif isinstance(init_rel, bool) or not isinstance(init_rel, (int, float, np.number)):
        raise ConditionError(f"init_rel is a number, a tensor or a function; got {type(init_rel).__name__}")
    else:
        relevance, by_row = torch.full_like(values, float(init_rel)), False
    if not is_finite(relevance):
        raise ConditionError("init_rel is NaN or infinite")
    return relevance, by_row


def _of_block(init_rel: torch.Tensor, values: torch.Tensor, block: RowBlock) -> tuple[torch.Tensor, bool]:
    """Return the part of a tensor that belongs to a block: one for all, one for each sample, or one for each row."""
    if init_rel.ndim != values.ndim or init_rel.shape[0] == 1:
        return _broadcast(init_rel, values), False
    _broadcast(init_rel[:1], values)
    rows, samples = block.rows, block.sample_slice
    if init_rel.shape[0] == rows.samples:
        return _broadcast(init_rel[samples], values), False
    if init_rel.shape[0] == len(rows):
        by_set = init_rel.view(rows.samples, len(rows.conditions), *init_rel.shape[1:])
        own = by_set[samples, block.sets.start : block.sets.stop].transpose(0, 1).to(values)
        return own.expand(len(block.sets), *values.shape), True
    raise ConditionError(
        f"init_rel of shape {tuple(init_rel.shape)} fits neither the {rows.samples} samples nor the {len(rows)} rows; "
        f"the start has shape {tuple(values.shape)}"
    )


def _broadcast(init_rel: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    try:
        return init_rel.to(values).expand_as(values)
    except RuntimeError as error:
        raise ConditionError(
            f"init_rel of shape {tuple(init_rel.shape)} does not fit the start, whose shape is {tuple(values.shape)}"
        ) from error
