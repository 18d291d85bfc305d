"""Contrasts: the concepts whose scores differ between two groups of samples, and those that mark one group."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...checks import check_integer
from ...errors import InputError
from ...statistics.moments import GroupMoments, moments_of, pooled_moments
from ...statistics.multiple_testing import q_values
from ...statistics.two_groups import auc, welch_test
from ..query.selection import Selection
from ..query.stored_scores import StoredScores
from .contrast_table import ContrastTable
from .groups import Group, GroupQuery, origin_words, two_groups
from .matrix_rows import column_blocks, score_matrix

__all__ = ["compared", "contrast", "contrast_of_moments", "markers"]

Floats = npt.NDArray[np.float64]


def contrast(
    scores: StoredScores, a: GroupQuery, b: GroupQuery | None = None, where: Selection | None = None
) -> ContrastTable:
    """Compare two groups of samples in every concept; see `ScoreAtlas.contrast`."""
    return compared(scores, two_groups(scores, a, b, where))


def markers(scores: StoredScores, cls: GroupQuery, k: int = 10, where: Selection | None = None) -> ContrastTable:
    """Return the concepts that mark a group of samples among all; see `ScoreAtlas.markers`."""
    k = check_integer("k", k, low=1)
    table = contrast(scores, cls, where=where)
    return table.taken(table.mean_a > table.mean_b).taken(slice(k))


def compared(scores: StoredScores, groups: tuple[Group, Group]) -> ContrastTable:
    """Return the table of two groups: from the matrix; of classes from moments too, where it does not have all.

    Raises
    ------
    InputError
        If a group has no sample.
    AtlasError
        If the matrix is needed and not there.
    """
    a, b = groups
    note = ""
    if a.rows is not None and b.rows is not None:
        moments = (_class_moments(scores, a.rows), _class_moments(scores, b.rows))
        _check_held(groups, moments)
        note = _matrix_lacks(scores, groups, moments)
        if note:
            areas = np.full(scores.n_concepts, np.nan)
        else:
            # Means in the file are rounded to float32, which counts where a concept varies little.
            exact, areas = _from_matrix(scores, groups)
            moments = moments if scores.file.header.matrix_dtype else exact
    else:
        _check_held(groups)
        moments, areas = _from_matrix(scores, groups)
    return _table(scores, moments, areas, groups=(a.words, b.words), origin=origin_words(scores) + a.where + note)


def contrast_of_moments(
    scores: StoredScores, moments: tuple[GroupMoments, GroupMoments], words: tuple[str, str]
) -> ContrastTable:
    """Return the table of two groups that are not empty from their moments alone, without AUC."""
    areas = np.full(scores.n_concepts, np.nan)
    return _table(scores, moments, areas, groups=words, origin=origin_words(scores))


def _check_held(groups: tuple[Group, Group], moments: tuple[GroupMoments, GroupMoments] | None = None) -> None:
    """Make sure that no group is empty."""
    counts = [int(group.count) for group in moments] if moments else [int(group.mask.sum()) for group in groups]
    for group, count in zip(groups, counts, strict=True):
        if not count:
            raise InputError(
                f"no sample is in the group: {group.words}{group.where}; a comparison needs samples of both groups"
            )


def _class_moments(scores: StoredScores, rows: npt.NDArray[np.bool_]) -> GroupMoments:
    """Return the moments of some classes together."""
    stored = scores.arrays("moments")
    low, high = (int(edge) for edge in np.flatnonzero(rows)[[0, -1]]) if rows.any() else (0, -1)
    part, inside = slice(low, high + 1), rows[low : high + 1]
    values = (stored[name][part][inside].astype(np.float64) for name in ("mean", "std"))
    return pooled_moments(GroupMoments(stored["count"][part][inside], *values))


def _matrix_lacks(scores: StoredScores, groups: tuple[Group, Group], moments: tuple[GroupMoments, GroupMoments]) -> str:
    """Return why the matrix does not have the rows of the moments, for the caption; empty if it has."""
    if not scores.has("matrix"):
        return "; no auc without a matrix"
    if any(int(group.mask.sum()) != int(part.count) for group, part in zip(groups, moments, strict=True)):
        return "; no auc, since samples have several targets and the matrix has the first alone"
    return ""


def _from_matrix(scores: StoredScores, groups: tuple[Group, Group]) -> tuple[tuple[GroupMoments, GroupMoments], Floats]:
    """Return the moments and the AUC of two groups from the matrix."""
    matrix = score_matrix(scores, "a comparison of selections")
    parts: list[tuple[GroupMoments, GroupMoments, Floats]] = [
        (moments_of(a), moments_of(b), auc(a, b))
        for _, (a, b) in column_blocks(matrix, [group.mask for group in groups])
    ]
    first, second, areas = zip(*parts, strict=True)
    return (_joined(first), _joined(second)), np.concatenate(areas)


def _joined(parts: tuple[GroupMoments, ...]) -> GroupMoments:
    """Return the moments of a group from those of some of its concepts each."""
    mean, std = (np.concatenate([getattr(part, name) for part in parts]) for name in ("mean", "std"))
    return GroupMoments(parts[0].count, mean, std)


def _table(
    scores: StoredScores, moments: tuple[GroupMoments, GroupMoments], areas: Floats, **words: Any
) -> ContrastTable:
    """Return the table, the highest magnitude of t first, without a t last."""
    a, b = moments
    test = welch_test(a, b)
    concept = np.arange(scores.n_concepts)
    table = ContrastTable(
        concept, np.full_like(concept, a.count), np.full_like(concept, b.count), a.mean, b.mean,
        test.difference, test.t, test.df, test.p, q_values(test.p), test.g, areas,
        scores, errors=test.error, **words,
    )  # fmt: skip
    return table.taken(np.argsort(-np.abs(test.t), kind="stable"))
