"""Files of a result: its arrays, its pictures, and a manifest that says what they are."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..attribution.result import Attribution
from ..errors import InputError
from ..files import atomic_file, error_reason
from ..version import __version__
from .image import DEFAULT_CMAP, PERCENTILE
from .look import Look

__all__ = ["save_attribution"]

_MANIFEST = "manifest.json"
_FORMAT = "crp-kit-attribution"

Files = dict[str, Callable[[Path], object]]
"""Functions that write a file of a name."""


def save_attribution(
    attr: Attribution, folder: str | Path, data: Any = None, *, overwrite: bool, options: Mapping[str, Any]
) -> Path:
    """Write a result into a folder, the manifest last; see `crp_kit.Attribution.save`."""
    target = Path(folder)
    files: Files = {"arrays.npz": lambda path: np.savez_compressed(path, **_arrays(attr))}
    if attr.layout is not None:
        figure = attr.plot(data, **options)
        files["figure.png"] = lambda path: figure.savefig(path, dpi=150)
    files |= _pictures(attr, data, options)
    _check(target, [*files, _MANIFEST], overwrite=overwrite)
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / _MANIFEST).unlink(missing_ok=True)
        digests = {name: _written(target / name, write, overwrite=overwrite) for name, write in files.items()}
        text = json.dumps(_manifest(attr, digests), indent=1) + "\n"
        _written(target / _MANIFEST, lambda path: path.write_text(text, encoding="utf-8"), overwrite=overwrite)
    except OSError as error:
        raise InputError(f"cannot write into {target}: {error_reason(error)}") from error
    return target / _MANIFEST


def _check(target: Path, names: list[str], *, overwrite: bool) -> None:
    """Make sure, before anything is written, that nothing is replaced by mistake."""
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; name a folder")
    present = [name for name in names if (target / name).exists()]
    if present and not overwrite:
        raise InputError(f"{target / present[0]} exists; overwrite=True replaces it, or choose another folder")


def _written(path: Path, write: Callable[[Path], object], *, overwrite: bool) -> str:
    """Write a file completely or not at all, and return the SHA-256 of its content."""
    with atomic_file(path, replace=overwrite) as beside:
        write(beside)
        return hashlib.sha256(beside.read_bytes()).hexdigest()


def _arrays(attr: Attribution) -> dict[str, Any]:
    """Return the values of a result by their names in the file."""
    layers = {f"relevance/{name}": value for name, value in attr.relevances.items()}
    layers |= {f"activation/{name}": value for name, value in attr.activations.items()}
    named = {"heatmap": attr.heatmap, "input_relevance": attr.input_relevance, "prediction": attr.prediction, **layers}
    return {name: _array(value) for name, value in named.items()}


def _array(value: torch.Tensor) -> npt.NDArray[Any]:
    """Return a tensor as an array, in float32 what NumPy has no type for."""
    plain = value.detach().cpu()
    return np.asarray((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy())


def _pictures(attr: Attribution, data: Any, options: Mapping[str, Any]) -> Files:
    """Return what writes a picture of each heatmap, over its image where there is one."""
    if attr.layout != "image":
        return {}
    images = _image_by_row(attr, data)
    look = Look.fitting(options.get("style"), options.get("percentile", PERCENTILE),
                        options.get("cmap", DEFAULT_CMAP), images=data is not None)  # fmt: skip
    drawn = [look.draw(image, row) for image, row in zip(images, attr.heatmap, strict=True)]
    return {f"heatmap-{number}.png": picture.save for number, picture in enumerate(drawn)}


def _image_by_row(attr: Attribution, data: Any) -> Iterator[Any]:
    """Yield the image of each row, or None."""
    if data is None:
        yield from [None] * len(attr)
        return
    shown = attr.display.views(attr.data_by_run(data), tuple(attr.heatmap.shape[1:]))
    for image in shown:
        yield from [image] * (len(attr) // len(shown))


def _manifest(attr: Attribution, digests: Mapping[str, str]) -> dict[str, Any]:
    """Return what the rows are, and the files."""
    reached = [None] * len(attr) if attr.reached is None else attr.reached.tolist()
    rows = [
        {
            "row": number,
            "sample": sample,
            "condition": condition.as_dict(),
            "title": title,
            "relevance": float(heatmap.sum()),
            "reached": None if share is None or math.isnan(share) else share,
        }
        for number, (sample, condition, title, heatmap, share) in enumerate(
            zip(attr.samples, attr.conditions, attr.titles(), attr.heatmap, reached, strict=True)
        )
    ]
    plain: dict[str, Any] = json.loads(json.dumps({
        "format": _FORMAT,
        "version": 1,
        "crp_kit": __version__,
        "layout": attr.layout,
        "rows": rows,
        "gradient_nodes": list(attr.gradient_nodes),
        "files": {name: {"sha256": digest} for name, digest in digests.items()},
    }, default=str))  # fmt: skip
    return plain
