"""Labels of samples as class ids, whatever a dataset gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from ..errors import InputError

__all__ = ["LabelIds", "LabelMask", "LabelReader", "LenientReader", "label_ids", "label_or_none", "no_label"]

LabelIds: TypeAlias = tuple[int, ...] | None
"""Class ids of a sample; ``None`` where nothing is known of it."""
LabelReader: TypeAlias = Callable[[Any], LabelIds]
"""From what a dataset gives as a label to class ids."""


class LabelMask(tuple[int, ...]):
    """Class ids of a label that is a mask, the largest area first; `mask` has the class of each position.

    Examples
    --------
    >>> label = LabelMask.of(torch.tensor([[1, 1], [0, 1]]))
    >>> label, label.mask.shape
    ((1, 0), torch.Size([2, 2]))
    """

    mask: torch.Tensor

    @classmethod
    def of(cls, mask: torch.Tensor) -> LabelMask:
        """Return the label that a mask is: whole numbers (height, width), negative ones for no class."""
        ids, counts = torch.unique(mask[mask >= 0], return_counts=True)
        label = cls(ids[counts.argsort(descending=True, stable=True)].tolist())
        label.mask = mask
        return label

    def __reduce__(self) -> tuple[Any, ...]:
        return LabelMask.of, (self.mask,)


def no_label(label: Any) -> LabelIds:
    """Return no label, for passes that need none: whatever a dataset gives is no mistake then."""
    return None


def label_ids(label: Any) -> LabelIds:
    """Return the class ids that a label means, or ``None`` where there is none.

    A vector of floats or booleans with several entries is read as zeros and ones; a list or a vector of whole numbers
    as class ids; whole numbers (height, width) or a picture as a mask of the class of each position. ``None``, a
    negative number and not-a-number mean that there is no label.
    """
    label = np.array(label) if isinstance(label, Image.Image) else label
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
    mask = values[0] if values.ndim == 3 and len(values) == 1 else values
    if mask.ndim == 2 and min(mask.shape) > 1 and not mask.is_floating_point() and mask.dtype != torch.bool:
        return LabelMask.of(mask.long())
    if values.ndim > 1 and values.numel() > 1:
        raise InputError(
            f"a label is a class id, several, a vector of zeros and ones, or a mask of whole numbers; got "
            f"{tuple(values.shape)}"
        )
    flat = values.reshape(-1)
    if values.ndim and flat.numel() > 1 and (values.is_floating_point() or values.dtype == torch.bool):
        if not bool(((flat == 0) | (flat == 1)).all()):
            raise InputError("a label vector holds zeros and ones, or whole numbers that are class ids")
        return tuple(flat.nonzero().flatten().tolist())
    numbers = flat.tolist()
    if any(math.isnan(number) or number < 0 for number in numbers):
        return None
    if any(math.isinf(number) or number != int(number) for number in numbers):
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
