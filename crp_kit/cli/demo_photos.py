"""``crp-kit demo --photos``: the same on real photographs, with a model that knows the classes of ImageNet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .files import check_outputs, write_file
from .group import say, say_report

if TYPE_CHECKING:
    from ..demo.photographs import PhotoResult
    from ..drawing import Figure

__all__ = ["show_photographs"]

_FIGURES = ("concepts.png", "references.png", "graph.png", "regions.png")
_FILES = (*_FIGURES, "concepts.json", "heatmaps.npz", "atlas.h5")
_REPORT = "report"


def show_photographs(folder: Path, *, width: float | None, report: bool, overwrite: bool) -> None:
    """Write figures, numbers, arrays, an atlas and a report of photographs to a folder.

    Raises
    ------
    InputError
        If packages are missing, or a file exists.
    """
    from ..demo import photographs as demo
    from ..views import plot
    from ..views.image import picture
    from ..views.report.folder import check_folder

    study = demo.photo_study()
    folder.mkdir(parents=True, exist_ok=True)
    images = {name: folder / f"{name}.png" for name in demo.SUBJECTS}
    concepts, references, graph, regions, table, arrays, path = (folder / name for name in _FILES)
    check_outputs([*(folder / name for name in _FILES), *images.values()], overwrite=overwrite)
    if report:
        check_folder(folder / _REPORT, overwrite=overwrite)
    results, figure = demo.explain_photographs(study, width=width, verbose=True)
    _save(concepts, lambda: figure, overwrite=overwrite)
    for result in results:
        write_file(images[result.name], picture(result.image).save, overwrite=overwrite)
    _numbers(table, arrays, results, overwrite=overwrite)
    with demo.build_photo_atlas(study, path, overwrite=overwrite, verbose=True) as atlas:
        first = results[0]
        shown = demo.photo_references(study, atlas, results)
        _save(references, lambda: plot.references(shown, width=width), overwrite=overwrite)
        _save(graph, lambda: demo.photo_graph(study, atlas, first, width=width), overwrite=overwrite)
        _save(regions, lambda: demo.photo_regions(study, atlas, first, width=width), overwrite=overwrite)
        made = None
        if report:
            made = demo.photo_report(study, atlas, folder / _REPORT, results, overwrite=overwrite, verbose=True)
    for result in results:
        say(f"{result.name}: {result.prediction} (p = {result.probability:.2f})")
        for one in result.as_dict()["concepts"]:
            say(f"  channel {one['channel']:>3}  {one['share']:+6.1%}")
    for name in _FILES:
        click.echo(folder / name)
    say(f"try: crp-kit heatmap {images['coffee']} --model demo:lite0 --condition y:espresso -o {folder / 'mine.png'}")
    if made is not None:
        say_report(made)


def _save(path: Path, figure: Callable[[], Figure], *, overwrite: bool) -> None:
    drawn = figure()
    write_file(path, lambda beside: drawn.savefig(beside, dpi=110), overwrite=overwrite)


def _numbers(table: Path, arrays: Path, results: list[PhotoResult], *, overwrite: bool) -> None:
    """Write what was found as JSON, and the heatmaps as NumPy's arrays."""
    import numpy as np

    text = json.dumps([result.as_dict() for result in results], indent=1) + "\n"
    write_file(table, lambda path: path.write_text(text, encoding="utf-8"), overwrite=overwrite)
    heatmap = np.stack([result.heatmap.numpy() for result in results])
    conditional = np.stack([result.heatmaps.numpy() for result in results])
    channel = np.array([result.top for result in results])
    write_file(
        arrays,
        lambda path: np.savez_compressed(path, heatmap=heatmap, conditional=conditional, channel=channel),
        overwrite=overwrite,
    )
