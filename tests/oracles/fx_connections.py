"""Which layers feed which, read from the fx graph of a model."""

from collections.abc import Collection

from torch import fx, nn

from .fx_graph import trace


def _reads_shape(node: fx.Node) -> bool:
    """Return whether a node reads the shape of a value, and so carries none of its data."""
    attribute = node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "device", "dtype")
    return attribute or (node.op == "call_method" and node.target in ("size", "dim", "numel"))


def connections(model: nn.Module, layer_names: Collection[str]) -> dict[str, set[str]]:
    """For each listed layer the listed layers whose output reaches its input without passing another listed one.

    Parameters
    ----------
    model : nn.Module
        A model that torch.fx can trace, in evaluation mode.
    layer_names : collection of str
        Names of leaf modules. Calls of one module are one layer.

    Returns
    -------
    dict of str to set of str
        The nearest upstream layers of each layer, over all data edges, those of gates too.

    Raises
    ------
    ValueError
        If a layer is not a leaf of the graph.
    """
    nodes, _ = trace(model)
    nearest: dict[fx.Node, set[str]] = {}
    result: dict[str, set[str]] = {}
    for node in nodes:
        sources = set().union(*(nearest[source] for source in node.all_input_nodes))
        if _reads_shape(node):
            sources = set()
        if node.op == "call_module" and node.target in layer_names:
            result.setdefault(str(node.target), set()).update(sources)
            sources = {str(node.target)}
        nearest[node] = sources
    missing = sorted(set(layer_names) - set(result))
    if missing:
        raise ValueError(f"not leaves of the fx graph: {missing}")
    return result
