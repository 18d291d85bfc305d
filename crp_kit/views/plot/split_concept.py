"""Virtual units of a concept: the reference samples of each, one block below the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from .reference_view import reference_view
from .references import references

if TYPE_CHECKING:
    from ...evaluation.split_concept import SplitConcept

__all__ = ["split_concept"]


def split_concept(split: SplitConcept, *, columns: int = 8) -> Figure:
    """Return a figure of the reference samples of all virtual units.

    Parameters
    ----------
    split : SplitConcept
    columns : int, optional
        Samples in a line; those that do not fit into two lines are left out.
    """
    views = []
    for number in split.table.unit.tolist():
        of_unit = split.of_unit(number)
        view = reference_view(of_unit.taken(range(min(len(of_unit), 2 * columns))))
        views.append(replace(view, subject=f"{view.subject}, unit {number} with {len(of_unit)} samples"))
    return references(views, columns=columns)
