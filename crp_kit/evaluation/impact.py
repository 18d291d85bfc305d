"""Impact of single concepts: the change of the output without each of them, against its relevance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import numpy.typing as npt

from ..checks import check_integer
from ..data.random_state import random_state_kept
from ..drawing import plots
from ..errors import ConceptRangeError
from ..progress import Progress
from ..result_table import Column, Table
from ..statistics.intervals import mean_of_known
from ..statistics.row_correlation import row_correlation
from .layer_batch import Baseline, LayerBatch
from .layer_pass import LayerPass
from .measure import Output, check_output, check_word
from .sample_choice import check_concept_ids
from .shown import ShownResult
from .step_log import Parts

if TYPE_CHECKING:
    import torch

    from ..drawing import Figure

__all__ = ["AgreementTable", "ConceptImpact", "ImpactTable", "concept_impact"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class AgreementTable(Table):
    """Correlation of scores with impact over the concepts of a sample, averaged over samples.

    Parameters
    ----------
    score : numpy.ndarray
        ``"relevance"`` or ``"activation"``.
    measure : numpy.ndarray
        ``"pearson"`` or ``"spearman"``.
    n : numpy.ndarray
        Samples in which it is defined: neither score nor impact is the same for all concepts.
    mean, low, high : numpy.ndarray
        Mean over these samples, and its t interval.
    """

    score: Column
    measure: Column
    n: Column
    mean: Column
    low: Column
    high: Column


@dataclass(frozen=True, eq=False, repr=False)
class ImpactTable(Table):
    """Impact and scores of each concept, averaged over samples, the largest impact first.

    Parameters
    ----------
    concept : numpy.ndarray
        Number of the concept.
    impact, low, high : numpy.ndarray
        Mean fall of the output without it, and its t interval.
    relevance : numpy.ndarray
        Mean share of relevance.
    activation : numpy.ndarray
        Mean activation.
    """

    concept: Column
    impact: Column
    low: Column
    high: Column
    relevance: Column
    activation: Column


@dataclass(frozen=True, eq=False, repr=False)
class ConceptImpact(ShownResult):
    """Fall of the output without single concepts of a layer, beside their relevance and activation.

    Parameters
    ----------
    layer : str
    concepts : numpy.ndarray
        (concept,), their numbers.
    impact : numpy.ndarray
        f(x) − f(x without the concept), (sample, concept).
    relevance : numpy.ndarray
        Share of the concept in the layer's relevance, (sample, concept).
    activation : numpy.ndarray
        (sample, concept).
    samples : numpy.ndarray
        (sample,), numbers in the dataset.
    settings : dict
        What was done, in words: baseline, output, target, composite.
    confidence : float
        Of the intervals.
    """

    layer: str
    concepts: npt.NDArray[np.int64]
    impact: Floats
    relevance: Floats
    activation: Floats
    samples: npt.NDArray[np.int64]
    settings: Mapping[str, str]
    confidence: float = 0.95

    @property
    def heading(self) -> str:
        return f"ConceptImpact of {self.layer!r}: {len(self.concepts)} concepts, {len(self.samples)} samples"

    def agreement(self, score: str = "relevance", measure: str = "spearman") -> Floats:
        """Return the correlation of a score with impact over the concepts of each sample: (sample,).

        Parameters
        ----------
        score : {"relevance", "activation"}, optional
        measure : {"spearman", "pearson"}, optional

        Raises
        ------
        InputError
            If one is another word.
        """
        check_word("score", score, ("relevance", "activation"))
        check_word("measure", measure, ("spearman", "pearson"))
        return row_correlation(getattr(self, score), self.impact, ranks=measure == "spearman")

    @property
    def summary(self) -> AgreementTable:
        """Correlations over samples, with intervals."""
        rows = [(score, measure) for score in ("relevance", "activation") for measure in ("pearson", "spearman")]
        means = [mean_of_known(self.agreement(*row), confidence=self.confidence) for row in rows]
        return AgreementTable(*map(np.array, zip(*rows, strict=True)), *map(np.array, zip(*means, strict=True)))

    @property
    def table(self) -> ImpactTable:
        """Impact and scores by concept."""
        means = [mean_of_known(column, confidence=self.confidence) for column in self.impact.T]
        _, impact, low, high = map(np.array, zip(*means, strict=True))
        table = ImpactTable(self.concepts, impact, low, high, self.relevance.mean(0), self.activation.mean(0))
        return table.sorted("impact")

    def plot(self) -> Figure:
        """Return a figure: mean impact of each concept over its mean relevance, and correlations over the samples."""
        figure: Figure = plots().concept_impact(self)
        return figure


@dataclass(frozen=True)
class ImpactOptions:
    """Settings of `concept_impact`, checked."""

    baseline: Baseline
    output: Output

    def __post_init__(self) -> None:
        check_word("baseline", self.baseline, get_args(Baseline))


def concept_impact(
    data: LayerPass, concept_ids: Sequence[int] | None, options: ImpactOptions, *, verbose: bool
) -> ConceptImpact:
    """Return the impact of concepts in all samples; see `crp_kit.evaluation.Evaluation.impact`."""
    check_output(options.output, data.choice.target)
    check_concept_ids(concept_ids)
    asked = None if concept_ids is None else list(concept_ids)
    with random_state_kept(), data.kept("impact", concept_ids=asked, **vars(options)) as kept:
        mean = data.mean(kept) if options.baseline == "mean" else None

        def measure(batch: LayerBatch) -> Parts:
            ids = _checked_ids(data.layer, asked, batch.n_concepts)
            impact = _impact(batch, ids, batch.replacement(options.baseline, mean), options.output)
            scores = {"relevance": batch.relevance[:, ids], "activation": batch.activation[:, ids]}
            return {"concepts": ids, "impact": impact, **scores}

        with Progress(len(data.numbers), "impact", unit="image", verbose=verbose) as bar:
            parts = data.parts(kept, "impact", measure, done=bar.update)
    settings = {"baseline": options.baseline, "output": options.output, "target": str(data.choice.target)}
    names = ("impact", "relevance", "activation")
    impact, relevance, activation = (np.concatenate([part[name] for part in parts]) for name in names)
    return ConceptImpact(
        data.layer,
        parts[0]["concepts"],
        impact,
        relevance,
        activation,
        np.array(data.numbers),
        {**settings, "composite": data.subject.rules_name},
    )


def _checked_ids(layer: str, concept_ids: Sequence[int] | None, count: int) -> npt.NDArray[np.int64]:
    if concept_ids is None:
        return np.arange(count)
    ids = [check_integer("a concept", number, low=0) for number in concept_ids]
    wrong = [number for number in ids if number >= count]
    if wrong:
        raise ConceptRangeError(layer, wrong, count, what="concept")
    return np.array(ids)


def _impact(batch: LayerBatch, ids: npt.NDArray[np.int64], replacement: torch.Tensor, output: Output) -> Floats:
    """Return f(x) − f(x without each concept): (sample, concept)."""
    members = np.zeros((len(ids) + 1, 1, batch.n_concepts), bool)  # the first row keeps all concepts
    members[np.arange(len(ids)) + 1, 0, ids] = True
    parts = []
    for start in range(0, len(members), at_once := batch.run.rows_at_once):
        rows = batch.replaced(members[start : start + at_once], replacement)
        parts.append(batch.measured(batch.suffix(rows), output))
    measured: Floats = np.concatenate(parts, 1)
    return measured[:, :1] - measured[:, 1:]
