"""``crp-kit atlas info``, ``stats`` and ``export``: what an atlas says, printed."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import CrpKitError, InputError
from ..printable import printable
from .files import check_outputs
from .options import atlas_layer_option, class_named, overwrite_option
from .table_output import check_table_output, print_table, table_options

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..atlas.build.build_progress import BuildProgress
    from ..atlas.query.layer_atlas import ScoreAtlas
    from ..result_table import Table

__all__ = ["export", "info", "mode_option", "stats"]

_file = click.argument("file", type=click.Path(path_type=Path))
mode_option = click.option(
    "--mode",
    type=click.Choice(["relevance", "activation"]),
    default="relevance",
    show_default=True,
    help="Which scores: those of relevance or of activation.",
)


@click.command(short_help="Say what is in an atlas.")
@_file
@click.option("--json", "as_json", is_flag=True, help="Print everything that the file says of itself as JSON.")
def info(*, file: Path, as_json: bool) -> None:
    """Say what an atlas, a shard, or what a build has kept so far was made from, and what is in it.

    FILE may be one that is still being built, or built anew with --overwrite, or the folder FILE.partial beside it:
    then this says first how far the build is, when its last checkpoint was, and whether a process is at work.

    \b
    Example:
      crp-kit atlas info atlas.h5
    """  # noqa: D301
    from ..atlas import ConceptAtlas
    from ..atlas.file.activation_notes import activation_notes

    build, there = _build_of(file), file.is_file()
    progress = {} if build is None else {"build": build.as_dict()}
    if build is not None and not as_json:
        click.echo(build.sentence(dt.datetime.now().astimezone()))
    kept = file if there or build is None else build.checkpoint
    if kept is None:
        if as_json:
            click.echo(json.dumps(progress, indent=1))
        return
    with ConceptAtlas(kept, incomplete=True) as atlas:
        if as_json:
            click.echo(json.dumps({**progress, **_described(atlas)}, indent=1, default=_plain))
            return
        click.echo(repr(atlas))
        for name in ("created", "crp_kit_version", "command", "model_sha256", "dataset_sha256"):
            click.echo(f"  {name}: {printable(str(atlas.metadata.get(name)))}")
        for note in activation_notes(atlas[name].info for name in atlas.layers):
            click.echo(f"  note: {printable(note)}")
        for sample, reason in atlas.skipped.items():
            click.echo(f"  left out: sample {sample}: {printable(reason)}")


def _build_of(file: Path) -> BuildProgress | None:
    """Return how far the build of a file is; of one that is there, only if it is being built anew."""
    from ..atlas.build.build_progress import build_progress

    try:
        build = build_progress(file)
    except (CrpKitError, OSError):
        if file.is_file():
            return None
        raise
    is_rest = file.is_file() and build is not None and not build.running and build.checkpoint is None
    return None if is_rest else build  # a process was killed when its file was finished


def _described(atlas: ConceptAtlas) -> dict[str, Any]:
    said = dict(atlas.metadata)
    said["composite"] = (
        json.loads(atlas.header.composite) if atlas.header.composite.startswith("{") else said["composite"]
    )
    layers = [atlas[name].info.attributes() for name in atlas.layers]
    return {**said, "layers": layers, "classes": list(atlas.classes), "skipped": dict(atlas.skipped)}


def _plain(value: Any) -> Any:
    return value.tolist()


@click.command(short_help="Statistics of concepts, of classes, of samples.")
@_file
@atlas_layer_option
@click.option("--concept", type=click.IntRange(min=0), metavar="ID", help="The classes that this concept serves.")
@click.option(
    "--class", "cls", metavar="CLASS", help="Name, part of it, or number: the concepts that serve this class."
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the N strongest.  [default: all]")
@mode_option
@table_options
def stats(*, file: Path, layer: str, mode: Any, as_json: bool, as_csv: bool, **asked: Any) -> None:
    """Print mean, standard deviation, minimum and maximum of every concept of a layer, strongest first.

    --class gives the concepts that serve a class, --concept the classes that a concept serves; both together the
    samples of that class in which the concept is strongest.

    \b
    Examples:
      crp-kit atlas stats atlas.h5 --layer layer2.1.conv2 --class 3 --top 5
      crp-kit atlas stats atlas.h5 --layer layer2.1.conv2 --concept 24 --mode activation
    """  # noqa: D301
    from ..atlas import ConceptAtlas

    options = {"as_json": as_json, "as_csv": as_csv}
    check_table_output(options)
    with ConceptAtlas(file) as atlas:
        print_table(_asked(atlas[layer].score(mode), **asked), options)


def _asked(scores: ScoreAtlas, *, concept: int | None, cls: str | None, top: int | None) -> Table:
    number = None if cls is None else class_named(cls, scores.file.classes)
    if concept is not None and number is not None:
        return scores.class_top(concept, number, top)
    if concept is not None:
        return scores.classes(concept, top)
    if number is not None:
        return scores.concepts(number, top)
    return scores.statistics().sorted("mean", top)


@click.command(short_help="Write rankings and statistics as CSV or JSON.")
@_file
@click.option(
    "--what",
    type=click.Choice(["top", "class-top", "moments", "samples"]),
    default="top",
    show_default=True,
    help="Rankings over all samples, rankings by class, moments by class, or the samples.",
)
@click.option("--layer", "layers", multiple=True, metavar="LAYER", help="Only this layer. Repeatable.  [default: all]")
@click.option(
    "--mode",
    "modes",
    type=click.Choice(["relevance", "activation"]),
    multiple=True,
    help="Only these scores. Repeatable.  [default: both]",
)
@click.option("--empty-classes", is_flag=True, help="Moments of classes without samples too, which have no values.")
@overwrite_option
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The table: .csv or .json."
)
@click.option("--quiet", is_flag=True, help="No progress.")
def export(
    *,
    file: Path,
    what: Any,
    layers: tuple[str, ...],
    modes: tuple[Any, ...],
    empty_classes: bool,
    output: Path,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Write an atlas as one flat table, a row for each entry, to read elsewhere.

    \b
    Example:
      crp-kit atlas export atlas.h5 --what moments --layer layer2.1.conv2 -o moments.csv
    """  # noqa: D301
    if empty_classes and what != "moments":
        raise InputError("--empty-classes is for --what moments; other tables have no row for a class without samples")
    if what == "samples" and (layers or modes):
        raise InputError("--what samples has the samples, of all layers alike: leave --layer and --mode out")
    from ..atlas import ConceptAtlas, export_atlas

    check_outputs([output], overwrite=overwrite)
    with ConceptAtlas(file) as atlas:
        export_atlas(
            atlas,
            output,
            what=what,
            layers=layers or None,
            modes=modes or ("relevance", "activation"),
            empty_classes=empty_classes,
            overwrite=overwrite,
            verbose=not quiet,
        )
    click.echo(output)
