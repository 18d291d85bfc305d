"""``crp-kit heatmap``: conditional heatmaps of image files, and of signals and volumes in ``.npy`` files."""

from __future__ import annotations

import json
import math
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
from .look import look_of, look_options
from .options import class_named, overwrite_option
from .studies import is_untrained, study_of
from .study_options import study_options
from .target_options import target_of, target_options

if TYPE_CHECKING:
    import torch

    from ..attribution.result import Attribution
    from ..propagation.run import Run
    from ..study import Study

__all__ = ["heatmap"]

_LONGEST = 160
"""Letters of a line of a title, which figures break to the width of their panels."""
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


@dataclass(frozen=True)
class _Maps:
    """The heatmaps of one image."""

    path: Path
    view: torch.Tensor
    attr: Attribution
    shares: tuple[float | None, ...]


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
    files = [one for one in (output, array) if one is not None]
    check_outputs(files, overwrite=options["overwrite"])
    look = {"shared_scale": options["shared_scale"], **look_of(options)}
    asked = _parsed(options)
    study, found = _computed(images, asked, options)
    if output is not None:
        figure = _figure(study, found, look)
        write_figure(output, figure, untrained=is_untrained(study), overwrite=options["overwrite"])
    if array is not None:
        write_file(array, lambda path: _save_array(path, found), overwrite=options["overwrite"])
    if options["as_json"]:
        click.echo(json.dumps(_summary(study, found, files), indent=1, default=str))
        return
    for one in found:
        say(f"{one.path}: predicted {_predicted(study, one) or 'no class'}")
        if one.attr.remark:
            say(f"{one.path}: {_advised(one.attr.remark)}")
    for file in files:
        click.echo(file)


def _parsed(options: dict[str, Any]) -> _Asked:
    base: _Set = {}
    for text in options["conditions"]:
        layer, ids = parse_condition_text(text)
        known = base.setdefault(layer, [])
        known += [one for one in ids if one not in known]
    each: list[tuple[str, int | str]] = []
    for text in options["each"]:
        layer, ids = parse_condition_text(text)
        if not ids:
            raise ConditionError(f"--each {text} names no id; write for example --each {layer}:0-3")
        each += [(layer, one) for one in ids]
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


def _computed(images: tuple[Path, ...], asked: _Asked, options: dict[str, Any]) -> tuple[Study, list[_Maps]]:
    for path in images:
        check_sample(path)
    study = study_of(options)
    asked = _with_numbers(asked, study)
    found: list[_Maps] = []
    for path in Progress(len(images), "heatmap", unit="image", verbose=len(images) > 1).over(images):
        views = study.read([path])
        if found and views[0].shape != found[0].view.shape:
            raise InputError(
                "this model keeps the shape of an image, and these differ in shape: give one image at a time"
            )
        found.append(_maps(study, path, views, asked))
    return study, found


def _with_numbers(asked: _Asked, study: Study) -> _Asked:
    """Return what to compute with the numbers of the classes that are named."""
    from ..targets import Target

    base = dict(asked.base)
    if OUTPUT in base:
        ids = (one if isinstance(one, Target) else class_named(str(one), study.classes) for one in base[OUTPUT])
        base[OUTPUT] = list(dict.fromkeys(ids))
    each = [(layer, class_named(str(one), study.classes) if layer == OUTPUT else one) for layer, one in asked.each]
    return replace(asked, base=base, each=tuple(each))


def _maps(study: Study, path: Path, views: torch.Tensor, asked: _Asked) -> _Maps:
    base = asked.base if OUTPUT in asked.base else {**asked.base, OUTPUT: [_predicted_class(study, views)]}
    shares: list[float | None] = [None]
    sets = [base]
    if asked.each:
        sets = [{**base, layer: [concept]} for layer, concept in asked.each]
        shares = [None] * len(sets)
    elif asked.layer is not None:
        ranked = _ranked(study, views, (asked.layer, base), asked)
        sets, shares = [{**base, asked.layer: [concept]} for concept, _ in ranked], [share for _, share in ranked]
    return _Maps(path, views[0], study(views, sets, pairing="product", **asked.options), tuple(shares))


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


