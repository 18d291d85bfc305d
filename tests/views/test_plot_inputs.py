"""Figures of heatmaps that are no images: signals, volumes, tokens and features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from nets import small_convnet
from torch import nn

import crp_kit as crp
from crp_kit.errors import InputError
from crp_kit.views.image import colours, overlay, stretched
from crp_kit.views.plot import bars, signals, to_png, volumes

RULES = "epsilon_plus"


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def signal_net(channels: int) -> nn.Module:
    torch.manual_seed(0)
    front = nn.Sequential(nn.Conv1d(channels, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    return nn.Sequential(front, nn.Linear(4, 3)).eval()


def volume_net() -> nn.Module:
    torch.manual_seed(0)
    front = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    return nn.Sequential(front, nn.Linear(4, 3)).eval()


class Tokens(nn.Module):
    """Token vectors of as many features as there are tokens: shapes alone do not say which axis is which."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.mix, self.head = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(self.norm(x)).relu().mean(1))  # type: ignore[no-any-return]


def attributed(model: nn.Module, data: torch.Tensor, **options: Any) -> crp.Attribution:
    conditions = [{"y": [0]}, {"y": [1]}, {"y": [2]}]
    return crp.CondAttribution(model)(data, conditions, RULES, pairing="product", **options)


def titles_of(figure: Figure) -> list[str]:
    return [panel.get_title(loc="left") for panel in figure.axes[:-1]]


def halo(figure: Figure, panel: int) -> np.ndarray:
    """Return the colours along the curve of a panel, in the order of time: (time, 3)."""
    (band,) = (one for one in figure.axes[panel].collections if isinstance(one, LineCollection))
    order = np.argsort([path.vertices[1, 0] for path in band.get_paths()])
    return np.asarray(band.get_colors())[order][:, :3]


# ------------------------------------------------------------------------------------------------------ the layout


@pytest.mark.parametrize(
    ("model", "shape", "layout"),
    [
        (signal_net(1), (2, 1, 20), "signal"),
        (signal_net(3), (2, 3, 20), "signal"),
        (signal_net(6), (2, 6, 6), "signal"),
        (signal_net(1), (1, 1, 1), "signal"),
        (Tokens(), (2, 6, 6), "tokens"),
        (volume_net(), (2, 1, 4, 5, 6), "volume"),
        (nn.Sequential(nn.Linear(5, 3)).eval(), (2, 5), "features"),
    ],
)
def test_the_axes_that_a_heatmap_keeps_say_what_it_is_of(model: nn.Module, shape: tuple[int, ...], layout: str) -> None:
    attr = attributed(model, seeded(*shape))
    assert attr.layout == layout
    figure = attr.plot()
    assert titles_of(figure)[0] or figure.subfigs or figure.axes[-1].get_title(loc="left")
    assert to_png(figure).startswith(b"\x89PNG")


def test_a_result_without_picture_says_so_and_stays_a_table() -> None:
    attr = attributed(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), seeded(1, 1, 2, 2, 2, 2))
    assert attr.layout is None
    with pytest.raises(InputError, match=r"no picture of heatmaps \(3, 2, 2, 2, 2\)"):
        attr.plot()
    assert attr._repr_png_() is None
    assert "relevance at the input" in (attr._repr_html_() or "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "shape", "pictured"),
    [
        (signal_net(1), (2, 1, 20), True),
        (volume_net(), (4, 1, 4, 5, 6), True),
        (Tokens(), (2, 6, 6), True),
        (nn.Sequential(nn.Linear(5, 3)).eval(), (2, 5), False),
    ],
)
def test_a_notebook_shows_signals_volumes_and_tokens_as_pictures_and_features_as_a_table(
    model: nn.Module, shape: tuple[int, ...], pictured: bool
) -> None:
    attr = attributed(model, seeded(*shape))
    assert (attr._repr_png_() is not None, attr._repr_html_() is None) == (pictured, pictured)


# -------------------------------------------------------------------------------------------------------- signals


