"""Comparison of composites by flipping, localisation, randomisation, conservation and time, on the same samples."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..attribution.subject import rules_name
from ..checks import check_integer
from ..errors import CrpKitError, InputError
from ..progress import Progress
from ..rules.presets import Composite, preset_names
from ..statistics.localisation import LocalisationScores
from .composite_table import CompositeTable
from .flipping import FlippingOptions, flipping_curves
from .layer_pass import LayerPass
from .localisation import joined, sample_heatmaps, scored
from .orders import RANDOM, Orders
from .part_masks import PartMasks
from .robustness import randomisation
from .step_log import Parts

__all__ = ["CompositeMeasures", "Composites", "compared_composites", "named_composites"]

Composites = Sequence[str | Composite | None] | Mapping[str, str | Composite | None] | None

Floats = npt.NDArray[np.float64]
_DIAGNOSED = 4
"""Samples whose relevance balance is recorded, one by one."""


@dataclass(frozen=True)
class CompositeMeasures:
    """Settings of the measures, checked.

    Parameters
    ----------
    flipping : FlippingOptions
    stages : int
        Of randomisation.
    masks : PartMasks or None
    """

    flipping: FlippingOptions
    stages: int
    masks: PartMasks | None

    def __post_init__(self) -> None:
        check_integer("stages", self.stages, low=1)


def named_composites(composites: Composites) -> dict[str, str | Composite | None]:
    """Return composites by name; all presets where none are chosen.

    Raises
    ------
    InputError
        If there is none, or two have one name.
    """
    if composites is None:
        return {name: name for name in preset_names()}
    if isinstance(composites, Mapping):
        named = {str(name): composite for name, composite in composites.items()}
    else:
        listed = [composites] if isinstance(composites, (str, Composite)) else composites
        if not isinstance(listed, Sequence):
            raise InputError(
                f"composites is names of presets or composites, or a dictionary of them; got {type(listed).__name__}"
            )
        names = [rules_name(rules) for rules in listed]
        if len(set(names)) < len(names):
            raise InputError("two composites have one name: give them as a dictionary by names of your own")
        named = dict(zip(names, listed, strict=True))
    if not named:
        raise InputError("there is no composite to compare; give at least one, or leave it out for all presets")
    return named


def compared_composites(
    data: LayerPass, composites: Composites, measures: CompositeMeasures, *, verbose: bool
) -> CompositeTable:
    """Return what composites give; see `crp_kit.evaluation.Evaluation.composites`."""
    named, rows, left_out = named_composites(composites), [], {}
    whole = replace(data, checkpoint=None)
    masks = None if measures.masks is None else measures.masks.identity
    settings = {**vars(measures.flipping), "stages": measures.stages, "masks": masks, "composites": named}
    with (
        data.kept("composites", **settings) as kept,
        Progress(len(named), "composites", unit="composite", verbose=verbose) as bar,
    ):
        chance = kept.once("chance", partial(_chance, whole, measures.flipping))[RANDOM]
        for name, composite in named.items():
            try:
                measured = partial(_measured, whole, (name, composite), chance, measures)
                rows.append(kept.once(f"composite {name}", measured))
            except CrpKitError as error:
                if composites is not None:
                    raise
                left_out[name] = str(error)
            bar.update()
    if not rows:
        raise InputError(f"no preset can be used: {next(iter(left_out.values()))}")
    rows.sort(key=lambda row: -np.nan_to_num(row["better"], nan=-np.inf))
    columns: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    words = {
        "samples": str(len(data.numbers)),
        "target": str(data.choice.target),
        "baseline": measures.flipping.baseline,
    }
    return CompositeTable(**columns, layer=data.layer, settings=words, left_out=left_out)


def _chance(data: LayerPass, options: FlippingOptions) -> Parts:
    """Return the changes along random orders, which are the same for all rules."""
    return flipping_curves(data, Orders([RANDOM]), options, verbose=False).changes


def _measured(
    whole: LayerPass, rules: tuple[str, str | Composite | None], chance: Floats, measures: CompositeMeasures
) -> Parts:
    """Return all measures of rules, a number each, and their name."""
    name, composite = rules
    data = replace(whole, subject=replace(whole.subject.with_rules(composite), rules_name=name))
    curves = flipping_curves(data, Orders(["relevance"]), measures.flipping, verbose=False)
    compared = replace(curves, changes={**curves.changes, RANDOM: chance})
    row = next(compared.summary.rows())
    flipped = {name: row[name] for name in ("aoc", "better", "better_low", "better_high")}
    randomised = randomisation(data, stages=measures.stages, seed=measures.flipping.seed, verbose=False)
    row = {
        "composite": name,
        **flipped,
        **_of_heatmaps(data, measures.masks),
        "other_class": np.nan if randomised.other_class is None else _mean(randomised.other_class),
        "randomised": _mean(randomised.correlations),
    }
    return {name: np.array(value) for name, value in row.items()}


def _of_heatmaps(data: LayerPass, masks: PartMasks | None) -> dict[str, Any]:
    """Return localisation, conservation where relevance and no gradient flows, nodes without a rule, and time."""
    scores: list[LocalisationScores] = []
    reached: list[float] = []
    nodes: set[str] = set()
    for samples, attribution in sample_heatmaps(data.subject, data.choice):
        if masks is not None:
            scores.append(scored(attribution.heatmap, samples, masks))
        if attribution.reached is not None:
            reached += attribution.reached.tolist()
        nodes |= set(attribution.gradient_nodes)
    held = joined(scores) if scores else None
    return {
        **{name: np.nan if held is None else _mean(vars(held)[name]) for name in ("mass", "pointing", "mask_share")},
        "reached": _mean(reached),
        "unexplained": _unexplained(data) if reached else float("nan"),
        "gradient_nodes": len(nodes),
        "seconds": _seconds(data),
    }


def _seconds(data: LayerPass) -> float:
    """Return the time of one heatmap in a batch, once everything has been planned."""
    choice = replace(data.choice, limit=min(data.choice.batch_size, len(data.numbers)))
    maps = sample_heatmaps(data.subject, choice)
    begin = time.perf_counter()
    samples, _ = next(maps)
    return (time.perf_counter() - begin) / len(samples)


def _unexplained(data: LayerPass) -> float:
    """Return the mean share that rules which do not conserve added or absorbed, in the first samples."""
    choice = replace(data.choice, limit=min(_DIAGNOSED, len(data.numbers)))
    reports = [part.conservation for _, part in sample_heatmaps(data.subject, choice, diagnose=True)]
    return _mean([row.unexplained for report in reports if report is not None for row in report.rows])


def _mean(values: Any) -> float:
    """Return the mean of the values that are known; NaN for none."""
    array = np.asarray(values, np.float64)
    known = array[np.isfinite(array)]
    return float(known.mean()) if len(known) else float("nan")
