"""Questions to stored scores about single samples: prototypes of a class, outliers, strategies."""

from __future__ import annotations

from ..questions.outliers import Outliers, outliers
from ..questions.prototype_stability import PrototypeStability, prototype_stability
from ..questions.prototypes import Prototypes, prototypes
from ..questions.strategies import Strategies, strategies
from .selection import Selection
from .stored_scores import StoredScores

__all__ = ["SampleQuestions"]


class SampleQuestions(StoredScores):
    """Stored scores that answer questions about single samples; all of them need the matrix of scores."""

    def prototypes(
        self, cls: int | str, n: int | None = None, *, where: Selection | None = None, seed: int = 0
    ) -> Prototypes:
        """Return prototypes of a class: typical ways in which its rightly predicted samples use concepts.

        They are the components of a Gaussian mixture over the rows of the matrix, whose covariances are shrunk relative
        to the variance of those rows. The samples are those whose first target is the class and the prediction too.

        Parameters
        ----------
        cls : int or str
            Number or name.
        n : int, optional
            Number of prototypes; by default one more as long as the samples' held-out scores get clearly better, at
            most one for every 30 samples and 8 in all.
        where : Selection, optional
            Samples that take part; all by default.
        seed : int, optional
            Of the folds and of k-means.

        Returns
        -------
        Prototypes
            Weights, means and nearest samples; its `judge` says how ordinary other vectors are.

        Raises
        ------
        ConceptRangeError, InputError
            If there is no such class, or it has fewer than 3 such samples, or only equal ones.
        AtlasError
            If the atlas was built without a matrix.
        CrpKitError
            If scikit-learn is not installed.

        References
        ----------
        Dreyer et al., "Understanding the (extra-)ordinary: validating deep model decisions with prototypical
        concept-based explanations", CVPR workshops 2024.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2", matrix=True)
        >>> prototypes = atlas["layer2.1.conv2"].relevance.prototypes(0)
        >>> prototypes.means.shape, prototypes.n.tolist()
        ((1, 32), [8])
        >>> judged = prototypes.judge(atlas["layer2.1.conv2"].relevance.matrix[:4])
        >>> list(judged.columns()), len(judged.differences(0, k=3))
        (['row', 'prototype', 'percentile'], 3)
        >>> atlas.close()
        """
        return prototypes(self, cls, n, where=where, seed=seed)

    def prototype_stability(
        self, cls: int | str, n: int | None = None, folds: int = 2, *, where: Selection | None = None, seed: int = 0
    ) -> PrototypeStability:
        """Return how alike the prototypes of a class are that are fitted to disjoint folds of its samples.

        The prototypes of each two different folds are matched one to one, such that the cosines of their means have the
        largest sum. Prototypes of a class are alike in any case: beside each cosine stands the mean of those that do
        not match.

        Parameters
        ----------
        cls : int or str
            Number or name.
        n : int, optional
            Number of prototypes; by default as of `prototypes` for all samples of the class.
        folds : int, optional
            Into how many folds the samples are dealt out.
        where : Selection, optional
            Samples that take part; all by default.
        seed : int, optional
            Of the folds and of k-means.

        Returns
        -------
        PrototypeStability
            A row for each pair of prototypes.

        Raises
        ------
        ConceptRangeError, InputError
            If there is no such class, or it has too few rightly predicted samples for so many prototypes and folds.
        AtlasError
            If the atlas was built without a matrix.
        CrpKitError
            If scikit-learn is not installed.

        References
        ----------
        Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics Quarterly 2, 1955.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2", matrix=True)
        >>> table = atlas["layer2.1.conv2"].relevance.prototype_stability(0)
        >>> list(table.columns())
        ['fold_a', 'fold_b', 'prototype_a', 'prototype_b', 'cosine', 'expected']
        >>> bool(table.cosine[0] > 0.9)
        True
        >>> atlas.close()
        """
        return prototype_stability(self, cls, n, folds, where=where, seed=seed)

    def outliers(
        self, cls: int | str | None = None, k: int = 20, *, where: Selection | None = None, seed: int = 0
    ) -> Outliers:
        """Return the samples that use concepts unlike the rightly predicted others of their class, most extreme first.

        A sample's score is the negative logarithm of its density by a mixture as in `prototypes`, fitted without it.
        Its percentile is two-sided: a score far below those of the class is as unusual as one far above.

        Parameters
        ----------
        cls : int or str, optional
            Number or name; by default all classes. Those with too few samples are named in the caption.
        k : int, optional
            How many samples.
        where : Selection, optional
            Samples that take part; all by default, wrongly predicted ones included.
        seed : int, optional
            Of the folds and of k-means.

        Returns
        -------
        Outliers
            Sample, class and percentile; its `against` measures how well another atlas is detected.

        Raises
        ------
        ConceptRangeError, InputError
            If there is no such class, or no class has enough samples.
        AtlasError
            If the atlas was built without a matrix.
        CrpKitError
            If scikit-learn is not installed.

        References
        ----------
        Dreyer et al., "Understanding the (extra-)ordinary: validating deep model decisions with prototypical
        concept-based explanations", CVPR workshops 2024.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2", matrix=True)
        >>> table = atlas["layer2.1.conv2"].relevance.outliers(k=3)
        >>> list(table.columns()), table.percentile.tolist()
        (['sample', 'class', 'percentile'], [93.75, 93.75, 93.75])
        >>> atlas.close()
        """
        return outliers(self, cls, k, where=where, seed=seed)

    def strategies(
        self, cls: int | str, n: int | None = None, *, k: int = 10, where: Selection | None = None, seed: int = 0
    ) -> Strategies:
        """Return strategies of a class: groups of samples that use concepts alike, by spectral relevance analysis.

        Samples are joined with their nearest ones; the eigenvectors of the normalised Laplacian of this graph are
        clustered by k-means.

        Parameters
        ----------
        cls : int or str
            Number or name; the samples are those whose first target it is.
        n : int, optional
            Number of strategies; by default as many as there are eigenvalues before the widest gap, at most 8 unless
            the graph falls into more parts.
        k : int, optional
            Nearest samples that each is joined with.
        where : Selection, optional
            Samples that take part; all by default.
        seed : int, optional

        Returns
        -------
        Strategies
            Sample, strategy and two spectral coordinates; `concepts` says what distinguishes a strategy.

        Raises
        ------
        ConceptRangeError, InputError
            If there is no such class, or it has fewer than 3 samples.
        AtlasError
            If the atlas was built without a matrix.
        CrpKitError
            If scikit-learn is not installed.

        References
        ----------
        Lapuschkin et al., "Unmasking Clever Hans predictors and assessing what machines really learn", Nature
        Communications 10, 2019.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2", matrix=True)
        >>> strategies = atlas["layer2.1.conv2"].relevance.strategies(0, n=2, k=3)
        >>> int(strategies.sizes.sum()), len(strategies.concepts(0, k=5))
        (8, 5)
        >>> atlas.close()
        """
        return strategies(self, cls, n, k=k, where=where, seed=seed)
