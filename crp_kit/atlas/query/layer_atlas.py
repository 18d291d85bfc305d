"""Questions to one layer of an atlas, by relevance and by activation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ...errors import InputError
from ...printable import printable
from ..file.atlas_file import AtlasFile
from ..file.header import MODES, LayerInfo, Mode
from ..file.names import read_names
from ..questions.naming import NamedConcepts, named_concepts
from .group_questions import GroupQuestions
from .rankings import ClassRanking, ConceptRanking
from .sample_questions import SampleQuestions
from .selection import Selection
from .structure_questions import StructureQuestions

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

    @property
    def names(self) -> Mapping[int, str]:
        """Names of concepts, by concept: saved beside the atlas, or their own, as directions have; empty without any.

        Raises
        ------
        AtlasError
            If the file of names is damaged, or belongs to another atlas.
        """
        return read_names(self.file, self.name)

    def name_concepts(
        self,
        attributes: Any = None,
        length: int = 3,
        mode: Mode = "relevance",
        *,
        beam: int = 4,
        where: Selection | None = None,
        seed: int = 0,
    ) -> NamedConcepts:
        """Return a name for each concept: the formula of attributes of the samples that its scores follow best.

        Formulas such as ``"red and not round"`` are searched on one half of the samples, drawn by `seed`, and checked
        on the other half. A formula holds in 1 % to 50 % of the samples of its half, and at least in 10 of them. Its
        AUC is the chance that a sample of which it holds has a higher score than another one. `null` is the AUC that
        the same search exceeds in one of 20 permutations of the samples. A name counts as distinguishable from chance
        if its AUC exceeds `null` and, on the other half, 0.5 at a false discovery rate of 5 % (test of Mann and
        Whitney).

        Relevance starts from a class, so that attributes which follow from the class are followed by relevance too,
        whatever a concept responds to. Activation does not know the class.

        `Study.name_concepts` names concepts by words instead, in an embedding of their references.

        Parameters
        ----------
        attributes : dict or data frame, optional
            By name of the attribute, whether it holds of each sample: booleans (sample,), in the order of
            `ConceptAtlas.samples`. By default the attributes of the atlas that are true or false.
        length : int, optional
            Attributes in a formula, at most.
        mode : {"relevance", "activation"}, optional
        beam : int, optional
            Formulas of a length that are made longer.
        where : Selection, optional
            Samples that take part; all by default.
        seed : int, optional

        Returns
        -------
        NamedConcepts
            A row for each concept; its `save` keeps the names beside the atlas.

        Raises
        ------
        InputError
            If there are no attributes, or they do not fit the samples.
        AtlasError
            If the atlas was built without a matrix.

        References
        ----------
        Bykov et al., "Labeling neural representations with inverse recognition", NeurIPS 2023.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> data, folder = ShapesDataset(64), tempfile.mkdtemp()
        >>> study = crp.Study(demo_resnet(), data, preprocess=demo_preprocess)
        >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers="layer3.0.conv1", matrix=True)
        >>> parts = [data.class_parts[atlas.classes[label]] for label in atlas.labels]
        >>> attributes = {part: [part in shown for shown in parts] for part in data.parts}
        >>> table = atlas["layer3.0.conv1"].name_concepts(attributes, length=1)
        >>> list(table.columns())
        ['concept', 'name', 'auc', 'auc_other_half', 'null', 'support']
        >>> str(table.name[0]) in data.parts
        True
        >>> atlas.close()
        """
        return named_concepts(self.score(mode), attributes, length, beam=beam, where=where, seed=seed)

    def __repr__(self) -> str:
        return f"LayerAtlas {self.name!r}: {self.n_concepts} concepts ({printable(self.info.concept)})"


class ScoreAtlas(GroupQuestions, StructureQuestions, SampleQuestions):
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
