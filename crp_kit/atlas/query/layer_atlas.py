"""Questions to one layer of an atlas, by relevance and by activation."""

from __future__ import annotations

from typing import Literal

from ...errors import InputError
from ...printable import printable
from ...statistics.similarity import Metric
from ..file.atlas_file import AtlasFile
from ..file.schema import MODES, LayerInfo, Mode
from ..questions.similarity import Similarity, similarity
from .rankings import ClassRanking, ConceptRanking
from .selection import Selection
from .stored_scores import StoredScores

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


class ScoreAtlas(StoredScores):
    """Rankings and statistics of one layer by relevance or by activation. Arrays are read when they are asked for.

    Attributes
    ----------
    file : AtlasFile
        The open file.
    info : LayerInfo
        Name, concept, number of concepts and output shape (without the batch axis) of the layer.
    mode : {"relevance", "activation"}
    """

    def similarity(self, metric: Metric = "pearson-within", where: Selection | None = None) -> Similarity:
        """Return how similar concepts are to each other over samples.

        By default the mean of each class is removed first: what all concepts share in the samples of a class says which
        class it is, not that two concepts go together. All but the rank correlation come from the Gram matrix where the
        file has it and no selection is asked for, and from the matrix of scores otherwise.

        Parameters
        ----------
        metric : {"pearson-within", "pearson", "cosine", "spearman"}, optional
            Correlation within classes, by the first target of each sample, samples without a target left out;
            correlation; cosine; rank correlation.
        where : Selection, optional
            The samples that count; all by default.

        Returns
        -------
        Similarity
            Signed values (concept, concept), nearest concepts, clusters, redundancy.

        Raises
        ------
        InputError
            If there is no such metric, or no sample that counts.
        AtlasError
            If it needs the matrix, and the atlas was built without.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2", matrix=True, verbose=False)
        >>> similar = atlas["layer2.1.conv2"].relevance.similarity()
        >>> similar
        Similarity of 32 concepts of 'layer2.1.conv2': pearson-within over 64 samples
        >>> len(similar.nearest(3, k=5)), similar.clusters(n=4).cluster.max()
        (5, np.int64(3))
        >>> atlas.close()
        """
        return similarity(self, metric, where)

    def __repr__(self) -> str:
        return f"ScoreAtlas {self.mode} of {self.layer!r}: top, class_top, classes, concepts, moments, statistics"
