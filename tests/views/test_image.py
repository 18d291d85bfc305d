"""Relevance as pictures: what the colours mean, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from crp_kit.errors import InputError
from crp_kit.views.image import DEFAULT_CMAP, colour_table, colours, grid, heatmap_image, overlay, picture, scale_of


def lightness(colour: np.ndarray) -> np.ndarray:
    """CIELAB L* of sRGB colours, by its definition."""
    linear = colour / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16


@pytest.mark.parametrize("cmap", [DEFAULT_CMAP, "bwr", "france"])
def test_positive_is_red_negative_is_blue_and_zero_is_white(cmap: str) -> None:
    red, blue, zero = colours([2.0, -2.0, 0.0], cmap=cmap).astype(int)
    assert red[0] > red[2] + 80
    assert blue[2] > blue[0] + 80
    assert zero.tolist() == [255, 255, 255]


def test_equal_magnitudes_are_equally_dark_in_both_signs() -> None:
    table = lightness(colour_table().astype(float))
    # One level of an 8-bit channel is worth up to 0.5 here.
    assert np.abs(table[:128] - table[:128:-1]).max() < 1.5
    assert (np.diff(table[:129]) > -0.3).all()
    assert table[0] < 32


def test_the_scale_is_symmetric_so_that_a_weak_sign_stays_weak() -> None:
    weak, strong = colours([-0.1, 1.0])
    assert lightness(weak.astype(float)) > 90
    assert lightness(strong.astype(float)) < 35


def test_vmax_sets_the_strongest_colour_and_clips_beyond_it() -> None:
    assert (colours([1.0, 5.0], vmax=1.0)[0] == colours([1.0, 5.0], vmax=1.0)[1]).all()
    assert (colours([1.0], vmax=4.0) != colours([1.0])).any()
    assert scale_of([0.5, -2.0]) == 2.0
    assert scale_of([0.5, -2.0], 3.0) == 3.0


def test_a_map_of_zeros_is_white() -> None:
    assert np.asarray(heatmap_image(np.zeros((3, 5)))).min() == 255


def test_the_picture_has_the_size_of_the_map_times_the_zoom() -> None:
    map_ = torch.zeros(4, 6, requires_grad=True)
    assert heatmap_image(map_).size == (6, 4)
    assert heatmap_image(map_.half(), zoom=3).size == (18, 12)
    zoomed = np.asarray(heatmap_image(torch.tensor([[1.0, -1.0]]), zoom=2))
    assert (zoomed[:, :2] == zoomed[0, 0]).all()
    assert (zoomed[:, 2:] == zoomed[0, 2]).all()


@pytest.mark.parametrize(
    ("map_", "message"),
    [
        (
            torch.zeros(1, 4, 4),
            r"a heatmap is \(height, width\).*got shape \(1, 4, 4\); choose one row, such as heatmap\[0\]",
        ),
        (torch.zeros(0, 4), r"at least one value; got shape \(0, 4\)"),
        (torch.tensor([[0.0, float("nan")]]), "1 of 2 values are infinite or not-a-number"),
        (np.array([["a"]]), "array of real numbers; got ndarray of <U1"),
    ],
)
def test_what_is_no_heatmap_is_refused(map_: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        heatmap_image(map_)


def test_wrong_options_are_refused() -> None:
    map_ = torch.ones(2, 2)
    with pytest.raises(InputError, match="vmax is the magnitude .* positive number; got 0"):
        heatmap_image(map_, vmax=0)
    with pytest.raises(InputError, match="zoom is the side length .* got 0"):
        heatmap_image(map_, zoom=0)
    with pytest.raises(InputError, match="no colour map 'viridis'; zennit has .*bwr.* and takes sources"):
        heatmap_image(map_, cmap="viridis")


def test_an_overlay_is_grey_where_relevance_is_zero_and_coloured_where_it_is_strong() -> None:
    image = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(0))
    mixed = np.asarray(overlay(image, torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))).astype(int)
    assert np.ptp(mixed[0, 0]) == 0
    assert mixed[0, 1].tolist() == colours([1.0])[0].tolist()
    assert mixed[1, 0].tolist() == colours([-1.0])[0].tolist()
    with pytest.raises(
        InputError, match="the image is 2x2 pixels and the heatmap 3x2: give the image as the model saw it"
    ):
        overlay(image, torch.ones(2, 3))


def test_pictures_come_from_tensors_arrays_and_pil() -> None:
    values = torch.tensor([0.0, 0.5, 1.0])[:, None, None].expand(3, 2, 4)
    expected = [0, 128, 255]
    assert picture(values).size == (4, 2)
    assert picture(values).getpixel((0, 0)) == tuple(expected)
    assert picture(values.permute(1, 2, 0).numpy()).getpixel((0, 0)) == tuple(expected)
    assert picture((values * 255).round().byte()).getpixel((0, 0)) == tuple(expected)
    assert picture(Image.new("L", (4, 2), 7)).getpixel((0, 0)) == (7, 7, 7)
    assert picture(torch.ones(5, 4)).getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(
        InputError, match=r"image values lie in \[0, 1\].*got -1 to 1. Give the image before normalisation"
    ):
        picture(values * 2 - 1)
    with pytest.raises(InputError, match=r"one or three channels: .* got shape \(2, 5, 5\)"):
        picture(torch.ones(2, 5, 5))


def test_a_grid_keeps_every_picture_and_is_white_between() -> None:
    sheet = grid([Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")], columns=2, gap=1)
    assert sheet.size == (9, 7)
    assert [sheet.getpixel(place) for place in ((0, 0), (5, 0), (0, 4), (4, 0), (8, 6))] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
        (255, 255, 255),
    ]
    with pytest.raises(InputError, match="at least one picture"):
        grid([])
    with pytest.raises(InputError, match="at least one column; got 0"):
        grid([sheet], columns=0)
