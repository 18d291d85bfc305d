"""How far the forward behind a node is from full forwards of the user's model with a hook, on any model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from family_check import attribution_of
from oracles.start import called, output_tensor
from torch import nn

from crp_kit.attribution.layer_values import is_folded
from crp_kit.propagation.suffix import Suffix

ROWS = 2


def suffix_errors(model: nn.Module, data: Any, *, layers: int = 3) -> dict[str, float]:
    """Return the relative error of the outputs for random values of some modules' outputs, by module."""
    with torch.no_grad():
        raw = called(model, data)
    run = attribution_of(model, raw).engine.run(data, None)
    named = {node.name for node in run.graph}
    known = [name for name in _once(model, data) if name in named and not is_folded(run.graph, run.graph.find(name))]
    errors = {}
    for name in _spread(known, layers):
        ref = run.graph.find(name)
        suffix, value = Suffix(run, ref), run.recording.value(ref)
        if not suffix.nodes:
            continue
        generator = torch.Generator().manual_seed(len(name))
        noise = torch.randn(ROWS, *value.shape, generator=generator, dtype=torch.float64).to(value)
        rows = value + noise * value.abs().mean()
        expected = torch.stack([_hooked(model, data, name, row) for row in rows])
        found = suffix(rows)
        errors[name] = float((found - expected).abs().max() / expected.abs().max())
    return errors


def _once(model: nn.Module, data: Any) -> list[str]:
    """Return the modules that run once and return a tensor, in order."""
    calls: dict[str, int] = {}
    tensors: set[str] = set()

    def note(name: str, output: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        if isinstance(output, torch.Tensor):
            tensors.add(name)

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name, output))
        for name, module in model.named_modules()
        if name
    ]
    with torch.no_grad():
        called(model, data)
    for handle in handles:
        handle.remove()
    return [name for name, count in calls.items() if count == 1 and name in tensors]


def _spread(names: list[str], count: int) -> list[str]:
    places = {round(number * (len(names) - 1) / max(count - 1, 1)) for number in range(count)} if names else set()
    return [names[place] for place in sorted(places)]


def _hooked(model: nn.Module, data: Any, name: str, row: torch.Tensor) -> torch.Tensor:
    """Return the output of the user's model in which a module returns other values."""
    handle = model.get_submodule(name).register_forward_hook(lambda module, inputs, output: row.clone())
    copied = {key: one.clone() for key, one in data.items()} if isinstance(data, Mapping) else data.clone()
    with handle, torch.no_grad():
        return output_tensor(called(model, copied)).clone()
