"""``crp-kit export``: files for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .concepts import concept_ids_of
from .group import say
from .options import atlas_layer_option, overwrite_option
from .provenance import options_of_atlas
from .studies import study_of
from .study_options import atlas_study_options_without_concept

__all__ = ["export"]


@click.group(short_help="Write files for other programs.")
def export() -> None:
    """Write files for other programs. Tables of an atlas are written by: crp-kit atlas export."""


@export.command(short_help="Write a project for ViRelAy.")
@click.argument("file", type=click.Path(path_type=Path), metavar="ATLAS")
@atlas_study_options_without_concept
@atlas_layer_option
@click.option(
    "--concept",
    multiple=True,
    metavar="IDS",
    help="Such as 3, or 3,8,12, or 0-31, by default the strongest ones; once more for what a concept is. Repeatable.",
)
@click.option(
    "--top", type=click.IntRange(min=1), default=6, show_default=True, help="How many concepts, without --concept."
)
@click.option("-k", "k", type=click.IntRange(min=3), default=40, show_default=True, help="Samples of each concept.")
@click.option(
    "--mode",
    type=click.Choice(["relevance", "activation"]),
    default="relevance",
    show_default=True,
    help="Ranked by relevance (RelMax) or by activation (ActMax).",
)
@click.option(
    "--conditioned-on",
    type=click.Choice(["class", "prediction"]),
    default="class",
    show_default=True,
    help="Where the relevance starts.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Heatmaps computed at once."
)
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="The project.")
@click.option("--quiet", is_flag=True, help="No progress.")
def virelay(*, file: Path, **options: Any) -> None:
    """Write the reference samples of concepts, with their conditional heatmaps, as a project for ViRelAy.

    \b
    Example:
      crp-kit export virelay atlas.h5 --layer layer2.1.conv2 \\
          --concept 24,19 -o project
      virelay project/project.yaml

    Every concept is a category there, one more has all samples. Samples are embedded and clustered by the shares of
    all concepts in the relevance of the layer: principal components, a spectral embedding, k-means. This needs
    scikit-learn: pip install 'crp-kit[virelay]'. ViRelAy is a program of its own: pip install virelay, in an
    environment of its own.
    """  # noqa: D301
    from ..atlas import ConceptAtlas

    output = options["output"]
    concept_ids = concept_ids_of(options) or None
    with ConceptAtlas(file) as atlas:
        from ..views.virelay.files import FILES, check_folder  # with torch, as in a report

        check_folder(output, overwrite=options["overwrite"])
        project = study_of(options_of_atlas(options, atlas), needs_data=True).export_virelay(
            atlas,
            output,
            options["layer"],
            concept_ids=concept_ids,
            verbose=not options["quiet"],
            **{name: options[name] for name in ("top", "k", "mode", "conditioned_on", "batch_size", "overwrite")},
        )
    if options["as_json"]:
        click.echo(json.dumps({"project": str(project), "files": [str(output / one) for one in FILES]}, indent=1))
        return
    say(f"open it with: virelay {project}")
    click.echo(project)
