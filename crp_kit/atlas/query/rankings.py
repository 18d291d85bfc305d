"""Rankings and statistics that an atlas holds, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...result_table import Column, Table, not_a_column
from .concept_names import with_names

__all__ = ["ClassRanking", "ConceptRanking", "ConceptStatistics", "SampleRanking"]


@dataclass(frozen=True, eq=False, repr=False)
class SampleRanking(Table):
    """The samples in which a concept is strongest, best first.

    Parameters
    ----------
    sample : numpy.ndarray
        Numbers in the dataset.
    score : numpy.ndarray
        Relevance or activation of the concept there.
    position : numpy.ndarray
        Flat index, in the concept's own map, of the neuron with the highest value.
    target : numpy.ndarray
        The class that relevance started from; -1 for none, as for all samples of an atlas without classes.
    note : str
        What to know about the ranking, such as what relevance started from if that was one target for all samples;
        empty if there is nothing.
    classes : bool
        Whether relevance starts from classes in this atlas; else `target` is not shown.
    """

    sample: Column
    score: Column
    position: Column
    target: Column
    note: str = field(default="", metadata=not_a_column)
    classes: bool = field(default=True, metadata=not_a_column)

    @property
    def caption(self) -> str:
        return self.note

    def shown_columns(self) -> dict[str, Column]:
        """Return the columns; without the target where there are no classes."""
        return {name: column for name, column in self.columns().items() if self.classes or name != "target"}


@dataclass(frozen=True, eq=False, repr=False)
class ClassRanking(Table):
    """The classes that a concept serves, strongest first.

    Parameters
    ----------
    cls : numpy.ndarray
        Class numbers.
    name : numpy.ndarray
    mean : numpy.ndarray
        Mean score of the concept over the samples of the class, or over the best of them.
    count : numpy.ndarray
        Samples of the class.
    """

    cls: Column
    name: Column
    mean: Column
    count: Column


@dataclass(frozen=True, eq=False, repr=False)
class ConceptRanking(Table):
    """The concepts that serve a class, strongest first.

    Parameters
    ----------
    concept : numpy.ndarray
    mean, std : numpy.ndarray
        Of the score over the samples of the class.
    names : dict
        Names of concepts, which are printed; no column.
    """

    concept: Column
    mean: Column
    std: Column
    names: Mapping[int, str] = field(default_factory=dict, metadata=not_a_column)

    def shown_columns(self) -> dict[str, Column]:
        return with_names(self.columns(), self.names)


@dataclass(frozen=True, eq=False, repr=False)
class ConceptStatistics(Table):
    """Moments of every concept of a layer over all rows of all classes, or of one class.

    Parameters
    ----------
    concept : numpy.ndarray
    mean, std, min, max : numpy.ndarray
    names : dict
        Names of concepts, which are printed; no column.
    """

    concept: Column
    mean: Column
    std: Column
    min: Column
    max: Column
    names: Mapping[int, str] = field(default_factory=dict, metadata=not_a_column)

    def shown_columns(self) -> dict[str, Column]:
        return with_names(self.columns(), self.names)
