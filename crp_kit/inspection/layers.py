"""Layer indices: the layers of a model, numbered as rule maps number them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from ..attribution.cond_attribution import CondAttribution
from ..conditions import OutputSelector
from ..errors import InputError
from ..rules.maps.layer_index import Layers
from ..rules.maps.rule_maps import GlobalMap

__all__ = ["LayerIndex", "LayerIndices", "attribution_of", "show_layer_indices"]


def attribution_of(model: torch.nn.Module | CondAttribution, output: OutputSelector) -> CondAttribution:
    """Return the `CondAttribution` of a model, or the one that it is already.

    Raises
    ------
    InputError
        If it is neither, or `output` is given although the attribution has its own.
    """
    if not isinstance(model, CondAttribution):
        return CondAttribution(model, output)
    if output is not None:
        raise InputError("output belongs to the CondAttribution that is given: CondAttribution(model, output=...)")
    return model


@dataclass(frozen=True)
class LayerIndex:
    """A layer to which a rule map can give a rule.

    Parameters
    ----------
    index : int
        Position in the order of execution, counted from 0.
    name : str
        Name of the node.
    type : str
        The class that types are compared with: of its module, or of a module that does the same (``Sum`` for ``+``);
        the operation, if there is no such class.
    """

    index: int
    name: str
    type: str

    def __iter__(self) -> Iterator[Any]:
        return iter((self.index, self.name, self.type))


@dataclass(frozen=True, repr=False)
class LayerIndices:
    """The layers of a model by index. Made by `show_layer_indices`; it unpacks to (index, name, type).

    Parameters
    ----------
    layers : tuple of LayerIndex
        In the order of execution.
    """

    layers: tuple[LayerIndex, ...]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerIndex]:
        return iter(self.layers)

    def __getitem__(self, index: int) -> LayerIndex:
        return self.layers[index]

    def __repr__(self) -> str:
        width = len(str(len(self) - 1))
        lines: list[str] = []
        within: list[str] = []
        for index, name, type_ in self:
            *path, own = name.split(".")
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path, within, strict=False)))
            lines += [" " * (width + 2 + 2 * depth) + path[depth] for depth in range(shared, len(path))]
            lines.append(f"{index:>{width}}  {'  ' * len(path)}{own} {type_}")
            within = path
        return "\n".join([f"LayerIndices of {len(self)} layers", *lines])


def show_layer_indices(
    model: torch.nn.Module | CondAttribution, sample: Any, *, output: OutputSelector = None
) -> LayerIndices:
    """Return the layers of a model with the indices by which `crp_kit.rules.maps` give them rules.

    Every node that computes has an index, in the order of execution, and one for each time it runs; nodes that only
    move values (reshapes, slices, concatenations, dropout) have none.

    Parameters
    ----------
    model : torch.nn.Module or CondAttribution
        It is not changed. A `CondAttribution` is inspected with all of its settings.
    sample : torch.Tensor, tuple or dict
        Model input; a batch of one is enough.
    output : str, int or callable, optional
        The part of the model's output that is attributed, if that is not one tensor.

    Returns
    -------
    LayerIndices

    Raises
    ------
    InputError
        If the model is no module, the sample has no tensor, or `output` is given for a `CondAttribution`.
    ModelError
        If the forward fails or the output is no tensor.

    Examples
    --------
    >>> from torch import nn
    >>> features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> show_layer_indices(nn.Sequential(features, nn.Flatten(), nn.Linear(16, 2)), torch.zeros(1, 3, 4, 4))
    LayerIndices of 3 layers
       0
    0    0 Conv2d
    1    1 ReLU
    2  2 Linear
    """
    graph = attribution_of(model, output).engine.run(sample, GlobalMap(None)).graph  # as maps see it
    return LayerIndices(tuple(LayerIndex(layer.index, layer.name, layer.type) for layer in Layers(graph)))
