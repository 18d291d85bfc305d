"""Detection of another dataset: how well scores separate its samples from those of an atlas."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...drawing import plots
from ...errors import AtlasError, InputError
from ...printable import printable
from ...result_table import Column, Table, not_a_column
from ...statistics.arrays import Floats
from ...statistics.detection import auroc, fit_class_distances
from ...statistics.intervals import auc_interval
from ...statistics.prototypes import HeldOut
from ...statistics.threads import single_blas_thread
from ..query.selection import Selection
from ..query.stored_scores import StoredScores
from .class_samples import held_out_of, rows_by_class
from .matrix_rows import scored

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["Detection", "detection"]


@dataclass(frozen=True, eq=False, repr=False)
class Detection(Table):
    """How well scores separate the samples of another atlas from those of this one.

    Parameters
    ----------
    method : numpy.ndarray
        ``"prototypes"``: deviation of −log p from the median of the class. ``"density"``: −log p itself.
        ``"mahalanobis"``: distance from the mean of the class, with one covariance for all classes. ``"softmax"``: one
        minus the highest probability of a class. ``"energy"``: minus the logsumexp of the outputs. These two need no
        concepts.
    auroc : numpy.ndarray
        The chance that a sample of the other atlas has the higher score; 0.5 by chance.
    low, high : numpy.ndarray
        Its interval at 95 %, by `crp_kit.statistics.intervals.auc_interval` (Newcombe).
    n : numpy.ndarray
        Samples of this atlas, each scored by fits without it.
    n_other : numpy.ndarray
        Samples of the other atlas.
    missing : str
        What is not compared, and why; no column.
    """

    method: Column
    auroc: Column
    low: Column
    high: Column
    n: Column
    n_other: Column
    missing: str = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """What is not compared, and why."""
        return self.missing

    def plot(self, **options: Any) -> Figure:
        """Return a figure of AUROCs with intervals beside chance; see `crp_kit.views.plot.value_bars`.

        Parameters
        ----------
        **options
            Of that function.
        """
        settings = {
            "names": self.method.tolist(),
            "label": "AUROC",
            "interval": (self.low, self.high),
            "reference": (0.5, "by chance"),
        }
        figure: Figure = plots().value_bars(self.auroc, **{**settings, **options})
        return figure


class _OwnClass(NamedTuple):
    """Rightly predicted samples of a class in this atlas: scores without them, rows among all, vectors, number."""

    held: HeldOut
    rows: Column
    values: Floats
    number: int


class _OtherClass(NamedTuple):
    """All samples of a class in the other atlas: rows among all, vectors."""

    rows: Column
    values: Floats


@single_blas_thread
def detection(
    scores: StoredScores, other: StoredScores, where: Selection | None, other_where: Selection | None, *, seed: int
) -> Detection:
    """Return AUROCs of scores, and of baselines; see `Outliers.against`."""
    if not isinstance(other, StoredScores):
        raise InputError(
            f"the scores of a layer of another atlas are compared, other[{scores.layer!r}].{scores.mode}; got "
            f"{type(other).__name__}"
        )
    if (scores.layer, scores.mode, scores.n_concepts) != (other.layer, other.mode, other.n_concepts):
        raise InputError(
            f"{other.file.path} has to be asked for the same: {scores.mode} of the {scores.n_concepts} concepts of "
            f"{scores.layer!r}; got {other.mode} of the {other.n_concepts} of {other.layer!r}"
        )
    if scores.file.header.model_sha256 != other.file.header.model_sha256:
        raise InputError(
            f"{other.file.path} is of another model, {printable(other.file.header.model)}, whose concepts are others; "
            f"build an atlas of that data with the model of {scores.file.path}"
        )
    their_rows = rows_by_class(other, scored(other, other_where))
    theirs = {number: _OtherClass(rows, values) for number, rows, _, values in their_rows}
    own: list[_OwnClass] = []
    for number, rows, right, values in rows_by_class(scores, scored(scores, where)):
        held = held_out_of(values[right], values.shape[1], seed) if number in theirs else None
        if held is not None:
            own.append(_OwnClass(held, rows[right], values[right], number))
    if not own:
        raise InputError(f"{other.file.path} has no sample of a class that {scores.file.path} has prototypes of")
    others = [theirs[one.number] for one in own]
    pairs = {"prototypes": _deviations(own, others), "density": _densities(own, others)}
    pairs["mahalanobis"] = _distances(own, others)
    mine, yours = np.concatenate([one.rows for one in own]), np.concatenate([one.rows for one in others])
    missing = []
    for name, of_samples in {"softmax": _doubts, "energy": _energies}.items():
        try:
            pairs[name] = of_samples(scores, mine), of_samples(other, yours)
        except AtlasError as error:
            missing.append(f"{name} is not compared: {error}")
    areas = np.array([auroc(*pair) for pair in pairs.values()])
    sizes = np.array([[len(scored_here), len(scored_there)] for scored_here, scored_there in pairs.values()])
    ends = auc_interval(areas, *sizes.T)
    return Detection(np.array(list(pairs)), areas, *ends, sizes[:, 0], sizes[:, 1], "; ".join(missing))


def _deviations(own: list[_OwnClass], others: list[_OtherClass]) -> tuple[Floats, Floats]:
    """Return two-sided deviations of both, in units of the class's median deviation."""
    mine, yours = [], []
    for (held, *_), other in zip(own, others, strict=True):
        unit = max(float(np.median(held.deviations)), 1e-12)
        mine.append(held.deviations / unit)
        yours.append(np.abs(held.further_scores(other.values).mean(0) - np.median(held.scores)) / unit)
    return np.concatenate(mine), np.concatenate(yours)


def _densities(own: list[_OwnClass], others: list[_OtherClass]) -> tuple[Floats, Floats]:
    """Return −log p of both."""
    mine = np.concatenate([one.held.scores for one in own])
    further = [one.held.further_scores(other.values).mean(0) for one, other in zip(own, others, strict=True)]
    return mine, np.concatenate(further)


def _distances(own: list[_OwnClass], others: list[_OtherClass]) -> tuple[Floats, Floats]:
    """Return Mahalanobis distances of both, those of this atlas by fits without the sample's fold."""
    numbers = np.array([one.number for one in own])
    values, classes = np.concatenate([one.values for one in own]), np.repeat(numbers, [len(one.values) for one in own])
    fold = np.concatenate([one.held.fold for one in own])
    other = np.concatenate([one.values for one in others])
    other_classes = np.repeat(numbers, [len(one.values) for one in others])
    mine, yours = np.empty(len(values)), np.zeros(len(other))
    folds = np.unique(fold).tolist()
    for number in folds:
        fit = fit_class_distances(values[fold != number], classes[fold != number])
        mine[fold == number] = fit.distances(values[fold == number], classes[fold == number])
        yours += fit.distances(other, other_classes) / len(folds)
    return mine, yours


def _doubts(scores: StoredScores, rows: Column) -> Floats:
    """Return one minus the highest probability of samples: (sample,)."""
    _, probability = scores.file.top_predictions
    doubts: Floats = 1 - probability[rows, 0].astype(np.float64)
    return doubts


def _energies(scores: StoredScores, rows: Column) -> Floats:
    """Return the energy of samples: (sample,)."""
    energies: Floats = scores.file.energies[rows].astype(np.float64)
    if np.isnan(energies).any():
        raise AtlasError(f"{scores.file.path} knows no energies, since its classes have no outputs of their own")
    return energies
