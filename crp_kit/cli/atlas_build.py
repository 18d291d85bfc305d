"""``crp-kit atlas build``, ``merge``, ``annotate``, ``verify`` and ``import``: atlas files made, joined and checked."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import AtlasError, InputError
from .group import say
from .options import class_map_option, layer_names, numbers, overwrite_option
from .studies import module_types, study_of
from .study_options import study_options
from .target_options import target_of, target_options

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..atlas.build.matrix_choice import MatrixChoice

__all__ = ["annotate", "build", "import_", "merge", "verify"]

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

_MATRIX: dict[str, MatrixChoice] = {"auto": "auto", "float32": True, "float16": "float16", "none": False}

output_option = click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The atlas, such as atlas.h5.",
)


@click.command(short_help="Pass over a dataset once, into one file.")
@study_options
@click.option(
    "--layers",
    multiple=True,
    required=True,
    metavar="NAME",
    help="A layer, a pattern such as 'layer[34].*conv3' or 'features.*', or a module type such as Conv2d. A pattern "
    "that fits a layer and the node behind its activation function means the latter. Repeatable.",
)
@click.option("-k", "k", type=click.IntRange(min=1), default=40, show_default=True, help="Samples in each ranking.")
@click.option(
    "--k-class", type=click.IntRange(min=0), default=8, show_default=True, help="The same by class; 0 leaves them out."
)
@target_options(
    "label; also prediction, top:P or top:P:N (probability above P, at most N), regions, masks, boxes, binary"
)
@class_map_option
@click.option(
    "--aggregate",
    type=click.Choice(["sum", "max"]),
    default="sum",
    show_default=True,
    help="How the values of a channel become its score.",
)
@click.option(
    "--normalise/--no-normalise", "abs_norm", default=True, show_default=True, help="Scores as shares of their sample."
)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Processes that read images.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N samples.")
@click.option("--subset", metavar="NUMBERS", help="Only these samples, such as 0-999,2000.")
@click.option(
    "--matrix",
    type=click.Choice(list(_MATRIX)),
    default="auto",
    show_default=True,
    help="Keep the scores of every sample: as float32 up to 1 GB and float16 up to 8 GB (auto), or always, or never.",
)
@click.option("--skip-unreadable", is_flag=True, help="Leave out samples that cannot be read, and list them.")
@click.option("--shard", metavar="I/N", help="Only this part, from 0/N to N-1/N; join them with: crp-kit atlas merge.")
@click.option("--max-memory", default="2G", show_default=True, help="What rankings may take before they go to disk.")
@click.option(
    "--checkpoint", type=float, default=60, show_default=True, metavar="SECONDS", help="Save what there is this often."
)
@click.option("--resume", is_flag=True, help="Go on where an interrupted build stopped.")
@overwrite_option
@output_option
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
def build(*, output: Path, **options: Any) -> None:
    """Collect, for every concept of the chosen layers, the samples in which it is most relevant and most active.

    \b
    Examples:
      crp-kit atlas build --model demo:resnet --data demo:shapes --layers 'layer[23].*conv2' -o atlas.h5
      crp-kit atlas build --model torchvision:resnet50 --weights DEFAULT --data imagefolder:val \\
          --layers 'layer[34].*conv3' --device cuda --workers 8 --resume -o atlas.h5
      torchrun --nproc-per-node 4 -m crp_kit atlas build … --device cuda -o atlas.h5

    Ctrl-C saves and stops; --resume goes on, also after a crash, and gives the same file bit for bit. As a task of a
    SLURM job array, or started by torchrun, each process builds a shard of its own beside the output.
    """  # noqa: D301
    from ..atlas.build.distributed import build_in_processes, is_distributed, shard_of_job_array, shard_path

    task = _task(options)
    resume, overwrite, quiet = options["resume"], options["overwrite"], options["quiet"]
    began = time.monotonic()
    if is_distributed() and options["shard"] is None:
        made = build_in_processes(
            lambda path, shard, again: task(path, shard, resume=again),
            output,
            resume=resume,
            overwrite=overwrite,
            verbose=not quiet,
        )
        if made is None:
            return
    else:
        shard = options["shard"]
        array = shard_of_job_array() if shard is None else None
        if array is not None:
            output, shard = shard_path(output, *array), array
        made = task(output, shard, resume=resume)
    with made:
        if not quiet:
            _summary(made, time.monotonic() - began)
    click.echo(made.path)


def _task(options: dict[str, Any]) -> Callable[..., ConceptAtlas]:
    """Return the build as a function of path and shard."""
    from ..atlas import BuildOptions

    study = study_of({**options, "device": _device(options["device"])}, needs_data=True)
    layers = [module_types(study.model).get(name, name) for name in layer_names(options["layers"])]
    target = options["target"] if options["mask"] is None else target_of(options)
    names = ("k", "k_class", "batch_size", "overwrite")
    rare = BuildOptions(
        subset=None if options["subset"] is None else numbers(options["subset"]),
        max_memory=_bytes(options["max_memory"]),
        **{name: options[name] for name in ("aggregate", "abs_norm", "limit", "skip_unreadable", "checkpoint")},
    )

    def task(path: Path, shard: Any, *, resume: bool) -> ConceptAtlas:
        return study.build_atlas(
            path,
            layers=layers,
            target=target or "label",
            matrix=_MATRIX[options["matrix"]],
            num_workers=options["workers"],
            shard=shard,
            resume=resume,
            verbose=not options["quiet"],
            options=rare,
            **{name: options[name] for name in names},
        )

    return task


def _device(name: str) -> str:
    """Return the device of this process: with several on one machine, the one of its rank."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" and "LOCAL_RANK" in os.environ else name


