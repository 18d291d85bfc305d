"""Figures: a reader can tell sign, magnitude and scale; nothing global is touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib._pylab_helpers import Gcf
from matplotlib.figure import Figure

from crp_kit.errors import InputError
from crp_kit.views.image import colours
from crp_kit.views.plot import ConceptView, SampleView, concept_bars, demo_figure, heatmaps, to_png

SCALE = "99.5th percentile of |relevance|"


def maps(rows: int) -> torch.Tensor:
    return torch.randn(rows, 6, 8, generator=torch.Generator().manual_seed(rows))


def shown(figure: Figure) -> list[np.ndarray]:
    """What each panel shows, in order."""
    return [np.asarray(panel.get_images()[0].get_array()) for panel in figure.axes if panel.get_images()]


def colour_bar_texts(figure: Figure) -> tuple[list[str], str]:
    bar = figure.axes[-1]
    return [tick.get_text().split("\n")[0] for tick in bar.get_yticklabels()], bar.get_ylabel().replace("\n", " ")


def test_maps_are_drawn_unsmoothed_in_their_symmetric_colours() -> None:
    values = maps(2)
    figure = heatmaps(values, titles=["first", "second"])
    panels = figure.axes[:2]
    assert [panel.get_title() for panel in panels] == ["first", "second"]
    for panel, row in zip(panels, values, strict=True):
        image = panel.get_images()[0]
        assert image.get_interpolation() == "nearest"
        assert (np.asarray(image.get_array()) == colours(row)).all()


def test_each_map_states_its_own_scale_and_the_colour_bar_says_so() -> None:
    figure = heatmaps(torch.stack([torch.full((4, 4), 0.25), torch.full((4, 4), -8.0)]))
    assert [panel.get_xlabel() for panel in figure.axes[:2]] == ["± 0.25", "± 8"]
    ticks, label = colour_bar_texts(figure)
    assert ticks == ["−", "0", "+"]
    assert label == "relevance; each map has its own scale, ± below it: 99.5th percentile of |relevance|"


def test_a_shared_scale_keeps_magnitudes_comparable_and_stands_at_the_colour_bar() -> None:
    values = torch.stack([torch.full((4, 4), 0.25), torch.full((4, 4), -8.0)])
    figure = heatmaps(values, shared_scale=True)
    weak, strong = shown(figure)[:2]
    assert (weak == colours(values[0], vmax=8.0)).all()
    assert (strong == colours(values[1], vmax=8.0)).all()
    assert colour_bar_texts(figure) == (["−8", "0", "+8"], f"relevance; strongest colour: {SCALE}")


def test_one_map_has_its_values_at_the_colour_bar() -> None:
    assert colour_bar_texts(heatmaps(maps(1)[0] * 0 + 0.5))[0] == ["−0.5", "0", "+0.5"]


def test_a_map_of_zeros_says_so() -> None:
    assert heatmaps(torch.zeros(2, 3, 3)).axes[0].get_xlabel() == "all zero"


@pytest.mark.parametrize(("images", "order"), [(1, "i0123"), (2, "i01i23"), (4, "i0i1i2i3")])
def test_each_image_stands_before_its_rows(images: int, order: str) -> None:
    values, pictures = maps(4), torch.rand(images, 3, 6, 8)
    figure = heatmaps(values, images=pictures, titles=list("0123"), image_titles=["i"] * images)
    titles = [panel.get_title() for panel in figure.axes if panel.get_images()]
    assert "".join(titles) == order


def test_axes_of_the_caller_are_drawn_into() -> None:
    figure = Figure()
    axes = figure.subplots(1, 3)
    assert heatmaps(maps(2), images=torch.rand(3, 6, 8), axes=axes) is figure
    assert len(shown(figure)) == 3
    with pytest.raises(InputError, match=r"2 panels \(maps and images\) need as many axes; got 3"):
        heatmaps(maps(2), axes=axes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"maps": torch.zeros(1, 3, 4, 4)},
            r"heatmaps are \(row, height, width\).*\(1, 3, 4, 4\); sum over the input channels",
        ),
        ({"maps": torch.zeros(0, 4, 4)}, r"at least one row; got shape \(0, 4, 4\)"),
        ({"maps": torch.full((1, 2, 2), torch.inf)}, "4 of 4 values are infinite or not-a-number"),
        ({"maps": "cat"}, "a tensor or an array of real numbers; got str"),
        ({"maps": maps(2), "titles": ["one"]}, "titles has one text for each of the 2 rows; got 1"),
        ({"maps": maps(2), "titles": "ab"}, "titles has one text for each of the 2 rows; got one string"),
        ({"maps": maps(2), "image_titles": ["x"]}, "image_titles has one text for each of the 0 images; got 1"),
        ({"maps": maps(3), "images": torch.rand(2, 3, 6, 8)}, "3 rows cannot be shared out among 2 images"),
        ({"maps": maps(2), "columns": -1}, "at least one column; got -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        heatmaps(**options)  # type: ignore[arg-type]


def test_bars_show_the_strongest_concepts_of_either_sign_in_order() -> None:
    figure = concept_bars(torch.tensor([0.1, -0.5, 0.4, 0.0]), k=3, labels={1: "stripes"})
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["stripes", "2", "0"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([-50, 40, 10])
    assert [text.get_text() for text in axes.texts] == ["-50.0 %", "+40.0 %", "+10.0 %"]
    negative, positive = (bar.get_facecolor() for bar in axes.patches[:2])
    assert negative[2] > negative[0]
    assert positive[0] > positive[2]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert "%" in axes.get_xlabel()


def test_bars_of_plain_relevance_are_not_called_percent() -> None:
    (axes,) = concept_bars([3.0, -7.0]).axes
    assert axes.get_xlabel() == "relevance"
    assert [bar.get_width() for bar in axes.patches] == [-7.0, 3.0]


def test_bars_refuse_what_is_not_one_number_for_each_concept() -> None:
    with pytest.raises(InputError, match=r"one number for each concept of one sample; got shape \(1, 4\)"):
        concept_bars(torch.zeros(1, 4))
    with pytest.raises(InputError, match="k is the number of bars, at least 1; got 0"):
        concept_bars([1.0], k=0)


def sample_view(concepts: int) -> SampleView:
    inside = np.zeros((6, 8), dtype=bool)
    inside[2:4, 2:4] = True
    views = [ConceptView(maps(1)[0], f"channel {i}") for i in range(concepts)]
    image = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(0))
    return SampleView(image, "truth", maps(1)[0], "all", [0.5, -0.5], concepts=views, outlines={"an object": inside})


@pytest.mark.slow
def test_the_demo_figure_has_a_line_for_each_sample_and_a_legend_of_the_outlines() -> None:
    figure = demo_figure([sample_view(2), sample_view(1)], title="Title")
    titles = [panel.get_title() for panel in figure.axes if panel.get_title()]
    assert titles == ["truth", "all", "channel 0", "channel 1", "truth", "all", "channel 0"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["an object"]
    assert colour_bar_texts(figure)[0] == ["−", "0", "+"]
    outlined = [panel for panel in figure.axes if panel.get_images() and panel.collections]
    assert len(outlined) == 5  # two heatmaps for all and three for a concept; not the images
    with pytest.raises(InputError, match="at least one sample"):
        demo_figure([])


def test_a_png_has_the_size_of_the_figure() -> None:
    figure = heatmaps(maps(2))
    data = to_png(figure, dpi=50)
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    assert data.startswith(b"\x89PNG")
    assert (width, height) == pytest.approx(50 * figure.get_size_inches(), abs=1)


def test_pyplot_never_hears_of_the_figures() -> None:
    before = dict(Gcf.figs)
    heatmaps(maps(1))
    concept_bars([1.0])
    assert dict(Gcf.figs) == before
