"""Plausibility of the numbers and texts that an atlas file has in its attributes, before anything is done with them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...checks import is_integer
from ...errors import AtlasError
from .header import HALF, Header, LayerInfo, Progress

__all__ = ["check_header", "check_layer_names", "check_progress", "layer_of"]

_COUNT = 1 << 48
"""More samples, concepts or neurons than anybody has."""
_CLASSES = 1 << 22
"""More classes than any model has; the largest vocabularies have 256,000 entries."""
_SHARDS = 1 << 16
_AXES = 32


def check_header(header: Header) -> None:
    """Make sure that the numbers of a header can be those of an atlas, and that its rules can be read.

    Raises
    ------
    AtlasError
        If one cannot.
    """
    most = {"n_samples": _COUNT, "n_classes": _CLASSES, "k": _COUNT, "k_class": _COUNT, "batch_size": _COUNT}
    for name, bound in most.items():
        _check_number(name, getattr(header, name), 1 if name == "batch_size" else 0, bound)
    if header.matrix_dtype not in ("", HALF):
        raise AtlasError(f"its attribute 'matrix_dtype' is {header.matrix_dtype!r:.40}, and not {HALF!r}")
    if header.aggregate not in ("sum", "max"):
        raise AtlasError(f"its attribute 'aggregate' is {header.aggregate!r:.40}, and not 'sum' or 'max'")
    if header.composite.startswith("{"):
        _check_rules(header.composite)


def _check_number(name: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise AtlasError(f"its attribute {name!r} is {number}; it should be {least} to {most}")


def _check_rules(text: str) -> None:
    """Make sure that rules are names of nodes by rule."""
    try:
        rules = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AtlasError("its attribute 'composite' is no JSON of rules") from error
    if not all(isinstance(nodes, list) and all(isinstance(node, str) for node in nodes) for nodes in rules.values()):
        raise AtlasError("its attribute 'composite' has no names of nodes by rule")


def layer_of(attributes: Mapping[str, Any]) -> LayerInfo:
    """Return the layer that attributes describe.

    Raises
    ------
    AtlasError
        If one is missing, of another type, or a number that no layer has.
    """
    shape = attributes.get("output_shape")
    if not (
        all(isinstance(attributes.get(name), str) for name in ("name", "concept"))
        and is_integer(attributes.get("n_concepts"))
        and (is_integer(shape) or (isinstance(shape, np.ndarray) and shape.dtype.kind in "iu" and shape.ndim == 1))
    ):
        raise AtlasError("the attributes of one of its layers are missing or of another type")
    info = LayerInfo.of(attributes)
    _check_number("n_concepts", info.n_concepts, 1, _COUNT)
    if len(info.output_shape) > _AXES or min(info.output_shape, default=1) < 0:
        raise AtlasError(f"its attribute 'output_shape' is {info.output_shape}, which no layer has")
    _check_number("output_shape", math.prod(info.output_shape), 0, _COUNT)
    return info


def check_layer_names(layers: Sequence[LayerInfo]) -> None:
    """Make sure that each layer has a name of its own.

    Raises
    ------
    AtlasError
        If two have the same.
    """
    for name, count in Counter(layer.name for layer in layers).items():
        if count > 1:
            raise AtlasError(f"{count} of its layers are named {name!r}")


def check_progress(progress: Progress) -> None:
    """Make sure that batches and shards can be those of a part.

    Raises
    ------
    AtlasError
        If they cannot.
    """
    _check_number("shards", progress.shards, 1, _SHARDS)
    _check_number("batches", progress.batches, 0, _COUNT)
    if (
        not (0 <= progress.shard < progress.shards and 0 <= progress.first <= progress.done <= progress.end)
        or not progress.end <= progress.batches
    ):
        raise AtlasError(f"what it says of its progress contradicts itself: {progress}")
