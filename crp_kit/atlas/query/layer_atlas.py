"""Questions to one layer of an atlas, by relevance and by activation."""

from __future__ import annotations

from typing import Literal

from ...errors import InputError
from ...printable import printable
from ..file.atlas_file import AtlasFile
from ..file.schema import MODES, LayerInfo, Mode
from .concept_questions import ConceptQuestions
from .group_questions import GroupQuestions
from .rankings import ClassRanking, ConceptRanking
from .sample_questions import SampleQuestions

__all__ = ["LayerAtlas", "ScoreAtlas"]


class LayerAtlas:
    """One layer of an atlas, with a `ScoreAtlas` by relevance and one by activation. `ConceptAtlas` returns it by name.

    Attributes
    ----------
    file : AtlasFile
        The open file.
    info : LayerInfo
        Name, concept, number of concepts and output shape (without the batch axis).
    """

    def __init__(self, file: AtlasFile, number: int, info: LayerInfo) -> None:
        self.file, self.info, self._number = file, info, number

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def n_concepts(self) -> int:
        return self.info.n_concepts

    @property
    def relevance(self) -> ScoreAtlas:
        """Relevance: RelMax rankings and moments."""
        return self.score("relevance")

    @property
    def activation(self) -> ScoreAtlas:
        """Activation: ActMax rankings and moments."""
        return self.score("activation")

    def score(self, mode: Mode) -> ScoreAtlas:
        """Return relevance or activation by name.

        Raises
        ------
        InputError
            If it is another word.
        """
        if mode not in MODES:
            raise InputError(f"mode is 'relevance' or 'activation'; got {mode!r}")
        return ScoreAtlas(self.file, self.info, mode, number=self._number)

    def classes(self, concept: int, k: int | None = None, *, by: Literal["mean", "top"] = "mean") -> ClassRanking:
        """Return the classes that a concept serves, by relevance; see `ScoreAtlas.classes`."""
        return self.relevance.classes(concept, k, by=by)

    def concepts(self, cls: int | str, k: int | None = None) -> ConceptRanking:
        """Return the concepts that serve a class, by relevance; see `ScoreAtlas.concepts`."""
        return self.relevance.concepts(cls, k)

    def __repr__(self) -> str:
        return f"LayerAtlas {self.name!r}: {self.n_concepts} concepts ({printable(self.info.concept)})"


class ScoreAtlas(GroupQuestions, ConceptQuestions, SampleQuestions):
    """Rankings and statistics of one layer by relevance or by activation. Arrays are read when they are asked for.

    Attributes
    ----------
    file : AtlasFile
        The open file.
    info : LayerInfo
        Name, concept, number of concepts and output shape (without the batch axis) of the layer.
    mode : {"relevance", "activation"}
    """

    def __repr__(self) -> str:
        return f"ScoreAtlas {self.mode} of {self.layer!r}: top, class_top, classes, concepts, moments, statistics"
