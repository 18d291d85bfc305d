"""``crp-kit evaluate composites``: which rules to choose, as one table."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..errors import InputError
from .evaluate_files import check_saving, evaluated, result_options
from .evaluate_options import chosen_samples, sample_options, seed_option
from .options import layer_option
from .studies import study_of
from .study_options import study_options
from .table_output import check_table_output, figure_options, print_table

__all__ = ["composites"]


@click.command(short_help="Compare rules by all measures.")
@study_options
@layer_option
@click.option("--composites", metavar="NAMES", help="Presets to compare, with commas between; all of them by default.")
@click.option("--parts", metavar="NAMES", help="Parts of the data's masks that count, with commas between.")
@click.option("--steps", type=click.IntRange(min=2), default=16, show_default=True, metavar="N", help="Of flipping.")
@click.option("--repeats", type=click.IntRange(min=1), default=10, show_default=True, help="Random orders.")
@click.option("--stages", type=click.IntRange(min=1), default=4, show_default=True, help="Of randomisation.")
@seed_option
@sample_options
@result_options
@figure_options
def composites(**options: Any) -> None:
    """Print what presets of rules give on the same samples: flipping, localisation, randomisation, conservation, time.

    \b
    Example:
      crp-kit evaluate composites --model demo:resnet --data demo:shapes:64 --layer layer2.1.conv2 -o rules.png

    The rules that flipping finds best come first. Localisation needs masks of the data. --composite plays no part.
    """  # noqa: D301
    check_table_output(options)
    check_saving(options)
    samples = chosen_samples(options)
    study = study_of(options, needs_data=True)
    names, parts = (_listed(options, name) for name in ("composites", "parts"))
    settings = ("steps", "repeats", "stages", "seed")
    asked = {"parts": parts, "verbose": sys.stderr.isatty(), **samples, **{name: options[name] for name in settings}}
    table = evaluated(study, options, lambda evaluate: evaluate.composites(options["layer"], names, **asked))
    print_table(table, options, table.plot)


def _listed(options: dict[str, Any], name: str) -> list[str] | None:
    """Return the names of an option that holds them with commas between; None where it is not used."""
    if options[name] is None:
        return None
    names = [word.strip() for word in options[name].split(",")]
    if len(set(names)) < len(names):
        raise InputError(f"--{name} names one twice: {options[name]!r}")
    return names
