"""Comparisons of crp-kit with computations that share no code with it, or with itself asked in another way."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

import crp_kit

from .compare import (
    EXACT,
    Detached,
    SkippedError,
    WrongError,
    attribute,
    chosen,
    compare,
    crp_errors,
    lrp_zero,
    made,
    shown,
)
from .detached import Mask
from .program import CLASSES, Program


def relevance(program: Program) -> None:
    """LRP-0 at the input, and at every module that the oracle knows, is value times gradient, constants detached."""
    target = program.seed % CLASSES
    oracle = Detached(program)
    right = oracle.relevance(target)
    inside = _inside_units(program)
    nodes = [name for name in oracle.reached() if name != "head" and name not in inside]
    try:
        got = attribute(program.model(), program.data(), [{"y": [target]}], lrp_zero(), record_layer=nodes)
    except crp_kit.errors.UnreachableLayerError as error:
        raise WrongError(str(error)) from error
    compare("input", got.input_relevance, right)
    if got.gradient_nodes:
        raise WrongError(f"nodes are said to have plain gradients: {got.gradient_nodes}")
    for name in nodes:
        compare(f"relevance at {name}", got.relevances[name], oracle.forms.values[name] * oracle.forms.factors[name])


def _inside_units(program: Program) -> set[str]:
    """Names inside a unit of a layer and a BatchNorm: they record the unit's relevance, as zennit's MergeBatchNorm."""
    run = made(program.model()).engine.run(program.data(), lrp_zero())
    inside = set(run.plan.units.behind)
    for fold in run.plan.units.before.values():
        inside |= {fold.norm, fold.relu, *fold.between}
    return {name for name, ref in run.graph.names.items() if ref.node in inside}


def gradient(program: Program) -> None:
    """Without a composite, what arrives is autograd's plain gradient."""
    target = program.seed % CLASSES
    right = Detached(program, gradient=True).relevance(target)
    got = attribute(program.model(), program.data(), [{"y": [target]}], None, init_rel=1.0)
    compare("gradient", got.input_relevance, right, 1e-9)


def rows(program: Program) -> None:
    """Each row of a call equals the same condition set asked alone, for its sample alone."""
    choice = chosen(program, "rows")
    attribution = made(program.model())
    composite = choice.choice([lrp_zero(), lrp_zero(1e-3), "epsilon_plus", None])
    options = {"exclude_parallel": choice.random() < 0.4, "init_rel": 1.0 if composite is None else None}
    x = program.data()[:2]
    widths = _widths(attribution, x, choice, composite)
    sets, alone = [], []
    for condition in _condition_sets(widths, choice):
        try:
            single = [attribute(attribution, x[i : i + 1], [condition], composite, **options) for i in range(len(x))]
        except crp_kit.errors.UnreachableLayerError:
            continue
        sets.append(condition)
        alone.append([part.input_relevance[0] for part in single])
    if not sets:
        raise SkippedError("no node can be conditioned")
    pairing = "zip" if len(sets) == len(x) and choice.random() < 0.7 else "product"
    batch_size = choice.choice([None, None, 1, 2, 3])
    got = attribute(attribution, x, sets, composite, pairing=pairing, batch_size=batch_size, **options)
    pairs = [(i, j) for i in range(len(x)) for j in range(len(sets)) if pairing == "product" or i == j]
    for row, (sample, index) in enumerate(pairs):
        title = f"row {row} of {sets} with {composite}, {options}, {pairing}, batch_size={batch_size}"
        compare(title, got.input_relevance[row], alone[index][sample], 1e-9)


def _widths(
    attribution: crp_kit.CondAttribution, x: torch.Tensor, choice: random.Random, composite: Any
) -> dict[str, int]:
    """Some nodes that can be conditioned, and how many channels they have; rather those that a path by-passes."""
    with crp_errors():
        known = attribution.graph(x.clone(), composite).names  # a composite's rule may close a module
        graph = crp_kit.trace_model_graph(attribution.model, x.clone())
        names = [name for name in graph.layer_names if name in known]
        past = [name for name in names if name[0] == "m" and _by_passed(graph, name)]
        names = choice.sample(past, min(len(past), 2)) + choice.sample(names, min(len(names), 2))
        widths = {name: _channels(attribution, x, name) for name in dict.fromkeys(names)}
    return {name: width for name, width in widths.items() if width}


