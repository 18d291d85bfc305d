"""``crp-kit directions``: directions that are fitted to a layer, and what a file of them holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..tables import text_table
from .files import check_outputs
from .group import say
from .options import layer_option, overwrite_option
from .studies import study_of
from .study_options import study_options

__all__ = ["directions"]


@click.group(short_help="Fit directions in the channels of a layer.")
def directions() -> None:
    """Fit directions in the channels of a layer, which are concepts then: --concept FILE in other commands."""


@directions.command(short_help="Fit directions to the data.")
@study_options
@layer_option
@click.option(
    "--method",
    type=click.Choice(["pca", "nmf", "kmeans", "prca"]),
    default="pca",
    show_default=True,
    help="Most variance, non-negative factors, clusters, or most relevance.",
)
@click.option("--n", "n", type=click.IntRange(min=1), default=10, show_default=True, help="Number of directions.")
@click.option(
    "--target", default="label", show_default=True, metavar="TARGET", help="What the relevance of prca starts from."
)
@click.option(
    "--positions",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Positions of each sample's map that nmf and kmeans see.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N samples only.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples computed at once."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of positions, and of nmf and kmeans."
)
@overwrite_option
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The directions, such as pca.h5.",
)
@click.option("--quiet", is_flag=True, help="No progress.")
def fit(**options: Any) -> None:
    """Fit directions to the activations of a layer, or to its relevance, over the data, and save them.

    \b
    Example:
      crp-kit directions fit --model demo:resnet --data demo:shapes --limit 64 --layer layer2.1.relu_1 --method prca \\
          --n 4 -o prca.h5
      crp-kit heatmap image.png --model demo:resnet --concept prca.h5 --each layer2.1.relu_1:0-3 -o prca.png
    """  # noqa: D301
    output, overwrite = options["output"], options["overwrite"]
    check_outputs([output], overwrite=overwrite)
    asked = {name: options[name] for name in ("target", "positions", "limit", "batch_size", "seed")}
    study = study_of(options, needs_data=True)
    concept = study.fit_directions(
        options["layer"], options["method"], options["n"], verbose=not options["quiet"], **asked
    )
    concept.save(output, overwrite=overwrite)
    say(f"{options['n']} directions of {options['layer']}: --concept {output}")
    click.echo(output)


@directions.command(short_help="Say what a file of directions holds.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def info(file: Path, *, as_json: bool) -> None:
    """Say what directions a file holds, and where they come from.

    \b
    Example:
      crp-kit directions info pca.h5
    """  # noqa: D301
    from ..concepts import load_directions

    concept = load_directions(file)
    facts = {"concept": concept.identity, **concept.provenance}
    if concept.names:
        facts["names"] = ", ".join(concept.names)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for line in text_table([(name, str(value)) for name, value in facts.items()]):
        click.echo(line)