def test_a_curve_has_the_signal_s_values_and_the_colours_of_its_relevance() -> None:
    maps, values = seeded(2, 30), seeded(2, 1, 30, seed=1)
    figure = signals(maps, values=values, titles=["a", "b"], times=torch.arange(30) / 10, time_label="time (s)",
                     value_label="voltage (mV)")  # fmt: skip
    for panel in range(2):
        place = figure.axes[panel]
        (curve,) = (one for one in place.lines if len(one.get_xdata()) == 30)
        assert np.allclose(curve.get_ydata(), values[panel, 0])
        assert np.allclose(curve.get_xdata(), np.arange(30) / 10)
        assert np.allclose(halo(figure, panel), colours(maps[panel]) / 255)
        assert place.get_ylabel() == "voltage (mV)"
        assert place.get_title(loc="right") == f"± {float(maps[panel].abs().max()):.2g}"
    assert titles_of(figure) == ["a", "b"]
    assert [place.get_xlabel() for place in figure.axes[:2]] == ["", "time (s)"]
    assert "± above it: largest |relevance|" in figure.axes[-1].get_ylabel().replace("\n", " ")


def test_without_the_signal_the_curve_is_the_relevance() -> None:
    maps = seeded(3, 12)
    figure = signals(maps)
    assert np.allclose(figure.axes[1].lines[0].get_ydata(), maps[1])
    assert figure.axes[1].get_ylabel() == "relevance"
    assert figure.axes[2].get_xlabel() == "time step"


def test_strong_steps_are_drawn_over_weak_ones() -> None:
    maps = seeded(1, 500)
    (band,) = (one for one in signals(maps).axes[0].collections if isinstance(one, LineCollection))
    drawn = [round(path.vertices[1, 0]) for path in band.get_paths()]
    assert (np.diff(maps[0].abs().numpy()[drawn]) >= 0).all()


def test_several_channels_stand_before_the_relevance_of_each_time_step() -> None:
    maps, values = seeded(1, 9), seeded(1, 3, 9, seed=1)
    place = signals(maps, values=values).axes[0]
    assert len(place.lines) == 3
    assert [tick.get_text() for tick in place.get_yticklabels()] == ["0", "1", "2"]
    (ground,) = place.collections
    painted = np.asarray(ground.get_array()).reshape(9, -1)[:, :3]
    assert np.allclose(painted, colours(maps[0]) / 255, atol=1 / 255)
    for number, line in enumerate(place.lines):
        assert np.corrcoef(np.asarray(line.get_ydata(), float), values[0, number])[0, 1] == pytest.approx(1)
    many = signals(maps, values=seeded(1, 20, 9)).axes[0]
    assert "the first 16 of 20" in many.get_ylabel()


def test_rows_of_a_sample_have_that_sample_s_signal() -> None:
    data = seeded(2, 1, 20)
    figure = attributed(signal_net(1), data).plot(data)
    drawn = [np.asarray(figure.axes[row].lines[0].get_ydata()) for row in range(6)]
    for row, curve in enumerate(drawn):
        assert np.allclose(curve, data[row // 3, 0])
    zipped = crp.CondAttribution(signal_net(1))(data, [{"y": [0]}, {"y": [1]}], RULES, pairing="zip").plot(data)
    assert np.allclose(np.asarray(zipped.axes[1].lines[0].get_ydata()), data[1, 0])
    with pytest.raises(InputError, match="rows are of samples 0 to 1, and the data has 1 samples"):
        attributed(signal_net(1), data).plot(data[:1])


def test_a_shared_scale_stands_at_the_colour_bar_and_in_the_axes() -> None:
    maps = torch.stack([torch.full((4,), 0.25), torch.full((4,), -8.0)])
    figure = signals(maps, shared_scale=True)
    assert np.allclose(halo(figure, 0), colours(maps[0], vmax=8.0) / 255)
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim() == pytest.approx((-8.8, 8.8))
    assert figure.axes[-1].get_ylabel().replace("\n", " ") == "relevance; strongest colour: largest |relevance|"


def test_a_constant_channel_and_a_signal_of_one_step_are_drawn() -> None:
    assert to_png(signals(torch.zeros(1, 5), values=torch.ones(1, 2, 5))).startswith(b"\x89PNG")
    assert to_png(signals([[1.0]], values=[[2.0]])).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maps": torch.zeros(1, 2, 3)}, r"signals is \(row, time\).*got shape \(1, 2, 3\)"),
        ({"maps": torch.zeros(0, 3)}, "at least one value"),
        ({"maps": torch.full((1, 3), torch.nan)}, "3 of 3 values are infinite"),
        ({"maps": torch.zeros(2, 3), "values": torch.zeros(2, 4)}, r"with 3 time steps; got shape \(2, 4\)"),
        ({"maps": torch.zeros(3, 3), "values": torch.zeros(2, 3)}, "3 rows cannot be shared out among 2 signals"),
        ({"maps": torch.zeros(1, 3), "times": [0, 2, 1]}, "times are 3 rising numbers"),
        ({"maps": torch.zeros(1, 3), "times": [0, 1]}, r"got shape \(2,\)"),
        ({"maps": torch.zeros(2, 3), "titles": ["a"]}, "titles has one text for each of the 2 rows; got 1"),
        ({"maps": torch.zeros(2, 3), "columns": 0}, "at least one column; got 0"),
    ],
)
def test_signals_that_cannot_be_drawn_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        signals(**options)


