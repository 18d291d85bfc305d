"""Atlas files of chosen scores, written by the state of a pass without a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from synthetic_pass import SyntheticPass

import crp_kit as crp
from crp_kit.atlas.file.header import Header
from crp_kit.atlas.query.layer_atlas import ScoreAtlas
from crp_kit.atlas.statistics.scores import BatchScores, ModeScores, Rows, SampleFacts

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ScoredPass(SyntheticPass):
    """A pass over one layer whose scores are known; `labels` are the targets that relevance starts from.

    Attributes
    ----------
    relevance, activation : array
        (sample, concept).
    predictions : sequence of int
    target : str
        As the header says it.
    second : dict
        Samples that have a second target, with the same scores.
    left_out : sequence of int
        Samples that could not be read.
    """

    relevance: Array
    activation: Array
    predictions: Sequence[int]
    target: str = "label"
    second: Mapping[int, int] = field(default_factory=dict)
    left_out: Sequence[int] = ()

    @property
    def header(self) -> Header:
        return replace(super().header, target=self.target)

    def scores(self, batch: int) -> BatchScores:
        """Scores of one batch; the highest neuron of every concept is its first."""
        numbers = np.arange(len(self.labels))[batch * self.batch_size : (batch + 1) * self.batch_size]
        samples = numbers[~np.isin(numbers, np.asarray(self.left_out, "i8"))]
        target = np.asarray(self.labels, "i8")[samples]
        held = target >= 0
        whole, labelled = np.arange(len(samples)), np.flatnonzero(held)
        twice = np.array([row for row in labelled if samples[row] in self.second], "i8")
        extra = np.array([self.second[sample] for sample in samples[twice]], "i8")
        modes = {}
        for mode in ("relevance", "activation"):
            score = getattr(self, mode)[samples].astype("f4")
            rows = Rows(samples, target, score, np.zeros(score.shape, "i4"))
            both = rows.taken(np.append(labelled, twice), np.append(target[labelled], extra))
            first = rows.taken(labelled if mode == "relevance" else whole)
            modes[mode] = ModeScores(both, first, first)
        return BatchScores(samples, target, self.facts(samples, target), {"layer0": modes})  # type: ignore[dict-item]

    def facts(self, samples: Array, label: Array) -> SampleFacts:
        """Labels and predictions; behind the predicted class the others follow by number."""
        prediction, ranks = np.asarray(self.predictions, "i8")[samples], min(5, self.n_classes)
        others = [[cls for cls in range(self.n_classes) if cls != first][: ranks - 1] for first in prediction.tolist()]
        top_class = np.column_stack([prediction, np.array(others, "i8").reshape(len(samples), ranks - 1)])
        probability = np.tile(np.float32(2.0) ** -np.arange(1, ranks + 1, dtype="f4"), (len(samples), 1))
        return SampleFacts(label, prediction, top_class.astype("i4"), probability, np.zeros(len(samples), "f4"))


def scored_pass(labels: Sequence[int], relevance: Array, **options: Any) -> ScoredPass:
    """Return a pass with a matrix; by default everything is predicted right and activation is the magnitude."""
    options = {
        "activation": np.abs(relevance), "predictions": np.maximum(labels, 0), "matrix": True, "batch_size": 32,
        **options,
    }  # fmt: skip
    return ScoredPass(labels, (relevance.shape[1],), relevance=relevance, **options)


def score_atlas(path: Path, labels: Sequence[int], relevance: Array, **options: Any) -> ScoreAtlas:
    """Write and open an atlas, and return its only layer by relevance."""
    return crp.ConceptAtlas(scored_pass(labels, relevance, **options).write(path))["layer0"].relevance
