"""Results of flipping together: of several layers or composites beside each other, of shards as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..result_table import Column
from .curves import AreaTable, CurveTable, FlippingCurves

__all__ = ["ComparedAreas", "ComparedCurves", "compared_areas", "compared_curves", "joined_curves"]


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


def joined_curves(shards: Sequence[FlippingCurves]) -> FlippingCurves:
    """Return the results of all shards as one, as if they had been evaluated together.

    Parameters
    ----------
    shards : sequence of FlippingCurves
        In any order.

    Raises
    ------
    InputError
        If there is none, they are of different settings, or a sample is in two of them.
    """
    if not shards:
        raise InputError("there is no result to join; give at least one")
    first = shards[0]
    for other in shards:
        for name in ("layer", "settings", "confidence"):
            if getattr(other, name) != getattr(first, name):
                raise InputError(f"shards have one {name}; got {getattr(first, name)!r} and {getattr(other, name)!r}")
        if list(other.changes) != list(first.changes) or not np.array_equal(other.k, first.k):
            raise InputError("shards have the same orders, at the same numbers of flipped concepts")
    samples = np.concatenate([shard.samples for shard in shards])
    if len(np.unique(samples)) < len(samples):
        raise InputError("a sample is in two of the shards: join each shard once")
    order = np.argsort(samples)
    changes = {
        name: np.concatenate([shard.changes[name] for shard in shards], axis=-2)[..., order, :]
        for name in first.changes
    }
    return replace(first, changes=changes, samples=samples[order])


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