# -------------------------------------------------------------------------------------------------------- volumes


def drawn(figure: Figure, row: int) -> list[np.ndarray]:
    return [np.asarray(place.get_images()[0].get_array()) for place in figure.subfigs[0].subfigs[row].axes[:4]]


def test_a_volume_is_its_sum_and_its_strongest_slices_and_says_which() -> None:
    maps = 0.01 * seeded(2, 7, 4, 5)
    maps[0, [1, 4, 6]] *= torch.tensor([100.0, 300, 200]).view(3, 1, 1)
    figure = volumes(maps, titles=["first", "second"])
    total, *slices = drawn(figure, 0)
    assert (total == colours(maps[0].sum(0).double())).all()
    strongest = float(maps[0].abs().max())
    for depth, shown in zip((1, 4, 6), slices, strict=True):
        assert (shown == colours(maps[0, depth], vmax=strongest)).all()
    places = figure.subfigs[0].subfigs[0].axes
    assert [place.get_title() for place in places[:4]] == ["sum over depth", "depth 1", "depth 4", "depth 6"]
    assert [place.get_xlabel() for place in places[1:4]] == [f"± {strongest:.2g}"] * 3
    share = float(maps[0, [1, 4, 6]].abs().sum() / maps[0].abs().sum())
    said = figure.subfigs[0].subfigs[0].get_suptitle()
    assert said == f"first\nthe 3 strongest slices of 7: {share:.0%} of |relevance|"


def test_slices_of_all_rows_can_have_one_scale() -> None:
    maps = torch.stack([torch.full((3, 2, 2), 0.25), torch.full((3, 2, 2), -8.0)])
    figure = volumes(maps, shared_scale=True)
    assert (drawn(figure, 0)[1] == colours(maps[0, 0], vmax=8.0)).all()
    assert [figure.subfigs[0].subfigs[row].axes[1].get_xlabel() for row in (0, 1)] == ["± 8", "± 8"]


def test_the_volume_shows_in_grey_below_its_slices() -> None:
    maps, values = seeded(1, 3, 4, 5), 1000 * seeded(1, 2, 3, 4, 5, seed=1)
    _, *slices = drawn(volumes(maps, values=values, slices=[2, 0, 1]), 0)
    grey = stretched(values[0].double().mean(0))
    for depth, shown in enumerate(slices):
        assert (shown == np.asarray(overlay(grey[depth], maps[0, depth], vmax=float(maps.abs().max())))).all()


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "count", "expected"), [(8, 3, [3, 4, 5]), (7, 3, [2, 3, 4]), (2, 3, [0, 1])])
def test_central_slices_are_those_in_the_middle(depth: int, count: int, expected: list[int]) -> None:
    figure = volumes(seeded(1, depth, 3, 3), slices="central", count=count)
    assert [place.get_title() for place in figure.axes[1:-1]] == [f"depth {one}" for one in expected]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maps": torch.zeros(3, 3)}, r"volumes is \(row, depth, height, width\).*got shape \(3, 3\)"),
        ({"slices": "weakest"}, "slices is 'strongest', 'central' or numbers of slices; got 'weakest'"),
        ({"slices": [3]}, r"whole numbers from 0 to 2; got \[3\]"),
        ({"slices": []}, "whole numbers from 0 to 2"),
        ({"slices": [True]}, "whole numbers from 0 to 2"),
        ({"count": 0}, "count is how many slices are drawn, at least 1; got 0"),
        ({"values": torch.zeros(2, 3, 3)}, r"here with \(3, 3, 3\) behind; got shape \(2, 3, 3\)"),
    ],
)
def test_volumes_that_cannot_be_drawn_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        volumes(**{"maps": torch.zeros(1, 3, 3, 3), **options})


