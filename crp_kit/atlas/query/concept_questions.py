"""Questions to stored scores about concepts: which are used together, and how."""

from __future__ import annotations

from ...statistics.similarity import Metric
from ..questions.similarity import Similarity, similarity
from .selection import Selection
from .stored_scores import StoredScores

__all__ = ["ConceptQuestions"]


class ConceptQuestions(StoredScores):
    """Stored scores that answer questions about concepts."""

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
