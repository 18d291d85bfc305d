"""Table of the statistics of an atlas. Building, file, checks, merge and queries walk over it.

A new statistic is one class and one row. It may come from outside of the package. An array with the axis "class" has a
row for every class of the model, one with the axis "seen" for every class that has samples (`Statistic.make_room`).

>>> import tempfile
>>> import crp_kit as crp
>>> from crp_kit.atlas.statistics import ArrayField, Statistic, array_spec, register_statistic, unregister_statistic
>>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
>>> @register_statistic
... class PositiveCount(Statistic):
...     '''How many samples have a positive score, by concept.'''
...
...     name, encoding = "positive", "positive"
...     fields = (ArrayField("positive/count", ("concept",), "i"),)
...
...     def __init__(self, header, concepts, samples, allocate):
...         self.count = allocate((concepts,), "i8", 0)
...
...     def add(self, scores, index):
...         self.count += (scores.first.score > 0).sum(0)
...
...     def arrays(self):
...         return {"positive/count": array_spec(self.count)}
...
...     def merge(self, read, start):
...         self.count += read("positive/count")[:]
...
...     @classmethod
...     def check(cls, block):
...         if (block.arrays(cls)["count"] > block.header.n_samples).any():
...             yield "more samples have a positive score than there are"
>>> folder = tempfile.TemporaryDirectory()
>>> study = crp.Study(demo_resnet(), ShapesDataset(8), preprocess=demo_preprocess)
>>> atlas = study.build_atlas(f"{folder.name}/atlas.h5", layers=["layer3.1.conv2"])
>>> atlas["layer3.1.conv2"].relevance.arrays("positive")["count"].shape
(64,)
>>> crp.verify_atlas(atlas.path)
()
>>> unregister_statistic("positive")
>>> atlas.close(), folder.cleanup()
(None, None)
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TypeVar

from ...errors import InputError
from ..file.header import Header, Mode
from .base import Statistic
from .gram import Gram
from .matrix import Matrix
from .moments import ClassMoments, OverallMoments
from .rankings import ClassTop, Top

__all__ = ["register_statistic", "statistic_named", "statistics_in", "statistics_of", "unregister_statistic"]

_STATISTICS: dict[str, type[Statistic]] = {
    statistic.name: statistic for statistic in (Top, ClassTop, ClassMoments, OverallMoments, Matrix, Gram)
}
S = TypeVar("S", bound=type[Statistic])


def statistics_of(header: Header, mode: Mode, concepts: int = 0) -> Iterable[type[Statistic]]:
    """Return the statistics of a layer of so many concepts in an atlas with such a header."""
    return [
        statistic
        for statistic in _STATISTICS.values()
        if statistic.applies(header, mode) and (statistic.most_concepts is None or concepts <= statistic.most_concepts)
    ]


def statistics_in(names: Container[str], header: Header, mode: Mode) -> Iterable[type[Statistic]]:
    """Return the statistics that a file should have, where a group of layer and mode holds `names`."""
    return [statistic for statistic in statistics_of(header, mode) if not statistic.optional or statistic.name in names]


def statistic_named(name: str) -> type[Statistic]:
    """Return a statistic by name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in _STATISTICS:
        raise InputError(f"no statistic is named {name!r}; there are {', '.join(_STATISTICS)}")
    return _STATISTICS[name]


def register_statistic(statistic: S) -> S:
    """Add a statistic to every atlas that is built from now on, and to the checks of those that have it.

    A process that reads an atlas without it reads everything else.

    Parameters
    ----------
    statistic : type
        A subclass of `Statistic` with a new name.

    Returns
    -------
    type
        The same, so that this is a decorator.

    Raises
    ------
    InputError
        If there is a statistic of this name, or it is not optional: older files are without it.
    """
    if statistic.name in _STATISTICS:
        raise InputError(f"there is a statistic named {statistic.name!r} already; choose another name")
    if not statistic.optional:
        raise InputError(f"the statistic {statistic.name!r} has to be optional: older files are without it")
    _STATISTICS[statistic.name] = statistic
    return statistic


def unregister_statistic(name: str) -> None:
    """Leave a statistic out of atlases that are built from now on.

    Raises
    ------
    InputError
        If there is none of this name, or it belongs to the format.
    """
    if not statistic_named(name).optional:
        raise InputError(f"the statistic {name!r} belongs to the format of an atlas")
    del _STATISTICS[name]
