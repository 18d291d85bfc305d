"""Questions about the structure of the concepts of a layer: similarity, complexity, stability."""

from __future__ import annotations

from ...statistics.similarity import Metric
from ..questions.complexity import Complexity, complexity
from ..questions.similarity import Similarity, similarity
from ..questions.stability import Stability, StableRanking, stability
from .selection import Selection
from .stored_scores import StoredScores

__all__ = ["StructureQuestions"]


class StructureQuestions(StoredScores):
    """Stored scores that answer how concepts are related, and how far that holds."""

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

    def complexity(self, where: Selection | None = None) -> Complexity:
        """Return over how many concepts the scores of each sample are spread.

        Parameters
        ----------
        where : Selection, optional
            The samples; all by default.

        Returns
        -------
        Complexity
            Gini index, sparseness by Hoyer, and the number of concepts that hold 90 %, of each sample; ``by_class()``
            has the means of each class.

        Raises
        ------
        InputError
            If there is no sample.
        AtlasError
            If the atlas was built without a matrix.

        References
        ----------
        - Hurley and Rickard, "Comparing measures of sparsity", IEEE Transactions on Information Theory 55, 2009.
        - Hoyer, "Non-negative matrix factorization with sparseness constraints", Journal of Machine Learning Research
          5, 2004.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2", matrix=True, verbose=False)
        >>> complexity = atlas["layer2.1.conv2"].relevance.complexity()
        >>> list(complexity.columns())
        ['sample', 'class', 'gini', 'hoyer', 'n90']
        >>> complexity.by_class().n.sum()
        np.int64(64)
        >>> atlas.close()
        """
        return complexity(self, where)

    def stability(
        self,
        folds: int = 2,
        k: int = 10,
        *,
        seed: int = 0,
        ranking: StableRanking = "markers",
        where: Selection | None = None,
    ) -> Stability:
        """Return how far the ranking of concepts of each class is the same on disjoint folds of the samples.

        Parameters
        ----------
        folds : int, optional
            Into how many folds the samples of each class are dealt out.
        k : int, optional
            How many first concepts are compared.
        seed : int, optional
            Decides which sample is in which fold.
        ranking : {"markers", "means"}, optional
            By Welch's t of the class against all others, or by the mean score of the class; what all classes have in
            common makes the latter agree in any case.
        where : Selection, optional
            The samples; all by default. Those without a target do not count.

        Returns
        -------
        Stability
            Rank correlation, overlap, and the overlap that is expected by chance, for each class.

        Raises
        ------
        InputError
            If an argument is out of range, or there is no sample.
        AtlasError
            If the atlas was built without a matrix.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(96), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers="layer2.1.conv2", matrix=True, verbose=False)
        >>> stability = atlas["layer2.1.conv2"].relevance.stability(k=8)
        >>> list(stability.columns()), stability.expected[0]
        (['class', 'n', 'rank_correlation', 'low', 'high', 'overlap', 'expected', 'p', 'q'], np.float64(0.25))
        >>> atlas.close()
        """
        return stability(self, folds, k, seed=seed, ranking=ranking, where=where)
