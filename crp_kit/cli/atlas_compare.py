"""``crp-kit atlas compare``: two atlases side by side, and whether classes have drifted from one to the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from ..errors import InputError
from .atlas_ask import mode_option
from .group import say
from .options import atlas_layer_option
from .table_output import check_table_output, figure_options, print_table

__all__ = ["compare"]

_FOUND = 1
"""Exit status where there is drift."""


@click.command(short_help="Match the concepts of two atlases; drift between them.")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@atlas_layer_option
@mode_option
@click.option("--other-layer", metavar="LAYER", help="The layer of the other atlas.  [default: the same]")
@click.option(
    "--threshold", type=float, help="Correlation, from -1 to 1, below which concepts do not correspond.  [default: 0.5]"
)
@click.option(
    "--drift",
    type=click.Choice(["classes", "concepts"]),
    help="Print instead how far classes, or concepts in classes, have moved, and exit with 1 if any class has.",
)
@click.option(
    "--level",
    type=float,
    help="Significance level: how often, from 0 to 1, drift is reported where there is none.  [default: 0.05]",
)
@click.option(
    "--permutations",
    type=click.IntRange(min=1),
    help="Random divisions of each class, of which p-values are made.  [default: 199]",
)
@figure_options
@click.pass_context
def compare(context: click.Context, /, *, file: Path, other: Path, **options: Any) -> None:
    """Print which concepts of two atlases correspond, one to one, and which are of one atlas alone.

    \b
    Examples:
      crp-kit atlas compare a.h5 b.h5 --layer layer2.1.conv2
      crp-kit atlas compare may.h5 june.h5 --layer layer2.1.conv2 --drift classes --level 0.01

    With --drift, whether the scores of a class have moved to other concepts, for atlases of the same concepts. The exit
    status is then 1 if any class has moved farther than random divisions of its samples do, and 0 if none has.
    """  # noqa: D301
    check_table_output(options)
    drift = options["drift"]
    alone = ("other_layer", "threshold") if drift else ("level", "permutations")
    unused = [f"--{name.replace('_', '-')}" for name in alone if options[name] is not None]
    if unused:
        raise InputError(f"{' and '.join(unused)} cannot be used {'with' if drift else 'without'} --drift")
    if drift is None:
        _match(file, other, options)
    elif _moved(file, other, drift, options):
        context.exit(_FOUND)


def _match(file: Path, other: Path, options: dict[str, Any]) -> None:
    """Print which concepts correspond."""
    from ..atlas import ConceptAtlas, compare_atlases

    layer, threshold = options["layer"], options["threshold"]
    with ConceptAtlas(file) as first, ConceptAtlas(other) as second:
        table = compare_atlases(
            first,
            second,
            layer,
            layer_b=options["other_layer"],
            mode=options["mode"],
            threshold=0.5 if threshold is None else threshold,
        )
        print_table(table, options, table.plot)


def _moved(file: Path, other: Path, rows: Literal["classes", "concepts"], options: dict[str, Any]) -> bool:
    """Print how far classes or concepts have moved, and return whether a class has."""
    from ..atlas import ConceptAtlas, drift

    level = 0.05 if options["level"] is None else options["level"]
    permutations = options["permutations"] or 199
    if not 1 / (permutations + 1) <= level < 1:
        raise InputError(
            f"--level is at least 1 / {permutations + 1}, which {permutations} permutations can show, and below 1; got "
            f"{level}{': raise --permutations' if level < 1 else ''}"
        )
    with ConceptAtlas(file) as first, ConceptAtlas(other) as second:
        result = drift(first, second, options["layer"], mode=options["mode"], permutations=permutations)
        moved = result.drifted(level)
        table = result.classes if rows == "classes" else result
        print_table(table, options, table.plot)
    if moved:
        say(f"crp-kit: drift at the level {level} (p = {result.overall:.3g})")
    return moved
