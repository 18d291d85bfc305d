"""Private copy of a model, whose modules lose what they have learned, one group after the other from the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..attribution.cond_attribution import CondAttribution
from ..attribution.subject import Subject
from ..graph.graph import Graph
from ..graph.recording.shadow import make_shadow

__all__ = ["grouped", "learned_modules", "privately", "shuffle"]


def privately(subject: Subject) -> Subject:
    """Return a subject whose model is a copy with tensors of its own."""
    attribution = subject.attribution
    engine = attribution.engine
    private = CondAttribution(
        make_shadow(subject.model, private=True),
        engine.output,
        elementwise=engine.elementwise,
        batch_norm=engine.batch_norm,
        class_axis=engine.class_axis,
        feature_axis=engine.feature_axis,
        fixed=engine.fixed,
        inputs=engine.inputs,
        biases=attribution.biases,
    )
    return replace(subject, attribution=private)


def learned_modules(model: torch.nn.Module, graph: Graph) -> list[str]:
    """Return the paths of the modules with parameters of their own that a forward runs, the last one first."""
    last: dict[str, int] = {}
    for path, module in model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            runs = [node.index for node in graph if node.owner == path or (node.is_module and _holds(node.name, path))]
            if runs:
                last[path] = max(runs)
    return sorted(last, key=lambda path: -last[path])


def _holds(opaque: str, path: str) -> bool:
    """Return whether a module is inside of one that is a node of the graph as a whole, or is that one."""
    return path == opaque or path.startswith(f"{opaque}.")


def grouped(paths: Sequence[str], stages: int) -> list[list[str]]:
    """Return paths in order, in at most so many groups of even length."""
    count = min(stages, len(paths))
    ends = [round(len(paths) * (number + 1) / count) for number in range(count)]
    return [list(paths[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


@torch.no_grad()
def shuffle(model: torch.nn.Module, paths: Sequence[str], generator: torch.Generator) -> None:
    """Put the values of each parameter of some modules into a random order, in place: their scale stays."""
    for path in paths:
        for parameter in model.get_submodule(path).parameters(recurse=False):
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
