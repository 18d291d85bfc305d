"""Comparison of the concepts of two atlases: matched one to one, or unique to one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ..checks import is_real
from ..drawing import plots
from ..errors import InputError
from ..result_table import Column, Table, not_a_column
from ..statistics.matching import one_to_one, reference_overlap
from ..statistics.similarity import cross_correlation
from .common_samples import CommonSamples, common_samples
from .file.header import Mode
from .query.concept_atlas import ConceptAtlas, check_atlases
from .query.layer_atlas import ScoreAtlas
from .query.rankings import SampleRanking
from .questions.concept_relations import SimilarityBasis
from .questions.matrix_rows import row_blocks, scored

if TYPE_CHECKING:
    from ..drawing import Figure

__all__ = ["AtlasComparison", "compare_atlases"]

Array = npt.NDArray[Any]

_FEWEST = 3
"""Samples that a correlation needs at least: two always correlate fully."""
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, eq=False, repr=False)
class AtlasComparison(Table):
    """Concepts of two atlases that were matched one to one, the most similar pair first.

    Parameters
    ----------
    concept_a, concept_b : numpy.ndarray
    similarity : numpy.ndarray
        At least the threshold.
    values : numpy.ndarray
        Similarity of every two concepts: (concept of a, concept of b). NaN where it is not known, as for a constant
        concept.
    by : {"scores", "references"}
        Whether it is the correlation of scores over the common samples, or the overlap of reference samples.
    n_samples : int
        Samples that both atlases have.
    n_groups : int
        Classes whose means were removed from a correlation; 1 for the mean of all.
    threshold : float
    scores_a, scores_b : ScoreAtlas
        The layers that were asked.
    """

    concept_a: Column
    concept_b: Column
    similarity: Column
    values: Array = field(metadata=not_a_column)
    by: Literal["scores", "references"] = field(metadata=not_a_column)
    n_samples: int = field(metadata=not_a_column)
    n_groups: int = field(metadata=not_a_column)
    threshold: float = field(metadata=not_a_column)
    scores_a: ScoreAtlas = field(metadata=not_a_column)
    scores_b: ScoreAtlas = field(metadata=not_a_column)

    @property
    def unique_a(self) -> Column:
        """Concepts of the first atlas without a match, ascending."""
        return np.setdiff1d(np.arange(len(self.values)), self.concept_a)

    @property
    def unique_b(self) -> Column:
        """Concepts of the second atlas without a match, ascending."""
        return np.setdiff1d(np.arange(self.values.shape[1]), self.concept_b)

    @property
    def caption(self) -> str:
        """What was compared, and how many concepts were matched, in one line."""
        measure = "correlation of scores" if self.by == "scores" else "overlap of reference samples"
        return (
            f"{len(self)} pairs of concepts with a similarity of at least {self.threshold:g}; {len(self.unique_a)} "
            f"concepts of {self.scores_a.layer!r} and {len(self.unique_b)} of {self.scores_b.layer!r} are unique; "
            f"{measure} by {self.scores_a.mode}, {self.n_samples:,} common samples"
        )

    def interval(self, confidence: float = 0.95) -> tuple[Column, Column]:
        """Return the confidence interval of each correlation, as one that was not chosen, low and high.

        Parameters
        ----------
        confidence : float, optional
            Between 0 and 1.

        Raises
        ------
        InputError
            If it is not, or similarities are overlaps of reference samples.
        """
        if self.by != "scores":
            raise InputError("intervals are of correlations; these are overlaps of reference samples")
        return SimilarityBasis("pearson", self.n_samples, self.n_groups).interval(self.similarity, confidence)

    def references(self, row: int, k: int = 8) -> tuple[SampleRanking, SampleRanking]:
        """Return the samples in which the concepts of a row are strongest, in each atlas.

        Parameters
        ----------
        row : int
            Row of the table, from 0.
        k : int, optional
            How many samples.

        Raises
        ------
        InputError
            If there is no such row, or an atlas holds fewer samples.
        """
        row = self.checked_row(row)
        return self.scores_a.top(int(self.concept_a[row]), k), self.scores_b.top(int(self.concept_b[row]), k)

    def plot(self, **options: Any) -> Figure:
        """Return a figure of all similarities, matched concepts on the diagonal, then the unique ones.

        Parameters
        ----------
        **options
            Of `crp_kit.views.plot.cross_similarities`.
        """
        settings = {
            "rows": np.concatenate([self.concept_a, self.unique_a]),
            "columns": np.concatenate([self.concept_b, self.unique_b]),
            "labels": (f"concept of {self.scores_a.layer} (a)", f"concept of {self.scores_b.layer} (b)"),
            "matched": len(self),
            "title": f"{len(self)} matched of {len(self.values)} and {self.values.shape[1]}, by {self.by}",
        }
        figure: Figure = plots().cross_similarities(self.values, **{**settings, **options})
        return figure


def compare_atlases(
    a: ConceptAtlas,
    b: ConceptAtlas,
    layer: str,
    layer_b: str | None = None,
    *,
    mode: Mode = "relevance",
    threshold: float = 0.5,
    metric: Literal["pearson", "pearson-within"] = "pearson",
) -> AtlasComparison:
    """Match the concepts of a layer in two atlases one to one, by what they do on the same samples.

    Where both have a matrix, the similarity of two concepts is Pearson's correlation of their scores over the samples
    that both atlases have. Otherwise it is the Jaccard index of their reference samples, of those that both have: the
    number that both concepts share by that of all of them. The matching has the largest sum of similarities.

    Parameters
    ----------
    a, b : ConceptAtlas
        The open atlases. Samples are the same by number where the datasets have one fingerprint, else by name, or by
        number where their contents agree.
    layer : str
        Name of the layer.
    layer_b : str, optional
        Its name in the second atlas; the same by default.
    mode : {"relevance", "activation"}, optional
        Which scores.
    threshold : float, optional
        The lowest similarity of a match, from -1 to 1; concepts without a match are unique.
    metric : {"pearson", "pearson-within"}, optional
        The correlation, or that within the classes of the first atlas: without what all concepts of a class share.

    Returns
    -------
    AtlasComparison
        A row for each pair; ``unique_a`` and ``unique_b`` are the concepts without a match.

    Raises
    ------
    UnknownLayerError
        If an atlas has no such layer.
    InputError
        If the mode, metric or threshold is another one, or the atlases have no sample in common.

    Examples
    --------
    >>> import tempfile
    >>> import crp_kit as crp
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(64), preprocess=demo_preprocess), tempfile.mkdtemp()
    >>> layers = ["layer2.0.conv2", "layer2.1.conv2"]
    >>> atlas = study.build_atlas(f"{folder}/atlas.h5", layers=layers, matrix=True, verbose=False)
    >>> same = crp.compare_atlases(atlas, atlas, "layer2.1.conv2")
    >>> len(same), (same.concept_a == same.concept_b).all(), len(same.unique_a)
    (32, np.True_, 0)
    >>> other = crp.compare_atlases(atlas, atlas, "layer2.0.conv2", "layer2.1.conv2")
    >>> len(other) + len(other.unique_a)
    32
    >>> atlas.close()
    """
    if metric not in ("pearson", "pearson-within"):
        raise InputError(f"metric is 'pearson' or 'pearson-within'; got {metric!r}")
    check_atlases(a, b)
    scores_a, scores_b = a[layer].score(mode), b[layer if layer_b is None else layer_b].score(mode)
    if not is_real(threshold, -1, 1):
        raise InputError(f"threshold is a similarity, from -1 to 1; got {threshold!r}")
    common = common_samples(a, b)
    held = scored(scores_a)[common.rows_a] & scored(scores_b)[common.rows_b]
    common = CommonSamples(common.rows_a[held], common.rows_b[held])
    if not len(common):
        raise InputError(
            f"{a.path} and {b.path} have no sample in common, by number, name or content, so that their concepts "
            f"cannot be compared; build one of them on samples of the other's dataset, with names (sample ids) if they "
            f"come from different folders"
        )
    if scores_a.has("matrix") and scores_b.has("matrix") and len(common) >= _FEWEST:
        values = _correlation(scores_a, scores_b, common, within=metric == "pearson-within")
        by: Literal["scores", "references"] = "scores"
    else:
        values, by = _overlap(scores_a, scores_b, common), "references"
    groups = len(np.unique(a.targets[common.rows_a])) if by == "scores" and metric == "pearson-within" else 1
    concept_a, concept_b = one_to_one(values, threshold)
    similarity = values[concept_a, concept_b]
    return AtlasComparison(
        concept_a, concept_b, similarity, values, by, len(common), groups, float(threshold), scores_a, scores_b
    )


def _correlation(scores_a: ScoreAtlas, scores_b: ScoreAtlas, common: CommonSamples, *, within: bool) -> Array:
    """Return the correlation of the scores of each two concepts, within classes of the first atlas or over all."""
    targets = scores_a.file.targets[common.rows_a]
    classes, group = np.unique(targets if within else np.zeros(len(common), int), return_inverse=True)
    parts = [slice(start, start + _ROWS_AT_ONCE) for start in range(0, len(common), _ROWS_AT_ONCE)]
    blocks = (
        (group[part], _rows(scores_a.matrix, common.rows_a[part]), _rows(scores_b.matrix, common.rows_b[part]))
        for part in parts
    )
    return cross_correlation(blocks, len(classes), (scores_a.n_concepts, scores_b.n_concepts))


def _rows(matrix: Any, rows: Array) -> Array:
    """Return some rows in their order, of which each chunk of the file is read once."""
    mask = np.zeros(matrix.shape[0], bool)
    mask[rows] = True
    ascending = np.concatenate([values for _, values in row_blocks(matrix, mask)])
    if (np.diff(rows) > 0).all():
        return ascending
    return ascending[np.searchsorted(np.sort(rows), rows)]


def _overlap(scores_a: ScoreAtlas, scores_b: ScoreAtlas, common: CommonSamples) -> Array:
    """Return the overlap of the reference samples of each two concepts."""
    lists = []
    for scores, rows in ((scores_a, common.rows_a), (scores_b, common.rows_b)):
        numbers = scores.arrays("top")["sample"][:]
        position = np.full(len(scores.file.samples), -1)
        position[rows] = np.arange(len(rows))
        lists.append(np.full(numbers.shape, -1))
        lists[-1][numbers >= 0] = position[scores.file.places(numbers[numbers >= 0])]
    return reference_overlap(lists, len(common))
