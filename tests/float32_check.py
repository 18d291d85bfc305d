"""How far relevance in float32 is from float64 on a model, where the difference begins, and why.

A model has random parameters and gets a photograph at the size that it is published for. Maps are compared under three
composites. Where they differ by more than rounding, two more things are measured: the first node, from the start, at
which relevance differs by a tenth of what the map does; and how far the map in float64 moves if every parameter is
multiplied by 1 ± 2**-19, which is how far rounding to float32 moves a sum of about a thousand numbers. What moves as
far by that is a property of the model and the rule, and no error of the arithmetic: denominators near zero, and
windows of a max-pooling with two values so near that the other one wins.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from family_check import attribution_of
from oracles import zoo
from oracles.signals import Data, signal_of
from oracles.start import called, scalar_start
from photographs import chelsea, photographs
from torch import nn
from torchvision import models
from zennit.composites import EpsilonGammaBox
from zennit.core import Composite

import crp_kit
from crp_kit.data.preprocess import Preprocess
from crp_kit.errors import NonFiniteRelevanceError
from crp_kit.graph.graph import Graph
from crp_kit.graph.operations import Kind
from crp_kit.graph.relevance_edges import Flow

COMPOSITES = ("epsilon_plus_flat", "epsilon_gamma_box", "attnlrp")
ROUNDING = 2e-5
"""A relative difference below this is what some hundred roundings to float32 add up to."""
MARGIN = 5
"""Times that a difference may be larger than what a perturbation moves, since that is one draw: near ties, which winner
changes is chance."""
_SEGMENTATION_SIZE = 520  # pixels: the size that torchvision's segmentation weights resize pictures to
PERTURBATION = 2.0**-19
"""Relative; the square root of 1024 times half a unit of the last place of float32."""
_MOST_RECORDED = 1 << 26  # elements of relevance that are kept at once, over all layers
_HIDDEN = (Kind.LINEAR, Kind.BATCH_NORM, Kind.STRUCTURAL, Kind.INPUT)
"""Nodes whose relevance is not compared: those that may be within a fold, and those that only move values."""


@dataclass(frozen=True)
class Comparison:
    """One model under one composite in float32 and float64.

    Parameters
    ----------
    composite : str
    finite : bool
        Whether relevance is finite in float32.
    difference : float
        Norm of the difference of the maps relative to the norm of the map in float64; NaN without both.
    moved : float
        The same for two maps in float64, the parameters of one perturbed; NaN where it was not measured.
    node, operation : str
        Where the difference begins, or where relevance is first not finite.
    note : str
        What went wrong.
    highest : float
        The highest magnitude of the map in float64 where relevance is not finite in float32 alone.
    """

    composite: str
    finite: bool
    difference: float = math.nan
    moved: float = math.nan
    node: str = ""
    operation: str = ""
    note: str = ""
    highest: float = math.nan

    @property
    def cause(self) -> str:
        """The class of reasons to which the difference belongs."""
        if self.note or not self.finite:
            beyond = self.highest > torch.finfo(torch.float32).max
            return "failed" if self.finite else "range" if beyond else "not finite"
        if self.difference < ROUNDING:
            return "rounding"
        return "conditioning" if self.difference < MARGIN * self.moved else "unexplained"

    @property
    def tolerance(self) -> float:
        """Three times the difference, rounded up to one digit; at least that of rounding."""
        bound = max(3 * self.difference, ROUNDING)
        digit = 10.0 ** math.floor(math.log10(bound))
        return math.ceil(round(bound / digit, 6)) * digit


@dataclass(frozen=True)
class Precision:
    """One model under all composites, the shape of its input, and the seconds that it took."""

    shape: tuple[int, ...]
    seconds: float
    comparisons: tuple[Comparison, ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Precision:
        """Return what `dataclasses.asdict` has made a dictionary of, perhaps by way of JSON."""
        comparisons = tuple(Comparison(**one) for one in values["comparisons"])
        return cls(tuple(values["shape"]), values["seconds"], comparisons)

    def as_dict(self) -> dict[str, Any]:
        """Return all values as what JSON has."""
        return asdict(self)


@dataclass(frozen=True)
class _Photographs(zoo.Entry):
    """An entry whose one sample is the portrait of a cat, and whose several samples are other photographs."""

    preprocess: Preprocess = field(default_factory=Preprocess)

    def data(self, samples: int, generator: torch.Generator) -> Data:
        images = [chelsea()] if samples == 1 else photographs()[1 : samples + 1]
        return torch.stack([self.preprocess(image) for image in images])


def at_true_size(label: str) -> zoo.Entry:
    """Return the entry of ``group:name`` with the input that its architecture is published for."""
    group, _, name = label.partition(":")
    entry = zoo.entry(group, name)
    if entry.argument is not None:
        return entry
    size = _true_size(group, name, entry)
    preprocess = Preprocess(size, size)
    return _Photographs(entry.make, (3, size, size), output=entry.output, preprocess=preprocess)


def _true_size(group: str, name: str, entry: zoo.Entry) -> int:
    """Return the side of a model's square input, in pixels."""
    if group == "huggingface":
        return entry.shape[-1]
    if group == "timm":
        import timm

        return int(timm.get_pretrained_cfg(name, allow_unregistered=False).input_size[-1])
    if name in models.list_models(module=models.segmentation):
        return _SEGMENTATION_SIZE
    if name.startswith(("vit", "swin", "maxvit")):
        return entry.shape[-1]  # the size is part of the model
    return int(models.get_model_weights(name).DEFAULT.transforms().crop_size[0])


def compare(label: str, *, composites: Sequence[str] = COMPOSITES) -> Precision:
    """Compare float32 with float64 on one model of the zoo, under some composites."""
    began = time.perf_counter()
    entry = at_true_size(label)
    model, data = zoo.build(entry)
    return replace(compare_built(model, data, composites=composites), seconds=time.perf_counter() - began)


