"""``crp-kit demo``: what crp-kit does, on its built-in data and model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InputError
from .demo_photos import show_photographs
from .files import check_outputs, write_file
from .group import say, say_report
from .look import width_option
from .options import overwrite_option

if TYPE_CHECKING:
    from ..demo.result import DemoResult

__all__ = ["demo"]

_FOLDER = "crp-kit-demo"
_REPORT = "report"
_FILES = ("concepts.png", "concepts.json", "heatmaps.npz", "atlas.h5", "references.png")


@click.command(short_help="Show the whole job on built-in images and a built-in model.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help=f"Where the results go.  [default: {_FOLDER}, or {_FOLDER}-2, … where that exists]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed makes other images.")
@click.option("--images", "samples", type=click.IntRange(1, 8), default=4, show_default=True, help="How many images.")
@click.option("--layer", metavar="LAYER", help="Layer whose channels are looked at.  [default: layer2.1.conv2]")
@click.option("--report/--no-report", default=True, show_default=True, help="Make the report, which takes longest.")
@width_option
@click.option("--photos", is_flag=True, help="On real photographs and a model of ImageNet: the extra photos.")
@overwrite_option
def demo(
    *,
    output: Path | None,
    seed: int,
    samples: int,
    layer: str | None,
    report: bool,
    width: float | None,
    photos: bool,
    overwrite: bool,
) -> None:
    """Show the whole job on built-in images and a built-in model; it takes a minute and needs no download.

    Writes a figure of a few images, the channels that the model's predictions rest on, and where in the image each of
    them looks; the same as numbers; the heatmaps as arrays; a concept atlas of 500 images; what these channels look
    like in them; the few images, to try crp-kit heatmap on; and a report of the atlas, to open in a browser.

    With --photos the same for photographs that packages carry: a cat, a coffee, a rocket, an astronaut, with a concept
    graph and a region map of the cat, and an atlas of all photographs, each whole and in parts. It takes some minutes,
    and needs pip install 'crp-kit[photos]'.

    \b
    Example:
      crp-kit demo -o my-demo
    """  # noqa: D301
    from ..demo.run import LAYER, demo_atlas, demo_report, run_demo
    from ..views import plot
    from ..views.report.folder import check_folder

    folder = output if output is not None else _default_folder(overwrite=overwrite)
    if photos:
        with _one_thread():
            show_photographs(folder, width=width, report=report, overwrite=overwrite)
        return
    images = [f"image-{number}.png" for number in range(samples)]
    paths = [folder / name for name in (*_FILES, *images)]
    _make(folder)
    check_outputs(paths, overwrite=overwrite)
    if report:
        check_folder(folder / _REPORT, overwrite=overwrite)
    atlas, figure = paths[3:5]
    with _one_thread():
        result = run_demo(seed=seed, samples=samples, layer=layer or LAYER, verbose=True)
        _write([*paths[:3], *paths[5:]], result, width=width, overwrite=overwrite)
        references = demo_atlas(atlas, result, seed=seed, overwrite=overwrite, verbose=True)
        drawn = plot.references(references, width=width)
        write_file(figure, lambda path: drawn.savefig(path, dpi=110), overwrite=overwrite)
        made = demo_report(folder / _REPORT, atlas, seed=seed, overwrite=overwrite, verbose=True) if report else None
    _report(result)
    for path in paths[:5]:
        click.echo(path)
    say(f"try: crp-kit atlas stats {atlas} --layer {result.layer} --class 0 --top 5")
    say(f"try: crp-kit heatmap {paths[5]} --model demo:resnet --layer {result.layer} -o {folder / 'mine.png'}")
    if made is not None:
        say_report(made)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: on images this small, or a busy machine, more of them wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _default_folder(*, overwrite: bool) -> Path:
    """The usual folder, or the next free name, so that a second run overwrites nothing."""
    names = chain([_FOLDER], (f"{_FOLDER}-{number}" for number in count(2)))
    return next(path for path in map(Path, names) if overwrite or _is_free(path))


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file; choose another name" if folder.is_file() else error.strerror or error
        raise InputError(f"cannot make the folder {folder}: {reason}") from error


def _write(paths: list[Path], result: DemoResult, *, width: float | None, overwrite: bool) -> None:
    import numpy as np

    from ..views.image import picture

    figure, table, arrays, *images = paths
    text = json.dumps(result.as_dict(), indent=1) + "\n"
    write_file(figure, lambda path: result.figure(width).savefig(path, dpi=110), overwrite=overwrite)
    write_file(table, lambda path: path.write_text(text, encoding="utf-8"), overwrite=overwrite)
    heatmaps = np.stack([one.heatmap.numpy() for one in result.samples])
    conditional = np.stack([one.concept_heatmaps.numpy() for one in result.samples])
    channels = np.array([[concept.channel for concept in one.concepts] for one in result.samples])
    write_file(
        arrays,
        lambda path: np.savez_compressed(path, heatmap=heatmaps, conditional=conditional, channel=channels),
        overwrite=overwrite,
    )
    for path, sample in zip(images, result.samples, strict=True):
        write_file(path, picture(sample.image).save, overwrite=overwrite)


def _report(result: DemoResult) -> None:
    say(f"layer {result.layer}; model accuracy {result.accuracy:.1%}")
    for one in result.samples:
        say(f"image {one.index}: {one.label}; predicted {one.prediction} (p = {one.probability:.2f})")
        for concept in one.concepts:
            say(
                f"  channel {concept.channel:>2}  {concept.share:+6.1%}  follows {concept.part:<8} "
                f"(r = {concept.correlation:.2f}); {concept.on_plain:4.0%} of its heatmap are on the plain object, "
                f"{concept.on_textured:4.0%} on the textured one"
            )