def _predicted(study: Study, found: _Maps) -> str | None:
    """The predicted class, or ``None`` for a model that does not classify images."""
    value = found.attr.prediction[0]
    return study.class_name(int(value.argmax())) if value.ndim == 1 else None


def _image_title(study: Study, found: _Maps) -> str:
    predicted = _predicted(study, found)
    return "\n".join(_shortened(line) for line in [found.path.name] + [f"predicted {predicted}"] * bool(predicted))


def _figure(study: Study, found: list[_Maps], look: dict[str, Any]) -> Any:
    import torch

    from ..attribution.result import draw
    from ..data.pixels import drawable

    layout = found[0].attr.layout
    if layout is None:
        raise InputError("there is no figure of such inputs; leave --output out and take --save-array")
    titles = [
        (one, _title(study, condition.as_dict(), share))
        for one in found
        for condition, share in zip(one.attr.conditions, one.shares, strict=True)
    ]
    maps = torch.cat([one.attr.heatmap.detach().cpu() for one in found])
    views = [drawable(one.view) for one in found]
    if layout == "image":
        return draw(
            maps, layout, None if None in views else views, titles=[title for _, title in titles],
            image_titles=[_image_title(study, one) for one in found], **look,
        )  # fmt: skip
    data = torch.stack([one.view for one in found]) if layout in ("signal", "volume") else None
    said = [f"{_image_title(study, one)}\n{title}" for one, title in titles]
    return draw(maps, layout, data, titles=said, **_taken(layout, look))


def _taken(layout: str, look: dict[str, Any]) -> dict[str, Any]:
    """Return what figures of a layout take of a look: curves and bars have neither images nor a percentile.

    Raises
    ------
    InputError
        If a style is named, which they do not have.
    """
    if layout == "volume":
        return look
    if "style" in look:
        raise InputError(f"--style is for figures of images and volumes, and these are of a {layout}")
    return {name: value for name, value in look.items() if name != "percentile"}


def _title(study: Study, condition: dict[str, list[Any]], share: float | None) -> str:
    from ..targets.text import target_words

    lines = [f"{name}: {_listed(ids)}" for name, ids in condition.items() if name != OUTPUT]
    if share is not None:
        lines[-1] += f" ({share:+.1%})"
    targets = condition.get(OUTPUT, [])
    named = _listed(targets) if len(targets) != 1 else target_words(targets[0], study.classes)
    return "\n".join(_shortened(line) for line in [*lines, named])


def _listed(ids: list[Any]) -> str:
    return ", ".join(map(str, ids[:6])) + (", …" if len(ids) > 6 else "") or "nothing"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _save_array(path: Path, found: list[_Maps]) -> None:
    """Write the rows of all images: heatmap, image, conditions (JSON), prediction."""
    import numpy as np

    np.savez_compressed(
        path,
        heatmap=np.concatenate([one.attr.heatmap.detach().cpu().numpy() for one in found]),
        image=np.array([str(one.path) for one in found for _ in one.shares]),
        conditions=np.array([json.dumps(row.as_dict(), default=str) for one in found for row in one.attr.conditions]),
        prediction=np.concatenate([one.attr.prediction.detach().cpu().numpy() for one in found]),
    )


def _reached(attr: Attribution) -> list[float | None]:
    """Return by row the share of the start that reaches the input, None where that has no meaning."""
    if attr.reached is None:
        return [None] * len(attr)
    return [None if math.isnan(share) else share for share in attr.reached.tolist()]


def _advised(remark: str) -> str:
    """Return what is said of little relevance, with the option that changes it."""
    return remark.replace("diagnose=True shows where", "--biases distribute hands their share on")


def _summary(study: Study, found: list[_Maps], files: list[Path]) -> dict[str, Any]:
    return {
        "images": [
            {
                "image": str(one.path),
                "prediction": _predicted(study, one),
                "heatmaps": [
                    {
                        "condition": condition.as_dict(),
                        "share": share,
                        "relevance": float(row.sum()),
                        "reached": None if reached is None else float(reached),
                        "strongest": float(row.abs().max()),
                    }
                    for condition, share, row, reached in zip(
                        one.attr.conditions, one.shares, one.attr.heatmap, _reached(one.attr), strict=True
                    )
                ],
            }
            for one in found
        ],
        "files": list(map(str, files)),
    }
