"""Texts of figures at any width: none lies over another one, and none outside of the figure."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from crp_kit.views import plot

NOISE = np.random.default_rng(0)
SUBJECT = "features.blocks.3.conv2, concept 117 (ears of a cat, and what looks like them)"
CAPTION = (
    "photographs/in a folder/with a long name-12.jpg\nEgyptian cat, a domestic breed with large ears\nrelevance 0.0320"
)
WIDTHS = pytest.mark.parametrize("width", [3.4, 7.0])


def assert_texts_are_apart_and_inside(figure: Figure) -> None:
    """Check the bounding boxes of all texts but numbers at ticks, to a pixel."""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    ticks = {id(label) for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels()}
    texts = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip()]
    boxes = [(one.get_text(), one.get_window_extent(renderer)) for one in texts if id(one) not in ticks]
    for (text, box), (other, its) in combinations(boxes, 2):
        overlap = min(min(box.x1, its.x1) - max(box.x0, its.x0), min(box.y1, its.y1) - max(box.y0, its.y0))
        assert overlap <= 1, f"{text!r} over {other!r}"
    for text, box in boxes:
        assert min(box.x0, box.y0) >= -1, text
        assert max(box.x1 - figure.bbox.width, box.y1 - figure.bbox.height) <= 1, text


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
