"""``crp-kit atlas build``: one pass over a dataset, into an atlas file."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from ..printable import printable
from ..progress import rate_text
from .group import say
from .options import atlas_output_option, class_map_option, layer_names, numbers, overwrite_option
from .studies import module_types, study_of
from .study_options import study_options
from .target_options import target_of, target_options

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..atlas.build.matrix_choice import MatrixChoice

__all__ = ["build"]

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

_MATRIX: dict[str, MatrixChoice] = {"auto": "auto", "float32": True, "float16": "float16", "none": False}


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
    "--k-class",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Samples in each ranking by class; 0 leaves these out.",
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
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples computed at once."
)
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
@click.option(
    "--max-memory",
    default="2G",
    show_default=True,
    metavar="BYTES",
    help="Memory that rankings may take before they go to disk, such as 500M.",
)
@click.option(
    "--checkpoint", type=float, default=60, show_default=True, metavar="SECONDS", help="Save what there is this often."
)
@click.option("--resume", is_flag=True, help="Go on where an interrupted build stopped.")
@overwrite_option
@atlas_output_option
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
        atlas = build_in_processes(
            lambda path, shard, again: task(path, shard, resume=again),
            output,
            resume=resume,
            overwrite=overwrite,
            verbose=not quiet,
        )
        if atlas is None:
            return
    else:
        shard = options["shard"]
        array = shard_of_job_array() if shard is None else None
        if array is not None:
            output, shard = shard_path(output, *array), array
        atlas = task(output, shard, resume=resume)
    with atlas:
        if not quiet:
            _summary(atlas, time.monotonic() - began)
    click.echo(atlas.path)


def _task(options: dict[str, Any]) -> Callable[..., ConceptAtlas]:
    """Return the build as a function of path and shard."""
    from ..atlas import BuildOptions

    study = study_of({**options, "device": _device(options["device"])}, needs_data=True)
    layers = [module_types(study.model).get(name, name) for name in layer_names(options["layers"])]
    target: Any = options["target"] if options["mask"] is None else target_of(options)
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
            target="label" if target is None else target,
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
    amount = _AMOUNT.fullmatch(text.strip())
    if amount is None:
        raise InputError(f"an amount of memory is written like 500M or 2G; got {text!r}")
    return int(float(amount[1]) * _SIZES[amount[2].lower()])


def _summary(atlas: ConceptAtlas, seconds: float) -> None:
    from ..atlas.file.activation_notes import activation_notes

    concepts = sum(atlas[name].n_concepts for name in atlas.layers)
    size = atlas.path.stat().st_size / (1 << 20)
    seen = len(atlas.samples)
    say(
        f"{seen} samples, {len(atlas.layers)} layers, {concepts} concepts, {atlas.header.n_classes} classes; "
        f"{size:.1f} MiB in {seconds:.0f} s ({rate_text(seen / max(seconds, 1e-9))} samples/s)"
    )
    for note in activation_notes(atlas[name].info for name in atlas.layers):
        say(f"note: {printable(note)}")
    if atlas.skipped:
        say(f"left out: {len(atlas.skipped)} samples that cannot be read; crp-kit atlas info lists them")
