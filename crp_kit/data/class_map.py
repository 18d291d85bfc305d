"""Classes of a dataset as classes of a model: by a map, by name, by number or by WordNet id."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, Literal

import torch
from torch.utils.data import ConcatDataset

from ..checks import is_integer
from ..class_names import class_number
from ..errors import CrpKitError, InputError
from ..escapes import escaped
from .dataset_names import class_names, inner_dataset, is_of_folders, sample_labels
from .labels import LabelIds, LabelMask, label_ids

__all__ = ["ClassLabels", "ModelClasses", "class_labels", "positional_names"]

_IMAGENET = ("tench", "toilet tissue")
"""First and last class of ImageNet, by which a list of 1000 names is known to be in its order."""
_WORDNET_ID = re.compile(r"n\d{8}")
_SHOWN = 3

_log = logging.getLogger(__name__)

How = Literal["map", "name", "position"]


@dataclass(frozen=True)
class ClassLabels:
    """Reading of labels as classes of a model.

    Parameters
    ----------
    numbers : tuple of (int or None)
        Class of the model, by label; None for labels that no sample has.
    names : tuple of str
        The dataset's, by label.
    how : {"map", "name", "position"}
        By what the numbers are known.
    """

    numbers: tuple[int | None, ...]
    names: tuple[str, ...]
    how: How

    def __call__(self, label: Any) -> LabelIds:
        """Return the classes that a label means; see `label_ids`.

        Raises
        ------
        InputError
            If the dataset has no such class.
        """
        ids = label_ids(label)
        if ids is None or self._as_they_are:
            return ids
        if isinstance(ids, LabelMask):
            return self._renumbered(ids)
        return tuple(dict.fromkeys(self._number(number) for number in ids))

    def _renumbered(self, label: LabelMask) -> LabelMask:
        """Return a mask in the model's classes, in which what the dataset does not name is no class."""
        mask = torch.full_like(label.mask, -1)
        for old in label:
            new = self.numbers[old] if old < len(self.numbers) else None
            if new is not None:
                mask[label.mask == old] = new
        return LabelMask.of(mask)

    @cached_property
    def _as_they_are(self) -> bool:
        return self.numbers == tuple(range(len(self.numbers)))

    def by_class(self, count: int) -> tuple[str, ...]:
        """Return the dataset's names in the order of a model's classes, if each of these has one; else nothing."""
        labels = {number: label for label, number in enumerate(self.numbers) if number is not None}
        each_once = len(labels) == len(self.numbers) == count
        return tuple(self.names[labels[number]] for number in range(count)) if each_once else ()

    def _number(self, label: int) -> int:
        number = self.numbers[label] if label < len(self.numbers) else None
        if number is None:
            raise InputError(f"its label {label} is none of the {len(self.numbers)} classes that the dataset names")
        return number


@dataclass(frozen=True)
class ModelClasses:
    """Classes of a model.

    Parameters
    ----------
    count : int
        Number of its outputs.
    names : tuple of str
        Of each output; empty where they are not known.
    """

    count: int
    names: tuple[str, ...]

    def number_of(self, name: str, *, wordnet_id: str | None = None) -> int | None:
        """Return the class that a name means, if it is one's name, number, WordNet id or, in other spelling, name."""
        exact = [number for number, known in enumerate(self.names) if known == name]
        if exact:
            return exact[0] if len(exact) == 1 else None
        if re.fullmatch("[0-9]{1,9}", name):
            return int(name) if int(name) < self.count else None
        known = wordnet_id or name
        if self._are_imagenet and known in _wordnet_ids():
            return _wordnet_ids()[known]
        similar = self._by_spelling.get(_spelling(name)) or tuple(
            number for part in name.split(",") for number in self._by_spelling.get(_spelling(part), ())
        )
        return similar[0] if len(set(similar)) == 1 else None

    @property
    def _are_imagenet(self) -> bool:
        ends = (self.names[0].split(",")[0], self.names[-1].split(",")[0]) if self.names else _IMAGENET
        return self.count == len(_wordnet_ids()) and ends == _IMAGENET

    @cached_property
    def _by_spelling(self) -> dict[str, tuple[int, ...]]:
        """Classes by their names, and by each of several that one has, in plain spelling."""
        table: dict[str, tuple[int, ...]] = {}
        for number, name in enumerate(self.names):
            for spelling in dict.fromkeys(_spelling(part) for part in (name, *name.split(","))):
                table[spelling] = (*table.get(spelling, ()), number)
        return table


