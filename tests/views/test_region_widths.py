"""Region maps at any width: nothing is written over something else, out of the figure, or left out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from crp_kit.errors import InputError
from crp_kit.region_map.result import RegionMap

LABELS = np.arange(16).reshape(4, 4).repeat(8, 0).repeat(8, 1)
MAP = RegionMap(
    LABELS, np.arange(16) % 5, np.append(np.linspace(1, 2, 15), -1e3),
    tuple(range(5)), np.full(5, 0.2), np.full(5, 0.1),
    "features.blocks.3.conv2", 7, True, torch.rand(3, 32, 32), "a class of a long name, as there are some",
)  # fmt: skip


@pytest.mark.parametrize("width", [2.4, 3.4, 7.0, 14.0, None])
@pytest.mark.parametrize("samples", [0, 4])
def test_texts_are_apart_and_inside(width: float | None, samples: int) -> None:
    pictures = [(torch.rand(3, 32, 32), torch.rand(32, 32))] * samples
    figure = MAP.plot(references=dict.fromkeys(range(5), pictures), width=width, most=4)
    assert width is None or figure.get_figwidth() == width
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip()]
    boxes = [(one.get_text(), one.get_window_extent(renderer)) for one in texts]
    for (text, box), (other, its) in combinations(boxes, 2):
        overlap = min(min(box.x1, its.x1) - max(box.x0, its.x0), min(box.y1, its.y1) - max(box.y0, its.y0))
        assert overlap <= 1, f"{text!r} over {other!r}"
    for text, box in boxes:
        assert min(box.x0, box.y0) >= -1, text
        assert max(box.x1 - figure.bbox.width, box.y1 - figure.bbox.height) <= 1, text
    assert "1 other concept" in [text for text, _ in boxes]


def test_the_title_has_the_name_of_the_class_and_the_scale_is_a_percentile() -> None:
    words = " ".join(" ".join(one.get_text() for one in MAP.plot().findobj(Text)).split())
    assert "features.blocks.3.conv2: a class of a long name" in words
    assert "full from the 99.5th percentile" in words
    paint = [np.asarray(MAP.plot(percentile=share).axes[1].get_images()[0].get_array()) for share in (50, 100)]
    assert np.abs(paint[0] - paint[1])[:8].max() > 0.1
    with pytest.raises(InputError, match="percentile is a number above 0"):
        MAP.plot(percentile=0)
    with pytest.raises(InputError, match="width is the figure's in inches"):
        MAP.plot(width=1)
