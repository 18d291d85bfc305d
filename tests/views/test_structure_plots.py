"""Figures of similarities, named values and distributions show what they are given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from crp_kit.errors import InputError
from crp_kit.views.plot import cross_similarities, distributions, similarities, value_bars


def test_similarities_are_drawn_in_their_order_with_unknown_ones_grey() -> None:
    values = np.array([[1, -1, np.nan], [-1, 1, np.nan], [np.nan] * 3])
    ax, bar = similarities(values, order=[2, 0, 1], title="$a$").axes
    pixels = np.asarray(ax.images[0].get_array())
    assert len({tuple(pixels[0, column]) for column in range(3)} | {tuple(pixels[2, 0])}) == 1
    assert (pixels[1, 1] == pixels[2, 2]).all()
    assert pixels[1, 2, 2] > pixels[1, 2, 0]  # -1 is blue
    assert bar.get_ylabel() == "similarity (grey: unknown)"
    assert len(similarities(np.eye(500)).axes[0].get_xticks()) == 20


def test_similarities_of_two_layers_have_a_line_behind_the_matched_ones() -> None:
    ax = cross_similarities(np.zeros((4, 3)), rows=[3, 1, 0, 2], matched=2).axes[0]
    assert [line.get_ydata()[0] for line in ax.lines[:1]] == [1.5]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["3", "1", "0", "2"]
    assert not cross_similarities(np.zeros((2, 2)), matched=2).axes[0].lines


def test_bars_have_names_intervals_and_a_reference() -> None:
    names = ["a", "$b$", "c" * 70]
    figure = value_bars(
        [1.0, np.nan, -2.0], names=names, label="x", interval=([0.5, np.nan, -3], [1.5, np.nan, -1]),
        reference=(0.2, "by chance"),
    )  # fmt: skip
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", r"\$b\$", "c" * 60 + "\n" + "c" * 10]
    assert len(ax.collections[0].get_segments()) == 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["interval", "by chance"]


def test_distributions_leave_out_what_is_not_finite() -> None:
    figure = distributions({"x": np.array([1, 2, 2, 4]), "y": np.array([np.nan, 0.5]), "z": np.full(3, np.nan)})
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert heights == [1, 2, 0, 1]
    assert sum(patch.get_height() for patch in figure.axes[1].patches) == 1
    assert not figure.axes[2].patches
    assert isinstance(distributions({"a": np.array([3.0])}, axes=Figure().subplots(1, 1, squeeze=False)), Figure)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="each of the 2 concepts once"):
        similarities(np.eye(2), order=[0, 0])
    for wrong in (np.eye(3)[:2], np.zeros((0, 0))):
        with pytest.raises(InputError, match="concept, concept"):
            similarities(wrong)
    with pytest.raises(InputError, match="concept, concept"):
        cross_similarities(np.zeros(3))
    with pytest.raises(InputError, match="at least one value"):
        value_bars([], names=[], label="x")
    with pytest.raises(InputError, match="names"):
        value_bars([1.0], names=["a", "b"], label="x")
    with pytest.raises(InputError, match="at least one column"):
        distributions({})
