"""Masks of samples by part: from the data, or from a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch.utils.data import Subset

from ..errors import InputError

__all__ = ["MaskFunction", "PartMasks", "masks_of"]

Bools = npt.NDArray[np.bool_]
MaskFunction: TypeAlias = Callable[[int], Any]
"""From the number of a sample to its mask, (*place) or (part, *place), of booleans."""


class PartMasks:
    """Masks of samples by part.

    Parameters
    ----------
    dataset : map-style dataset
        Its own ``masks`` are taken where `masks` is None, and the names of its ``parts``.
    masks : callable, optional
        From the number of a sample to its mask, (*place) or (part, *place).
    parts : sequence of str, optional
        Names of the parts that count; all by default.

    Attributes
    ----------
    identity : tuple
        What was asked for.

    Raises
    ------
    InputError
        If there are no masks, `parts` is something else, or a part is chosen that is none of the data's.
    """

    def __init__(self, dataset: Any, masks: MaskFunction | None, parts: Sequence[str] | None) -> None:
        own = masks if masks is not None else masks_of(dataset)
        if own is None:
            raise InputError(
                "the data has no masks: give masks=, a function from the number of a sample to its mask, (height, "
                "width) or (part, height, width)"
            )
        if not callable(own):
            raise InputError(f"masks is a function from the number of a sample to its mask; got {type(own).__name__}")
        if parts is not None and not isinstance(parts, (str, Sequence)):
            raise InputError(f"parts is names of parts, such as ('head', 'tail'); got {parts!r}")
        self._masks, self.identity = own, (masks, parts)
        self._names = tuple(map(str, getattr(_inner(dataset), "parts", ()))) if masks is None else ()
        self._chosen = (parts,) if isinstance(parts, str) else None if parts is None else tuple(parts)
        if self._names:
            self._check_chosen(self._names)

    def of(self, sample: int, shape: tuple[int, ...]) -> dict[str, Bools]:
        """Return the masks of a sample by part, (*place) each.

        Raises
        ------
        InputError
            If the function fails or returns something else, or there is no such part.
        """
        by_part = self._read(sample, shape)
        names = self._names or tuple(f"part {number}" if len(by_part) > 1 else "mask" for number in range(len(by_part)))
        if len(names) != len(by_part):
            raise InputError(f"the data has the {len(names)} parts {', '.join(names)}, and masks of {len(by_part)}")
        every = dict(zip(names, by_part, strict=True))
        self._check_chosen(names)
        return every if self._chosen is None else {name: every[name] for name in self._chosen}

    def _check_chosen(self, names: Sequence[str]) -> None:
        unknown = [name for name in self._chosen or () if name not in names]
        if unknown:
            raise InputError(f"no part {unknown[0]!r}; there are {', '.join(names)}")

    def union(self, sample: int, shape: tuple[int, ...]) -> Bools:
        """Return the mask of all parts together: (*place)."""
        union: Bools = np.any(list(self.of(sample, shape).values()), axis=0)
        return union

    def _read(self, sample: int, shape: tuple[int, ...]) -> Bools:
        """Return the masks of a sample, (part, *place)."""
        try:
            array = np.asarray(self._masks(sample))
        except Exception as error:  # of the user's own
            raise InputError(f"the mask of sample {sample} fails: {type(error).__name__}: {error}") from error
        if array.dtype != np.bool_ and not (array.dtype.kind in "uif" and np.isin(array, (0, 1)).all()):
            raise InputError(f"the mask of sample {sample} is of booleans, or 0 and 1; got {array.dtype}")
        masks = array.astype(bool)
        masks = masks[None] if masks.ndim == len(shape) else masks
        if masks.shape[1:] != shape or not len(masks):
            raise InputError(
                f"the mask of sample {sample} has the shape {array.shape} and its heatmap {shape}: give masks of the "
                f"model's input, (height, width) or (part, height, width)"
            )
        return masks


def _inner(dataset: Any) -> Any:
    return _inner(dataset.dataset) if isinstance(dataset, Subset) else dataset


def masks_of(dataset: Any) -> MaskFunction | None:
    """Return the masks that a dataset has, or that which it is a part of."""
    if isinstance(dataset, Subset):
        inside = masks_of(dataset.dataset)
        return None if inside is None else lambda number: inside(int(dataset.indices[number]))
    masks: MaskFunction | None = getattr(dataset, "masks", None)
    return masks
