"""Exports of a concept graph: dictionaries for JSON, networkx, Graphviz, and text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from ..conditions import OUTPUT
from ..errors import CrpKitError, InputError
from ..targets import Target
from ..targets.text import target_words
from .decompose import Decomposition
from .gathering import LEAST, Gathered, left_over, shown_part
from .parts import ConceptEdge, ConceptNode, Key, Start

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Classes", "as_dict", "as_dot", "as_networkx", "as_text", "called", "class_names", "from_dict"]

Classes: TypeAlias = Sequence[str] | Mapping[int, str] | None
"""Names of the classes, in order or by number."""

_FORMAT = "crp-kit-concept-graph"
_VERSION = 1
_FOR, _AGAINST = "#ca342f", "#096bd3"
"""The red and the blue of `crp_kit.views.image.DEFAULT_CMAP`, of one lightness."""


def as_dict(graph: Decomposition) -> dict[str, Any]:
    """Return a concept graph as plain values that JSON can hold."""
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "start": [list(stage) for stage in graph.start.stages],
        "target": None if graph.start.target is None else str(graph.start.target),
        "samples": graph.samples,
        "layers": list(graph.layers),
        "nodes": [asdict(node) for node in graph.nodes],
        "edges": [asdict(edge) | {"source": list(edge.source), "target": list(edge.target)} for edge in graph.edges],
    }


def from_dict(data: Any) -> Decomposition:
    """Return the concept graph that `as_dict` turned into plain values.

    Raises
    ------
    InputError
        If it is something else, is of a newer version, or has parts missing.
    """
    if not isinstance(data, Mapping) or data.get("format") != _FORMAT:
        raise InputError(f"no concept graph: a dictionary with 'format': {_FORMAT!r} is expected")
    if data.get("version") != _VERSION:
        raise InputError(
            f"a concept graph of version {data.get('version')!r}, and this crp-kit reads version {_VERSION}"
        )
    try:
        graph = Decomposition(
            Start.read(tuple(_key(stage) for stage in data["start"]), data.get("target")),
            tuple(map(str, data["layers"])),
            tuple(ConceptNode(**node) for node in data["nodes"]),
            tuple(
                ConceptEdge(**{**edge, "source": _key(edge["source"]), "target": _key(edge["target"])})
                for edge in data["edges"]
            ),
            int(data["samples"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"a concept graph with a part missing or wrong: {error}") from error
    known = {node.key for node in graph.nodes}
    missing = {key for edge in graph.edges for key in (edge.source, edge.target)} - known
    if missing or not known or graph.nodes[0].key != graph.start.root:
        raise InputError(
            f"a concept graph whose parts do not fit: {sorted(missing) or 'its first node is not its start'}"
        )
    return graph


def _key(pair: Any) -> Key:
    layer, concept = pair
    return str(layer), int(concept)


def as_networkx(graph: Decomposition) -> nx.DiGraph:
    """Return a concept graph for networkx: nodes are (layer, concept), attributes those of the dataclasses.

    Raises
    ------
    CrpKitError
        If networkx is not installed.
    """
    try:
        import networkx as nx
    except ImportError as error:
        raise CrpKitError("to_networkx needs networkx: pip install 'crp-kit[graph]'") from error
    network = nx.DiGraph(start=graph.start.condition(), samples=graph.samples)
    network.add_nodes_from((node.key, asdict(node)) for node in graph.nodes)
    for edge in graph.edges:
        values = {name: value for name, value in asdict(edge).items() if name not in ("source", "target")}
        network.add_edge(edge.source, edge.target, **values)
    return network


def as_dot(graph: Decomposition, classes: Mapping[int, str]) -> str:
    """Return a concept graph in Graphviz's language, layers as columns."""
    lines = ["digraph concepts {", "  rankdir=LR;", '  node [shape=box, style=rounded, fontname="sans-serif"];']
    for layer in reversed(graph.layers):
        named = [node for node in graph.nodes if node.layer == layer]
        lines.append("  { rank=same;")
        for node in named:
            text = "\n".join(
                [*([] if layer == OUTPUT else [layer]), called(node, classes, graph.start.target), f"{node.share:.0%}"]
            )
            lines.append(f"    {_quoted(_identifier(node.key))} [label={_quoted(text)}];")
        lines.append("  }")
    for edge in graph.edges:
        colour = _FOR if edge.relevance > 0 else _AGAINST
        lines.append(
            f"  {_quoted(_identifier(edge.source))} -> {_quoted(_identifier(edge.target))} "
            f'[label={_quoted(f"{edge.share:.0%}")}, color="{colour}", penwidth={_width(edge.share):.2f}];'
        )
    return "\n".join([*lines, "}", ""])


