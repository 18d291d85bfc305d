"""Values under a BatchNorm that is folded into the linear layers behind it: not yet scaled and shifted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch

from ..graph.batch_norm_folding import Fold, Units
from ..graph.graph import Graph, Node, Ref
from ..graph.recording.record import Recording
from ..numerics import working
from .node_functions import batch_norm_factors, inputs_of, per_channel, true_function

__all__ = ["cut_apart", "factors_in_front", "restated"]


def restated(recording: Recording, units: Units, maps: frozenset[Ref] = frozenset()) -> Recording:
    """Return a recording in which values between a BatchNorm and its linear layers are not yet scaled and shifted.

    The value ``h = a v + c`` of each such node is replaced by ``v``. Behind a BatchNorm alone that is its input; behind
    its ReLU it is the input, or the threshold ``-c / a`` where the ReLU is off.

    Parameters
    ----------
    recording : Recording
    units : Units
    maps : frozenset of Ref, optional
        Outputs whose values rules use channels last, see `crp_kit.graph.memory_format.laid_out`.
    """
    if not units.before:
        return replace(recording, maps=maps, working={})
    values = list(recording.values)
    for fold in units.before.values():
        norm = recording.graph.nodes[fold.norm]
        x = recording.value(norm.argument("input"))
        if fold.relu is None:
            values[fold.norm] = [x]
        else:
            values[fold.relu] = [_over_threshold(norm, x, recording.value(Ref(fold.relu)))]
    unscaled = replace(recording, values=values, maps=maps, working={})
    for index in sorted({index for fold in units.before.values() for index in fold.between}):
        node = recording.graph.nodes[index]
        values[index] = true_function(node, unscaled, node.inputs[:1])(*inputs_of(unscaled, node, node.inputs[:1]))
    return unscaled


def cut_apart(folded: Recording, recording: Recording, nodes: Collection[int]) -> Recording:
    """Return a restated recording in which some nodes, of units that are cut, have their own values again."""
    values = list(folded.values)
    for index in nodes:
        values[index] = recording.values[index]
    return replace(folded, values=values, working={})


def _over_threshold(norm: Node, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Return a BatchNorm's input where the ReLU behind it is on, and its threshold elsewhere.

    A channel that the norm multiplies with zero has no threshold; the linear layer does not depend on it.
    """
    scale, shift = batch_norm_factors(norm)
    threshold = torch.where(scale == 0, 0.0, -shift / torch.where(scale == 0, 1.0, scale))
    return torch.where(h > 0, working(x), per_channel(threshold, x.ndim))


def factors_in_front(graph: Graph, linear: Node, fold: Fold) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the affine map of a BatchNorm at the input of a linear layer behind it.

    Parameters
    ----------
    graph : Graph
    linear : Node
    fold : Fold

    Returns
    -------
    scale : torch.Tensor
        (channel,), by the second axis of the layer's input.
    shift : torch.Tensor
        (1, *shape of the layer's input for one sample).
    """
    norm = graph.nodes[fold.norm]
    scale, shift = batch_norm_factors(norm)
    if fold.relu is not None:
        shift = torch.where(scale == 0, shift.clamp(min=0), shift)
    scale_map, shift_map = (
        _carried(graph, fold, per_channel(factor, len(norm.shape)).expand(norm.shape)) for factor in (scale, shift)
    )
    return scale_map.flatten(2)[0, :, 0] if scale_map.ndim > 2 else scale_map[0], shift_map


def _carried(graph: Graph, fold: Fold, value: torch.Tensor) -> torch.Tensor:
    """Return a map behind the nodes between a BatchNorm and its linear layer, for one sample."""
    for index in fold.between:
        node = graph.nodes[index]
        value = node.call({node.inputs[0]: value.contiguous()})[0]  # an expanded tensor cannot be viewed
    return value[:1]
