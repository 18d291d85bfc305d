"""One statistic of an atlas as one object: its arrays, how it adds a batch, merges a shard, and is checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from ..file.file_tree import ArraySpec
from ..file.header import Array, Header, Integers, LayerInfo, Mode
from .scores import ModeScores
from .seen import SeenClasses

__all__ = ["Allocate", "ArrayField", "Block", "Read", "Statistic", "in_memory"]

Allocate = Callable[[tuple[int, ...], str, float], Array]
"""From shape, dtype and fill value to a new array."""


class Read(Protocol):
    """One layer and mode of a file.

    Attributes
    ----------
    classes : numpy.ndarray
        (row,), the class of each row of the axis ``"seen"``; -1 for a class without samples, as older files have them.
    """

    @property
    def classes(self) -> Integers: ...

    def __call__(self, path: str) -> Any:
        """Return an array, by its path below the group of layer and mode, that is read when it is cut."""


def in_memory(shape: tuple[int, ...], dtype: str, fill: float) -> Array:
    """Return a new array in memory; pages of zeros are taken when they are first written to."""
    return np.full(shape, fill, dtype) if fill else np.zeros(shape, dtype)


@dataclass(frozen=True)
class ArrayField:
    """One array of a statistic in the file.

    Parameters
    ----------
    path : str
        Below the group of layer and mode, such as ``"top/score"``.
    axes : tuple of str
        Of ``"concept"``, ``"class"`` (every class of the model), ``"seen"`` (the classes that have samples, in the
        order of `ConceptAtlas.seen`; see `Statistic.make_room`), ``"sample"`` (of the file), ``"k"``, ``"k_class"``,
        ``"one"`` (length 1).
    kind : str
        NumPy's letter for its type: ``"f"`` or ``"i"``.
    """

    path: str
    axes: tuple[str, ...]
    kind: str

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rsplit("/", maxsplit=1)[-1]

    def shape(self, header: Header, concepts: int, samples: int, seen: int) -> tuple[int, ...]:
        """Return the shape in a file of so many samples and classes that have samples."""
        sizes = {
            "concept": concepts,
            "class": header.n_classes,
            "seen": seen,
            "sample": samples,
            "k": header.k,
            "k_class": header.k_class,
            "one": 1,
        }
        return tuple(sizes[axis] for axis in self.axes)


@dataclass(frozen=True, eq=False)
class Block:
    """Some concepts of one layer and mode of a file, for the checks of a statistic.

    Parameters
    ----------
    header : Header
    layer : LayerInfo
    mode : {"relevance", "activation"}
    samples, target, prediction : numpy.ndarray
        (sample,), of the file.
    part : slice
        The concepts.
    read : callable
    """

    header: Header
    layer: LayerInfo
    mode: Mode
    samples: Integers
    target: Integers
    prediction: Integers
    part: slice
    read: Read
    _read: dict[type[Statistic], dict[str, Array]] = field(default_factory=dict, init=False)

    def arrays(self, statistic: type[Statistic]) -> dict[str, Array]:
        """Return the arrays of a statistic by name, those with concepts as (concept, …)."""
        if statistic not in self._read:
            self._read[statistic] = {part.name: self._array(part) for part in statistic.fields}
        return self._read[statistic]

    def _array(self, part: ArrayField) -> Array:
        array = self.read(part.path)
        if "concept" not in part.axes:
            return np.asarray(array[:])
        axis = part.axes.index("concept")
        return np.moveaxis(np.asarray(array[(slice(None),) * axis + (self.part,)]), axis, 0)


class Statistic(ABC):
    """A statistic of the scores of one layer, by relevance or by activation.

    Class attributes describe it in the file; an instance is what a pass has accumulated so far. However a dataset is
    cut into batches and shards, the result has to be the same, bit for bit.

    Parameters
    ----------
    header : Header
        Of the atlas.
    concepts : int
        Of the layer.
    samples : int
        Of this shard.
    allocate : callable
        From shape, dtype and fill value to a new array. Everything that grows with concepts is made by it, so that a
        build can count the memory and keep large arrays in files.

    Attributes
    ----------
    name : str
        Also of its group in the file, below layer and mode.
    encoding : str
        The ``encoding-type`` of its group behind ``crp-kit-atlas-``; empty for a single array without a group.
    exact : str
        Name of the group of what a merge needs beyond the fields, in shards and checkpoints; empty for nothing.
    fields : tuple of ArrayField
        The arrays of the finished file.
    optional : bool
        Whether an atlas without it is sound. Only the statistics of format 1 from its beginning are not optional.
    most_concepts : int or None
        Layers with more concepts are without it.
    seen : SeenClasses
        The classes that have samples so far and their rows, for arrays with the axis ``"seen"``; set by the pass before
        anything is added or merged.
    """

    name: ClassVar[str]
    encoding: ClassVar[str] = ""
    exact: ClassVar[str] = ""
    fields: ClassVar[tuple[ArrayField, ...]]
    optional: ClassVar[bool] = True
    most_concepts: ClassVar[int | None] = None
    seen: SeenClasses

    @abstractmethod
    def __init__(self, header: Header, concepts: int, samples: int, allocate: Allocate) -> None: ...

    @classmethod
    def applies(cls, header: Header, mode: Mode) -> bool:
        """Return whether an atlas with such a header has it for relevance, or for activation."""
        return True

    def make_room(self, rows: int) -> None:  # noqa: B027 - most statistics have no rows for classes
        """Make room for so many classes that have samples; called before the first scores of a class are added.

        Only a statistic with the axis ``"seen"`` needs it. Nothing else may change: for the rows of another statistic
        there may be no memory.
        """

    @abstractmethod
    def add(self, scores: ModeScores, index: Integers) -> None:
        """Add a batch; `index` (sample,) has the numbers of all samples of this shard."""

    @abstractmethod
    def arrays(self) -> Mapping[str, ArraySpec]:
        """Return the fields by path."""

    def exact_arrays(self) -> Mapping[str, ArraySpec]:
        """Return what a merge needs beyond the fields, by name in the group `exact`."""
        return {}

    @abstractmethod
    def merge(self, read: Read, start: int) -> None:
        """Add a shard or checkpoint that has seen other samples; its samples are those of this one from `start` on."""

    @classmethod
    def check(cls, block: Block) -> Iterator[str]:
        """Yield what is wrong in a file, in words, for a block of concepts."""
        yield from ()