def test_values_of_any_range_are_stretched_to_grey_levels() -> None:
    assert stretched([[5, 5]]).tolist() == [[0.0, 0.0]]
    with pytest.raises(InputError, match="no value to show"):
        stretched([])


# ----------------------------------------------------------------------------------------- tokens and features


def test_bars_have_the_height_sign_and_words_of_the_tokens() -> None:
    maps = torch.tensor([[0.5, -0.2, 0.0], [1.0, 2.0, -3.0]])
    figure = bars(maps, names=[["a", "$b", "c" * 40], ["d", "e", "f"]], titles=["one\ntwo", "three"])
    first = figure.axes[0]
    assert [bar.get_height() for bar in first.patches] == pytest.approx([0.5, -0.2, 0.0])
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["a", r"\$b", "c" * 15 + "…"]
    assert first.get_title(loc="left") == "one\ntwo"
    assert (first.get_ylabel(), figure.axes[1].get_xlabel()) == ("relevance", "token")
    positive, negative = (bar.get_facecolor() for bar in first.patches[:2])
    assert positive[0] > positive[2]
    assert negative[2] > negative[0]


def test_a_shared_axis_of_relevance_keeps_rows_comparable() -> None:
    figure = bars([[0.5, -0.2], [1.0, -3.0]], shared_scale=True)
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_names_are_for_all_rows_or_for_each_sample() -> None:
    data = seeded(2, 6, 6)
    attr = attributed(Tokens(), data)
    words = [list("abcdef"), list("ghijkl")]
    figure = attr.plot(words)
    shown = ["".join(tick.get_text() for tick in place.get_xticklabels()) for place in figure.axes]
    assert shown == ["abcdef"] * 3 + ["ghijkl"] * 3
    assert len(attr.plot(words[0]).axes) == 6
    features = attributed(nn.Sequential(nn.Linear(6, 3)).eval(), data[:, 0]).plot(words[0])
    assert features.axes[-1].get_xlabel() == "feature"


def test_many_bars_are_numbered_now_and_then() -> None:
    place = bars(seeded(1, 300), names=["word"] * 300).axes[0]
    assert [tick.get_text() for tick in place.get_xticklabels()][:3] == ["0", "19", "38"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maps": torch.zeros(1, 2, 3)}, r"tokens is \(row, token\).*got shape \(1, 2, 3\)"),
        ({"names": "abc"}, "names is a list of words.*got 'abc'"),
        ({"names": ["a", "b"]}, "one word for each of the 3 tokens; got 2"),
        ({"names": ["a", "b", 3]}, "one word for each of the 3 tokens; got 3"),
        ({"names": [["a", "b", "c"]] * 3}, "2 rows cannot be shared out among 3 lists of tokens"),
    ],
)
def test_bars_that_cannot_be_drawn_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bars(**{"maps": torch.zeros(2, 3), **options})


def test_images_stand_before_the_rows_of_their_sample() -> None:
    torch.manual_seed(0)
    front = small_convnet(1, 4, 3)
    data = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    figure = attributed(front, data).plot(data)
    shown = [place for place in figure.axes if place.get_images()]
    assert len(shown) == 8
    assert (np.asarray(shown[4].get_images()[0].get_array())[..., 0] == (data[1, 0] * 255).round().numpy()).all()