def class_labels(dataset: Any, model: ModelClasses) -> ClassLabels | None:
    """Return how the labels of a dataset are read as a model's classes; None where they are the classes themselves.

    A `class_map` of the dataset comes first. Then each name is looked for among the model's. Only where the model's
    names are not known, labels count as they are: of folders, in the order of their names, if there are as many as
    outputs; of other datasets, whose authors have numbered their classes, also if as many have other names.

    Raises
    ------
    InputError
        If classes of the dataset are none of the model's, or a map does not fit.
    """
    names, inner = class_names(dataset), inner_dataset(dataset)
    if isinstance(inner, ConcatDataset) and any(class_names(part) for part in inner.datasets):
        raise InputError(
            "the parts of the data have different classes, so that a label means another one in each: build an atlas "
            "of each, or start from predictions by target='prediction'"
        )
    chosen = getattr(inner, "class_map", None)
    if chosen is not None:
        return ClassLabels(_mapped(names, chosen, model, _occurring(dataset)), names, "map")
    if not names:
        return None
    if names == model.names:
        return ClassLabels(tuple(range(len(names))), names, "name")
    by_name = bool(model.names) or (is_of_folders(dataset) and _are_of_one_kind(names))
    if not by_name and len(names) == model.count:
        return ClassLabels(tuple(range(len(names))), names, "position")
    if not by_name and not is_of_folders(dataset):
        _log.warning(
            "the data names %d classes and the model has %d outputs, whose names are not known: labels are taken to be "
            "numbers of outputs",
            len(names),
            model.count,
        )
        return None
    identifiers = getattr(inner, "wnids", None) or [None] * len(names)
    occurring = _occurring(dataset)
    pairs = enumerate(zip(names, identifiers, strict=True))
    numbers = tuple(
        model.number_of(name, wordnet_id=wordnet_id) if occurring is None or label in occurring else None
        for label, (name, wordnet_id) in pairs
    )
    unknown = [name for label, name in enumerate(names) if numbers[label] is None and _occurs(label, occurring)]
    if unknown and not is_of_folders(dataset) and len(names) == model.count:
        _log.warning(
            "the data calls its %d classes by other names than the model: labels are taken as they are", len(names)
        )
        return ClassLabels(tuple(range(len(names))), names, "position")
    if unknown:
        raise InputError(_not_the_models(unknown, names, model, folders=is_of_folders(dataset)))
    return ClassLabels(numbers, names, "name")


def positional_names(dataset: Any) -> tuple[str, ...]:
    """Return the names of a dataset's classes, if they may be those of a model's outputs in this order.

    Numbers and WordNet ids are not, and neither is what a `class_map` maps.
    """
    names = class_names(dataset)
    elsewhere = is_of_folders(dataset) and _are_of_one_kind(names)
    return () if elsewhere or getattr(inner_dataset(dataset), "class_map", None) is not None else names


def _are_of_one_kind(names: Iterable[str]) -> bool:
    """Return whether all names are numbers, or all are WordNet ids, so that no order is needed."""
    names = list(names)
    return all(re.fullmatch("[0-9]{1,9}", name) for name in names) or all(_WORDNET_ID.fullmatch(name) for name in names)


def _occurring(dataset: Any) -> frozenset[int] | None:
    """Return the labels that samples have, where the dataset lists them: an empty folder needs no class."""
    labels = sample_labels(dataset)
    return None if labels is None else frozenset(labels)


def _occurs(label: int, occurring: frozenset[int] | None) -> bool:
    return occurring is None or label in occurring


def _mapped(
    names: Sequence[str], chosen: Mapping[Any, Any], model: ModelClasses, occurring: frozenset[int] | None
) -> tuple[int | None, ...]:
    """Return the class of each label by a map from names of the dataset's classes to those of the model's."""
    if not names:
        raise InputError("a class map is for data whose classes have names, such as folders; this data has none")
    by_name = {escaped(str(name)): cls for name, cls in chosen.items()}
    missing = [name for label, name in enumerate(names) if name not in by_name and _occurs(label, occurring)]
    if missing:
        raise InputError(f"the class map has no class for {_listed(missing)}: give each folder one, by number or name")
    return tuple(_chosen_class(name, by_name[name], model) if name in by_name else None for name in names)


def _chosen_class(name: str, cls: Any, model: ModelClasses) -> int:
    number = model.number_of(escaped(cls)) if isinstance(cls, str) else None
    try:
        if number is not None:
            return number
        if not isinstance(cls, str) and not is_integer(cls):
            raise InputError(f"a class is a name or a whole number; got {cls!r:.80}")
        return class_number(cls, model.names, model.count)
    except CrpKitError as error:
        raise InputError(f"the class map gives {name!r} no class of the model: {error}") from error


def _not_the_models(unknown: Sequence[str], names: Sequence[str], model: ModelClasses, *, folders: bool) -> str:
    what = "folders" if folders else "classes"
    theirs = f", such as {model.names[0]!r}" if model.names else ", whose names are not known"
    return (
        f"the {what} of the data are not the model's classes: {_listed(unknown)} ({len(unknown)} of {len(names)}) "
        f"name none of its {model.count} outputs{theirs}; say which class each is by class_map, or start from "
        f"predictions by target='prediction'"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{name!r:.60}" for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _spelling(name: str) -> str:
    """Return a name in plain spelling: one case, one space between words, one form of each letter."""
    plain = unicodedata.normalize("NFC", name).casefold()
    return " ".join(re.split(r"[\s_\-]+", plain)).strip()


@cache
def _wordnet_ids() -> dict[str, int]:
    """Return the classes of ILSVRC 2012, in which models for ImageNet number them, by WordNet id."""
    lines = files(__package__).joinpath("imagenet_wnids.txt").read_text("ascii").split()
    return {name: number for number, name in enumerate(lines)}
