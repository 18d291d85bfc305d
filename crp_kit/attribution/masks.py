"""Masks of condition sets: from the concept ids of a layer to the factor, or the split, of its relevance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from ..concepts import Concept, MixedConcept
from ..conditions import OUTPUT, ConditionSet
from ..errors import ConditionError
from ..graph.graph import Ref
from ..numerics import working
from ..propagation.carrier import Masks
from ..propagation.run import Run
from .layer_concepts import layer_concept
from .layer_values import find_layer, is_folded
from .mixed_layers import apart_at, mixed_refs, row_split
from .rows import RowBlock

__all__ = ["ConditionMasks", "Mask", "MaskMap", "broadcast_stack", "concept_mask", "stacked_masks"]

Mask: TypeAlias = Callable[..., torch.Tensor]
"""``mask(concept_ids, shape, *, layer_name)``: a factor that broadcasts to the shape of one sample's output."""
MaskMap: TypeAlias = Mask | Concept | Mapping[str, Mask | Concept] | None
"""A mask function or concept for all layers, or by layer; channels by default."""


class ConditionMasks:
    """The masks of condition sets at the outputs that they name.

    Parameters
    ----------
    run : Run
    block : RowBlock
    mask_map : callable, Concept, dict or None

    Raises
    ------
    UnknownLayerError
        If a condition or `mask_map` names a layer that does not exist.
    ConditionError
        If a condition names one output twice.
    """

    def __init__(self, run: Run, block: RowBlock, mask_map: MaskMap) -> None:
        self.run, self.block, self.mask_map = run, block, mask_map
        self.refs: dict[str, Ref] = {}
        """The output that each conditioned name means."""
        for condition in block.conditions:
            self.refs |= _conditioned_outputs(run, condition)
        graph, by_layer = run.graph, mask_map if isinstance(mask_map, Mapping) else {}
        known = (name for name in by_layer if name in graph.names or name not in graph.module_names)
        self._by_output = {graph.find(name): by_layer[name] for name in known if name != OUTPUT}
        self.run = apart_at(run, self.mixed(self.refs).values())

    def mixed(self, names: Iterable[str]) -> dict[str, Ref]:
        """Return those of some layers whose concepts mix channels, and their outputs."""
        return mixed_refs(self.run, {name: self._chosen(name) for name in names})

    def groups(self) -> list[list[int]]:
        """Return the numbers of the block's condition sets that name the same outputs, and so share a pass."""
        groups: dict[frozenset[Ref], list[int]] = {}
        for number, condition in enumerate(self.block.conditions):
            groups.setdefault(frozenset(self.refs[name] for name in condition.layer_names), []).append(number)
        return list(groups.values())

    def of_group(self, group: Sequence[int], start: Ref | None = None) -> Masks:
        """Return by output the masks of one group: (set, 1 or batch, *shape); of a zipped block (1, batch, *shape).

        `start` is the output from whose own values relevance starts, if it does.
        """
        numbers = range(len(self.block.conditions)) if self.block.zipped else group
        masks: dict[Ref, Any] = {}
        for name in self.block.conditions[group[0]].layer_names:
            ref = self.refs[name]
            concept = self.concept(name)
            if isinstance(concept, MixedConcept):
                ids = [self._ids(number, ref)[1] if number in group else () for number in numbers]
                rows = [ids] if self.block.zipped else [[own] for own in ids]
                masks[ref] = row_split(self.run, name, concept, rows, starts=ref == start)
                continue
            factors = [self._factor(number, ref) if number in group else _nothing(self.run, ref) for number in numbers]
            masks[ref] = stacked_masks(self.run, ref, factors, by_sample=self.block.zipped)
        return masks

    def _ids(self, number: int, ref: Ref) -> tuple[str, tuple[Any, ...]]:
        """Return under which name a condition set conditions an output, and on which ids."""
        layers = self.block.conditions[number].layers
        return next((name, ids) for name, ids in layers if self.refs[name] == ref)

    def _factor(self, number: int, ref: Ref) -> torch.Tensor:
        """Return the mask of one condition set at one output, without a batch axis."""
        name, ids = self._ids(number, ref)
        return concept_mask(self.run, name, ids, self.function(name))

    def function(self, name: str) -> Mask:
        """Return the mask function of a layer, or of the classes for ``"y"``.

        Raises
        ------
        ConditionError
            If `mask_map` has neither a function nor a concept for it.
        """
        concept = self.concept(name)
        if concept is not None:
            return concept.mask
        function: Mask = self._chosen(name)
        return function

    def concept(self, name: str) -> Concept | None:
        """Return the concept of a layer, or None where `mask_map` has a function for it.

        Raises
        ------
        ConditionError
            If `mask_map` has neither a function nor a concept for it.
        """
        chosen = self._chosen(name)
        owner = getattr(chosen, "__self__", None)
        concept = owner if isinstance(owner, Concept) and chosen == owner.mask else chosen
        if concept is None or isinstance(concept, Concept):
            return layer_concept(self.run, name, concept)
        if isinstance(chosen, type) or not callable(chosen):
            shown = f"the class {chosen.__name__}" if isinstance(chosen, type) else repr(chosen)
            raise ConditionError(f"the mask of {name!r} is a function or a Concept (NeuronConcept(), …); got {shown}")
        return None

    def _chosen(self, name: str) -> Any:
        """Return what `mask_map` has for a layer, or None."""
        if isinstance(self.mask_map, Mapping):
            return self.mask_map.get(OUTPUT) if name == OUTPUT else self._by_output.get(find_layer(self.run, name))
        return None if name == OUTPUT else self.mask_map