def _by_passed(graph: crp_kit.ModelGraph, name: str) -> bool:
    try:
        return bool(graph.parallel_nodes({name: [0]}))
    except crp_kit.errors.UnreachableLayerError:
        return False


def _condition_sets(widths: dict[str, int], choice: random.Random) -> list[dict[str, Any]]:
    """Sets of random channels, empty ones among them, mostly of one node and from one start."""
    start = choice.sample(range(CLASSES), choice.randint(1, 2)) if choice.random() < 0.7 else None
    same = [choice.choice(list(widths))] if widths and choice.random() < 0.7 else None
    sets = []
    for _ in range(choice.choice([2, 3, 3, 4])):
        nodes = same or choice.sample(list(widths), min(len(widths), choice.choice([0, 1, 1, 2])))
        ids = {name: sorted(choice.sample(range(widths[name]), choice.randint(0, widths[name]))) for name in nodes}
        sets.append({**ids, "y": start or choice.sample(range(CLASSES), choice.randint(1, 2))})
    return sets


def _channels(attribution: crp_kit.CondAttribution, x: torch.Tensor, name: str) -> int:
    """Number of channels of a node, or zero if its axis is not known or the batch is not in front."""
    axis = attribution.channel_axis(x.clone(), name)
    if axis is None:
        return 0
    graph = attribution.graph(x.clone())
    shape = graph.shape(graph.find(name))
    return int(shape[axis]) if axis and shape[0] == len(x) else 0


def _conditioned(oracle: Detached, choice: random.Random, count: int) -> dict[str, tuple[list[int], Mask]]:
    """Random channels of some of the layers that relevance reached, and the masks that leave them."""
    modules = dict(oracle.model.named_modules())
    layers = {name: _channel_axis(modules[name.split("_")[0]]) for name in oracle.reached() if name != "head"}
    names = [name for name, axis in layers.items() if axis is not None]
    if not names:
        raise SkippedError("relevance reaches no layer")
    result = {}
    for name in choice.sample(names, min(count, len(names))):
        axis, value = layers[name], oracle.forms.values[name]
        ids = sorted(choice.sample(range(value.shape[axis]), choice.randint(0, value.shape[axis])))
        mask = torch.zeros(value.shape[axis], dtype=torch.float64)
        mask[ids] = 1
        mask = mask.view([-1 if i == axis % value.ndim else 1 for i in range(value.ndim)])
        result[name] = ids, mask.mul
    return result


def _channel_axis(module: nn.Module) -> int | None:
    if isinstance(module, nn.Linear):
        return -1
    return 1 if isinstance(module, (_ConvNd, _BatchNorm)) else None


def paths(program: Program) -> None:
    """Relevance that passed one layer, or two, by inclusion and exclusion; or masks alone, paths past them left in."""
    target, choice = program.seed % CLASSES, chosen(program, "paths")
    oracle = Detached(program)
    oracle.relevance(target)
    conditioned = _conditioned(oracle, choice, choice.choice([1, 1, 2]))
    ids = {name: chosen_ids for name, (chosen_ids, _) in conditioned.items()}
    masks = {name: mask for name, (_, mask) in conditioned.items()}
    in_series = _in_series(oracle, list(masks))

    def through(closed: tuple[str, ...]) -> torch.Tensor:
        return oracle.relevance(target, {n: torch.zeros_like if n in closed else m for n, m in masks.items()})

    if len(masks) == 2 and in_series:
        first, second = masks
        passed = through(()) - through((first,)) - through((second,)) + through((first, second))
    else:
        passed = through(()) - through(tuple(masks))
    for exclude_parallel, right in ((True, passed), (False, through(()))):
        try:
            options = {"exclude_parallel": exclude_parallel}
            got = attribute(program.model(), program.data(), [{**ids, "y": [target]}], lrp_zero(), **options)
        except crp_kit.errors.UnreachableLayerError as error:
            raise WrongError(str(error)) from error
        scale = float(oracle.relevance(target).abs().max())
        error = float((got.input_relevance - right).abs().max())
        if not error <= EXACT * scale + 1e-12:
            where = f"conditioned on {ids}, exclude_parallel={exclude_parallel}"
            raise WrongError(
                f"{where}: {error / scale:.2g} off\n  got   {shown(got.input_relevance)}\n  right {shown(right)}"
            )


