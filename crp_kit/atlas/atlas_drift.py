"""Drift between two atlases: whether the scores of a class have moved to other concepts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import check_integer
from ..errors import InputError
from ..statistics.drift import VariationTest, largest_of_all, variation_test
from ..statistics.moments import moments_of
from ..statistics.multiple_testing import q_values
from ..statistics.two_groups import WelchTest, auc, welch_test
from .drift_tables import ClassDrift, Drift
from .file.header import Mode
from .query.concept_atlas import ConceptAtlas, check_atlases
from .query.layer_atlas import ScoreAtlas
from .questions.matrix_rows import row_blocks, score_matrix, scored

__all__ = ["drift"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

_BYTES_AT_ONCE = 1 << 29
"""Of the scores of some classes in both atlases."""


class _ClassTests(NamedTuple):
    """What is known of one class: both tests, the concepts to list, and their means and AUC."""

    variation: VariationTest
    welch: WelchTest
    concepts: Array
    means: tuple[Array, Array]
    auc: Array


def drift(
    a: ConceptAtlas,
    b: ConceptAtlas,
    layer: str,
    *,
    mode: Mode = "relevance",
    k: int | None = 10,
    permutations: int = 199,
    seed: int = 0,
) -> Drift:
    """Test whether the scores of a layer have moved to other concepts from one atlas to another, class by class.

    For two runs of a model on other data, such as of last month and of this one, or of two versions of a model whose
    concepts are the same. The classes of samples are their first targets. Both need a matrix.

    Parameters
    ----------
    a, b : ConceptAtlas
        The open atlases.
    layer : str
        Name of the layer in both.
    mode : {"relevance", "activation"}, optional
        Which scores.
    k : int, optional
        How many concepts of each class are listed, those with the highest magnitude of t; ``None`` for all. The
        q-values count all in any case.
    permutations : int, optional
        How many random divisions of the samples of a class its total variation is compared with.
    seed : int, optional
        Decides these divisions.

    Returns
    -------
    Drift
        Concepts by class with Welch's t, Hedges' g, AUC and q-values; ``classes`` has the total variation of each
        class; ``drifted()`` is the answer as one boolean.

    Raises
    ------
    UnknownLayerError
        If an atlas has no such layer.
    AtlasError
        If one was built without a matrix.
    InputError
        If the concepts or classes are not the same, no class has samples in both, or an argument is out of range.

    Examples
    --------
    >>> import tempfile
    >>> import crp_kit as crp
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> folder, layer = tempfile.mkdtemp(), "layer2.1.conv2"
    >>> atlases = []
    >>> for seed in (0, 1):
    ...     study = crp.Study(demo_resnet(), ShapesDataset(48, seed=seed), preprocess=demo_preprocess)
    ...     path = f"{folder}/{seed}.h5"
    ...     atlases.append(study.build_atlas(path, layers=layer, matrix=True, verbose=False))
    >>> result = crp.atlas.drift(*atlases, layer, k=3)
    >>> result.drifted(), list(result.classes.columns())
    (False, ['class', 'n_a', 'n_b', 'total_variation', 'expected', 'p', 'q'])
    >>> [atlas.close() for atlas in atlases]
    [None, None]
    """
    check_atlases(a, b)
    scores_a, scores_b = a[layer].score(mode), b[layer].score(mode)
    _check_comparable(scores_a, scores_b)
    listed = scores_a.n_concepts if k is None else check_integer("k", k, low=1)
    permutations, seed = check_integer("permutations", permutations, low=1), check_integer("seed", seed, low=0)
    classes, tests = [], []
    for cls, groups in _classes(scores_a, scores_b):
        rng = np.random.default_rng([seed, cls])
        classes.append(cls)
        tests.append(_test(groups, listed, variation_test(*groups, permutations=permutations, rng=rng)))
    if not tests:
        raise InputError(f"no class has samples in both {a.path} and {b.path}; drift is between samples of one class")
    return _drift(np.array(classes), tests, (scores_a, scores_b))


def _check_comparable(scores_a: ScoreAtlas, scores_b: ScoreAtlas) -> None:
    """Make sure that both have the same concepts and classes, as far as their numbers and names say."""
    a, b = scores_a.file, scores_b.file
    for file in (a, b):
        file.check_classes("classes that could have drifted")
    for what, of_a, of_b in (
        ("concepts", scores_a.n_concepts, scores_b.n_concepts),
        ("classes", a.header.n_classes, b.header.n_classes),
    ):
        if of_a != of_b:
            raise InputError(f"drift is of the same {what}; {a.path} has {of_a} of them and {b.path} {of_b}")
    other = next((pair for pair in zip(a.classes, b.classes, strict=True) if pair[0] != pair[1]), None)
    if other is not None:
        raise InputError(f"drift is of the same classes; {other[0]!r} in {a.path} is {other[1]!r} in {b.path}")


def _classes(scores_a: ScoreAtlas, scores_b: ScoreAtlas) -> Iterator[tuple[int, tuple[Array, Array]]]:
    """Yield each class that both have, with its scores in both, (sample, concept); as many read at once as fit."""
    both = scores_a, scores_b
    matrices = [score_matrix(scores, "drift") for scores in both]
    targets = [np.where(scored(scores), scores.file.targets, -1) for scores in both]
    counts = [np.bincount(target[target >= 0], minlength=scores_a.file.header.n_classes) for target in targets]
    shared = np.flatnonzero((counts[0] > 0) & (counts[1] > 0))
    size = np.cumsum((counts[0] + counts[1])[shared]) * (4 * scores_a.n_concepts)
    for part in np.split(shared, np.flatnonzero(np.diff(size // _BYTES_AT_ONCE)) + 1):
        read = [_rows_of(matrix, target, part) for matrix, target in zip(matrices, targets, strict=True)]
        for cls in part.tolist():
            groups = [values[labels == cls] for labels, values in read]
            yield cls, (groups[0], groups[1])


def _rows_of(matrix: Any, target: Array, classes: Array) -> tuple[Array, Array]:
    """Return classes and scores of the samples of some classes: (sample,), (sample, concept)."""
    mask: Mask = np.isin(target, classes)
    values = [block for _, block in row_blocks(matrix, mask)]
    return target[mask], np.concatenate(values) if values else np.empty((0, matrix.shape[1]), "f4")


def _test(groups: tuple[Array, Array], k: int, variation: VariationTest) -> _ClassTests:
    """Return the tests of one class, with the `k` concepts of the highest magnitude of t."""
    moments = moments_of(groups[0]), moments_of(groups[1])
    welch = welch_test(*moments)
    first = np.argsort(-np.nan_to_num(np.abs(welch.t), posinf=np.inf), kind="stable")[:k]
    probability = auc(groups[0][:, first], groups[1][:, first])
    return _ClassTests(variation, welch, first, (moments[0].mean[first], moments[1].mean[first]), probability)


def _drift(classes: Array, tests: list[_ClassTests], both: tuple[ScoreAtlas, ScoreAtlas]) -> Drift:
    """Put the tests of all classes together."""
    counts = [np.bincount(scores.file.targets[scored(scores) & (scores.file.targets >= 0)],
                          minlength=scores.file.header.n_classes)[classes] for scores in both]  # fmt: skip
    variations = [test.variation for test in tests]
    p = np.array([variation.p for variation in variations])
    moved = np.array([variation.value for variation in variations])
    expected = np.array([variation.expected for variation in variations])
    by_class = ClassDrift(classes, counts[0], counts[1], moved, expected, p, q_values(p), both[0])
    q = q_values(np.concatenate([test.welch.p for test in tests])).reshape(len(tests), -1)
    listed = [len(test.concepts) for test in tests]
    welch = {name: np.concatenate([getattr(test.welch, name)[test.concepts] for test in tests])
             for name in ("difference", "t", "df", "p", "g")}  # fmt: skip
    table = Drift(
        cls=np.repeat(classes, listed),
        concept=np.concatenate([test.concepts for test in tests]),
        n_a=np.repeat(counts[0], listed),
        n_b=np.repeat(counts[1], listed),
        mean_a=np.concatenate([test.means[0] for test in tests]),
        mean_b=np.concatenate([test.means[1] for test in tests]),
        q=np.concatenate([line[test.concepts] for line, test in zip(q, tests, strict=True)]),
        auc=np.concatenate([test.auc for test in tests]),
        classes=by_class,
        overall=largest_of_all(variations),
        scores_a=both[0],
        scores_b=both[1],
        errors=np.stack([test.welch.error for test in tests]),
        **welch,
    )
    return table.taken(np.argsort(-np.nan_to_num(np.abs(table.t), posinf=np.inf), kind="stable"))
