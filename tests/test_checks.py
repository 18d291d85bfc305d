"""Whole numbers are those of Python and NumPy, within bounds; booleans, floats and texts are refused."""

from typing import Any

import numpy as np
import pytest

from crp_kit.checks import check_integer, is_integer
from crp_kit.errors import ConditionError, InputError


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_a_whole_number_becomes_a_plain_int(value: Any) -> None:
    checked = check_integer("k", value, low=1, high=3)
    assert checked == 3
    assert type(checked) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, "3", None, np.float32(3), np.array([3])])
def test_other_values_are_refused_by_name_and_value(value: Any) -> None:
    assert not is_integer(value)
    with pytest.raises(InputError, match=r"^k is a whole number; got "):
        check_integer("k", value)


@pytest.mark.parametrize("value", [-1, 5000])
def test_bounds_are_included_and_said(value: int) -> None:
    assert is_integer(0, 0, 4999)
    assert is_integer(4999, 0, 4999)
    with pytest.raises(ConditionError, match=rf"^k is a whole number from 0 to 4,999; got {value}$"):
        check_integer("k", value, low=0, high=4999, error=ConditionError)


def test_a_lower_bound_alone_is_said() -> None:
    with pytest.raises(InputError, match=r"^k is a whole number of at least 1; got 0$"):
        check_integer("k", 0, low=1)
