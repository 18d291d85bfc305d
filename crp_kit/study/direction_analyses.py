"""Directions of a layer, fitted to the data of a study, and concept activation vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .base import StudyBase

if TYPE_CHECKING:
    from ..concepts import DictionaryConcept, DirectionConcept
    from ..targets import Target

__all__ = ["DirectionAnalyses"]


class DirectionAnalyses(StudyBase):
    """Directions in the channels of a layer."""

    def fit_directions(
        self,
        layer: str,
        method: Literal["pca", "nmf", "kmeans", "prca"] = "pca",
        n: int = 10,
        *,
        target: str | Target = "label",
        positions: int = 16,
        limit: int | None = None,
        batch_size: int = 32,
        seed: int = 0,
        verbose: bool = False,
    ) -> DirectionConcept | DictionaryConcept:
        """Return directions in the channels of a layer, fitted to the data of the study.

        Parameters
        ----------
        layer : str
            Name of a node.
        method : {"pca", "nmf", "kmeans", "prca"}, optional
            ``"pca"``: the directions of most variance. ``"prca"``: those that carry most relevance, the leading
            eigenvectors of E[a cᵀ + c aᵀ], where relevance is activation a times c. Both are from second moments over
            all positions of all samples. ``"nmf"`` and ``"kmeans"``: dictionaries of scikit-learn, of positions that
            are drawn with a seed; relevance is divided by what their entries rebuild.
        n : int, optional
            Number of directions.
        target : str or Target, optional
            What the relevance of PRCA starts from: ``"label"``, ``"prediction"``, or a target of `crp_kit.targets` or
            its text; the first of each sample.
        positions : int, optional
            Positions of each sample's map that NMF and k-means see.
        limit : int, optional
            The first samples only.
        batch_size : int, optional
            Samples that go through the model at once.
        seed : int, optional
            Of the positions that are drawn, and of NMF and k-means.
        verbose : bool, optional
            Show progress on stderr.

        Returns
        -------
        DirectionConcept or DictionaryConcept
            With its `provenance`; `save` writes it to a file.

        Raises
        ------
        InputError
            If there is no data, a sample cannot be used, there are fewer channels than directions, or NMF meets values
            that are negative.
        ConditionError
            If the study has no rules for LRP, and PRCA is asked for.
        UnknownLayerError, UnreachableLayerError, ConceptAxisError
            If the layer cannot be recorded.
        CrpKitError
            If scikit-learn is needed and not installed.

        References
        ----------
        Chormai et al., "Disentangled explanations of neural network predictions by finding relevant subspaces", IEEE
        Transactions on Pattern Analysis and Machine Intelligence 46, 2024: PRCA.

        Fel et al., "CRAFT: Concept recursive activation factorization for explainability", CVPR 2023: NMF of
        activations as concepts.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(16), preprocess=demo_preprocess)
        >>> concept = study.fit_directions("layer2.1.relu_1", method="prca", n=3)
        >>> concept.directions.shape
        torch.Size([3, 32])
        """
        from ..directions import FitOptions, fitted_directions

        options = FitOptions(method, n, target, positions, limit, batch_size, seed)
        return fitted_directions(self.subject, layer, options, verbose=verbose)

    def concept_vector(
        self,
        samples_a: Any,
        samples_b: Any,
        *,
        layer: str,
        method: Literal["pattern", "logistic", "difference"] = "pattern",
        name: str = "concept",
        batch_size: int = 32,
    ) -> DirectionConcept:
        """Return a concept activation vector: the direction in which a layer differs between two groups of samples.

        Activations are averaged over positions. The direction has length 1 and leads to the first group; its mean is
        the middle between the groups.

        Parameters
        ----------
        samples_a, samples_b : sequence of int, or torch.Tensor
            Samples with the concept, and without it: numbers of samples of the data, or images as the data gives them,
            (sample, channel, height, width).
        layer : str
            Name of a node.
        method : {"pattern", "logistic", "difference"}, optional
            ``"pattern"``: cov(a, t) / var(t) of activations a and groups t, which for two groups is the direction of
            ``"difference"``, of the groups' means. ``"logistic"``: the weights of a logistic regression, which also
            follow what only suppresses noise.
        name : str, optional
            Name of the direction, an id in conditions.
        batch_size : int, optional
            Samples that go through the model at once.

        Returns
        -------
        DirectionConcept
            Of one direction.

        Raises
        ------
        InputError
            If a group is empty, a sample cannot be used, or the groups do not differ.
        UnknownLayerError, ConceptAxisError
            If the layer cannot be recorded.
        CrpKitError
            If scikit-learn is needed and not installed.

        References
        ----------
        Kim et al., "Interpretability beyond feature attribution: Quantitative testing with concept activation vectors",
        ICML 2018.

        Pahde et al., "Navigating neural space: Revisiting concept activation vectors to overcome directional
        divergence", ICLR 2025: the pattern.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(16), preprocess=demo_preprocess)
        >>> study.concept_vector([0, 8], [1, 2, 3], layer="layer2.1.relu_1", name="first class").names
        ('first class',)
        """
        from ..directions import concept_vector

        return concept_vector(
            self.subject, samples_a, samples_b, layer=layer, method=method, name=name, batch_size=batch_size
        )
