"""``crp-kit regions``: which concept of a layer is the most relevant one where in an image."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from .files import check_figure_and_array, check_outputs, write_figure, write_file
from .look import look_of, percentile_option, width_option
from .options import class_named, layer_option, overwrite_option
from .provenance import with_atlas
from .studies import is_untrained, study_of
from .study_options import atlas_study_options
from .target_options import target_of, target_options

if TYPE_CHECKING:
    from ..drawing import Figure
    from ..region_map import RegionMap
    from ..study import Study

__all__ = ["regions"]


@click.command(short_help="Map which concept dominates where in an image.")
@click.argument("image", type=click.Path(path_type=Path))
@atlas_study_options
@layer_option
@click.option("--class", "cls", metavar="CLASS", help="Name, part of it, or number.  [default: the predicted class]")
@target_options("the class")
@click.option(
    "--regions",
    "kind",
    type=click.Choice(["grid", "pixels", "slic", "changes"]),
    default="grid",
    show_default=True,
    help="Rectangles (or equal stretches of a signal), single pixels, superpixels (needs scikit-image), or stretches "
    "between the changes of a signal.",
)
@click.option(
    "--count", metavar="N[xM]", help="About how many, or rows x columns of a grid.  [default: 64; 16 of a signal]"
)
@click.option("--cell", metavar="N[xM]", help="Side length of a grid's cells in pixels, or their height x width.")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the N channels most relevant in the layer.")
@click.option("--signed", is_flag=True, help="Relevance against the class counts as much as relevance for it.")
@click.option(
    "--most", type=click.IntRange(1, 9), default=9, show_default=True, help="Channels with a colour of their own."
)
@click.option(
    "--atlas", type=click.Path(path_type=Path), metavar="FILE", help="Show reference samples of each channel from it."
)
@percentile_option
@width_option
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Heatmaps computed at once."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="The figure: .png, .pdf, .svg or .jpg."
)
@click.option("--save-array", type=click.Path(path_type=Path), metavar="FILE", help="The map, as NumPy's .npz.")
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON instead of as text.")
def regions(*, image: Path, **options: Any) -> None:
    """Map, for each region of an image, the channel of a layer with the highest conditional relevance there.

    \b
    Examples:
      crp-kit regions cat.jpg --model torchvision:resnet50 --weights DEFAULT --layer layer4.2.conv3 \\
          --regions slic --count 100 --top 64 -o regions.png
      crp-kit regions cat.jpg --model demo:resnet --layer layer2.1.conv2 --atlas atlas.h5

    One conditional heatmap is computed for each channel, or for the --top ones. With an atlas of the model, the figure
    shows what each channel stands for.
    """  # noqa: D301
    output, array = options["output"], options["save_array"]
    if output is None and array is None and not options["as_json"]:
        output = Path("regions.png")
    check_figure_and_array(output, array)
    if options["atlas"] is None and options["data"] is not None:
        raise InputError("--data is for the references of an atlas: say --atlas too")
    files = [one for one in (output, array) if one is not None]
    check_outputs(files, overwrite=options["overwrite"])
    study, found = _computed(image, options)
    if output is not None:
        figure = _figure(study, found, options)
        write_figure(output, figure, untrained=is_untrained(study), overwrite=options["overwrite"])
    if array is not None:
        write_file(array, lambda path: _save_array(path, found), overwrite=options["overwrite"])
    if options["as_json"]:
        click.echo(json.dumps({"image": str(image), **found.as_dict(), "files": list(map(str, files))}, indent=1))
        return
    click.echo(repr(found), err=True)
    for file in files:
        click.echo(file)


def _computed(image: Path, options: dict[str, Any]) -> tuple[Study, RegionMap]:
    options = with_atlas(options)
    from ..targets import Target

    count, cell = (_size(f"--{name}", options[name]) for name in ("count", "cell"))
    target = target_of(options, words=("prediction",))
    study = study_of(options)
    views = study.read([image])
    if options["atlas"] is not None:
        _check_atlas(study, options)
    found = study.region_map(
        views,
        options["layer"],
        cls=None if options["cls"] is None else class_named(options["cls"], study.classes),
        target=target if isinstance(target, Target) else None,
        regions=options["kind"],
        verbose=sys.stderr.isatty() and not options["as_json"],
        count=count,
        cell=cell,
        **{name: options[name] for name in ("top", "signed", "batch_size")},
    )
    return study, found


def _check_atlas(study: Study, options: dict[str, Any]) -> None:
    """Make sure that the atlas fits, before anything takes time."""
    from ..atlas import ConceptAtlas

    with ConceptAtlas(options["atlas"]) as atlas:
        study.check_atlas(atlas)
        atlas[options["layer"]]


def _size(name: str, text: str | None) -> int | tuple[int, ...] | None:
    """Return what a text such as ``8`` or ``6x8`` means."""
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){0,2}", text):
        raise InputError(f"{name} is written like 64 or 6x8; got {text!r}")
    sizes = tuple(int(one) for one in text.split("x"))
    return sizes if len(sizes) > 1 else sizes[0]


def _figure(study: Study, found: RegionMap, options: dict[str, Any]) -> Figure:
    from ..atlas import ConceptAtlas

    references = {}
    if options["atlas"] is not None:
        with ConceptAtlas(options["atlas"]) as atlas:
            references = study.reference_pictures(found, atlas, k=4, most=options["most"])
    return found.plot(references=references, most=options["most"], **look_of(options))


def _save_array(path: Path, found: RegionMap) -> None:
    """Write the map: labels, and by region its dominant concept and that concept's relevance."""
    import numpy as np

    np.savez_compressed(path, labels=found.labels, dominant=found.dominant, relevance=found.relevance)
