"""``crp-kit evaluate impact`` and others: one measure of the concepts or heatmaps of a dataset, printed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from .concepts import concept_ids_of
from .evaluate_files import check_saving, evaluated, result_options
from .evaluate_options import chosen_samples, replacement_options, sample_options, seed_option
from .studies import study_of
from .study_options import study_options, study_options_without_concept
from .table_output import check_table_output, figure_options, print_table

__all__ = ["impact", "localisation", "randomisation", "sensitivity"]

_layer = click.option(
    "--layer", required=True, metavar="LAYER", help="A layer of the model; crp-kit layers lists them."
)


def _measured(options: dict[str, Any], measure: Callable[..., Any]) -> Any:
    """Return what a measure gives for the samples that the options choose."""
    check_table_output(options)
    check_saving(options)
    samples = chosen_samples(options)
    study = study_of(options, needs_data=True)
    return evaluated(study, options, lambda evaluation: measure(evaluation, **samples, verbose=sys.stderr.isatty()))


@click.command(short_help="Replace each concept alone, and compare with its relevance.")
@study_options_without_concept
@_layer
@click.option(
    "--concept",
    multiple=True,
    metavar="IDS",
    help="These only, such as 3, or 3,8,12, or 0-31; once more for what a concept is, as in other commands. "
    "Repeatable.",
)
@click.option("--concepts", "by_concept", is_flag=True, help="Print the concepts instead of the correlations.")
@replacement_options
@sample_options
@result_options
@figure_options
def impact(**options: Any) -> None:
    """Replace each concept of a layer alone, and print how well relevance says how much the output falls.

    \b
    Example:
      crp-kit evaluate impact --model demo:resnet --data demo:shapes:64 --layer layer2.1.conv2 -o impact.png
    """  # noqa: D301
    concept_ids = concept_ids_of(options) or None
    settings = {"concept_ids": concept_ids, "baseline": options["baseline"], "output": options["measure"]}
    result = _measured(
        options, lambda evaluation, **samples: evaluation.impact(options["layer"], **settings, **samples)
    )
    print_table(result.table if options["by_concept"] else result.summary, options, result.plot)


@click.command(short_help="Compare heatmaps with masks of objects and parts.")
@study_options
@click.option("--parts", metavar="NAMES", help="Parts that make the mask, with commas between; all by default.")
@sample_options
@result_options
@figure_options
def localisation(**options: Any) -> None:
    """Print how much of the relevance of heatmaps is inside of the masks that the data has, beside chance.

    \b
    Example:
      crp-kit evaluate localisation --model demo:resnet --data demo:shapes:64 --parts circle,triangle,square,cross

    The masks are the data's own: an object with a method masks(number), such as one that file.py:factory returns.
    """  # noqa: D301
    parts = None if options["parts"] is None else [name.strip() for name in options["parts"].split(",")]
    result = _measured(options, lambda evaluation, **samples: evaluation.localisation(parts=parts, **samples))
    print_table(result.table, options, result.plot)


@click.command(short_help="Change the class, and take the weights away.")
@study_options
@_layer
@click.option("--stages", type=click.IntRange(min=1), default=8, show_default=True, help="Groups of modules, at most.")
@seed_option
@sample_options
@result_options
@figure_options
def randomisation(**options: Any) -> None:
    """Print how unlike shares of relevance become for another class, and as modules lose what they have learned.

    \b
    Example:
      crp-kit evaluate randomisation --model demo:resnet --data demo:shapes:64 --layer layer2.1.conv2 -o random.png

    The rank correlation has to fall: relevance that stays says nothing of the model. The model itself is not changed.
    """  # noqa: D301
    settings = {name: options[name] for name in ("stages", "seed")}
    result = _measured(
        options, lambda evaluation, **samples: evaluation.randomisation(options["layer"], **settings, **samples)
    )
    print_table(result.table, options, result.plot)


@click.command(short_help="Add noise to the input.")
@study_options
@_layer
@click.option(
    "--noise",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    default=(0.05, 0.1, 0.2),
    show_default=True,
    help="Standard deviations, relative to that of the input. Repeatable.",
)
@click.option("--repeats", type=click.IntRange(min=1), default=4, show_default=True, help="Noisy inputs of each level.")
@seed_option
@sample_options
@result_options
@figure_options
def sensitivity(**options: Any) -> None:
    """Print how much shares of relevance change when noise is added to the model's input.

    \b
    Example:
      crp-kit evaluate sensitivity --model demo:resnet --data demo:shapes:64 --layer layer2.1.conv2 --noise 0.1
    """  # noqa: D301
    settings = {name: options[name] for name in ("noise", "repeats", "seed")}
    result = _measured(
        options, lambda evaluation, **samples: evaluation.sensitivity(options["layer"], **settings, **samples)
    )
    print_table(result.table, options, result.plot)