def _in_series(oracle: Detached, names: list[str]) -> bool:
    """Whether relevance that leaves one of two nodes can arrive at the other."""
    if len(names) < 2:
        return False
    a, b = (oracle.forms.nodes[name] for name in names)
    for above, below in ((a, b), (b, a)):
        gradient = torch.autograd.grad(above.sum(), below, allow_unused=True, retain_graph=True)[0]
        if gradient is not None:
            if not bool(gradient.any()):
                raise SkippedError("two layers are connected by zeros")
            return True
    return False


def additivity(program: Program) -> None:
    """Heatmaps of a layer's channels sum to that of all; where all paths pass it, to the one without conditions."""
    target, choice = program.seed % CLASSES, chosen(program, "additivity")
    oracle = Detached(program)
    total = oracle.relevance(target)
    ((name, _),) = _conditioned(oracle, choice, 1).items()
    module = oracle.model.get_submodule(name.split("_")[0])
    width = oracle.forms.values[name].shape[_channel_axis(module)]
    past = oracle.relevance(target, {name: torch.zeros_like})
    sets = [{name: [channel], "y": [target]} for channel in range(width)]
    sets.append({name: list(range(width)), "y": [target]})
    try:
        got = attribute(program.model(), program.data(), sets, lrp_zero()).input_relevance
    except crp_kit.errors.UnreachableLayerError as error:
        raise WrongError(str(error)) from error
    maps = got.view(-1, len(sets), *got.shape[1:])
    scale = float(total.abs().max())
    for what, value, right in (
        ("sum of channels", maps[:, :-1].sum(1), maps[:, -1]),
        ("all", maps[:, -1], total - past),
    ):
        error = float((value - right).abs().max())
        if not error <= EXACT * scale + 1e-12:
            raise WrongError(f"{what} of {name}: {error / scale:.2g} off")


def reuse(program: Program) -> None:
    """An attribution that was used with other data, shapes and composites answers as a fresh one does."""
    choice = chosen(program, "reuse")
    used, target = made(program.model()), program.seed % CLASSES
    samples = 1 if program.one_sample else choice.choice([1, 2, 3])
    attribute(used, program.data(samples, other=1), [{"y": [0]}, {"y": [1]}], choice.choice(["epsilon_plus", None]))
    attribute(used, program.data(samples, other=2), [{"y": [1]}], lrp_zero(0.1))
    attribute(used, program.data(other=3), [{"y": [target]}], lrp_zero())
    for composite in (lrp_zero(), None):
        fresh = attribute(program.model(), program.data(), [{"y": [target]}], composite)
        again = attribute(used, program.data(), [{"y": [target]}], composite)
        compare(f"with {type(composite).__name__}", again.input_relevance, fresh.input_relevance, 1e-12)


FLOAT32 = 1e-4
"""Thirty times the largest error of 200 programs (3.2e-6; the median is 1.2e-7)."""


def single_precision(program: Program) -> None:
    """In float32 what float64 gives, with a rule whose denominators stay away from zero."""
    target = program.seed % CLASSES
    Detached(program).relevance(target)
    exact, rounded = program.model(), program.model().float()
    x = program.data()
    with torch.no_grad():
        difference = float((rounded(x.float()).double() - exact(x.clone())).abs().max())
    if difference > 1e-4:
        raise SkippedError("the forward itself differs")
    right, got = (
        attribute(model, data, [{"y": [target]}], lrp_zero(0.05)) for model, data in ((exact, x), (rounded, x.float()))
    )
    if got.input_relevance.dtype != torch.float32:
        raise WrongError(f"relevance of float32 is {got.input_relevance.dtype}")
    compare("float32", got.input_relevance, right.input_relevance, FLOAT32)


def samples(program: Program) -> None:
    """Samples together give what each gives alone."""
    if program.one_sample:
        raise SkippedError("it is right for one sample only")
    target, attribution = program.seed % CLASSES, made(program.model())
    x = program.data(3)
    for composite in (lrp_zero(0.01), None):
        together = attribute(attribution, x, [{"y": [target]}], composite).input_relevance
        alone = [attribute(attribution, x[i : i + 1], [{"y": [target]}], composite).input_relevance for i in range(3)]
        compare(f"with {type(composite).__name__}", together, torch.cat(alone), 1e-9)


ORACLES: dict[str, Callable[[Program], None]] = {
    function.__name__: function
    for function in (relevance, gradient, rows, paths, additivity, reuse, single_precision, samples)
}