def class_names(classes: Classes) -> dict[int, str]:
    """Return the names of the classes that have one, by number.

    Raises
    ------
    InputError
        If they are a single string.
    """
    if isinstance(classes, str):
        raise InputError(f"classes are names of all classes, or a dictionary of some; got one text, {classes!r}")
    return dict(classes if isinstance(classes, Mapping) else enumerate(classes or ()))


def called(node: ConceptNode, classes: Mapping[int, str], target: Target | str | None) -> str:
    """Return the name of a node: a class, or those of the target that the graph starts from, by their own names."""
    if node.layer != OUTPUT:
        return node.name
    return target_words(node.concept if target is None else target, classes)


def _identifier(key: Key) -> str:
    return f"{key[0]}:{key[1]}"


def _quoted(text: str) -> str:
    r"""Return text as a quoted string of Graphviz's language.

    Examples
    --------
    >>> print(_quoted('a "b" \\n'))
    "a \"b\" \\n"
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", " ")
    return f'"{escaped}"'


def _width(share: float) -> float:
    return 0.5 + 7.5 * min(abs(share), 1.0)


def as_text(graph: Decomposition, classes: Mapping[int, str], least: float = LEAST) -> str:
    """Return a concept graph as an indented tree; a concept that occurs again is not written out again."""
    shown = shown_part(graph.nodes, graph.edges, least)
    nodes = {node.key: node for node in graph.nodes}
    children: dict[Key, list[ConceptEdge]] = {}
    for edge in shown.edges:
        children.setdefault(edge.source, []).append(edge)
    root = graph.nodes[0]
    head = (
        f"ConceptGraph of {_of(graph, classes)}: {len(graph.nodes)} concepts in {len(graph.layers)} layers, "
        f"{len(graph.edges)} edges{'' if graph.samples == 1 else f'; means of {graph.samples} samples'}"
    )
    seen: set[Key] = set()

    def below(key: Key, indent: str) -> Iterator[str]:
        if key in seen:
            return
        seen.add(key)
        node, edges = nodes[key], children.get(key, [])
        for index, edge in enumerate(edges):
            last = index == len(edges) - 1 and node.unexplained is None
            again = " (above)" if edge.target in seen and edge.target in children else ""
            spread = "" if edge.share_std is None else f" ± {edge.share_std:.1%}"
            stem, deeper = ("└─ ", "   ") if last else ("├─ ", "│  ")
            yield f"{indent}{stem}{edge.share:.1%}{spread}  {edge.target[0]} {nodes[edge.target].name}{again}"
            yield from below(edge.target, indent + deeper)
        if node.unexplained is not None:
            yield f"{indent}└─ {_left(node, shown.at(key))}"

    return "\n".join(
        [
            head,
            f"{root.layer} {called(root, classes, graph.start.target)}, relevance {root.relevance:.4g}",
            *below(root.key, ""),
        ]
    )


def _of(graph: Decomposition, classes: Mapping[int, str]) -> str:
    layer = graph.start.root[0]
    if layer == OUTPUT:
        return called(graph.nodes[0], classes, graph.start.target)
    text, start = f"{graph.nodes[0].name} of {layer!r}", graph.start.target or graph.start.cls
    return text if start is None else f"{text} for {target_words(start, classes)}"


def _left(node: ConceptNode, gathered: Gathered) -> str:
    """Return the line on the relevance that the children do not get."""
    others, absorbed = left_over(node, gathered)
    sign = " of the opposite sign" if absorbed < 0 else ""
    few = f" ({gathered.count} of them below {LEAST:.0%})" if gathered.count else ""
    return f"{others:.1%}  other concepts{few}; biases and other paths absorb {abs(absorbed):.1%}{sign}"
