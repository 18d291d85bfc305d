"""``crp-kit heatmap``: conditional heatmaps of image files, and of signals and volumes in ``.npy`` files."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..conditions import OUTPUT, parse_condition_text
from ..errors import ConditionError, InputError
from ..files import check_sample
from ..progress import Progress
from .files import check_figure_and_array, check_outputs, write_figure, write_file
from .group import say
from .heatmap_output import ImageMaps, heatmap_figure, predicted_class_name, save_arrays, summary
from .look import look_of, look_options
from .options import class_named, overwrite_option
from .studies import is_untrained, study_of
from .study_options import study_options
from .target_options import target_of, target_options

if TYPE_CHECKING:
    import torch

    from ..propagation.run import Run
    from ..study import Study

__all__ = ["heatmap"]

_Set = dict[str, list[Any]]


@dataclass(frozen=True)
class _Asked:
    """What to compute for every image."""

    base: _Set
    each: tuple[tuple[str, int | str], ...]
    layer: str | None
    top: int
    options: dict[str, Any]
    """What the study is called with."""


@click.command(short_help="Draw conditional heatmaps of images.")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@study_options
@click.option(
    "--condition", "conditions", multiple=True, metavar="LAYER:IDS", help="Add to the condition set. Repeatable."
)
@click.option(
    "--class", "cls", metavar="CLASS", help="Name, part of it, or number.  [default: y, or the predicted class]"
)
@target_options("the class")
@click.option("--each", multiple=True, metavar="LAYER:IDS", help="One heatmap for each of these ids. Repeatable.")
@click.option("--layer", metavar="LAYER", help="One heatmap for each of the most relevant channels of this layer.")
@click.option("--top", type=click.IntRange(min=1), help="How many of them.  [default: 6]")
@click.option(
    "--exclude-parallel/--parallel",
    default=True,
    show_default=True,
    help="Whether shortcuts past a conditioned layer carry nothing.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Heatmaps computed at once."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="The figure: .png, .pdf, .svg or .jpg."
)
@click.option("--save-array", type=click.Path(path_type=Path), metavar="FILE", help="The values, as NumPy's .npz.")
@click.option("--shared-scale", is_flag=True, help="One colour scale for all heatmaps, not one for each.")
@look_options
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON instead of the names of the files.")
def heatmap(images: tuple[Path, ...], **options: Any) -> None:
    """Draw, for each image, the relevance that passes through the chosen concepts.

    \b
    Examples:
      crp-kit heatmap cat.jpg --model torchvision:resnet50 --weights DEFAULT \\
          --condition layer4.2.conv3:35,89 --condition y:282 -o cat.png
      crp-kit heatmap cat.jpg dog.jpg --model demo:resnet --class 3 --layer layer3.1.conv2 --top 4 -o top.png
      crp-kit heatmap cat.jpg --model demo:resnet --each layer3.1.conv2:0-7 --save-array maps.npz

    LAYER:IDS names a layer and channels of it: 35, or 35,89, or 5-8, or nothing after the colon to let nothing pass.
    y:282, or "y:tiger cat", is the model output, as --class is; without it, each image is explained for the class that
    the model predicts.

    All --condition options together make one condition set: relevance has to pass every layer named, through any of
    the ids of that layer; a layer named twice has the ids of both. It makes one heatmap of each image. --each makes one
    heatmap for each id, of the condition set and that id; so does --layer for the channels with the largest share of
    the relevance, of either sign. Names are listed by: crp-kit layers --graph.
    """  # noqa: D301
    output, array = options["output"], options["save_array"]
    if output is None and array is None and not options["as_json"]:
        output = Path("heatmap.png")
    check_figure_and_array(output, array)
    files = [path for path in (output, array) if path is not None]
    check_outputs(files, overwrite=options["overwrite"])
    look = {"shared_scale": options["shared_scale"], **look_of(options)}
    asked = _parsed(options)
    study, results = _computed(images, asked, options)
    if output is not None:
        figure = heatmap_figure(study, results, look)
        write_figure(output, figure, untrained=is_untrained(study), overwrite=options["overwrite"])
    if array is not None:
        write_file(array, lambda path: save_arrays(path, results), overwrite=options["overwrite"])
    if options["as_json"]:
        click.echo(json.dumps(summary(study, results, files), indent=1, default=str))
        return
    for maps in results:
        say(f"{maps.path}: predicted {predicted_class_name(study, maps) or 'no class'}")
        if maps.attr.remark:
            say(f"{maps.path}: {_advised(maps.attr.remark)}")
    for file in files:
        click.echo(file)


def _parsed(options: dict[str, Any]) -> _Asked:
    base: _Set = {}
    for text in options["conditions"]:
        layer, ids = parse_condition_text(text)
        known = base.setdefault(layer, [])
        known += [concept for concept in ids if concept not in known]
    each: list[tuple[str, int | str]] = []
    for text in options["each"]:
        layer, ids = parse_condition_text(text)
        if not ids:
            raise ConditionError(f"--each {text} names no id; write for example --each {layer}:0-3")
        each += [(layer, concept) for concept in ids]
    layer = options["layer"]
    if layer is None and options["top"] is not None:
        raise InputError("--top needs --layer, the layer whose channels are ranked")
    if layer is not None and each:
        raise InputError("--layer and --each both choose heatmaps; give one of them")
    varied = {name for name, _ in each} | {layer}
    for name in base:
        if name in varied:
            raise InputError(
                f"{name} is named by --condition and by {'--layer' if name == layer else '--each'}; name it once"
            )
    _add_start(base, options, varied=varied)
    passed = {name: options[name] for name in ("exclude_parallel", "batch_size")}
    return _Asked(base, tuple(each), layer, options["top"] or 6, passed)


def _add_start(asked: _Set, options: dict[str, Any], *, varied: set[str | None]) -> None:
    """Let relevance start at the class or the target of the options, if there is one."""
    from ..targets import Target

    target, cls = target_of(options, words=("prediction",)), options["cls"]
    starts = {
        "--target": target is not None,
        "--class": cls is not None,
        "--condition y:…": OUTPUT in asked,
        "--each y:…": OUTPUT in varied,
    }
    named = [name for name, is_named in starts.items() if is_named]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named[:2])} are two starts; give one of them")
    if isinstance(target, Target):
        asked[OUTPUT] = [target]
    elif cls is not None:
        asked[OUTPUT] = [cls]


def _computed(images: tuple[Path, ...], asked: _Asked, options: dict[str, Any]) -> tuple[Study, list[ImageMaps]]:
    for path in images:
        check_sample(path)
    study = study_of(options)
    asked = _with_numbers(asked, study)
    results: list[ImageMaps] = []
    for path in Progress(len(images), "heatmap", unit="image", verbose=len(images) > 1).over(images):
        views = study.read([path])
        if results and views[0].shape != results[0].view.shape:
            raise InputError(
                "this model keeps the shape of an image, and these differ in shape: give one image at a time"
            )
        results.append(_maps(study, path, views, asked))
    return study, results


def _with_numbers(asked: _Asked, study: Study) -> _Asked:
    """Return what to compute with the numbers of the classes that are named."""
    from ..targets import Target

    base = dict(asked.base)
    if OUTPUT in base:
        ids = (start if isinstance(start, Target) else class_named(str(start), study.classes) for start in base[OUTPUT])
        base[OUTPUT] = list(dict.fromkeys(ids))
    each = [(layer, class_named(str(id_), study.classes) if layer == OUTPUT else id_) for layer, id_ in asked.each]
    return replace(asked, base=base, each=tuple(each))


def _maps(study: Study, path: Path, views: torch.Tensor, asked: _Asked) -> ImageMaps:
    base = asked.base if OUTPUT in asked.base else {**asked.base, OUTPUT: [_predicted_class(study, views)]}
    shares: list[float | None] = [None]
    sets = [base]
    if asked.each:
        sets = [{**base, layer: [concept]} for layer, concept in asked.each]
        shares = [None] * len(sets)
    elif asked.layer is not None:
        ranked = _ranked(study, views, (asked.layer, base), asked)
        sets, shares = [{**base, asked.layer: [concept]} for concept, _ in ranked], [share for _, share in ranked]
    return ImageMaps(path, views[0], study(views, sets, pairing="product", **asked.options), tuple(shares))


def _ranked(study: Study, views: torch.Tensor, where: tuple[str, _Set], asked: _Asked) -> list[tuple[int, float]]:
    """Channels of a layer with the largest shares of the relevance, and the shares.

    The layer is conditioned too, as it is for the heatmaps: otherwise paths beside another condition would carry
    nothing to it. What arrives is recorded before the layer's own condition, which here lets nothing pass.
    """
    from ..attribution.layer_concepts import layer_concepts

    layer, base = where
    attr = study(views, [{**base, layer: []}], record_layer=[layer], pairing="product", **asked.options)
    concept = layer_concepts(_run(study, views), [layer], study.subject.concepts)[layer]
    shares = concept.attribute(attr.by_concept.get(layer, attr.relevances[layer]))[0]
    order = shares.abs().argsort(descending=True, stable=True)[: asked.top]
    return [(int(channel), float(shares[channel])) for channel in order]


def _predicted_class(study: Study, views: torch.Tensor) -> int:
    """Return the class that the model predicts."""
    from ..attribution.predicted_class import predicted_class

    return predicted_class(
        _run(study, views), otherwise="say what to explain with --class, --target or --condition y:ID"
    )


def _run(study: Study, views: torch.Tensor) -> Run:
    """Return the forward that the attribution records."""
    return study.attribution.engine.run(study.inputs(views), study.subject.composite)


def _advised(remark: str) -> str:
    """Return what is said of little relevance, with the option that changes it."""
    return remark.replace("diagnose=True shows where", "--biases distribute hands their share on")
