"""Groups of samples that are compared: a class, a selection, or the rest of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from ...class_names import class_label
from ...errors import InputError
from ..query.atlas_start import start_words
from ..query.selection import Mask, Selection, where_words
from ..query.stored_scores import StoredScores
from .matrix_rows import scored

__all__ = ["Group", "GroupQuery", "class_words", "origin_words", "two_groups"]

GroupQuery: TypeAlias = "int | str | Selection"
"""A class by number, name or part of a name, or a selection."""
_STARTS = {"label": "each sample's label", "prediction": "each sample's prediction"}


@dataclass(frozen=True, eq=False)
class Group:
    """Samples that have scores.

    Parameters
    ----------
    words : str
    mask : numpy.ndarray
        (sample,).
    rows : numpy.ndarray or None
        Which rows of the moments by class make up the group: (class with samples,); ``None`` for a selection.
    where : str
        Which samples count, as the end of a sentence.
    """

    words: str
    mask: Mask
    rows: Mask | None = None
    where: str = ""


def two_groups(
    scores: StoredScores, a: GroupQuery, b: GroupQuery | None, where: Selection | None
) -> tuple[Group, Group]:
    """Return two groups that share no sample; without a second one, the first and its rest.

    Raises
    ------
    ConceptRangeError, InputError
        If there is no such class, a selection is of another atlas, or the groups share samples.
    """
    first = _group(scores, a)
    second = _rest(scores, first) if b is None else _group(scores, b)
    first, second = _within(scores, first, where), _within(scores, second, where)
    _check_apart(scores, first, second)
    return first, second


def _within(scores: StoredScores, group: Group, where: Selection | None) -> Group:
    """Return the samples of a group that a selection has too."""
    if where is None:
        return group
    return replace(group, mask=group.mask & scored(scores, where), rows=None, where=where_words(where))


def class_words(scores: StoredScores, number: int) -> str:
    """Return a class in words: its number, and its name where it has one."""
    name = scores.file.classes[number]
    return f"class {number}" if name == str(number) else f"class {class_label(number, scores.file.classes)}"


def origin_words(scores: StoredScores) -> str:
    """Return what scores are, of which layer, and where relevance started."""
    words = f"{scores.mode} of the concepts of {scores.layer!r}"
    if scores.mode == "activation":
        return words
    target = scores.file.header.target
    start = _STARTS.get(target) or f"the target {start_words(scores.file) or repr(target)}"
    return f"{words}, started from {start}"


def _group(scores: StoredScores, query: GroupQuery) -> Group:
    if isinstance(query, Selection):
        query.check_belongs(scores.file)
        return Group(query.condition, scored(scores) & query.mask)
    scores.file.check_classes("groups by class")
    number = scores.file.class_number(query)
    mask = scored(scores) & (scores.file.targets == number)
    return Group(class_words(scores, number), mask, scores.file.seen == number)


def _rest(scores: StoredScores, group: Group) -> Group:
    mask = scored(scores) & ~group.mask
    if group.rows is None:
        return Group("all other samples", mask)
    return Group("all other classes", mask & (scores.file.targets >= 0), ~group.rows)


def _check_apart(scores: StoredScores, a: Group, b: Group) -> None:
    """Make sure that groups share no sample, and are not one class."""
    if a.rows is not None and a.words == b.words:
        raise InputError(f"two groups are compared; {a.words} is both of them")
    shared = int((a.mask & b.mask).sum())
    if shared:
        raise InputError(
            f"{a.words} and {b.words} share {shared} samples of {scores.file.path}, so that they cannot be compared; "
            f"take those out of one of them, such as by a & ~b"
        )
