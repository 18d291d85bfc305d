"""One look for every picture: the scale is a percentile, styles show what they say, files have their fonts."""

from __future__ import annotations

import io
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from crp_kit.errors import InputError
from crp_kit.views.highlight import masked_image
from crp_kit.views.image import colours, overlay, scale_of
from crp_kit.views.look import Look
from crp_kit.views.plot import heatmaps, volumes

TALL = torch.randn(3, 32, 24, generator=torch.Generator().manual_seed(0))
PHOTOS = torch.rand(3, 3, 32, 24, generator=torch.Generator().manual_seed(1))


def panels(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(panel.get_images()[0].get_array()) for panel in figure.axes if panel.get_images()]


def words(figure: Figure) -> str:
    return " ".join(" ".join(one.get_text() for one in figure.findobj(Text)).split())


def check_texts(figure: Figure) -> None:
    """Nothing is written over something else or out of the figure."""
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


@pytest.mark.parametrize("percentile", [50, 90.5, 99.5, 100])
@pytest.mark.parametrize("count", [1, 7, 200, 2001])
def test_a_scale_is_the_smallest_magnitude_that_so_many_values_do_not_exceed(percentile: float, count: int) -> None:
    values = np.random.default_rng(count).normal(size=count).round(1)
    scale = scale_of(values, percentile=percentile)
    least = math.ceil(percentile / 100 * count)
    candidates = [one for one in np.abs(values) if (np.abs(values) <= one).sum() >= least]
    assert scale == (min(candidates) or np.abs(values).max() or 1)


def test_one_hot_pixel_does_not_fade_the_others_and_zeros_do_not_hide_the_rest() -> None:
    heatmap = np.ones((20, 20))
    heatmap[0, 0] = 1e6
    assert Look().scale(heatmap) == 1
    assert (np.asarray(Look("map").draw(None, heatmap))[5, 5] == colours([1.0])[0]).all()
    sparse = np.zeros((40, 40))
    sparse[3, 3] = -2
    assert Look().scale(sparse) == 2
    assert Look().scale(0 * sparse) == 1


def test_images_of_the_maps_size_lie_below_them_unless_another_style_is_named() -> None:
    figure = heatmaps(TALL, images=PHOTOS)
    for number, shown in enumerate(panels(figure)[1::2]):
        assert (shown == np.asarray(overlay(PHOTOS[number], TALL[number], percentile=99.5))).all()
    white = heatmaps(TALL, images=PHOTOS, style="map", percentile=90, cmap="bwr")
    for row, shown in zip(TALL, panels(white)[1::2], strict=True):
        assert (shown == colours(row, cmap="bwr", vmax=scale_of(row, percentile=90))).all()
    assert "90th percentile of |relevance|" in words(white)
    other = heatmaps(TALL, images=torch.rand(3, 3, 8, 8))
    assert (panels(other)[1] == colours(TALL[0], vmax=Look().scale(TALL[0]))).all()


def test_masked_images_have_words_instead_of_a_colour_bar() -> None:
    figure = heatmaps(TALL, images=PHOTOS, style="masked")
    for number, shown in enumerate(panels(figure)[1::2]):
        assert np.abs(shown / 255 - masked_image(PHOTOS[number], TALL[number])).max() < 1 / 255
    assert len(figure.axes) == 6
    assert "dark: positive relevance" in words(figure)
    assert "±" not in words(figure)


@pytest.mark.parametrize("style", ["overlay", "masked"])
def test_a_style_that_needs_the_image_asks_for_it(style: Any) -> None:
    with pytest.raises(InputError, match=f"style '{style}' needs the image that the model saw"):
        heatmaps(TALL, style=style)
    with pytest.raises(InputError, match=r"8, 8|8x8"):
        heatmaps(TALL, images=torch.rand(3, 8, 8), style=style)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "heat"}, "style is one of 'overlay', 'map', 'masked'; got 'heat'"),
        ({"percentile": 0}, "percentile is a number above 0 and up to 100; got 0"),
        ({"percentile": "99"}, "percentile is a number above 0 and up to 100; got '99'"),
        ({"cmap": "viridis"}, "no colour map 'viridis'"),
        ({"width": 0.5}, "width is the figure's in inches, from 2.4 to 100; got 0.5"),
    ],
)
def test_a_look_that_is_none_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        heatmaps(TALL, **options)


@pytest.mark.filterwarnings("ignore:at a width of")
@pytest.mark.parametrize("style", ["overlay", "map", "masked"])
@pytest.mark.parametrize("width", [2.4, 3.4, 7.0, None])
def test_texts_are_apart_and_inside_at_any_width(style: Any, width: float | None) -> None:
    titles = ["features.blocks.3.conv2: 24 (+12.5%)\nEgyptian cat", "a", "golden retriever, a dog of a long name"]
    figure = heatmaps(TALL, images=PHOTOS, titles=titles, image_titles=list("abc"), style=style, width=width)
    assert width is None or figure.get_figwidth() == width
    check_texts(figure)


def test_volumes_have_one_colour_bar_at_any_width() -> None:
    maps = torch.randn(3, 5, 6, 6, generator=torch.Generator().manual_seed(0))
    for width in (3.4, None):
        figure = volumes(maps, values=torch.rand(3, 1, 5, 6, 6), titles=["a", "b", "c"], width=width)
        assert words(figure).count("percentile of |relevance|") == 1
        check_texts(figure)


def test_files_have_their_fonts_and_matplotlib_keeps_its_settings(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    figure = heatmaps(TALL, titles=["Egyptian cat", "b", "c"], width=3.4)
    for name in ("a.pdf", "a.svg", "a.png"):
        figure.savefig(tmp_path / name)
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert "<text" not in (tmp_path / "a.svg").read_text()
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.width == 340
    assert dict(mpl.rcParams) == before
    with mpl.rc_context({"pdf.fonttype": 3}):
        figure.savefig(io.BytesIO(), format="pdf")
        assert mpl.rcParams["pdf.fonttype"] == 3
