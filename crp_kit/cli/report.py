"""``crp-kit report``: a static site of an atlas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from .group import say
from .look import cmap_option, look_of, percentile_option, style_option
from .options import layer_names, numbers, overwrite_option
from .provenance import options_of_atlas
from .studies import study_of
from .study_options import atlas_study_options
from .target_options import conditioned_on_option

__all__ = ["report"]


@click.command(short_help="Make a site of an atlas, to open in a browser from disk.")
@click.argument("file", type=click.Path(path_type=Path))
@atlas_study_options
@click.option("--layers", multiple=True, metavar="NAME", help="A layer of the atlas, or a pattern. Repeatable.")
@click.option(
    "--concepts",
    multiple=True,
    metavar="[LAYER:]IDS",
    help="Only these, such as 3,8,12 or 0-31 of every layer, or layer2.1.conv2:0-31 of one. Repeatable.",
)
@click.option(
    "--references",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Samples of each concept by relevance, and as many by activation.",
)
@conditioned_on_option
@click.option(
    "--receptive-field/--no-receptive-field",
    default=True,
    show_default=True,
    help="Show what the strongest neuron sees of each sample.",
)
@click.option(
    "--links",
    type=click.Choice(["correlation", "graph"]),
    default="correlation",
    show_default=True,
    help="What links concepts of different layers: the correlation of their relevance over all samples, if the atlas "
    "has a matrix; or concept graphs of at most 4 samples of each concept, for a third to a half more time in all.",
)
@click.option(
    "--graphs",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    metavar="N",
    help="Classes, those with the most samples, that get a page with their concept graph.",
)
@click.option("--title", help="Of the report.  [default: model and dataset]")
@click.option(
    "--picture-size",
    type=click.IntRange(16, 512),
    default=112,
    show_default=True,
    metavar="PIXELS",
    help="Side of the pictures.",
)
@style_option
@percentile_option
@cmap_option
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Heatmaps computed at once."
)
@overwrite_option
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="The site.")
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
def report(*, file: Path, **options: Any) -> None:
    """Make a site of an atlas: its layers, concepts and classes, with reference samples and heatmaps.

    \b
    Example:
      crp-kit report atlas.h5 -o report

    FOLDER/index.html opens in a browser from disk, without a server or a network. FOLDER appears when all is done; only
    an earlier report is ever replaced.
    """  # noqa: D301
    from ..atlas import ConceptAtlas

    ids = _concept_ids(options["concepts"])
    rare = {name: options[name] for name in ("title", "picture_size", "batch_size", "graphs")}
    names = ("references", "conditioned_on", "receptive_field", "links", "overwrite")
    with ConceptAtlas(file) as atlas:
        from ..views.report import ReportOptions  # with torch: a file that is no atlas is refused without

        rare |= look_of(options)
        made = study_of(options_of_atlas(options, atlas), needs_data=True).report(
            atlas,
            options["output"],
            layers=layer_names(options["layers"]) or None,
            concept_ids=ids,
            verbose=not options["quiet"],
            options=ReportOptions(**rare),
            **{name: options[name] for name in names},
        )
    if not options["quiet"]:
        say(f"{made.concepts:,} concepts, {made.files:,} files, {made.size / 1e6:,.1f} MB, {made.seconds:,.0f} seconds")
    click.echo(made.index)


def _concept_ids(texts: Sequence[str]) -> Any:
    """Return concepts of every layer, or by layer, as the option says.

    Raises
    ------
    InputError
        If both forms are mixed.
    """
    if not texts:
        return None
    pairs = [text.rpartition(":") for text in texts]
    if not any(colon for _, colon, _ in pairs):
        return [one for _, _, ids in pairs for one in numbers(ids)]
    if not all(colon for _, colon, _ in pairs):
        raise InputError("--concepts names layers (LAYER:IDS) or is for all of them (IDS); choose one form")
    found: dict[str, list[int]] = {}
    for layer, _, ids in pairs:
        found.setdefault(layer, []).extend(numbers(ids))
    return found
