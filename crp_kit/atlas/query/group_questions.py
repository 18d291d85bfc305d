"""Questions to stored scores about groups of samples: contrasts, markers, class means, mistakes."""

from __future__ import annotations

from ..questions.class_means import class_means, class_presence
from ..questions.class_tables import ClassMeans, ClassPresence
from ..questions.contrast import contrast, markers
from ..questions.contrast_table import ContrastTable
from ..questions.groups import GroupQuery
from ..questions.mistakes import confusion, mistakes
from .selection import Selection
from .stored_scores import StoredScores

__all__ = ["GroupQuestions"]


class GroupQuestions(StoredScores):
    """Stored scores that answer questions about groups of samples."""

    def contrast(self, a: GroupQuery, b: GroupQuery | None = None, where: Selection | None = None) -> ContrastTable:
        """Return the concepts whose scores differ between two groups of samples, the clearest difference first.

        Two classes, or a class and the rest, can be compared by the moments that every atlas has, which are rounded to
        float32. Selections need the matrix of scores, and so does `auc`. A class is the samples whose target it is: by
        relevance a sample counts in the class that relevance started from, which the caption says.

        Parameters
        ----------
        a, b : int, str or Selection
            A class by number, name or part of a name, or a selection of samples. Without `b`: all other classes, or all
            other samples.
        where : Selection, optional
            The samples that count, of both groups; all by default.

        Returns
        -------
        ContrastTable
            Means, their difference, Welch's t with p and q (false discovery rate), Hedges' g and AUC of every concept.

        Raises
        ------
        ConceptRangeError, InputError
            If there is no such class, a group is empty, or the groups share samples.
        AtlasError
            If the matrix is needed, and the atlas was built without.

        References
        ----------
        Welch, Biometrika 34, 1947; Hedges, Journal of Educational Statistics 6, 1981; Mann and Whitney, Annals of
        Mathematical Statistics 18, 1947; Benjamini and Hochberg, Journal of the Royal Statistical Society B 57, 1995.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(48), preprocess=demo_preprocess), tempfile.mkdtemp()
        >>> layer = "layer2.1.conv2"
        >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers=layer, matrix=True)
        >>> table = atlas[layer].relevance.contrast(0, 1)
        >>> table.groups
        ('class 0 red circle above striped square', 'class 1 dotted cross above red circle')
        >>> first = table.taken(slice(1))
        >>> first.concept.item(), first.q.item() < 0.001, first.auc.item()
        (24, True, 1.0)
        >>> atlas.close()
        """
        return contrast(self, a, b, where)

    def markers(self, cls: GroupQuery, k: int = 10, where: Selection | None = None) -> ContrastTable:
        """Return the concepts that mark a class: stronger in it than in all others, the clearest ones first.

        Parameters
        ----------
        cls : int, str or Selection
            A class by number, name or part of a name, or a selection of samples.
        k : int, optional
            How many concepts at most.
        where : Selection, optional
            The samples that count; all by default.

        Returns
        -------
        ContrastTable
            The first `k` rows of the contrast with the rest whose ``mean_a`` is above ``mean_b``; `q` is corrected for
            all concepts of the layer.

        Raises
        ------
        ConceptRangeError, InputError
            If there is no such class, it has no samples, or all.
        AtlasError
            If the matrix is needed, and the atlas was built without.
        """
        return markers(self, cls, k, where)

    def class_means(self, confidence: float = 0.95, where: Selection | None = None) -> ClassMeans:
        """Return the mean score of every concept in every class that occurs, with confidence intervals.

        Without `where` they are the moments that every atlas has, rounded to float32 (6e-8 of a value), in which a
        sample counts for each of its targets. With `where` they are from the matrix, for the first target of each.

        Parameters
        ----------
        confidence : float, optional
            Of the intervals, by Student's t; between 0 and 1.
        where : Selection, optional
            The samples that count, which needs the matrix; all by default.

        Returns
        -------
        ClassMeans
            A row for each class and concept.

        Raises
        ------
        InputError
            If `confidence` is not between 0 and 1, or no sample is selected.
        AtlasError
            If the matrix is needed, and the atlas was built without.
        """
        return class_means(self, confidence, where)

    def class_presence(self, m: int = 5, confidence: float = 0.95, where: Selection | None = None) -> ClassPresence:
        """Return in how many samples of every class each concept is among the strongest, with confidence intervals.

        A concept is among the `m` strongest of a sample if its score is positive and fewer than `m` concepts have a
        higher one there. This needs the matrix.

        Parameters
        ----------
        m : int, optional
            How many concepts of a sample are the strongest.
        confidence : float, optional
            Of the intervals, by Wilson; between 0 and 1.
        where : Selection, optional
            The samples that count; all by default.

        Returns
        -------
        ClassPresence
            A row for each class and concept.

        Raises
        ------
        InputError
            If `m` is not from 1 to the number of concepts, `confidence` is not between 0 and 1, or no sample is
            selected.
        AtlasError
            If the atlas was built without a matrix.

        References
        ----------
        Wilson, Journal of the American Statistical Association 22, 1927: the interval of a fraction.
        """
        return class_presence(self, m, confidence, where)

    def mistakes(self, cls: int | str, where: Selection | None = None) -> ContrastTable:
        """Return the concepts that differ between right and wrong predictions of a class.

        The first group is the samples with this label that are predicted right, the second those that are predicted
        as something else. A concept that the model uses more where it errs has a negative difference, by the relevance
        for what relevance started from, which the caption says.

        Parameters
        ----------
        cls : int or str
            The label, by number, name or part of a name.
        where : Selection, optional
            The samples that count; all by default.

        Returns
        -------
        ContrastTable
            The columns of `contrast`.

        Raises
        ------
        ConceptRangeError, InputError
            If there is no such class, or none of its samples is predicted right, or none wrong.
        AtlasError
            If the atlas holds no labels or no matrix.
        """
        return mistakes(self, cls, where)

    def confusion(self, a: int | str, b: int | str, where: Selection | None = None) -> ContrastTable:
        """Return the concepts that differ between samples of one class that are taken for another, and that other.

        The first group is the samples with the label `a` that are predicted as `b`, the second those with the label
        `b` that are predicted as `b`. With the target "label", relevance of the first group speaks for `a`, that of the
        second for `b`; build with ``target="prediction"`` to see what spoke for `b` in both.

        Parameters
        ----------
        a, b : int or str
            Two classes, by number, name or part of a name.
        where : Selection, optional
            The samples that count; all by default.

        Returns
        -------
        ContrastTable
            The columns of `contrast`.

        Raises
        ------
        ConceptRangeError, InputError
            If there is no such class, it is the same one twice, or a group is empty.
        AtlasError
            If the atlas holds no labels or no matrix.
        """
        return confusion(self, a, b, where)
