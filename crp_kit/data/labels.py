"""Labels of samples as class ids, whatever a dataset gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from ..errors import InputError

__all__ = ["LabelIds", "LabelReader", "LenientReader", "label_ids", "label_or_none", "no_label"]

LabelIds: TypeAlias = tuple[int, ...] | None
"""Class ids of a sample; ``None`` where nothing is known of it."""
LabelReader: TypeAlias = Callable[[Any], LabelIds]
"""From what a dataset gives as a label to class ids."""


def no_label(label: Any) -> LabelIds:
    """Return no label, for passes that need none: whatever a dataset gives is no mistake then."""
    return None


def label_ids(label: Any) -> LabelIds:
    """Return the class ids that a label means, or ``None`` where there is none.

    A vector of floats or booleans with several entries is read as zeros and ones; a list or a vector of whole numbers
    as class ids. ``None``, a negative number and not-a-number mean that there is no label.
    """
    if label is None or isinstance(label, str):
        if isinstance(label, str):
            raise InputError(f"a label is a class id or several; got the text {label!r:.80}")
        return None
    try:
        values = torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"a label is a class id or several; got {label!r:.80}") from error
    if values.is_complex():
        raise InputError(f"a label is a class id or several; got {label!r:.80}")
    if values.ndim > 1 and values.numel() > 1:
        raise InputError(f"a label is a class id, several, or a vector of zeros and ones; got {tuple(values.shape)}")
    flat = values.reshape(-1)
    if values.ndim and flat.numel() > 1 and (values.is_floating_point() or values.dtype == torch.bool):
        if not bool(((flat == 0) | (flat == 1)).all()):
            raise InputError("a label vector holds zeros and ones, or whole numbers that are class ids")
        return tuple(flat.nonzero().flatten().tolist())
    numbers = flat.tolist()
    if any(math.isnan(one) or one < 0 for one in numbers):
        return None
    if any(math.isinf(one) or one != int(one) for one in numbers):
        raise InputError(f"a label is a whole number, the class id; got {label!r:.80}")
    return tuple(dict.fromkeys(map(int, numbers)))


@dataclass(frozen=True)
class LenientReader:
    """Reads labels for what does without them: one that means nothing, in whatever way, is none."""

    reader: LabelReader

    def __call__(self, label: Any) -> LabelIds:
        try:
            return self.reader(label)
        except Exception:  # noqa: BLE001 - a dataset gives what it likes, and a comparison of it may fail in any way
            return None


label_or_none = LenientReader(label_ids)
