"""Base of the tables whose rows are concepts of one layer."""

from __future__ import annotations

from ...result_table import Column, Table
from ..query.concept_names import known_names, with_names
from ..query.rankings import SampleRanking
from ..query.stored_scores import StoredScores

__all__ = ["ClassConceptRows", "ConceptRows"]


class ConceptRows(Table):
    """A table with a concept in each row, and the layer that was asked.

    Where names of the layer's concepts are known, they are printed beside the numbers; the columns of
    the table itself stay what they are.
    """

    concept: Column
    scores: StoredScores

    def shown_columns(self) -> dict[str, Column]:
        return with_names(self.columns(), known_names(self.scores.file, self.scores.layer))

    def references(self, row: int, k: int = 8) -> SampleRanking:
        """Return the samples in which the concept of a row is strongest.

        Parameters
        ----------
        row : int
            Row of the table, from 0.
        k : int, optional
            How many samples.

        Raises
        ------
        InputError
            If there is no such row, or the atlas holds fewer samples.
        """
        return self.scores.top(int(self.concept[self.checked_row(row)]), k)


class ClassConceptRows(ConceptRows):
    """A table with a class and a concept in each row."""

    cls: Column

    def references(self, row: int, k: int = 8) -> SampleRanking:
        """Return the samples of the class of a row in which its concept is strongest.

        Parameters
        ----------
        row : int
            Row of the table, from 0.
        k : int, optional
            How many samples.

        Raises
        ------
        InputError
            If there is no such row, or the atlas holds fewer samples.
        AtlasError
            If it was built without rankings by class.
        """
        row = self.checked_row(row)
        return self.scores.class_top(int(self.concept[row]), int(self.cls[row]), k)
