"""Evaluations of concepts by their reference samples: virtual units, clarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..atlas.query.embeddings import EmbeddingFunction
from ..atlas.query.references import find_references
from ..errors import InputError
from .base import EvaluationBase, layer_of
from .clarity_table import ClarityOptions, ClarityTable, concept_clarity
from .split_concept import SplitConcept, split_concept

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas
    from ..atlas.file.header import Mode

__all__ = ["ReferenceEvaluations"]


class ReferenceEvaluations(EvaluationBase):
    """Evaluations of concepts by their reference samples."""

    def split_concept(
        self,
        atlas: ConceptAtlas,
        layer: str,
        concept: int,
        lower_layer: str,
        *,
        n: int = 2,
        k: int = 40,
        mode: Mode = "relevance",
        batch_size: int = 16,
        seed: int = 0,
    ) -> SplitConcept:
        """Split a concept that serves several purposes into virtual units, each with its own reference samples (PURE).

        For each reference sample, the relevance of the concept is followed to a lower layer; samples in which it comes
        from other lower concepts become other units, by k-means.

        Parameters
        ----------
        atlas : ConceptAtlas
            Made from this model and data.
        layer : str
            Name of a layer of the atlas.
        concept : int
            Number of the concept.
        lower_layer : str
            Name of a node below, in whose concepts the samples are compared.
        n : int, optional
            Virtual units.
        k : int, optional
            Reference samples, at most as many as the atlas holds.
        mode : {"relevance", "activation"}, optional
            What ranks them.
        batch_size : int, optional
            Heatmaps that are computed at once, at most.
        seed : int, optional
            Of k-means.

        Returns
        -------
        SplitConcept
            ``table``, ``of_unit(number)`` with references, ``separation``, ``plot()``.

        Raises
        ------
        AtlasError
            If model or data are not those that the atlas was made from.
        UnknownLayerError, ConceptRangeError, UnreachableLayerError
            If there is no such layer or concept, or no relevance arrives at the lower layer.
        InputError
            If fewer samples differ than units are asked for, the lower layer is the layer itself, or a sample cannot be
            used.
        CrpKitError
            If scikit-learn is not installed.

        References
        ----------
        M. Dreyer et al., PURE: turning polysemantic neurons into pure features by identifying relevant circuits, CVPR
        workshops 2024.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> with study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2", verbose=False) as atlas:
        ...     split = study.evaluate.split_concept(atlas, "layer2.1.conv2", 24, "layer2.0.conv1", k=16)
        >>> int(split.table.n.sum())
        16
        """
        of_layer = layer_of(atlas, layer)
        if lower_layer == layer:
            raise InputError(f"lower_layer is a node below {layer!r}, and not {layer!r} itself")
        references = find_references(
            self._subject, of_layer, concept, mode=mode, k=k, conditioned_on="layer", batch_size=batch_size
        )
        return split_concept(self._subject, references, of_layer, lower_layer, n=n, seed=seed)

    def clarity(
        self,
        atlas: ConceptAtlas,
        layer: str,
        embed: EmbeddingFunction,
        *,
        concept_ids: Sequence[int] | None = None,
        k: int = 20,
        seed: int = 0,
    ) -> ClarityTable:
        """Return how alike the reference samples of concepts are to an embedding of yours (SemanticLens).

        Parameters
        ----------
        atlas : ConceptAtlas
            Made from this model and data.
        layer : str
            Name of a layer of the atlas.
        embed : callable
            From a list of images as the data gives them, (channel, height, width) each, to embeddings (image, feature),
            such as of CLIP's image encoder. It is called with at most 64 images at once.
        concept_ids : sequence of int, optional
            These concepts only.
        k : int, optional
            Reference samples of each concept by relevance, at most as many as the atlas holds.
        seed : int, optional
            Of k-means, and of the random samples to compare with.

        Returns
        -------
        ClarityTable

        Raises
        ------
        AtlasError
            If model or data are not those that the atlas was made from.
        UnknownLayerError, ConceptRangeError
            If the atlas has no such layer, or the layer no such concept.
        InputError
            If the embedding function fails or returns something else.
        CrpKitError
            If scikit-learn is not installed.

        References
        ----------
        M. Dreyer et al., Mechanistic understanding and validation of large AI models with SemanticLens, Nature Machine
        Intelligence 7, 2025.
        """
        return concept_clarity(self._subject, layer_of(atlas, layer), embed, ClarityOptions(concept_ids, k, seed))
