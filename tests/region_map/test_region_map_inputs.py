"""Region maps of signals and volumes: the concept that brute force finds, segments, figures."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import invoke
from matplotlib.colors import to_rgb
from studies import region_map_of
from torch import nn

import crp_kit as crp
from crp_kit.data.pixels import stretched
from crp_kit.errors import InputError
from crp_kit.models.load import Preprocess
from crp_kit.region_map.change_points import change_points
from crp_kit.region_map.segments import segment
from crp_kit.views.plot import to_png
from crp_kit.views.plot.region_page import COLOURS

RULES = "epsilon_plus"


def net(dims: int, channels: int) -> nn.Module:
    torch.manual_seed(1)
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
    pool = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[dims]
    return nn.Sequential(conv(channels, 5, 3, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(5, 3)).eval()


def data(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


CASES = [
    (1, (1, 2, 50), {"count": 7}),
    (1, (1, 2, 50), {"regions": "changes", "count": 6}),
    (1, (1, 2, 50), {"regions": "pixels"}),
    (1, (1, 2, 50), {"cell": 8}),
    (1, (1, 2, 2), {}),
    (1, (1, 1, 50), {"regions": np.arange(50) % 4}),
    (3, (1, 1, 4, 6, 5), {"count": 12}),
    (3, (1, 1, 4, 6, 5), {"cell": (2, 3, 5)}),
    (3, (1, 1, 5, 5, 5), {"regions": "pixels"}),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("dims", "shape", "options"), CASES)
def test_each_region_of_a_signal_or_volume_has_the_concept_that_brute_force_finds(
    dims: int, shape: tuple[int, ...], options: dict[str, Any], signed: bool, dtype: torch.dtype
) -> None:
    x, model = data(*shape).to(dtype), net(dims, shape[1]).to(dtype)
    found = region_map_of(
        crp.CondAttribution(model), x, "0", composite=RULES, cls=1, signed=signed, batch_size=2, **options
    )
    assert found.labels.shape == found.concept_map.shape == shape[2:]
    maps = crp.CondAttribution(model)(x, [{"0": [one], "y": [1]} for one in range(5)], RULES).heatmap.double().numpy()
    for region in range(len(found)):
        sums = maps[:, found.labels == region].sum(1)
        best = int(np.abs(sums).argmax() if signed else sums.argmax())
        expected = best if sums[best] > 0 or (signed and sums[best]) else -1
        assert found.dominant[region] == expected
        assert found.relevance[region] == pytest.approx(sums[best] if expected >= 0 else 0, rel=1e-5, abs=1e-9)
    assert to_png(found.plot()).startswith(b"\x89PNG")


def test_stretches_are_equal_and_the_default_number_is_that_of_signals() -> None:
    assert segment("grid", np.zeros((12, 1)), count=3).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert segment("grid", np.zeros((160, 1))).max() == 15
    assert segment("grid", np.zeros((3, 2))).tolist() == [0, 1, 2]
    assert segment("grid", np.zeros((1, 2)), count=5).tolist() == [0]


def test_boxes_of_a_volume_are_as_many_as_asked_for_and_nearly_cubes() -> None:
    labels = segment("grid", np.zeros((8, 8, 8, 1)), count=64)
    assert np.bincount(labels.ravel()).tolist() == [8] * 64
    flat = segment("grid", np.zeros((2, 40, 40, 1)), count=(1, 4, 5))
    assert np.bincount(flat.ravel()).tolist() == [160] * 20
    for place in itertools.product((1, 3, 7), repeat=3):
        assert segment("grid", np.zeros((*place, 1)), count=20).max() + 1 <= 42


# -------------------------------------------------------------------------------------------------------- changes


def loss(signal: np.ndarray, labels: np.ndarray) -> float:
    return sum(float(((signal[labels == one] - signal[labels == one].mean(0)) ** 2).sum()) for one in np.unique(labels))


def test_a_step_is_cut_where_it_is() -> None:
    signal = np.repeat([0.0, 4.0, 1.0], [30, 20, 50])[:, None] + 0.1 * data(100, 1).numpy()
    labels = change_points(signal, 3)
    assert np.flatnonzero(np.diff(labels)).tolist() == [29, 49]


def test_each_cut_is_the_best_one_of_all_stretches() -> None:
    signal = data(24, 2).double().numpy()
    scaled = (signal - signal.mean(0)) / signal.std(0)
    for count in range(2, 7):
        before, after = change_points(signal, count - 1), change_points(signal, count)
        options = []
        for cut in range(1, 24):
            labels = before.copy()
            labels[cut:] += before[cut] == before[cut - 1]
            options.append(loss(scaled, np.cumsum(np.diff(labels, prepend=labels[0]) != 0)))
        assert loss(scaled, after) == pytest.approx(min(options))


@pytest.mark.parametrize(
    ("signal", "count", "stretches"),
    [
        (np.zeros((9, 1)), 4, 1),
        (np.arange(3.0)[:, None], 99, 3),
        (np.ones((1, 2)), 4, 1),
        (1e6 + np.zeros((50, 3)), 8, 1),
    ],
)
def test_there_are_no_more_stretches_than_changes(signal: np.ndarray, count: int, stretches: int) -> None:
    assert len(np.unique(change_points(signal, count))) == stretches


def test_channels_count_alike_whatever_their_units() -> None:
    signal = data(60, 2).double().numpy()
    assert np.array_equal(change_points(signal, 6), change_points(signal * [1000, 0.01] + [5, -3], 6))


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("place", "regions", "options", "message"),
    [
        ((6,), "slic", {}, "superpixels are of images and volumes; a signal is cut by 'grid' or 'changes'"),
        ((6,), "changes", {"cell": 3}, "cell is for a grid, not for changes"),
        ((6,), "changes", {"count": (2, 3)}, "count is a whole number"),
        ((6,), "waves", {}, r"labels \(time\); got 'waves', or 'changes' for a signal"),
        ((6,), "grid", {"count": (2, 3)}, r"one for each of \(time\); got \(2, 3\)"),
        ((6, 5), "changes", {}, r"of \(height, width\) take 'grid' or 'slic'"),
        ((6,), np.zeros(5, int), {}, r"labels are whole numbers \(time\), here \(6,\); got shape \(5,\)"),
        ((2, 3, 4), "grid", {"count": (3, 1, 1)}, "a grid of 3x1x1 cells is finer than 2x3x4 pixels"),
    ],
)
def test_regions_that_do_not_fit_the_input_are_refused(
    place: tuple[int, ...], regions: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        segment(regions, np.zeros((*place, 1)), **options)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(x).relu().mean(1))  # type: ignore[no-any-return]


def test_tokens_have_no_region_map_even_where_sizes_agree() -> None:
    with pytest.raises(InputError, match=r"images, signals or volumes.* of tokens"):
        region_map_of(crp.CondAttribution(Tokens().eval()), data(1, 6, 6), "mix", composite=RULES)


@pytest.mark.parametrize(
    ("sample", "options", "message"),
    [
        (data(2, 1, 50), {}, r"\(1, channel, height, width\); got \(2, 1, 50\); or it is of one signal"),
        (data(1, 50), {}, r"got \(1, 50\)"),
        (data(1, 1, 50), {"image": data(1, 49)}, r"the image has shape \(1, 49\) and the sample \(1, 50\)"),
        (data(1, 1, 50) * torch.nan, {}, "NaN"),
    ],
)
def test_signals_that_cannot_be_mapped_are_refused(sample: torch.Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        region_map_of(crp.CondAttribution(net(1, 1)), sample, "0", composite=RULES, **options)


# -------------------------------------------------------------------------------------------------------- figures


def signal_map(**options: Any) -> crp.RegionMap:
    return region_map_of(crp.CondAttribution(net(1, 1)), data(1, 1, 48), "0", composite=RULES, cls=0, **options)


def test_stretches_have_the_colour_of_their_concept_behind_the_signal() -> None:
    found = signal_map(count=6, signed=True)
    place = found.plot().axes[0]
    assert np.allclose(place.lines[0].get_ydata(), data(48))
    spans = [one for one in place.patches if one.get_width() == 8]
    assert len(spans) == 6
    colour = dict(zip(found.concepts, COLOURS, strict=False))
    for region, span in enumerate(spans):
        assert span.get_x() == region * 8 - 0.5
        assert span.get_facecolor()[:3] == pytest.approx(to_rgb(colour[int(found.dominant[region])]))
        assert (span.get_hatch() is not None) == (found.relevance[region] < 0)
    assert "time step" in place.get_xlabel()
    assert {text.get_text() for text in place.texts} <= {str(one) for one in found.concepts}


def test_it_says_what_it_is_of() -> None:
    found = signal_map(count=4, signed=True)
    assert "% of the signal" in repr(found)
    assert any("% of the signal" in text.get_text() for text in found.plot().axes[1].texts)
    assert found.concept_at(0) == found.dominant[0]
    with pytest.raises(InputError, match=r"pixel \(48,\) lies outside of the signal of 48 pixels"):
        found.concept_at(48)
    with pytest.raises(InputError, match=r"pixel \(0, 0\)"):
        found.concept_at(0, 0)
    with pytest.raises(InputError, match="depth chooses a slice of a volume"):
        found.plot(depth=1)
    assert found._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow
def test_one_slice_of_a_volume_is_drawn_and_named() -> None:
    x = data(1, 1, 4, 6, 5)
    found = region_map_of(crp.CondAttribution(net(3, 1)), x, "0", composite=RULES, signed=True, regions="pixels")
    strongest = int(np.abs(found.relevance).reshape(4, -1).sum(1).argmax())
    assert f"depth {strongest} of 4, the most relevant" in found.plot().texts[0].get_text()
    assert found.plot(depth=3).texts[0].get_text().endswith("depth 3 of 4")
    assert "% of the volume" in repr(found)
    with pytest.raises(InputError, match="number of a slice, from 0 to 3; got 4"):
        found.plot(depth=4)


def test_the_command_line_maps_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(
        "from torch import nn\nfrom crp_kit.models.load import LoadedModel, Preprocess\n"
        "def signal():\n"
        "    conv = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())\n"
        "    return LoadedModel(nn.Sequential(conv, nn.Linear(4, 3)), Preprocess(mean=(0,), std=(1,), shape=(40,)))\n",
        encoding="utf-8",
    )
    np.save("x.npy", data(1, 40).numpy())
    asked = ("--model", "m.py:signal", "--layer", "0.0", "--regions", "changes", "--count", "5", "-o", "f.png")
    made = invoke("regions", "x.npy", *asked, "--save-array", "f.npz")
    assert made.exit_code == 0, made.output
    with np.load("f.npz") as arrays:
        assert arrays["labels"].shape == (40,)
        assert len(arrays["dominant"]) == 5


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [0.5, 300.0])
def test_arrays_of_any_channels_and_values_are_mapped_over_what_can_be_drawn_of_them(
    tmp_path: Path, channels: int, scale: float
) -> None:
    array = scale * torch.rand(channels, 6, 8, generator=torch.Generator().manual_seed(0)).numpy()
    np.save(tmp_path / "x.npy", array)
    preprocess = Preprocess(None, None, mean=(0.0,) * channels, std=(1.0,) * channels)
    study = crp.Study(net(2, channels), composite=RULES, preprocess=preprocess)
    found = study.region_map(study.read([tmp_path / "x.npy"]), "0", cls=1, regions="slic", count=4)
    expected = array if channels in (1, 3) else array.mean(0, keepdims=True)
    expected = stretched(expected) if scale > 1 else expected
    assert found.image.shape == (3, 6, 8)
    assert np.abs(found.image.numpy() - expected).max() <= 0.51 / 255
    assert found.relevance.any()
