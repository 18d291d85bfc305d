"""``crp-kit graph``: a class or a concept of an image, decomposed into lower concepts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..conditions import OUTPUT, parse_condition_text
from ..errors import InputError
from ..files import check_sample
from .files import check_outputs, write_figure, write_file
from .group import say
from .look import look_of, look_options
from .options import class_named, layer_names, overwrite_option
from .provenance import with_atlas
from .studies import is_untrained, study_of
from .study_options import atlas_study_options
from .target_options import target_of, target_options

if TYPE_CHECKING:
    import torch

    from ..concept_graph import ConceptGraph
    from ..study import Study

__all__ = ["graph"]

_PICTURES = (".png", ".svg", ".pdf", ".jpg")
_SUFFIXES = (*_PICTURES, ".json", ".dot")


@click.command(short_help="Decompose a class or a concept into lower concepts.")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@atlas_study_options
@click.option("--class", "cls", metavar="CLASS", help="Name, part of it, or number.  [default: the predicted class]")
@target_options("the class")
@click.option(
    "--start",
    metavar="LAYER:CONCEPT",
    help="Decompose this concept instead of a class; with --class or --target, for it.",
)
@click.option(
    "--layers",
    multiple=True,
    metavar="LAYERS",
    help="Names, patterns or module types of the layers to decompose into. Repeatable.  [default: all convolutions "
    "and linear layers]",
)
@click.option("--children", default="5,3", show_default=True, metavar="N,N,…", help="Children kept at each level.")
@click.option("--min-share", type=click.FloatRange(min=0), default=0.0, help="Leave out children below this share.")
@click.option(
    "--rank",
    type=click.Choice(["absolute", "signed"]),
    default="absolute",
    show_default=True,
    help="Keep the children with most relevance of either sign, or most for the start.",
)
@click.option(
    "--atlas", type=click.Path(path_type=Path), metavar="FILE", help="Show references of this atlas in figures."
)
@click.option("-k", "k", type=click.IntRange(min=1), default=1, show_default=True, help="References of each concept.")
@click.option("--heatmaps", is_flag=True, help="Show conditional heatmaps of the image in figures.")
@look_options
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Rows computed at once.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A figure (.png, .svg, .pdf, .jpg), .json, or .dot for Graphviz. Repeatable; without it the graph is printed.",
)
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print the graph as JSON.")
def graph(images: tuple[Path, ...], **options: Any) -> None:
    """Decompose a class, or a concept, of an image into the concepts of the layers before it.

    \b
    Examples:
      crp-kit graph cat.jpg --model torchvision:resnet50 --weights DEFAULT --class 282 --layers 'layer[34].*conv3' \\
          --children 4,3,2 -o graph.png -o graph.json
      crp-kit graph cat.jpg --model demo:resnet --start layer3.1.conv2:36 --class 0
      crp-kit graph image.png --model demo:resnet --atlas atlas.h5 -o graph.svg

    Several images give the mean graph, with the spread of each share: of a --class, or of a --start concept.
    """  # noqa: D301
    outputs: tuple[Path, ...] = options["outputs"]
    for path in outputs:
        if path.suffix.lower() not in _SUFFIXES:
            raise InputError(f"the graph {str(path)!r} needs one of the endings {', '.join(_SUFFIXES)}")
    check_outputs(outputs, overwrite=options["overwrite"])
    if options["atlas"] is None and options["data"] is not None:
        raise InputError("--data is for the references of an atlas: say --atlas too")
    if options["atlas"] is not None and not any(path.suffix.lower() in _PICTURES for path in outputs):
        raise InputError(f"--atlas shows references in a figure: add -o with one of {', '.join(_PICTURES)}")
    options = with_atlas(options)
    look_of(options)
    asked = {
        "layers": [_layer(one) for one in layer_names(options["layers"])] or None,
        "width": _children(options["children"]),
    }
    study, found, view = _computed(images, asked, options)
    drawn = any(path.suffix.lower() in _PICTURES for path in outputs)
    figure = _figure(study, found, view, options) if drawn else None
    for path in outputs:
        _write(path, found, figure, study, overwrite=options["overwrite"])
    if options["as_json"]:
        click.echo(json.dumps(found.to_json(), indent=1))
    elif not outputs:
        click.echo(found.to_text(classes=study.classes))
    else:
        for path in outputs:
            click.echo(path)


def _layer(text: str) -> Any:
    """Return a name or pattern, or torch's module type of that name."""
    from torch import nn

    kind = getattr(nn, text, None)
    return kind if isinstance(kind, type) and issubclass(kind, nn.Module) else text


def _children(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\s*[1-9]\d*\s*(,\s*[1-9]\d*\s*)*", text):
        raise InputError(f"--children is written like 5,3: how many are kept at each level, at least 1; got {text!r}")
    return tuple(int(one) for one in text.split(","))


def _start(options: dict[str, Any], study: Study) -> dict[str, list[Any]] | None:
    """Return what --start, --class and --target say together."""
    from ..targets import Target

    start: dict[str, list[Any]] = {}
    if options["start"] is not None:
        layer, ids = parse_condition_text(options["start"])
        start[layer] = ids
    target = target_of(options, words=("prediction",))
    if target is not None and options["cls"] is not None:
        raise InputError("--target and --class are two starts; give one of them")
    if isinstance(target, Target):
        start[OUTPUT] = [target]
    if options["cls"] is not None:
        start[OUTPUT] = [class_named(options["cls"], study.classes)]
    return start or None


def _computed(
    images: tuple[Path, ...], asked: dict[str, Any], options: dict[str, Any]
) -> tuple[Study, ConceptGraph, torch.Tensor]:
    for path in images:
        check_sample(path)
    study = study_of(options)
    start = _start(options, study)
    if len(images) > 1 and start is None:
        raise InputError(
            "several images give the mean graph of one class: say which with --class or --target, or give --start"
        )
    views = study.read(images)
    asked |= {"start": start, **{name: options[name] for name in ("min_share", "rank", "batch_size")}}
    found = study.concept_graph(views, **asked)
    say(f"{found.root.layer} {found.called(found.root)}: {len(found)} concepts, {len(found.edges)} edges")
    return study, found, views[0]


def _figure(study: Study, found: ConceptGraph, view: torch.Tensor, options: dict[str, Any]) -> Any:
    from ..atlas import ConceptAtlas
    from ..data.pixels import drawable

    image = drawable(view) if found.samples == 1 else None
    references, names = {}, {}
    if options["atlas"] is not None:
        with ConceptAtlas(options["atlas"]) as atlas:
            references = study.reference_pictures(found, atlas, k=options["k"])
            names = {(layer, concept): text for layer in atlas for concept, text in atlas[layer].names.items()}
    heatmaps = study.node_heatmaps(found, view, batch_size=options["batch_size"]) if options["heatmaps"] else {}
    return found.plot(
        references=references, image=image, classes=study.classes, heatmaps=heatmaps, names=names, **look_of(options)
    )


def _write(path: Path, found: ConceptGraph, figure: Any, study: Study, *, overwrite: bool) -> None:
    ending = path.suffix.lower()
    if ending not in (".json", ".dot"):
        write_figure(path, figure, untrained=is_untrained(study), overwrite=overwrite)
        return
    text = json.dumps(found.to_json(), indent=1) + "\n" if ending == ".json" else found.to_dot(classes=study.classes)
    write_file(path, lambda beside: beside.write_text(text), overwrite=overwrite)
