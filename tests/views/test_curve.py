"""Small pictures of signals: curves on their own scale, before the colour of their relevance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crp_kit.errors import InputError
from crp_kit.views.curve import curve_picture
from crp_kit.views.image import colours
from crp_kit.views.look import Look

LOOK = Look(percentile=100)


def test_the_ground_of_each_time_step_has_the_colour_of_its_relevance() -> None:
    relevance = torch.tensor([2.0, 0.0, -1.0, 0.5])
    picture = np.asarray(curve_picture(torch.zeros(1, 4), 80, look=LOOK, heatmap=relevance))
    assert picture.shape == (48, 80, 3)
    assert np.array_equal(picture[0, 10::20], colours(relevance))


def test_a_curve_goes_from_its_lowest_value_to_its_highest_whatever_the_range() -> None:
    ramp = torch.linspace(-500, 2000, 100)[None]
    rows, columns = np.nonzero(np.asarray(curve_picture(ramp, 100, look=LOOK).convert("L")) < 128)
    assert (rows[columns == 0].mean(), rows[columns == 99].mean()) == pytest.approx((55, 5), abs=1.5)
    assert np.all(np.diff([rows[columns == column].mean() for column in range(100)]) <= 0)


def test_channels_are_one_above_the_other_and_a_single_step_is_a_line() -> None:
    picture = np.asarray(curve_picture(torch.zeros(3, 1), 100, look=LOOK).convert("L"))
    assert np.flatnonzero((picture < 128).all(1)).tolist() == [10, 30, 50]


@pytest.mark.parametrize(
    ("signal", "relevance", "message"),
    [
        (torch.zeros(4), None, r"a signal is \(channel, time\)"),
        (torch.zeros(1, 0), None, "at least one value"),
        (torch.zeros(1, 4), torch.zeros(3), "of 4 time steps is one value for each"),
        (torch.full((1, 4), torch.nan), None, "not-a-number"),
    ],
)
def test_what_is_no_signal_is_refused(signal: torch.Tensor, relevance: torch.Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        curve_picture(signal, 50, look=LOOK, heatmap=relevance)
