"""``crp-kit layers``: the names that conditions can use."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import InputError
from ..tables import text_table
from .options import sample_of, study_of, study_options

if TYPE_CHECKING:
    from torch.nn import Module

    from ..graph.graph import Graph

__all__ = ["layers"]


class _Layer(NamedTuple):
    name: str
    type: str
    shape: tuple[int, ...] | None
    bases: tuple[str, ...] = ()


@click.command(short_help="List the names that conditions can use.")
@study_options
@click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Only layers of this type, such as Conv2d. Repeatable."
)
@click.option("--pattern", metavar="REGEX", help="Only layers whose whole name matches, such as 'layer[34].*conv2'.")
@click.option("--graph", "whole", is_flag=True, help="Every node of the recorded graph, functional ones included.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def layers(*, types: tuple[str, ...], pattern: str | None, whole: bool, as_json: bool, **options: Any) -> None:
    """List the layers of a model: name, type, and shape of the output for one image (channel x height x width).

    \b
    Examples:
      crp-kit layers --model torchvision:resnet50 --type Conv2d
      crp-kit layers --model torchvision:vit_b_16 --graph --pattern '.*add.*'

    By default these are the modules without children; --graph lists everything that a condition can name. A layer that
    the model never runs has the shape "-".
    """  # noqa: D301
    from ..graph.model_graph import record_once

    matches = _compiled(pattern)
    study = study_of(options, needs_weights=False)
    graph = record_once(study.model, study.inputs(sample_of(study, None)), output=study.attribution.engine.output).graph
    found = _nodes(graph) if whole else _modules(study.model, graph, every=bool(types))
    chosen = [one for one in _of_types(found, types) if matches is None or matches.fullmatch(one.name)]
    if not chosen:
        model = options["model"]
        raise InputError(f"no layer of {model} matches; leave out --pattern or --type to see all {len(found)}")
    if as_json:
        rows = [
            {"name": one.name, "type": one.type, "shape": None if one.shape is None else list(one.shape)}
            for one in chosen
        ]
        click.echo(json.dumps(rows, indent=1))
        return
    shapes = ("-" if one.shape is None else "x".join(map(str, one.shape)) or "1" for one in chosen)
    for line in text_table([(one.name, one.type, shape) for one, shape in zip(chosen, shapes, strict=True)]):
        click.echo(line)


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InputError(f"--pattern {pattern!r} is no regular expression: {error}") from error


def _modules(model: Module, graph: Graph, *, every: bool) -> list[_Layer]:
    """Modules with the shape of their output: those without children or that are a node, or every one."""
    whole = {node.owner for node in graph if node.module is not None}
    return [
        _Layer(name, type(module).__name__, _shape(graph, name), _bases(type(module)))
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
        )
        for node in graph
        if node.kind is not Kind.INPUT
        for i, shape in enumerate(node.shapes)
        if shape is not None
    ]


def _of_types(found: list[_Layer], types: tuple[str, ...]) -> list[_Layer]:
    """Layers of the named types, subclasses included, in any case of letters."""
    import difflib

    if not types:
        return found
    known = {name.lower(): name for one in found for name in (*one.bases, one.type)}
    for name in types:
        if name.lower() not in known:
            near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(known[one] for one in near)}?" if near else ""
            raise InputError(
                f"the model has no layer of type {name!r}; {hint or 'it has ' + ', '.join(sorted(known.values()))}"
            )
    wanted = {name.lower() for name in types}
    return [one for one in found if wanted & {name.lower() for name in (one.type, *one.bases)}]
