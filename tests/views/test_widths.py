"""Figures of any kind fit the width that is asked for: nothing is cut off, narrow panels stand below each other."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure

from crp_kit.errors import InputError
from crp_kit.views import plot

NOISE = np.random.default_rng(0)
PATHS = [f"photographs/in a folder/with a long name-{number}.jpg" for number in range(6)]
LONG = "what a long title says of the concepts of layer4.2.conv3, for the class Egyptian cat"
SIMILAR = np.corrcoef(NOISE.normal(size=(48, 20)))


def demo(width: float | None = None) -> Figure:
    views = [plot.ConceptView(torch.rand(8, 8), f"channel {number} (+1.8%)") for number in range(3)]
    samples = [
        plot.SampleView(
            torch.rand(3, 8, 8), "Egyptian cat, p = 0.38", torch.rand(8, 8), "all", torch.rand(9), "", views
        )
        for _ in range(2)
    ]
    return plot.demo_figure(samples, title=LONG, width=width)


def _words(rows: int) -> tuple[Any, ...]:
    """Similarities, their intervals, and what is expected."""
    similarity = NOISE.uniform(0.5, 1, rows)
    return similarity, (similarity - 0.1, similarity + 0.1), similarity - 0.3


FIGURES: dict[str, Callable[[], Figure]] = {
    "percentiles": lambda: plot.percentiles(NOISE.uniform(0, 100, 6), PATHS, title=LONG),
    "strategies": lambda: plot.strategies(NOISE.normal(size=(20, 2)), np.arange(20) % 3, title=LONG),
    "names": lambda: plot.named_concepts(PATHS, *NOISE.uniform(0.5, 1, (3, 6)), title=LONG),
    "words": lambda: plot.word_names(PATHS, *_words(6), title=LONG),
    "values": lambda: plot.value_bars(
        NOISE.normal(size=6), names=PATHS, label="similarity", reference=(0.3, "by chance"), title=LONG
    ),
    "similarities": lambda: plot.similarities(SIMILAR, title=LONG),
    "two layers": lambda: plot.cross_similarities(SIMILAR[:9], matched=5, title=LONG),
    "distributions": lambda: plot.distributions({name: NOISE.normal(size=40) for name in PATHS[:4]}, title=LONG),
    "demo": demo,
}


def drawn_inches(figure: Figure) -> tuple[float, float, float, float]:
    """Return how far to the left, below, to the right and above what is drawn reaches."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    assert isinstance(renderer, RendererAgg)
    left, low, right, high = (float(side) for side in figure.get_tightbbox(renderer).extents)
    return left, low, right, high


@pytest.mark.parametrize("width", [3.4, 6.5])
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_at_a_width(name: str, width: float) -> None:
    figure = demo(width) if name == "demo" else plot.in_width(FIGURES[name](), width)
    left, low, right, high = drawn_inches(figure)
    assert figure.get_figwidth() == width
    assert min(left, low) > -0.02
    assert right < width + 0.02
    assert high < figure.get_figheight() + 0.02


def test_narrow_panels_stand_below_each_other_and_all_have_their_numbers() -> None:
    figure = Figure(figsize=(10, 2), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    plot.in_width(figure, 3.4)
    drawn_inches(figure)
    middles = [panel.get_position().get_points().mean(0).round(1).tolist() for panel in panels]
    assert [one[0] for one in middles[:2]] == [one[0] for one in middles[2:]]
    assert middles[0][1] == middles[1][1] > middles[2][1] == middles[3][1]
    assert [panel.yaxis.get_tick_params()["labelleft"] for panel in panels] == [True, False, True, False]


BREEDS = [
    "24: Staffordshire bullterrier, Staffordshire bull terrier",
    "3: cat",
    "7: $a$ or not round and not square",
] * 3
ROWS: dict[str, Callable[[], Figure]] = {
    "percentiles": lambda: plot.percentiles(NOISE.uniform(0, 100, 9), BREEDS),
    "names": lambda: plot.named_concepts(BREEDS, *NOISE.uniform(0.5, 1, (3, 9))),
    "words": lambda: plot.word_names(BREEDS, *_words(9)),
    "values": lambda: plot.value_bars(NOISE.normal(size=9), names=BREEDS, label="similarity"),
}


@pytest.mark.parametrize("width", [None, 3.4])
@pytest.mark.parametrize("name", ROWS)
def test_long_names_of_rows_are_whole_in_several_lines_that_do_not_touch(name: str, width: float | None) -> None:
    figure = ROWS[name]()
    ax = (figure if width is None else plot.in_width(figure, width)).axes[0]
    drawn_inches(figure)
    labels = ax.get_yticklabels()
    assert [" ".join(label.get_text().split()) for label in labels] == [one.replace("$", r"\$") for one in BREEDS]
    boxes = [label.get_window_extent() for label in labels]
    assert all(above.y0 >= below.y1 - 0.5 for above, below in pairwise(boxes))  # in pixels
    assert ax.get_position().width * figure.get_figwidth() > 1


def test_a_name_of_more_than_four_lines_ends_in_an_ellipsis() -> None:
    figure = plot.in_width(plot.percentiles(np.array([50.0]), ["a formula of attributes " * 9]), 3.4)
    (label,) = (label.get_text() for label in figure.axes[0].get_yticklabels())
    assert label.count("\n") == 3
    assert label.endswith("…")


@pytest.mark.filterwarnings("ignore:at a width of")
@pytest.mark.parametrize("draw", [plot.bars, plot.signals])
def test_rows_of_tokens_and_signals_have_the_width_that_is_asked_for(draw: Callable[..., Figure]) -> None:
    for width in (3.4, 8.0):
        figure = draw(NOISE.normal(size=(8, 24)), titles=[f"row {number}" for number in range(8)], width=width)
        left, _, right, _ = drawn_inches(figure)
        assert figure.get_figwidth() == width
        assert left > -0.02
        assert right < width + 0.02


def test_a_width_that_is_none_is_refused() -> None:
    for width in (0, 200, "wide"):
        with pytest.raises(InputError, match=r"width is the figure's in inches, from 2\.4 to 100"):
            plot.in_width(Figure(), width)  # type: ignore[arg-type]


def test_panels_with_labels_of_their_own_stand_below_each_other_in_a_column() -> None:
    figure = Figure(figsize=(8, 3.7), layout="constrained")
    for panel in figure.subplots(1, 2):
        panel.set(xlabel="mean share of relevance", ylabel="fall of the logit without it", ylim=(-0.75, 1.0))
    plot.in_width(figure, 3.4)
    figure.draw_without_rendering()
    first, second = (panel.get_position() for panel in figure.axes)
    assert first.y0 > second.y1
    assert min(first.width, second.width) * 3.4 > 2


@pytest.mark.parametrize("width", [3.4, None])
def test_a_figure_of_a_width_that_is_higher_than_a_page_is_warned_of(width: float | None) -> None:
    view = plot.ReferenceView("a concept", "RelMax", [torch.rand(3, 8, 8)] * 8, [torch.rand(8, 8)] * 8, ["cat"] * 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plot.references([view] * 2, width=width)
        plot.heatmaps(torch.rand(60, 8, 8), width=width)
    texts = [str(one.message) for one in caught]
    assert len(texts) == (0 if width is None else 2)
    assert all("at a width of 3.4 inches the figure is" in text and "more than a page" in text for text in texts)