def _bytes(text: str) -> int:
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise InputError(f"an amount of memory is written like 500M or 2G; got {text!r}")
    return int(float(found[1]) * _SIZES[found[2].lower()])


def _summary(made: ConceptAtlas, seconds: float) -> None:
    concepts = sum(made[name].n_concepts for name in made.layers)
    size = made.path.stat().st_size / (1 << 20)
    seen = len(made.samples)
    say(
        f"{seen} samples, {len(made.layers)} layers, {concepts} concepts, {made.header.n_classes} classes; "
        f"{size:.1f} MiB in {seconds:.0f} s ({seen / max(seconds, 1e-9):.0f} images/s)"
    )
    if made.skipped:
        say(f"left out: {len(made.skipped)} samples that cannot be read; crp-kit atlas info lists them")


@click.command(short_help="Join the shards of an atlas.")
@click.argument("shards", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--quiet", is_flag=True, help="No progress.")
@overwrite_option
@output_option
def merge(*, shards: tuple[Path, ...], output: Path, overwrite: bool, quiet: bool) -> None:
    """Join all shards, in any order, into the atlas that one process would have made, bit for bit."""
    from ..atlas import merge_atlases

    command = " ".join(sys.argv)
    with merge_atlases(shards, output, overwrite=overwrite, command=command, verbose=not quiet) as made:
        click.echo(made.path)


@click.command(short_help="Check every value of atlas files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", metavar="SPEC", help="Check that the files were made from this model.")
@click.option("--weights", metavar="WEIGHTS", help="The model's weights.")
@click.option("--data", metavar="SPEC", help="Check that the files were made from this dataset (needs --model).")
@click.option("--json", "as_json", is_flag=True, help="Print {file: [problems]}.")
def verify(*, files: tuple[Path, ...], model: str | None, weights: str | None, data: str | None, as_json: bool) -> None:
    """Read atlas files whole, and check structure, checksums, value ranges, orders, and that all fits together.

    The exit status is 2 if anything is wrong.
    """
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
@click.option("--csv", "table", required=True, type=click.Path(path_type=Path), metavar="CSV", help="A row per sample.")
@click.option("--id", "id_column", metavar="COLUMN", help="The column with ids of samples; by default the first.")
@overwrite_option
def annotate(*, file: Path, table: Path, id_column: str | None, overwrite: bool) -> None:
    """Add the columns of a CSV file to an atlas as attributes of its samples: truth values, numbers or text.

    An id is a sample's name as the atlas keeps it, such as its path below the root of the data (crp-kit atlas export
    --what samples lists them), the name of its file, or its number in the dataset. Whatever else is in the file stays
    as it is.
    """
    from ..atlas import annotate_atlas

    with annotate_atlas(file, table, id_column=id_column, overwrite=overwrite) as atlas:
        say(f"{len(atlas.attributes)} attributes of {len(atlas.samples)} samples")
    click.echo(file)


def _fingerprints(model: str | None, weights: str | None, data: str | None) -> dict[str, str]:
    from ..data.fingerprints import fingerprint
    from ..data.labels import label_or_none
    from ..data.samples import NumberedSamples
    from ..data.sources import load_data
    from ..models import load_model
    from ..models.state_dict import state_digest

    if model is None:
        if data is not None or weights is not None:
            raise InputError("--data and --weights need --model, whose preprocessing the images went through")
        return {}
    loaded = load_model(model, weights)
    known = {"model_sha256": state_digest(loaded.model)}
    if data is not None:
        samples = NumberedSamples(load_data(data, loaded.preprocess), loaded.preprocess.view, labels=label_or_none)
        known["dataset_sha256"] = fingerprint(samples)
    return known


@click.command("import", short_help="Take over what zennit-crp has collected.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--aggregate", type=click.Choice(["sum", "max"]), help="Which of several folders: sum or max.")
@click.option("--normalise/--no-normalise", "abs_norm", default=None, help="Which of several: normed or unnormed.")
@click.option("--model", metavar="TEXT", help="Words for the file: the model that was looked at.")
@click.option("--data", metavar="TEXT", help="Words for the file: the dataset.")
@overwrite_option
@output_option
def import_(*, folder: Path, output: Path, model: str | None, data: str | None, **options: Any) -> None:
    """Make an atlas of the folders RelMax_…, ActMax_…, RelStats_… and ActStats_… that zennit-crp has written.

    It has no moments, because zennit-crp keeps none, and does not know model and dataset.
    """
    from ..atlas import Origin
    from ..atlas.build.import_zennit_crp import import_zennit_crp

    with import_zennit_crp(folder, output, origin=Origin(model, data, " ".join(sys.argv)), **options) as made:
        click.echo(made.path)
