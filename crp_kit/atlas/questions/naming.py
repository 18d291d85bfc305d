"""Names of the concepts of a layer: formulas of attributes of the samples that the concept's scores follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...checks import check_seed
from ...drawing import plots
from ...errors import InputError
from ...printable import printable
from ...result_table import Column, not_a_column
from ...statistics.arrays import Bools
from ...statistics.intervals import auc_interval
from ...statistics.naming import ConceptNames, name_concepts
from ..file.names import write_names
from ..query.selection import Selection
from ..query.stored_scores import StoredScores
from .concept_table import ConceptRows
from .groups import origin_words
from .matrix_rows import score_rows, scored

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["NO_NAME", "NamedConcepts", "NamedRows", "named_concepts"]

NO_NAME = "not distinguishable from chance"


class NamedRows(ConceptRows):
    """A table with a concept and its name, or `NO_NAME`, in each row."""

    name: Column

    @property
    def names(self) -> dict[int, str]:
        """The names that are distinguishable from chance, by concept."""
        pairs = zip(self.concept.tolist(), self.name.tolist(), strict=True)
        return {concept: name for concept, name in pairs if name != NO_NAME}

    def save(self, *, overwrite: bool = False) -> Path:
        """Save the distinguishable names beside the atlas, where `LayerAtlas.names` reads them; return the file.

        Parameters
        ----------
        overwrite : bool, optional
            Replace names that the layer has.

        Raises
        ------
        AtlasError
            If the layer has names that may not be replaced, or the file cannot be written.
        """
        return write_names(self.scores.file, self.scores.layer, self.names, overwrite=overwrite)


@dataclass(frozen=True, eq=False, repr=False)
class NamedConcepts(NamedRows):
    """Concepts with names, those that follow their name best on the other half first, and those without one last.

    Parameters
    ----------
    concept : numpy.ndarray
    name : numpy.ndarray
        Formula of attributes, or ``"not distinguishable from chance"``.
    auc : numpy.ndarray
        The chance that a sample of which the formula holds has a higher score than another one, on the half of the
        samples where the formula was searched.
    auc_other_half : numpy.ndarray
        The same on the other half.
    null : numpy.ndarray
        The AUC that a search reaches by chance in one of 20 cases.
    support : numpy.ndarray
        Samples of which the formula holds.
    scores : StoredScores
        No column.
    searched : ConceptNames
        What the search has found for every concept, by number; no column.
    """

    concept: Column
    name: Column
    auc: Column
    auc_other_half: Column
    null: Column
    support: Column
    scores: StoredScores = field(metadata=not_a_column)
    searched: ConceptNames = field(metadata=not_a_column)

    @property
    def q(self) -> Column:
        """False discovery rate of the check on the other half, that the AUC is above 0.5: (row,)."""
        return self.searched.q[self.concept]

    def interval(self, confidence: float = 0.95) -> tuple[Column, Column]:
        """Return the confidence interval of each AUC on the other half, low and high.

        Parameters
        ----------
        confidence : float, optional
            Between 0 and 1.

        Raises
        ------
        InputError
            If it is not.
        """
        held = self.searched.held_other_half[self.concept]
        others = self.searched.n_other_half - held
        return auc_interval(self.auc_other_half, np.maximum(held, 1), np.maximum(others, 1), confidence=confidence)

    @property
    def caption(self) -> str:
        """What the names follow, in one line."""
        return f"names by attributes of samples: {origin_words(self.scores)}"

    def plot(self) -> Figure:
        """Return a matplotlib Figure: for each concept the AUC of its name on both halves, and by chance."""
        pairs = zip(self.concept.tolist(), self.name.tolist(), strict=True)
        lines = [f"{concept}: {printable(name)}" for concept, name in pairs]
        title = f"names of the concepts of {printable(self.scores.layer)}, by {self.scores.mode}"
        figure: Figure = plots().named_concepts(lines, self.auc, self.auc_other_half, self.null, title=title)
        return figure


def named_concepts(
    scores: StoredScores,
    attributes: Any = None,
    length: int = 3,
    *,
    beam: int = 4,
    where: Selection | None = None,
    seed: int = 0,
) -> NamedConcepts:
    """Return names of the concepts of a layer; see `LayerAtlas.name_concepts`."""
    mask, seed = scored(scores, where), check_seed(seed)
    words, truth = _attributes(scores, attributes)
    best = name_concepts(score_rows(scores, mask), truth[mask], length=length, beam=beam, seed=seed)
    formulas = [formula.words(words) for formula in best.formulas]
    name = np.where(best.distinguishable, np.array(formulas), NO_NAME)
    order = np.lexsort((-np.nan_to_num(best.auc_other_half), ~best.distinguishable))
    return NamedConcepts(
        order,
        name[order],
        best.auc[order],
        best.auc_other_half[order],
        np.full(len(order), best.null),
        best.support[order],
        scores,
        best,
    )


def _attributes(scores: StoredScores, attributes: Any) -> tuple[list[str], Bools]:
    """Return names and truth, (sample, attribute), of the attributes that are true or false."""
    file = scores.file
    if attributes is None:
        columns: dict[str, Any] = {name: np.asarray(column) for name, column in file.attributes.items()}
        columns = {name: column for name, column in columns.items() if column.dtype == np.bool_}
        if not columns:
            raise InputError(
                f"{file.path} has no attributes that are true or false; give attributes={{name: array of booleans}}"
            )
    elif hasattr(attributes, "columns"):
        columns = {str(name): np.asarray(attributes[name]) for name in attributes.columns}
    elif isinstance(attributes, Mapping):
        columns = {str(name): np.asarray(column) for name, column in attributes.items()}
    else:
        raise InputError(f"attributes is a mapping or a data frame; got {type(attributes).__name__}")
    for name, column in columns.items():
        if column.dtype != np.bool_ or column.shape != file.samples.shape:
            raise InputError(
                f"the attribute {name!r} is one boolean for each of the {len(file.samples)} samples of the atlas, in "
                f"the order of ConceptAtlas.samples; got {column.dtype}, of shape {column.shape}"
            )
    if not columns:
        raise InputError("attributes holds no attribute")
    return list(columns), np.stack(list(columns.values()), 1)
