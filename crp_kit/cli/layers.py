"""``crp-kit layers``: the names that conditions can use."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import InputError
from ..tables import shape_text, text_table
from .studies import sample_of, study_of
from .study_options import study_options

if TYPE_CHECKING:
    from torch.nn import Module

    from ..graph.graph import Graph

__all__ = ["layers"]


class _Layer(NamedTuple):
    name: str
    type: str
    shape: tuple[int, ...] | None
    bases: tuple[str, ...] = ()
    ref: Any = None


_FACTS = (
    "concept",
    "concepts",
    "maps",
    "depth",
    "block output",
    "activated",
    "all paths",
    "suggested",
    "signed",
    "behind",
)
"""Columns of the guide, of layers at which relevance can be recorded."""


@click.command(short_help="List the names that conditions can use.")
@study_options
@click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Only layers of this type, such as Conv2d. Repeatable."
)
@click.option("--pattern", metavar="REGEX", help="Only layers whose whole name matches, such as 'layer[34].*conv2'.")
@click.option("--graph", "whole", is_flag=True, help="Every node of the recorded graph, functional ones included.")
@click.option(
    "--suggest",
    is_flag=True,
    help="Print only the names of a handful of layers that is enough for an atlas of the model, for --layers.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def layers(
    *, types: tuple[str, ...], pattern: str | None, whole: bool, suggest: bool, as_json: bool, **options: Any
) -> None:
    """List the layers of a model, with what helps to choose among them.

    \b
    Examples:
      crp-kit layers --model torchvision:resnet50 --type Conv2d
      crp-kit layers --model torchvision:vit_b_16 --graph --pattern '.*add.*'
      crp-kit atlas build --model demo:resnet --data demo:shapes -o atlas.h5 \\
          --layers "$(crp-kit layers --model demo:resnet --suggest)"

    Of each: name, type, shape of the output for one image (channel x height x width), what a concept is there, how many
    there are and the size of their maps; how many layers with weights come before it; whether a block of the model ends
    there, its values are behind an activation function, all relevance goes through it, it is suggested, and its values
    are signed: they may be negative, and no activation function follows; and the node behind the activation function
    that follows, in whose ranking by activation a high value means more.

    By default these are the modules without children, the ends of blocks, and what is suggested; --graph lists
    everything that a condition can name. A layer that the model never runs has the shape "-".
    """  # noqa: D301
    from ..graph.model_graph import record_once

    matches = _compiled(pattern)
    study = study_of(options, needs_weights=False)
    guide = study.layers(sample_of(study))
    if suggest:
        click.echo("\n".join(guide.suggestion))
        return
    facts = {row["name"]: {name: row[name] for name in _FACTS} for row in guide.rows()}
    graph = record_once(study.model, study.inputs(sample_of(study)), output=study.attribution.engine.output).graph
    listed = _nodes(graph) if whole else _with_marked(_modules(study.model, graph, every=bool(types)), graph, facts)
    chosen = [layer for layer in _of_types(listed, types) if matches is None or matches.fullmatch(layer.name)]
    if not chosen:
        model = options["model"]
        raise InputError(f"no layer of {model} matches; leave out --pattern or --type to see all {len(listed)}")
    named = {layer.ref: layer.name for layer in _nodes(graph)}
    _print(chosen, [facts.get(named.get(layer.ref, ""), dict.fromkeys(_FACTS)) for layer in chosen], as_json=as_json)


def _with_marked(listed: list[_Layer], graph: Graph, facts: Mapping[str, Mapping[str, Any]]) -> list[_Layer]:
    """Return layers with the ends of blocks and the suggested nodes, in the order of execution."""
    known = {layer.ref for layer in listed}
    marked = {name for name, row in facts.items() if row["block output"] or row["suggested"]}
    added = [layer for layer in _nodes(graph) if layer.ref not in known and layer.name in marked]
    return sorted([*listed, *added], key=lambda layer: (layer.ref is None, layer.ref or ()))


def _print(layers: list[_Layer], facts: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {"name": layer.name, "type": layer.type, "shape": None if layer.shape is None else list(layer.shape), **row}
            for layer, row in zip(layers, facts, strict=True)
        ]
        click.echo(json.dumps(rows, indent=1))
        return
    shapes = ("-" if layer.shape is None else shape_text(layer.shape) for layer in layers)
    cells = [
        (layer.name, layer.type, shape, *map(_cell, row.values()))
        for layer, shape, row in zip(layers, shapes, facts, strict=True)
    ]
    for line in text_table([("name", "type", "shape", *_FACTS), *cells]):
        click.echo(line.rstrip())


def _cell(value: Any) -> str:
    return "-" if value is None or value is False or value == "" else "yes" if value is True else str(value)


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InputError(f"--pattern {pattern!r} is no regular expression: {error}") from error


def _modules(model: Module, graph: Graph, *, every: bool) -> list[_Layer]:
    """Modules with the shape of their output: those without children or that are a node, or every one."""
    whole = {node.owner for node in graph if node.module is not None}
    return [
        _Layer(name, type(module).__name__, _shape(graph, name), _bases(type(module)), graph.names.get(name))
        for name, module in model.named_modules()
        if name and (every or name in whole or not any(True for _ in module.children()))
    ]


def _bases(kind: type) -> tuple[str, ...]:
    """Return the names of the classes of torch and others that a module class is made from."""
    from torch.nn import Module

    bases = (base for base in kind.__mro__[1:] if issubclass(base, Module) and base is not Module)
    return tuple(base.__name__ for base in bases if base.__name__[0] != "_")


def _shape(graph: Graph, name: str) -> tuple[int, ...] | None:
    ref = graph.names.get(name)
    return None if ref is None else tuple(graph.shape(ref)[1:])


def _nodes(graph: Graph) -> list[_Layer]:
    """Every output of every node but the model's inputs, in execution order."""
    from ..graph.graph import Ref
    from ..graph.operations import Kind

    return [
        _Layer(
            graph.label(Ref(node.index, i)),
            type(node.module).__name__ if node.module else node.op,
            tuple(shape[1:]),
            _bases(type(node.module)),
            Ref(node.index, i),
        )
        for node in graph
        if node.kind is not Kind.INPUT
        for i, shape in enumerate(node.shapes)
        if shape is not None
    ]


def _of_types(listed: list[_Layer], types: tuple[str, ...]) -> list[_Layer]:
    """Layers of the named types, subclasses included, in any case of letters."""
    import difflib

    if not types:
        return listed
    known = {name.lower(): name for layer in listed for name in (*layer.bases, layer.type)}
    for name in types:
        if name.lower() not in known:
            near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(known[name] for name in near)}?" if near else ""
            raise InputError(
                f"the model has no layer of type {name!r}; {hint or 'it has ' + ', '.join(sorted(known.values()))}"
            )
    wanted = {name.lower() for name in types}
    return [layer for layer in listed if wanted & {name.lower() for name in (layer.type, *layer.bases)}]