def _conditioned_outputs(run: Run, condition: ConditionSet) -> dict[str, Ref]:
    names: dict[Ref, str] = {}
    for name in condition.layer_names:
        other = names.setdefault(find_layer(run, name), name)
        if other != name:
            raise ConditionError(f"{other!r} and {name!r} are one node: name it once, with the ids of both")
    return {name: ref for ref, name in names.items()}


def concept_mask(run: Run, name: str, ids: Sequence[Any], function: Mask) -> torch.Tensor:
    """Return the checked mask of concept ids, (*sample shape) with axes of size 1 where it broadcasts.

    Parameters
    ----------
    run : Run
    name : str
        The layer, or ``"y"``.
    ids : sequence
    function : callable
        The mask function of the layer's concept.

    Raises
    ------
    ConditionError
        If the function returns no tensor that broadcasts to the shape of one sample's output.
    """
    ref = find_layer(run, name)
    shape = run.graph.sample_shape(ref)
    scalar = name == OUTPUT and not shape  # one number for each sample: as a class axis of size 1
    mask = function(list(ids), torch.Size([1]) if scalar else shape, layer_name=name)
    if callable(mask):
        raise ConditionError(
            f"the mask function of {name!r} returned a function of relevance, as those of zennit-crp do; here "
            f"mask(concept_ids, shape, *, layer_name) returns the factor: a tensor that broadcasts to {tuple(shape)}"
        )
    try:
        mask.expand(torch.Size([1]) if scalar else shape)
    except (RuntimeError, AttributeError) as error:
        raise ConditionError(
            f"the mask of {name!r} has to be a tensor that broadcasts to {tuple(shape)}: {error}"
        ) from error
    whole = (*(1,) * (len(shape) - mask.ndim), *mask.shape) if shape else ()
    return mask.reshape(whole).to(_like(run, ref))


def _nothing(run: Run, ref: Ref) -> torch.Tensor:
    """Return the mask that lets nothing pass, with each axis of size 1."""
    return _like(run, ref).new_zeros([1] * len(run.graph.sample_shape(ref)))


def _like(run: Run, ref: Ref) -> torch.Tensor:
    """Return an empty tensor of an output's device and of the precision in which its relevance is computed."""
    return working(run.recording.value(ref).new_empty(0))


def broadcast_stack(masks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return masks of one number of axes, stacked in front, each axis as large as the largest."""
    shape = np.broadcast_shapes(*(mask.shape for mask in masks))
    return torch.stack([mask.expand(shape) for mask in masks])


def stacked_masks(run: Run, ref: Ref, masks: Sequence[torch.Tensor], *, by_sample: bool = False) -> torch.Tensor:
    """Return masks of one output, without a batch axis, stacked along the rows: (row, 1 or batch, *shape).

    Parameters
    ----------
    run : Run
    ref : Ref
    masks : sequence of torch.Tensor
        One for each row; one for each sample if `by_sample`, which then make a single row.
    by_sample : bool, optional
    """
    stacked = broadcast_stack(masks)
    stacked = stacked[None] if by_sample else stacked[:, None]
    if not is_folded(run.graph, ref):
        return stacked
    windows = run.graph.sample_shape(ref)[0]  # or heads, which the node keeps in its batch axis
    return stacked.expand(-1, run.graph.batch, windows, *stacked.shape[3:]).flatten(1, 2)
