"""Figures of statistics of an atlas: percentiles, strategies of a class, names of concepts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .labels import interval_words, one_line, row_distance, row_names, wrapped_titles
from .panels import OUTLINE
from .sheet import Sheet

__all__ = ["named_concepts", "percentiles", "strategies", "word_names"]

Floats = npt.NDArray[np.float64]

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442", "#999999")
"""Okabe and Ito's, which colour-blind people can tell apart."""
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = 40
"""Rows that a figure shows at most."""
_LETTERS = 44
"""In a line of the name of a row."""
_TITLE = 4.0
"""Inches that a title takes beside names of rows."""


def percentiles(values: Floats, names: Sequence[str], *, title: str = "") -> Figure:
    """Return a figure of two-sided percentiles, a line for each of the first 40 rows.

    Parameters
    ----------
    values : array
        (row,), from 0 to 100.
    names : sequence of str
        One for each row.
    title : str, optional

    Examples
    --------
    >>> figure = percentiles(np.array([99.0, 20.0]), ["sample 3", "sample 9"])
    >>> figure.axes[0].get_xlabel()
    'two-sided percentile among held-out scores of the class'
    """
    shown = values[:_LINES]
    figure, ax = _lines(len(shown), names[:_LINES], title)
    ax.axvspan(95, 100, color="#d55e00", alpha=0.15, linewidth=0)
    ax.hlines(np.arange(len(shown)), 0, shown, color="#bbbbbb", linewidth=1)
    ax.plot(shown, np.arange(len(shown)), "o", color=_COLOURS[0], markeredgecolor=OUTLINE, markersize=5)
    ax.set_xlim(0, 102)
    ax.set_xlabel("two-sided percentile among held-out scores of the class", fontsize="small")
    return figure


def strategies(coordinates: Floats, labels: npt.NDArray[np.int64], *, title: str = "") -> Figure:
    """Return a figure of the samples of a class in two spectral coordinates, coloured by strategy.

    Parameters
    ----------
    coordinates : array
        (sample, 2).
    labels : array of int
        (sample,), the strategy of each sample, from 0.
    title : str, optional

    Examples
    --------
    >>> figure = strategies(np.eye(3)[:, :2], np.array([0, 0, 1]))
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['strategy 0: 2 samples', 'strategy 1: 1 sample']
    """
    figure = Sheet(figsize=(6.4, 4.4), layout="constrained")
    ax = figure.add_subplot()
    for number in np.unique(labels).tolist():
        rows = coordinates[labels == number]
        label = f"strategy {number}: {len(rows)} sample{'s' if len(rows) > 1 else ''}"
        colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number // len(_COLOURS) % len(_MARKS)]
        ax.plot(rows[:, 0], rows[:, 1], mark, color=colour, markeredgecolor=OUTLINE, markeredgewidth=0.3,
                markersize=5, alpha=0.85, label=label)  # fmt: skip
    ax.set_xlabel("first spectral coordinate", fontsize="small")
    ax.set_ylabel("second spectral coordinate", fontsize="small")
    ax.set_title(one_line(title), loc="left", fontsize="medium")
    ax.tick_params(labelsize="x-small")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def named_concepts(names: Sequence[str], auc: Floats, other_half: Floats, null: Floats, *, title: str = "") -> Figure:
    """Return a figure of the first 40 named concepts: AUC where the name was searched, on the other half, by chance.

    Parameters
    ----------
    names : sequence of str
        Concept and name, one for each row.
    auc, other_half, null : array
        (row,), from 0 to 1.
    title : str, optional

    Examples
    --------
    >>> figure = named_concepts(["3: red"], np.array([0.9]), np.array([0.88]), np.array([0.6]))
    >>> figure.axes[0].get_yticklabels()[0].get_text()
    '3: red'
    """
    shown = min(len(names), _LINES)
    rows = np.arange(shown)
    figure, ax = _lines(shown, names[:shown], title)
    ax.hlines(rows, null[:shown], other_half[:shown], color="#bbbbbb", linewidth=1)
    ax.plot(null[:shown], rows, "|", color=OUTLINE, markersize=9, label="by chance")
    ax.plot(auc[:shown], rows, "o", color="none", markeredgecolor=_COLOURS[0], markersize=6, label="where searched")
    ax.plot(other_half[:shown], rows, "o", color=_COLOURS[4], markersize=4, label="other half")
    ax.set_xlim(min(0.48, float(other_half[:shown].min(initial=1)) - 0.02), 1.01)
    ax.set_xlabel("AUC of the concept's scores for the name", fontsize="small")
    ax.legend(fontsize="x-small", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def word_names(
    names: Sequence[str], similarity: Floats, interval: tuple[Floats, Floats], expected: Floats, *, title: str = ""
) -> Figure:
    """Return a figure of the first 40 concepts named by words: similarity with its interval, and what is expected.

    Parameters
    ----------
    names : sequence of str
        Concept and word, one for each row.
    similarity : array
        (row,).
    interval : (array, array)
        Low and high end for each row; NaN for none.
    expected : array
        (row,).
    title : str, optional

    Examples
    --------
    >>> ends = (np.array([0.2]), np.array([0.4]))
    >>> figure = word_names(["3: dog"], np.array([0.3]), ends, np.array([0.1]))
    >>> figure.axes[0].get_xlabel()
    'mean cosine of references with the word'
    """
    shown = min(len(names), _LINES)
    rows = np.arange(shown)
    figure, ax = _lines(shown, names[:shown], title)
    low, high = (end[:shown] for end in interval)
    ax.hlines(rows, low, high, color=_COLOURS[0], linewidth=1.2, label=interval_words(0.95))
    ax.plot(expected[:shown], rows, "|", color=OUTLINE, markersize=9, label="references of all concepts")
    ax.plot(similarity[:shown], rows, "o", color=_COLOURS[0], markersize=4, label="references of the concept")
    ax.set_xlabel("mean cosine of references with the word", fontsize="small")
    ax.legend(fontsize="x-small", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _lines(count: int, names: Sequence[str], title: str) -> tuple[Figure, Axes]:
    """Return a figure with a named line for each row, the first at the top."""
    broken = row_names(names, _LETTERS)
    distance = max(0.22, row_distance(broken))
    figure = Sheet(figsize=(7.2, 1.2 + distance * max(count, 1)), layout="constrained")
    ax = figure.add_subplot()
    ax.set_yticks(range(count), broken, fontsize="x-small")
    ax.set_ylim(max(count, 1) - 0.4, -0.6)
    (above,) = wrapped_titles([title], _TITLE) or [""]
    ax.set_title(above, loc="left", fontsize="medium")
    ax.tick_params(labelsize="x-small", length=2)
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax
