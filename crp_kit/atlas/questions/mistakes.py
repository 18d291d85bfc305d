"""Mistakes of the model: right against wrong predictions of a class, and one class taken for another."""

from __future__ import annotations

from ...errors import InputError
from ..query.selection import Selection, select
from ..query.stored_scores import StoredScores
from .contrast import compared
from .contrast_table import ContrastTable
from .groups import class_words, two_groups

__all__ = ["confusion", "mistakes"]


def mistakes(scores: StoredScores, cls: int | str, where: Selection | None = None) -> ContrastTable:
    """Compare the samples of a class that are predicted right with those predicted wrong; see `ScoreAtlas.mistakes`."""
    number = scores.file.class_number(cls)
    words = class_words(scores, number)
    right, wrong = (select(scores.file, label=number, correct=correct) for correct in (True, False))
    return _contrast(scores, {f"{words} predicted right": right, f"{words} predicted wrong": wrong}, where)


def confusion(scores: StoredScores, a: int | str, b: int | str, where: Selection | None = None) -> ContrastTable:
    """Compare samples of one class that are taken for another with samples of that one; see `ScoreAtlas.confusion`."""
    first, second = scores.file.class_number(a), scores.file.class_number(b)
    if first == second:
        raise InputError(f"a confusion is of two classes; got {class_words(scores, first)} twice")
    words, of_second = (class_words(scores, number) for number in (first, second))
    taken, right = (select(scores.file, label=number, prediction=second) for number in (first, second))
    return _contrast(scores, {f"{words} predicted as {of_second}": taken, f"{of_second} predicted right": right}, where)


def _contrast(scores: StoredScores, selections: dict[str, Selection], where: Selection | None) -> ContrastTable:
    """Return the contrast of two selections under names that say what they are."""
    first, second = (Selection(part.file, part.mask, words) for words, part in selections.items())
    return compared(scores, two_groups(scores, first, second, where))
