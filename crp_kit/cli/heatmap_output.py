"""Figure, arrays and summary of conditional heatmaps that were computed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..conditions import OUTPUT
from ..errors import InputError

if TYPE_CHECKING:
    import torch

    from ..attribution.result import Attribution
    from ..study import Study

__all__ = ["ImageMaps", "heatmap_figure", "predicted_class_name", "save_arrays", "summary"]

_LONGEST = 160
"""Letters of a line of a title, which figures break to the width of their panels."""


@dataclass(frozen=True)
class ImageMaps:
    """The heatmaps of one image.

    Parameters
    ----------
    path : Path
    view : torch.Tensor
        The image as it is shown: (channel, height, width), or as the model's data are.
    attr : Attribution
        A row for each heatmap.
    shares : tuple of float or None
        Share of the relevance that a ranked channel has, by row; None where channels were chosen by the user.
    """

    path: Path
    view: torch.Tensor
    attr: Attribution
    shares: tuple[float | None, ...]


def predicted_class_name(study: Study, maps: ImageMaps) -> str | None:
    """Return the name of the class that the model predicts, None for a model that does not classify images."""
    value = maps.attr.prediction[0]
    return study.class_name(int(value.argmax())) if value.ndim == 1 else None


def _image_title(study: Study, maps: ImageMaps) -> str:
    predicted = predicted_class_name(study, maps)
    return "\n".join(_shortened(line) for line in [maps.path.name] + [f"predicted {predicted}"] * bool(predicted))


def heatmap_figure(study: Study, results: list[ImageMaps], look: dict[str, Any]) -> Any:
    """Return the figure of the heatmaps of all images.

    Raises
    ------
    InputError
        If there is no figure of such inputs, or a style is named that it does not have.
    """
    import torch

    from ..attribution.result import draw
    from ..data.pixels import drawable

    layout = results[0].attr.layout
    if layout is None:
        raise InputError("there is no figure of such inputs; leave --output out and take --save-array")
    titles = [
        (maps, _title(study, condition.as_dict(), share))
        for maps in results
        for condition, share in zip(maps.attr.conditions, maps.shares, strict=True)
    ]
    heatmaps = torch.cat([maps.attr.heatmap.detach().cpu() for maps in results])
    views = [drawable(maps.view) for maps in results]
    if layout == "image":
        return draw(
            heatmaps, layout, None if None in views else views, titles=[title for _, title in titles],
            image_titles=[_image_title(study, maps) for maps in results], **look,
        )  # fmt: skip
    data = torch.stack([maps.view for maps in results]) if layout in ("signal", "volume") else None
    rows = [f"{_image_title(study, maps)}\n{title}" for maps, title in titles]
    return draw(heatmaps, layout, data, titles=rows, **_look_of_layout(layout, look))


def _look_of_layout(layout: str, look: dict[str, Any]) -> dict[str, Any]:
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


def save_arrays(path: Path, results: list[ImageMaps]) -> None:
    """Write the rows of all images: heatmap, image, conditions (JSON), prediction."""
    import numpy as np

    conditions = [json.dumps(row.as_dict(), default=str) for maps in results for row in maps.attr.conditions]
    np.savez_compressed(
        path,
        heatmap=np.concatenate([maps.attr.heatmap.detach().cpu().numpy() for maps in results]),
        image=np.array([str(maps.path) for maps in results for _ in maps.shares]),
        conditions=np.array(conditions),
        prediction=np.concatenate([maps.attr.prediction.detach().cpu().numpy() for maps in results]),
    )


def _reached(attr: Attribution) -> list[float | None]:
    """Return by row the share of the start that reaches the input, None where that has no meaning."""
    if attr.reached is None:
        return [None] * len(attr)
    return [None if math.isnan(share) else share for share in attr.reached.tolist()]


def summary(study: Study, results: list[ImageMaps], files: list[Path]) -> dict[str, Any]:
    """Return predictions, conditions and sums of relevance, and the files that were written, as plain values."""
    return {
        "images": [
            {
                "image": str(maps.path),
                "prediction": predicted_class_name(study, maps),
                "heatmaps": [
                    {
                        "condition": condition.as_dict(),
                        "share": share,
                        "relevance": float(row.sum()),
                        "reached": None if reached is None else float(reached),
                        "strongest": float(row.abs().max()),
                    }
                    for condition, share, row, reached in zip(
                        maps.attr.conditions, maps.shares, maps.attr.heatmap, _reached(maps.attr), strict=True
                    )
                ],
            }
            for maps in results
        ],
        "files": list(map(str, files)),
    }
