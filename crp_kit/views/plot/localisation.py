"""Localisation: scores of heatmaps beside what chance has, and parts in which concepts are localised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ..image import DEFAULT_CMAP
from .labels import literal, shortened
from .panels import OUTLINE
from .sheet import Sheet
from .similarities import cross_similarities

if TYPE_CHECKING:
    from ...evaluation.localisation_tables import ConceptLocalisation, LocalisationTable

__all__ = ["concept_localisation", "localisation"]

_BLUE, _GREY = "#0072b2", "#999999"
_LETTERS = 40


def localisation(table: LocalisationTable, *, width: float = 4.2) -> Figure:
    """Return a figure of localisation: the mean of each score with its interval, and what it has by chance.

    Parameters
    ----------
    table : LocalisationTable
    width : float, optional
        In inches.
    """
    figure = Sheet(figsize=(width, 0.72 * width), layout="constrained")
    ax = figure.add_subplot()
    at, chance = np.arange(len(table)), table.mean - table.above
    ax.bar(at, table.mean, width=0.6, color=_BLUE)
    ax.vlines(at, table.low, table.high, color=OUTLINE, linewidth=1.4, label="interval of the mean")
    ax.hlines(chance, at - 0.4, at + 0.4, color=OUTLINE, linestyle="--", linewidth=1.2, label="by chance")
    ax.set_xticks(at, [f"{row['score']}\n(n = {row['n']})" for row in table.rows()])
    ax.set_ylabel("mean over the samples")
    ax.set_ylim(0, max(1.0, float(np.nanmax(np.append(table.high, 1.0)))))
    ax.legend(fontsize="small", frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=2)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def concept_localisation(table: ConceptLocalisation) -> Figure:
    """Return a figure of concepts and parts: share of relevance inside of a part minus its share of the image.

    Red is more than chance has, blue less, grey is not known.

    Parameters
    ----------
    table : ConceptLocalisation
    """
    parts, concepts = list(dict.fromkeys(table.part.tolist())), list(dict.fromkeys(table.concept.tolist()))
    values = np.full((len(parts), len(concepts)), np.nan)
    for row in table.rows():
        values[parts.index(row["part"]), concepts.index(row["concept"])] = row["mass"] - row["mask_share"]
    figure = cross_similarities(
        values,
        labels=("part", literal(f"concept of {shortened(table.layer, _LETTERS)}")),
        title="share of relevance inside, above the share of the image",
        cmap=DEFAULT_CMAP,
    )
    ax = figure.axes[0]
    ax.set_yticks(range(len(parts)), [literal(shortened(part, _LETTERS)) for part in parts])
    ax.set_xticks(range(len(concepts)), [str(concept) for concept in concepts], rotation=90)
    figure.axes[-1].set_ylabel("above chance (grey: not known)", fontsize="x-small")
    return figure
