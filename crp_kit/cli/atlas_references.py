"""``crp-kit atlas references``: what concepts look like in the data, as pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from ..progress import Progress
from .concepts import concept_ids_of
from .files import FIGURE_ENDINGS, check_outputs, write_figure
from .look import cmap_option, look_of, percentile_option, width_option
from .options import atlas_layer_option, class_named, overwrite_option
from .provenance import options_of_atlas
from .studies import is_untrained, study_of
from .study_options import atlas_study_options_without_concept
from .target_options import conditioned_on_option, target_of, target_options

if TYPE_CHECKING:
    from ..atlas.query.references import References
    from ..drawing import Figure

__all__ = ["references"]


@click.command(short_help="Draw the samples in which concepts are strongest.")
@click.argument("file", type=click.Path(path_type=Path))
@atlas_study_options_without_concept
@atlas_layer_option
@click.option(
    "--concept",
    required=True,
    multiple=True,
    metavar="IDS",
    help="Such as 3, or 3,8,12, or 0-31; once more for what a concept is, as in other commands. Repeatable.",
)
@click.option(
    "--class", "cls", metavar="CLASS", help="Name, part of it, or number: the strongest samples of this class only."
)
@click.option("-k", "k", type=click.IntRange(min=1), default=8, show_default=True, help="Samples of each concept.")
@click.option(
    "--mode",
    type=click.Choice(["relevance", "activation", "both"]),
    default="relevance",
    show_default=True,
    help="Ranked by relevance (RelMax), by activation (ActMax), or one above the other.",
)
@conditioned_on_option
@target_options("as --conditioned-on")
@click.option("--receptive-field", is_flag=True, help="Only what the strongest neuron sees.")
@click.option(
    "--style",
    type=click.Choice(["overlay", "map", "masked", "opaque", "crop"]),
    help="Heatmaps below the images, over the grey image or on white; images dimmed or covered where the relevance is "
    "low; or receptive fields cut out.  [default: overlay, or crop with --receptive-field]",
)
@percentile_option
@cmap_option
@width_option
@overwrite_option
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="One figure (.png, .pdf, .svg or .jpg), or a folder, which gets a PNG file for each concept.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the samples as JSON instead of the names of the files.")
def references(*, file: Path, **options: Any) -> None:
    """Draw the dataset's samples in which concepts are strongest, with their conditional heatmaps.

    \b
    Example:
      crp-kit atlas references atlas.h5 --layer layer2.1.conv2 \\
          --concept 24,19 -k 6 -o references.png
    """  # noqa: D301
    concepts = concept_ids_of(options)
    if not concepts:
        raise InputError("--concept names no ids of concepts, such as 3,8,12: say them with a --concept of their own")
    output: Path = options["output"]
    single = output.suffix.lower() in FIGURE_ENDINGS
    if not single and output.suffix:
        raise InputError(
            f"the figure {str(output)!r} needs one of the endings {', '.join(FIGURE_ENDINGS)}, or is a folder"
        )
    if not single:
        output.mkdir(parents=True, exist_ok=True)
    paths = [output] if single else [output / f"concept-{one}.png" for one in concepts]
    check_outputs(paths, overwrite=options["overwrite"])
    found, untrained = _found(file, concepts, options)
    look = {**({"style": "crop"} if options["receptive_field"] else {}), **look_of(options)}
    groups = [found] if single else [[one] for one in found]
    for path, group in zip(paths, groups, strict=True):
        figure = _figure([view for several in group for view in several], look)
        write_figure(path, figure, untrained=untrained, overwrite=options["overwrite"], dpi=110)
    if options["as_json"]:
        rows = [
            {"layer": one.layer, "concept": one.concept, "mode": one.mode, "name": name, **row}
            for several in found
            for one in several
            for name, row in zip(one.names, one.table.rows(), strict=True)
        ]
        click.echo(json.dumps(rows, indent=1))
        return
    for path in paths:
        click.echo(path)


def _found(file: Path, concepts: Sequence[int], options: dict[str, Any]) -> tuple[list[list[References]], bool]:
    """Return, for every concept, its references by one ranking or by both; and whether the model is untrained."""
    from ..atlas import ConceptAtlas

    modes: tuple[Any, ...] = ("relevance", "activation") if options["mode"] == "both" else (options["mode"],)
    with ConceptAtlas(file) as atlas:
        look_of(options)  # a mistake in it is said before any work
        study = study_of(options_of_atlas(options, atlas), needs_data=True)
        study.check_atlas(atlas)
        cls = None if options["cls"] is None else class_named(options["cls"], atlas.classes)
        asked = {name: options[name] for name in ("k", "receptive_field")}
        asked["conditioned_on"] = target_of(options) or options["conditioned_on"]
        bar = Progress(len(concepts), "references", unit="concept", verbose=len(concepts) > 1)
        found = [
            [
                study.references(atlas, options["layer"], concept, mode=mode, cls=cls, check=False, **asked)
                for mode in modes
            ]
            for concept in bar.over(concepts)
        ]
        return found, is_untrained(study)


def _figure(several: Sequence[References], look: dict[str, Any]) -> Figure:
    from ..views import plot

    return plot.references(several, **look)
