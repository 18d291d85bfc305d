"""The graph of a finished forward, made of its drafts; that of an earlier forward, where the calls are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from ..graph import Graph, Node, Ref
from ..nested import same
from ..operations import Kind, Trait
from .function_mode import Recorder
from .live_values import Draft, Tape
from .node_names import assign_names

__all__ = ["drafted_graph"]


def drafted_graph(recorder: Recorder, output: Ref, batch: int, *, gradients: bool, known: Graph | None) -> Graph:
    """Return what was recorded, with names.

    Parameters
    ----------
    recorder : Recorder
    output : Ref
        What is attributed.
    batch : int
        Number of samples.
    gradients : bool
        The forward ran with gradients.
    known : Graph or None
        Of an earlier forward. Where the calls are the same, its nodes or the graph itself are returned, with what is
        kept on them; where their structure is, the same nodes are detached.
    """
    tape, drafts = recorder.tape, recorder.tape.drafts
    named_after = (tuple(recorder.calls), [draft.title for draft in drafts])
    known_nodes = () if known is None else known.nodes
    repeated = {node.index for draft, node in zip(drafts, known_nodes, strict=False) if _is_call_of(draft, node)}
    own = (len(repeated), output, batch, named_after)
    if known is not None and own == (len(known), known.output, known.batch, known.named_after):
        return known
    modules = dict(recorder.modules)
    through = {index for index, draft in enumerate(drafts) if draft.spec.has(Trait.WRITE_THROUGH)}
    naming = assign_names([_functional_name(draft) for draft in drafts], recorder.calls, modules, through)
    nodes = [
        Node(
            index=index,
            spec=draft.spec,
            owner=draft.owner,
            func=draft.func,
            args=draft.args,
            kwargs=draft.kwargs,
            shapes=draft.shapes,
            module=modules.get(path) if path is not None else _layer_of(draft, modules),
            name=label,
        )
        for index, (draft, label, path) in enumerate(zip(drafts, naming.labels, naming.modules, strict=True))
    ]
    for index in repeated:
        if (nodes[index].name, nodes[index].module) == (known_nodes[index].name, known_nodes[index].module):
            nodes[index] = known_nodes[index]
    names = dict(naming.aliases)
    for node in nodes:
        outputs = [i for i, shape in enumerate(node.shapes) if shape is not None]
        if len(outputs) == 1:
            names[node.name] = Ref(node.index, outputs[0])
        else:
            names.pop(node.name, None)
            names.update({f"{node.name}:{i}": Ref(node.index, i) for i in outputs})
    names_of_modules = tuple(path for path in modules if path)
    detached = _detached(tape, gradients=gradients)
    graph = Graph(tuple(nodes), output, names, names_of_modules, batch, detached, named_after)
    if known is not None and known.structure == graph.structure:
        detached = known.detached
    elif output.node in graph.constants:
        # of a forward that is all under torch.no_grad it is not known what its author means to be constant
        detached = _detached(tape, gradients=False)
    return graph if detached == graph.detached else replace(graph, detached=detached)


def _is_call_of(draft: Draft, node: Node) -> bool:
    """Return whether a draft is the call that a node of another forward is, with the same constants."""
    return (
        draft.spec is node.spec
        and draft.owner == node.owner
        and draft.func == node.func
        and draft.shapes == node.shapes
        and same(draft.args, node.args)
        and same(draft.kwargs, node.kwargs)
    )


def _functional_name(draft: Draft) -> str:
    """Return the name of a call that is not a whole module, or of an input."""
    if draft.spec.kind is Kind.INPUT:
        return str(draft.kwargs["name"])
    operation = draft.title or draft.spec.name
    return f"{draft.owner}.{operation}" if draft.owner else operation


def _layer_of(draft: Draft, modules: Mapping[str, torch.nn.Module]) -> torch.nn.Module | None:
    """Return the convolution or linear layer whose own forward makes a call, among calls of other operations."""
    layer = modules.get(draft.owner)
    return layer if draft.spec.layer is not None and isinstance(layer, draft.spec.layer) else None


def _detached(tape: Tape, *, gradients: bool) -> frozenset[int]:
    """Return the nodes from whose output no gradient leads back; those under ``torch.no_grad`` only where it shows."""
    return frozenset(
        index
        for index, draft in enumerate(tape.drafts)
        if draft.spec.kind is Kind.DETACHED or (gradients and not draft.differentiable)
    )
