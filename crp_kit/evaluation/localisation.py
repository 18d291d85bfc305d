"""Localisation: heatmaps of samples, and conditional heatmaps of reference samples, against masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..atlas.query.layer_atlas import LayerAtlas
from ..atlas.query.reference_maps import check_origin
from ..atlas.query.reference_starts import ConditionedOn
from ..atlas.query.references import find_references
from ..attribution.axes import check_class_output
from ..attribution.result import Attribution
from ..attribution.subject import Subject
from ..checks import check_integer
from ..data.random_state import random_state_kept
from ..progress import Progress
from ..statistics.intervals import mean_of_known
from ..statistics.localisation import LocalisationScores, localisation_scores
from ..targets import Target
from .kept import identity_of, kept_in
from .localisation_tables import ConceptLocalisation, Localisation
from .measure import measure_of
from .part_masks import PartMasks
from .sample_choice import SampleChoice, check_concept_ids
from .step_log import Parts

__all__ = ["ReferenceChoice", "concept_localisation", "localisation", "sample_heatmaps"]

Floats = npt.NDArray[np.float64]


def sample_heatmaps(
    subject: Subject, choice: SampleChoice, *, diagnose: bool = False, begin: int = 0
) -> Iterator[tuple[tuple[int, ...], Attribution]]:
    """Yield the numbers of samples from one on, and the attribution of each batch; balances do not warn."""
    for batch in choice.batches(subject, choice.numbers(subject)[begin:]):
        assert batch.images is not None
        inputs = subject.normalised(batch.images)
        run = subject.attribution.engine.run(inputs, subject.composite)
        check_class_output(run)
        starts = measure_of(run, batch, choice.target).starts
        attribution = subject.attribution(
            inputs,
            [{"y": [start]} for start in starts],
            subject.composite,
            pairing="zip",
            batch_size=len(starts),
            on_device="cpu",
            diagnose=math.inf if diagnose else False,
        )
        yield batch.samples, attribution


def localisation(
    subject: Subject, masks: PartMasks, choice: SampleChoice, *, checkpoint: Path | None, verbose: bool
) -> Localisation:
    """Return the localisation of the heatmaps of samples; see `crp_kit.evaluation.Evaluation.localisation`."""
    numbers, settings = choice.numbers(subject), {"samples": choice, "masks": masks.identity}
    with (
        random_state_kept(),
        kept_in(checkpoint, lambda: identity_of(subject, "localisation", None, settings)) as kept,
        Progress(len(numbers), "localisation", unit="image", verbose=verbose) as bar,
    ):
        parts = [LocalisationScores(**part) for part in kept.of("scores")]
        bar.update(begin := sum(len(part.mass) for part in parts))
        for samples, attribution in sample_heatmaps(subject, choice, begin=begin) if begin < len(numbers) else ():
            parts.append(scored(attribution.heatmap, samples, masks))
            kept.add("scores", vars(parts[-1]))
            bar.update(len(samples))
    words = {"target": str(choice.target), "composite": subject.rules_name}
    return Localisation(joined(parts), np.array(numbers), words)


def scored(heatmaps: torch.Tensor, samples: Sequence[int], masks: PartMasks) -> LocalisationScores:
    """Return the scores of heatmaps (sample, *place) against all parts together."""
    place = tuple(heatmaps.shape[1:])
    return localisation_scores(
        heatmaps.detach().double().numpy(), np.stack([masks.union(number, place) for number in samples])
    )


def joined(parts: Sequence[LocalisationScores]) -> LocalisationScores:
    """Return the scores of some samples behind those of others."""
    return LocalisationScores(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


@dataclass(frozen=True)
class ReferenceChoice:
    """Reference samples of the concepts of a layer, checked.

    Parameters
    ----------
    concept_ids : sequence of int or None
        All by default.
    k : int
        How many of each.
    conditioned_on : {"class", "prediction", "layer"} or Target
        Where relevance starts.
    batch_size : int
    """

    concept_ids: Sequence[int] | None
    k: int
    conditioned_on: ConditionedOn | Target
    batch_size: int

    def __post_init__(self) -> None:
        check_integer("k", self.k, low=1)
        check_concept_ids(self.concept_ids)


def concept_localisation(
    subject: Subject,
    layer: LayerAtlas,
    masks: PartMasks,
    choice: ReferenceChoice,
    *,
    checkpoint: Path | None,
    verbose: bool,
) -> ConceptLocalisation:
    """Return the localisation of concepts by part; see `crp_kit.evaluation.Evaluation.concept_localisation`."""
    check_origin(layer.file, subject)
    ids = list(range(layer.info.n_concepts) if choice.concept_ids is None else choice.concept_ids)
    settings = {"atlas": layer.file.header.lasting(), "masks": masks.identity, **vars(choice), "concept_ids": ids}
    parts = []
    with (
        kept_in(checkpoint, lambda: identity_of(subject, "concept localisation", layer.name, settings)) as kept,
        Progress(len(ids), "localisation", unit="concept", verbose=verbose) as bar,
    ):
        for concept in ids:
            parts.append(kept.once(f"concept {concept}", partial(_by_part, subject, layer, masks, (choice, concept))))
            bar.update()
    columns: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return ConceptLocalisation(**columns, layer=layer.name)


def _by_part(subject: Subject, layer: LayerAtlas, masks: PartMasks, chosen: tuple[ReferenceChoice, int]) -> Parts:
    """Return the scores of a concept by part, (part,) each."""
    choice, concept = chosen
    references = find_references(
        subject,
        layer,
        concept,
        k=choice.k,
        conditioned_on=choice.conditioned_on,
        batch_size=choice.batch_size,
        check=False,
    )
    maps = [heatmap.double().numpy() for heatmap in references.heatmaps]
    shown = [masks.of(int(sample), maps[row].shape) for row, sample in enumerate(references.table.sample)]
    rows = [
        {"concept": int(concept), "part": part, **_means(maps, [parts[part] for parts in shown])} for part in shown[0]
    ]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _means(maps: Sequence[Floats], masks: Sequence[npt.NDArray[np.bool_]]) -> dict[str, float]:
    """Return the means of scores over the samples that show a part, and how many these are."""
    held = joined([localisation_scores(heatmap[None], mask[None]) for heatmap, mask in zip(maps, masks, strict=True)])
    mass = mean_of_known(held.mass)
    others = {name: mean_of_known(vars(held)[name]).mean for name in ("rank", "pointing", "iou", "mask_share")}
    count = int(np.isfinite(held.mask_share).sum())
    return {"n": count, "mass": mass.mean, "mass_low": mass.low, "mass_high": mass.high, **others}
