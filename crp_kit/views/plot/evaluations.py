"""Evaluations of concepts: their impact beside relevance, and correlations over samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .labels import interval_words, literal, shortened
from .panels import OUTLINE
from .sheet import Sheet

if TYPE_CHECKING:
    from ...evaluation.impact import ConceptImpact

__all__ = ["concept_impact"]

_BLUE, _ORANGE = "#0072b2", "#d55e00"
_NAMED = 3
_CORNERS = ((4, 3), "left"), ((-4, 3), "right"), ((4, -9), "left"), ((-4, -9), "right")
"""Where the name of a concept is beside its point, by rank: neighbours are often similar."""
_LETTERS = 40


def concept_impact(impact: ConceptImpact, *, width: float = 8.0) -> Figure:
    """Return a figure of impact: of each concept over its relevance, and the correlation in each sample.

    Parameters
    ----------
    impact : ConceptImpact
    width : float, optional
        In inches.
    """
    figure = Sheet(figsize=(width, 0.46 * width), layout="constrained")
    concepts, samples = figure.subplots(1, 2)
    table = impact.table
    concepts.errorbar(
        table.relevance, table.impact, yerr=np.nan_to_num([table.impact - table.low, table.high - table.impact]),
        fmt="o", markersize=3.5, color=_BLUE, ecolor="#999999", elinewidth=0.8,
        label=f"concept, {interval_words(impact.confidence)}",
    )  # fmt: skip
    for row in range(min(_NAMED, len(table))):
        at, (offset, side) = (float(table.relevance[row]), float(table.impact[row])), _CORNERS[row % len(_CORNERS)]
        name = str(table.concept[row])
        concepts.annotate(name, at, xytext=offset, textcoords="offset points", ha=side, fontsize="x-small")
    concepts.axhline(0, color=OUTLINE, linewidth=0.6)
    concepts.set_xlabel(literal(f"mean share of relevance,\nconcepts of {shortened(impact.layer, _LETTERS)}"))
    concepts.set_ylabel(f"fall of the {impact.settings['output']} without it")
    _draw_agreement(samples, impact)
    for ax in (concepts, samples):
        ax.legend(fontsize="x-small", frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_agreement(ax: Axes, impact: ConceptImpact) -> None:
    """Draw the rank correlation of each sample, by score, with the mean over samples and its interval."""
    scores = ("relevance", "activation")
    summary = [row for row in impact.summary.rows() if row["measure"] == "spearman"]
    for number, (score, row) in enumerate(zip(scores, summary, strict=True)):
        values = impact.agreement(score)
        spread = _spread(values)
        ax.scatter(number + spread, values, s=8, color=(_BLUE, _ORANGE)[number], alpha=0.5, linewidth=0)
        ax.hlines(row["mean"], number - 0.3, number + 0.3, color=OUTLINE, linewidth=1.4)
        label = f"mean, {interval_words(impact.confidence)}" if number == 0 else "_"
        ax.vlines(number, row["low"], row["high"], color=OUTLINE, linewidth=1.4, label=label)
    ax.axhline(0, color=OUTLINE, linewidth=0.6)
    ax.set_xticks(range(len(scores)), scores)
    ax.set(xlim=(-0.6, 1.6), ylim=(-1.05, 1.05), ylabel="rank correlation with impact, by sample")


def _spread(values: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a small horizontal shift for each dot."""
    return np.random.default_rng(0).uniform(-0.2, 0.2, len(values))
