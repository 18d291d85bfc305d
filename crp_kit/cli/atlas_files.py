"""``crp-kit atlas merge``, ``annotate``, ``verify``, ``import``: atlas files joined, checked, made from others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import AtlasError, InputError
from .group import say
from .options import atlas_output_option, overwrite_option

__all__ = ["annotate", "import_", "merge", "verify"]


@click.command(short_help="Join the shards of an atlas.")
@click.argument("shards", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--quiet", is_flag=True, help="No progress.")
@overwrite_option
@atlas_output_option
def merge(*, shards: tuple[Path, ...], output: Path, overwrite: bool, quiet: bool) -> None:
    """Join all shards, in any order, into the atlas that one process would have made, bit for bit.

    \b
    Example:
      crp-kit atlas merge atlas-0-of-2.h5 atlas-1-of-2.h5 -o atlas.h5
    """  # noqa: D301
    from ..atlas import merge_atlases

    command = " ".join(sys.argv)
    with merge_atlases(shards, output, overwrite=overwrite, command=command, verbose=not quiet) as made:
        click.echo(made.path)


@click.command(short_help="Check every value of atlas files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", metavar="SPEC", help="Check that the files were made from this model.")
@click.option("--weights", metavar="WEIGHTS", help="The model's weights.")
@click.option("--data", metavar="SPEC", help="Check that the files were made from this dataset (needs --model).")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with the problems of each file.")
def verify(*, files: tuple[Path, ...], model: str | None, weights: str | None, data: str | None, as_json: bool) -> None:
    """Read atlas files whole, and check structure, checksums, value ranges, orders, and that all fits together.

    The exit status is 2 if anything is wrong.

    \b
    Examples:
      crp-kit atlas verify atlas.h5
      crp-kit atlas verify atlas.h5 --model demo:resnet --data demo:shapes
    """  # noqa: D301
    from ..atlas import ConceptAtlas, verify_atlas

    known = _fingerprints(model, weights, data)
    found: dict[str, list[str]] = {}
    for file in files:
        try:
            found[str(file)] = list(verify_atlas(file))
            with ConceptAtlas(file, incomplete=True) as atlas:
                atlas.check_belongs(**known)
        except AtlasError as error:
            found.setdefault(str(file), []).append(str(error))
    if as_json:
        click.echo(json.dumps(found, indent=1))
    for name, problems in found.items():
        if not as_json:
            click.echo(f"{name}: {'; '.join(problems) or 'sound'}")
    bad = [name for name, problems in found.items() if problems]
    if bad:
        raise AtlasError(f"{len(bad)} of {len(found)} files are not sound: {', '.join(bad)}")


@click.command(short_help="Add attributes of samples from a CSV file.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--csv",
    "table",
    required=True,
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="A row for each sample, names of columns first.",
)
@click.option("--id", "id_column", metavar="COLUMN", help="The column with ids of samples.  [default: the first]")
@overwrite_option
def annotate(*, file: Path, table: Path, id_column: str | None, overwrite: bool) -> None:
    """Add the columns of a CSV file to an atlas as attributes of its samples: truth values, numbers or text.

    An id is a sample's name as the atlas keeps it, such as its path below the root of the data (crp-kit atlas export
    --what samples lists them), the name of its file, or its number in the dataset. Whatever else is in the file stays
    as it is.

    \b
    Example:
      crp-kit atlas annotate atlas.h5 --csv attributes.csv --id file
    """  # noqa: D301
    from ..atlas import annotate_atlas

    with annotate_atlas(file, table, id_column=id_column, overwrite=overwrite) as atlas:
        say(f"{len(atlas.attributes)} attributes of {len(atlas.samples)} samples")
    click.echo(file)


def _fingerprints(model: str | None, weights: str | None, data: str | None) -> dict[str, str]:
    if model is None:
        if data is not None or weights is not None:
            raise InputError("--data and --weights need --model, whose preprocessing the images went through")
        return {}
    from ..data.fingerprints import fingerprint
    from ..data.labels import label_or_none
    from ..data.samples import NumberedSamples
    from ..data.sources import load_data
    from ..models import load_model
    from ..models.state_dict import state_digest

    loaded = load_model(model, weights)
    known = {"model_sha256": state_digest(loaded.model)}
    if data is not None:
        samples = NumberedSamples(load_data(data, loaded.preprocess), loaded.preprocess.view, labels=label_or_none)
        known["dataset_sha256"] = fingerprint(samples)
    return known


@click.command("import", short_help="Take over what zennit-crp has collected.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--aggregate", type=click.Choice(["sum", "max"]), help="Which folders, where there are both: …_sum_… or …_max_…."
)
@click.option(
    "--normalise/--no-normalise",
    "abs_norm",
    default=None,
    help="Which folders, where there are both: …_normed or …_unnormed.",
)
@click.option("--model", metavar="TEXT", help="What the file says of the model.")
@click.option("--data", metavar="TEXT", help="What the file says of the dataset.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="No progress.")
@atlas_output_option
def import_(*, folder: Path, output: Path, model: str | None, data: str | None, quiet: bool, **options: Any) -> None:
    """Make an atlas of the folders RelMax_…, ActMax_…, RelStats_… and ActStats_… that zennit-crp has written.

    It has no moments, because zennit-crp keeps none, and does not know model and dataset.

    \b
    Example:
      crp-kit atlas import crp-results --model "VGG16 of torchvision" -o atlas.h5
    """  # noqa: D301
    from ..atlas import Origin
    from ..atlas.build.import_zennit_crp import import_zennit_crp

    origin = Origin(model, data, " ".join(sys.argv))
    with import_zennit_crp(folder, output, origin=origin, verbose=not quiet, **options) as made:
        click.echo(made.path)
