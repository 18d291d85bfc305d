"""``crp-kit evaluate`` of concepts by the reference samples of an atlas: where they are, whether they are one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from .concepts import concept_ids_of
from .embeddings import embed_option, function_of_factory
from .evaluate_files import check_saving, evaluated, result_options
from .evaluate_options import seed_option
from .provenance import options_of_atlas
from .studies import study_of
from .study_options import atlas_study_options_without_concept
from .table_output import check_table_output, figure_options, print_table, table_options
from .target_options import conditioned_on_option, target_of, target_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..atlas import ConceptAtlas
    from ..evaluation import Evaluation

__all__ = ["clarity", "concept_localisation", "split_concept"]

_file = click.argument("file", type=click.Path(path_type=Path))
_layer = click.option(
    "--layer", required=True, metavar="LAYER", help="A layer of the atlas; crp-kit atlas info lists them."
)
_concept = click.option(
    "--concept",
    multiple=True,
    metavar="IDS",
    help="These only, such as 3, or 3,8,12, or 0-31; once more for what a concept is, as in other commands. "
    "Repeatable.",
)


def _asked(file: Path, options: dict[str, Any], measure: Callable[[Evaluation, ConceptAtlas], Any]) -> Any:
    """Return what a measure gives for an atlas, whose model and data are taken where the options do not say others."""
    from ..atlas import ConceptAtlas

    with ConceptAtlas(file) as atlas:
        study = study_of(options_of_atlas(options, atlas), needs_data=True)
        if "save" in options:
            return evaluated(study, options, lambda evaluate: measure(evaluate, atlas))
        return measure(study.evaluate, atlas)


@click.command(short_help="Compare heatmaps of concepts with masks of parts.")
@_file
@atlas_study_options_without_concept
@_layer
@_concept
@click.option("-k", "k", type=click.IntRange(min=1), default=8, show_default=True, help="Samples of each concept.")
@click.option("--parts", metavar="NAMES", help="Parts of the data's masks, with commas between; all by default.")
@conditioned_on_option
@target_options("as --conditioned-on")
@click.option("--best", is_flag=True, help="Only the best part of each concept.")
@result_options
@figure_options
def concept_localisation(*, file: Path, **options: Any) -> None:
    """Print in which parts concepts are: conditional heatmaps of their reference samples, beside the parts' share.

    \b
    Example:
      crp-kit evaluate concept-localisation atlas.h5 --layer layer2.1.conv2 --concept 24 --best
    """  # noqa: D301
    check_table_output(options)
    check_saving(options)
    ids = concept_ids_of(options) or None
    parts = None if options["parts"] is None else [name.strip() for name in options["parts"].split(",")]
    start: Any = target_of(options) or options["conditioned_on"]

    def measure(evaluate: Evaluation, atlas: ConceptAtlas) -> Any:
        return evaluate.concept_localisation(
            atlas,
            options["layer"],
            concept_ids=ids,
            k=options["k"],
            parts=parts,
            conditioned_on=start,
            verbose=sys.stderr.isatty(),
        )

    table = _asked(file, options, measure)
    print_table(table.best() if options["best"] else table, options, table.plot)


@click.command(short_help="Split a concept into virtual units.")
@_file
@atlas_study_options_without_concept
@_layer
@_concept
@click.option("--lower-layer", required=True, metavar="LAYER", help="In whose concepts the samples are compared.")
@click.option("--n", "n", type=click.IntRange(min=2), default=2, show_default=True, help="Virtual units.")
@click.option("-k", "k", type=click.IntRange(min=2), default=40, show_default=True, help="Reference samples.")
@click.option(
    "--mode", type=click.Choice(["relevance", "activation"]), default="relevance", show_default=True, help="Ranking."
)
@seed_option
@figure_options
def split_concept(*, file: Path, **options: Any) -> None:
    """Split a concept that serves several purposes by what its reference samples use in a lower layer, and print it.

    \b
    Example:
      crp-kit evaluate split-concept atlas.h5 --layer layer2.1.conv2 --concept 24 \\
          --lower-layer layer2.0.conv1 -o units.png
    """  # noqa: D301
    check_table_output(options)
    ids = concept_ids_of(options)
    if len(ids) != 1:
        raise InputError(f"--concept is the id of the concept to split, such as 24; got {len(ids)} of them")
    settings = {name: options[name] for name in ("n", "k", "mode", "seed")}
    split = _asked(
        file,
        options,
        lambda evaluate, atlas: evaluate.split_concept(
            atlas, options["layer"], ids[0], options["lower_layer"], **settings
        ),
    )
    click.echo(split.heading + f", separation {split.separation:.2f}", err=True)
    print_table(split.table, options, split.plot)


@click.command(short_help="Say how alike the samples of concepts are.")
@_file
@atlas_study_options_without_concept
@_layer
@_concept
@embed_option
@click.option("-k", "k", type=click.IntRange(min=2), default=20, show_default=True, help="Samples of each concept.")
@seed_option
@table_options
def clarity(*, file: Path, **options: Any) -> None:
    """Print how alike the reference samples of concepts are to an embedding of yours, the clearest concept first.

    \b
    Example:
      crp-kit evaluate clarity atlas.h5 --layer layer2.1.conv2 --embed clip.py:make -k 12
    """  # noqa: D301
    check_table_output(options)
    ids = concept_ids_of(options) or None
    embed = function_of_factory("--embed", options["embed"], "images")
    settings = {"concept_ids": ids, "k": options["k"], "seed": options["seed"]}
    table = _asked(file, options, lambda evaluate, atlas: evaluate.clarity(atlas, options["layer"], embed, **settings))
    print_table(table, options)
