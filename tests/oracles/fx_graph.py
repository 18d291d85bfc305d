"""Graphs of models as torch.fx sees them, down to torch's own modules, with torchvision's node names."""

import math

import torchvision
from torch import fx, nn
from torchvision.models.feature_extraction import NodePathTracer


def trace(model: nn.Module) -> tuple[list[fx.Node], dict[fx.Node, str]]:
    """Nodes of a model in execution order, and their names; the model should be in evaluation mode."""
    tracer = NodePathTracer(autowrap_modules=(math, torchvision.ops), leaf_modules=[])
    graph = tracer.trace(model)
    return list(graph.nodes), dict(tracer.node_to_qualname)
