"""Selections of samples of an atlas, which every statistic takes as groups or as `where`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...printable import printable
from ..file.atlas_file import AtlasFile

__all__ = ["AttributeQuery", "ClassQuery", "Selection", "select", "where_words"]

Mask = npt.NDArray[np.bool_]
ClassQuery: TypeAlias = "int | str | Sequence[int | str]"
"""One class or several, by number, name or part of a name."""
AttributeQuery: TypeAlias = "str | Mapping[str, Any]"
"""Name of an attribute that is true, or the value (or values, or a test of the values) of each."""
_NUMBERS = "has numbers", (int, float, np.integer, np.floating)
_VALUES: dict[str, tuple[str, tuple[type, ...]]] = {
    "b": ("is true or false", (bool, np.bool_)),
    **dict.fromkeys("fiu", _NUMBERS),
    "O": ("has texts", (str,)),
}
"""By the type of an attribute, what it has in words, and the types of its values."""


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """Some samples of an atlas. ``&``, ``|`` and ``~`` combine selections of one atlas.

    Samples that the build left out are in no selection, and in no complement of one.

    Parameters
    ----------
    file : AtlasFile
        The atlas.
    mask : numpy.ndarray
        (sample,), true for those that are chosen, in the order of ``atlas.samples``.
    condition : str
        What was asked for, in words.

    Examples
    --------
    >>> import tempfile
    >>> import crp_kit as crp
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
    >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2")
    >>> ~(atlas.where(label=0) | atlas.where(label=[1, 2]))
    Selection of 40 of 64 samples: not (label 0 or label 1, 2)
    >>> atlas.close()
    """

    file: AtlasFile
    mask: Mask
    condition: str

    @property
    def samples(self) -> npt.NDArray[Any]:
        """Numbers of the samples in the dataset, ascending: (sample,)."""
        chosen: npt.NDArray[Any] = self.file.samples[self.mask]
        return chosen

    def __len__(self) -> int:
        return int(self.mask.sum())

    def __and__(self, other: Selection) -> Selection:
        return self._combined(other, self.mask & self._mask_of(other), "and")

    def __or__(self, other: Selection) -> Selection:
        return self._combined(other, self.mask | self._mask_of(other), "or")

    def __invert__(self) -> Selection:
        return replace(self, mask=looked_at(self.file) & ~self.mask, condition=f"not {self._nested}")

    @property
    def _nested(self) -> str:
        """The condition as a part of a longer one."""
        return f"({self.condition})" if " and " in self.condition or " or " in self.condition else self.condition

    def _combined(self, other: Selection, mask: Mask, word: str) -> Selection:
        return replace(self, mask=mask, condition=f"{self._nested} {word} {other._nested}")

    def _mask_of(self, other: Selection) -> Mask:
        """Return the mask of another selection of the same atlas."""
        if not isinstance(other, Selection):
            raise InputError(f"a selection is combined with another one, from atlas.where(…); got {other!r:.60}")
        other.check_belongs(self.file)
        return other.mask

    def check_belongs(self, file: AtlasFile) -> None:
        """Make sure that this is a selection of an atlas.

        Raises
        ------
        InputError
            If it was made from another.
        """
        if self.file is not file and self.file.metadata["checksum"] != file.metadata["checksum"]:
            raise InputError(f"{self!r} belongs to {self.file.path}, not to {file.path}; select from that atlas")

    def __repr__(self) -> str:
        total = int(looked_at(self.file).sum())
        return f"Selection of {len(self)} of {total} samples: {printable(self.condition)}"


def where_words(where: Selection | None) -> str:
    """Return the condition of the samples that count, as the end of a sentence about them; empty for all samples."""
    return "" if where is None else f" (where: {printable(where.condition)})"


def looked_at(file: AtlasFile) -> Mask:
    """Return which samples the build has not left out: (sample,)."""
    mask: Mask = file.predictions >= 0
    return mask


def select(
    file: AtlasFile,
    *,
    label: ClassQuery | None = None,
    prediction: ClassQuery | None = None,
    correct: bool | None = None,
    attribute: AttributeQuery | None = None,
    sample: Sequence[int] | None = None,
) -> Selection:
    """Return the samples of an atlas that meet all conditions; see `crp_kit.ConceptAtlas.where`."""
    mask, conditions = looked_at(file), []
    for name, classes, asked in (("label", "labels", label), ("prediction", "predictions", prediction)):
        if asked is not None:
            wanted = [file.class_number(cls) for cls in _several(asked)]
            mask = mask & np.isin(getattr(file, classes), wanted)
            conditions.append(f"{name} {_words(asked)}")
    if correct is not None:
        if not isinstance(correct, (bool, np.bool_)):
            raise InputError(f"correct is True or False; got {correct!r}")
        right = file.predictions == file.labels
        mask = mask & (file.labels >= 0) & (right if correct else ~right)
        conditions.append("correct" if correct else "wrong")
    for name, value in _attributes(attribute).items():
        mask = mask & _fitting(name, _attribute(file, name), value)
        conditions.append(name if value is True else f"{name} {_words(value)}")
    if sample is not None:
        numbers = _sample_numbers(file, sample)
        mask = mask & np.isin(file.samples, numbers)
        conditions.append(f"{len(numbers)} samples by number")
    return Selection(file, mask, " and ".join(conditions) or "all")


def _several(asked: ClassQuery) -> Sequence[int | str]:
    return list(asked) if isinstance(asked, Iterable) and not isinstance(asked, str) else [asked]


def _attributes(attribute: AttributeQuery | None) -> Mapping[str, Any]:
    if attribute is None:
        return {}
    return {attribute: True} if isinstance(attribute, str) else attribute


def _attribute(file: AtlasFile, name: str) -> npt.NDArray[Any]:
    if name not in file.attributes:
        known = ", ".join(map(printable, file.attributes)) or "none; crp-kit atlas annotate adds some"
        raise InputError(f"no attribute is named {name!r}; there are {known}")
    return file.attributes[name]


def _fitting(name: str, values: npt.NDArray[Any], wanted: Any) -> Mask:
    """Return where an attribute has a value, one of several values, or passes a test."""
    if callable(wanted):
        test: Callable[[Any], Any] = wanted
        return np.array([bool(test(value)) for value in values.tolist()], bool)
    choices = list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]
    words, types = _VALUES.get(values.dtype.kind, _VALUES["O"])
    for choice in choices:
        if not isinstance(choice, types) or (isinstance(choice, (bool, np.bool_)) and values.dtype.kind != "b"):
            raise InputError(
                f"the attribute {name!r} {words}: attribute={{{name!r}: …}} takes such a value, some of them, or a "
                f"function of one; got {choice!r}"
            )
    mask: Mask = np.isin(values, np.array(choices, values.dtype if values.dtype.kind in "fb" else None))
    return mask


def _sample_numbers(file: AtlasFile, sample: Sequence[int]) -> npt.NDArray[Any]:
    numbers = np.asarray(sample)
    if numbers.ndim != 1:
        raise InputError(f"sample is a list of numbers of samples in the dataset; got {sample!r:.60}")
    if numbers.size and numbers.dtype.kind not in "iu":
        raise InputError(f"sample is numbers of samples in the dataset; got values of the type {numbers.dtype}")
    unknown = numbers[~np.isin(numbers, file.samples)]
    if len(unknown):
        raise InputError(f"{file.path} has no sample {unknown[0]}; its samples are in ConceptAtlas.samples")
    return numbers


def _words(value: Any) -> str:
    if callable(value):
        return getattr(value, "__name__", "by a function")
    values = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    plain = (each.item() if isinstance(each, np.generic) else each for each in values)
    return ", ".join(map(repr, plain)) or "of none"
