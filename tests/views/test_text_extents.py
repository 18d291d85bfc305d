"""Texts of figures at any width: none lies over another one, and none outside of the figure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from score_atlas import score_atlas
from text_extents import assert_texts_are_apart_and_inside

from crp_kit.cli.table_output import drawn
from crp_kit.views import plot

NOISE = np.random.default_rng(0)
SUBJECT = "features.blocks.3.conv2, concept 117 (ears of a cat, and what looks like them)"
CAPTION = (
    "photographs/in a folder/with a long name-12.jpg\nEgyptian cat, a domestic breed with large ears\nrelevance 0.0320"
)
WIDTHS = pytest.mark.parametrize("width", [3.4, 7.0])
pytestmark = pytest.mark.filterwarnings("ignore:at a width of")


def view(samples: int, caption: str = CAPTION) -> plot.ReferenceView:
    images = [torch.rand(3, 8, 8) for _ in range(samples)]
    heatmaps = [NOISE.normal(size=(8, 8)) for _ in range(samples)]
    ranking = "RelMax; heatmaps for the class that is named above each image"
    return plot.ReferenceView(SUBJECT, ranking, images, heatmaps, [caption] * samples)


@WIDTHS
@pytest.mark.parametrize(("blocks", "samples"), [(1, 1), (1, 9), pytest.param(2, 8, marks=pytest.mark.slow)])
def test_of_reference_samples(width: float, blocks: int, samples: int) -> None:
    for caption in (CAPTION, "cat-12.jpg\n0.03"):
        assert_texts_are_apart_and_inside(plot.references([view(samples, caption)] * blocks, width=width))


@pytest.mark.slow
@WIDTHS
@pytest.mark.parametrize(("blocks", "samples", "style"), [(8, 1, None), (8, 3, None), (8, 3, "masked"), (3, 20, None)])
def test_of_many_blocks_of_reference_samples(width: float, blocks: int, samples: int, style: Any) -> None:
    assert_texts_are_apart_and_inside(plot.references([view(samples)] * blocks, width=width, style=style))


@WIDTHS
def test_of_two_rankings_of_a_concept(width: float) -> None:
    assert_texts_are_apart_and_inside(plot.compare_modes(view(3), view(3), width=width))


@WIDTHS
@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("images", [0, 1])
def test_of_heatmaps(width: float, rows: int, images: int) -> None:
    names = [f"photographs/in a folder/with a long name-{number}.jpg" for number in range(rows)]
    pictures = {"images": torch.rand(3, 8, 8), "image_titles": ["Egyptian cat, a domestic breed"]} if images else {}
    assert_texts_are_apart_and_inside(
        plot.heatmaps(NOISE.normal(size=(rows, 8, 8)), titles=names, width=width, **pictures)
    )


CLASSES = [f"{number} striped square above red triangle" for number in range(8)]
VALUES = NOISE.normal(size=8)


def scores_by_class(folder: Path) -> Any:
    labels = np.arange(48) % 8
    return score_atlas(folder / "a.h5", labels.tolist(), NOISE.normal(size=(48, 20)), n_classes=8)


STATISTICS: dict[str, Callable[[Path], Callable[..., Figure]]] = {
    "prototypes": lambda _: lambda: plot.bars(
        np.abs(NOISE.normal(size=(2, 12))), titles=[f"class {CLASSES[0]}, prototype {n}: 20 samples" for n in (0, 1)],
        names=list(map(str, range(10, 22))), label="concept", shared_scale=True,
    ),
    "values": lambda _: lambda: plot.value_bars(
        VALUES, names=[f"n = 20: class {one}" for one in CLASSES], label="share of the first 10 concepts in common",
        reference=(0.3, "by chance"), title=f"nearest to concept 3 in {SUBJECT}",
    ),
    "percentiles": lambda _: lambda: plot.percentiles(
        NOISE.uniform(0, 100, 8), [f"16: class {one}" for one in CLASSES], title=f"class {CLASSES[0]}"
    ),
    "strategies": lambda _: lambda: plot.strategies(
        NOISE.normal(size=(30, 2)), np.arange(30) % 3, title=f"class {CLASSES[0]}: 3 strategies"
    ),
    "names": lambda _: lambda: plot.named_concepts(CLASSES, *NOISE.uniform(0.5, 1, (3, 8)), title=SUBJECT),
    "similarity": lambda _: lambda: plot.similarities(np.corrcoef(NOISE.normal(size=(48, 90))), title=SUBJECT),
    "two layers": lambda _: lambda: plot.cross_similarities(NOISE.uniform(-1, 1, (32, 32)), title="32 matched of 32"),
    "class means": lambda folder: scores_by_class(folder).class_means().plot,
    "class presence": lambda folder: scores_by_class(folder).class_presence().plot,
    "contrast": lambda folder: scores_by_class(folder).contrast(0, 1).plot,
}  # fmt: skip


@pytest.mark.parametrize("width", [None, 3.4])
@pytest.mark.parametrize("name", STATISTICS)
def test_of_statistics_as_commands_write_them(tmp_path: Path, name: str, width: float | None) -> None:
    figure = drawn(STATISTICS[name](tmp_path), width)
    assert_texts_are_apart_and_inside(figure)
    assert_names_at_ticks_are_apart(figure)


def assert_names_at_ticks_are_apart(figure: Figure) -> None:
    """Check the names of neighbouring rows and columns, to a pixel."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    for ax in figure.axes:
        for axis, low, high in ((ax.xaxis, "x0", "x1"), (ax.yaxis, "y0", "y1")):
            labels = [one for one in axis.get_ticklabels() if one.get_visible() and one.get_text()]
            boxes = sorted(
                (one.get_window_extent(renderer) for one in labels), key=lambda box: float(getattr(box, low))
            )
            for box, after in pairwise(boxes):
                assert getattr(box, high) - getattr(after, low) <= 1, (name_of(ax), [one.get_text() for one in labels])


def name_of(ax: Axes) -> str:
    return ax.get_title(loc="left") or ax.get_xlabel()


def test_bars_of_prototypes_leave_no_half_of_their_panel_empty() -> None:
    ax = plot.bars([[0.1, 0.3], [0.2, 0.1]], shared_scale=True).axes[0]
    low, high = ax.get_ylim()
    assert low == pytest.approx(-0.06 * 0.3)
    assert high == pytest.approx(1.06 * 0.3)