def compare_built(model: nn.Module, data: Data, *, composites: Sequence[str] = COMPOSITES) -> Precision:
    """Compare float32 with float64 on a model in float64, whose parameters are numbers of float32; it is changed."""
    shape = tuple(signal_of(data).shape[1:])
    with torch.no_grad():
        _, selection = scalar_start(called(model, data))
        output, _ = scalar_start(called(model.float(), _cast(data, torch.float32)))
    if not output.isfinite().all():
        note = "the model's output is not finite in float32"
        return Precision(shape, 0.0, tuple(Comparison(name, finite=False, note=note) for name in composites))
    single = _runs(model, _cast(data, torch.float32), selection.float(), composites)
    double = _runs(model.double(), data, selection, composites)
    results = [_compared(name, single[name], double[name]) for name in composites]
    unclear = [result.composite for result in results if result.difference >= ROUNDING]
    _perturb(model)
    moved = _runs(model, data, selection, unclear, record=False) if unclear else {}
    return Precision(shape, 0.0, tuple(_explained(result, single, double, moved) for result in results))


def _explained(
    result: Comparison, single: Mapping[str, _Run], double: Mapping[str, _Run], moved: Mapping[str, _Run]
) -> Comparison:
    """Return a comparison with where its difference begins, and how far the map moves if the parameters do."""
    name = result.composite
    if name not in moved:
        return result
    node = _first(single[name].relevance, double[name].relevance, result.difference / 10)
    distance = _relative(moved[name].heatmap, double[name].heatmap)
    return replace(result, moved=distance, node=node, operation=double[name].operations.get(node, ""))


@dataclass(frozen=True)
class _Run:
    """A map, relevance by node from the start on, the operation of each node; or the sentence of an error."""

    heatmap: torch.Tensor
    relevance: Mapping[str, torch.Tensor] = field(default_factory=dict)
    operations: Mapping[str, str] = field(default_factory=dict)
    broken: tuple[str, str] | None = None


def _runs(
    model: nn.Module, data: Data, selection: torch.Tensor, composites: Sequence[str], *, record: bool = True
) -> dict[str, _Run]:
    """Attribute one neuron under each composite."""
    with torch.no_grad():
        attribution = attribution_of(model, called(model, data))
    return {name: _run(attribution, data, selection, _composite(name, data), record) for name in composites}


def _run(
    attribution: crp_kit.CondAttribution, data: Data, selection: torch.Tensor, composite: Composite | str, record: bool
) -> _Run:
    graph = attribution.graph(data, composite)
    names = _recorded(graph) if record else []
    try:
        result = attribution(data, {}, composite, init_rel=lambda value: value * selection, record_layer=names)
    except NonFiniteRelevanceError as error:
        return _Run(torch.empty(0), broken=(error.layer, error.rule))
    operations = {node.name: _operation(node) for node in graph}
    return _Run(result.heatmap, {name: result.relevances[name] for name in names}, operations)


def _operation(node: Any) -> str:
    return node.op if node.module is None else type(node.module).__name__


def _recorded(graph: Graph) -> list[str]:
    """Return nodes to compare, from the start to the input; of many large ones every second, third and so on."""
    reached = {ref.node for ref in Flow(graph).from_start(graph.output)}
    nodes = [node for node in reversed(list(graph)) if node.index in reached and node.kind not in _HIDDEN]
    nodes = [node for node in nodes if node.index != graph.output.node and node.shapes[0] is not None]
    elements = sum(shape.numel() for node in nodes if (shape := node.shapes[0]) is not None)
    return [node.name for node in nodes[:: max(1, math.ceil(elements / _MOST_RECORDED))]]


def _composite(name: str, data: Data) -> Composite | str:
    """Return a composite; the range of an image is that of its preprocessing, of another input that of its values."""
    if name != "epsilon_gamma_box":
        return name
    if isinstance(data, torch.Tensor):
        preprocess = Preprocess()
        return EpsilonGammaBox(low=preprocess.low.to(data.dtype), high=preprocess.high.to(data.dtype))
    signal = signal_of(data)
    return EpsilonGammaBox(low=float(signal.min()), high=float(signal.max()))


def _cast(data: Data, dtype: torch.dtype) -> Data:
    if isinstance(data, torch.Tensor):
        return data.to(dtype)
    return {name: one.to(dtype) if one.is_floating_point() else one for name, one in data.items()}


def _compared(name: str, single: _Run, double: _Run) -> Comparison:
    if single.broken or double.broken:
        node, rule = single.broken or double.broken or ("", "")
        note = "" if single.broken and not double.broken else "not finite in float64"
        highest = math.nan if double.broken else float(double.heatmap.abs().max())
        return Comparison(name, finite=single.broken is None, node=node, operation=rule, note=note, highest=highest)
    return Comparison(name, finite=True, difference=_relative(single.heatmap, double.heatmap))


def _first(single: Mapping[str, torch.Tensor], double: Mapping[str, torch.Tensor], least: float) -> str:
    """Return the first node, from the start, whose relevance differs by at least this; the input if there is none."""
    return next((name for name, value in single.items() if _relative(value, double[name]) >= least), "input")


def _relative(values: torch.Tensor, expected: torch.Tensor) -> float:
    return float((values.double() - expected.double()).norm() / expected.double().norm())


def _perturb(model: nn.Module) -> None:
    """Multiply each parameter by 1 plus or minus `PERTURBATION`, in place."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            signs = torch.randint(0, 2, parameter.shape, generator=generator) * 2 - 1
            parameter.mul_(1 + PERTURBATION * signs.to(parameter.dtype))
