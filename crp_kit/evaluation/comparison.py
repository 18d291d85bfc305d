"""Results of flipping beside each other: of several layers, or under several composites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..result_table import Column
from .curves import AreaTable, CurveTable, FlippingCurves

__all__ = ["ComparedAreas", "ComparedCurves", "compared_areas", "compared_curves"]


@dataclass(frozen=True, eq=False, repr=False)
class ComparedAreas(AreaTable):
    """Areas of several results, as `AreaTable` has them, by layer and composite."""

    layer: Column
    composite: Column

    def columns(self) -> dict[str, Column]:
        return _in_front(super().columns())


@dataclass(frozen=True, eq=False, repr=False)
class ComparedCurves(CurveTable):
    """Curves of several results, as `CurveTable` has them, by layer and composite."""

    layer: Column
    composite: Column

    def columns(self) -> dict[str, Column]:
        return _in_front(super().columns())


def _in_front(columns: dict[str, Column]) -> dict[str, Column]:
    return {name: columns[name] for name in ("layer", "composite")} | columns


def compared_areas(results: Sequence[FlippingCurves]) -> ComparedAreas:
    """Return the areas of several results as one table.

    Raises
    ------
    InputError
        If there is no result.
    """
    return ComparedAreas(**_joined(results, [result.summary for result in results]))


def compared_curves(results: Sequence[FlippingCurves]) -> ComparedCurves:
    """Return the curves of several results as one table.

    Raises
    ------
    InputError
        If there is no result.
    """
    return ComparedCurves(**_joined(results, [result.table for result in results]))


def _joined(results: Sequence[FlippingCurves], tables: Sequence[AreaTable | CurveTable]) -> dict[str, Any]:
    """Return the columns of all tables, with the layer and composite of each row."""
    if not results:
        raise InputError("there is no result to compare; give at least one")
    lengths = [len(table) for table in tables]
    columns = [table.columns() for table in tables]
    joined = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
    composites = [result.settings["composite"] for result in results]
    return {
        **joined,
        "layer": np.repeat([result.layer for result in results], lengths),
        "composite": np.repeat(composites, lengths),
    }
