"""Condition sets are parsed, paired with samples and cut into blocks of rows as they were written."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crp_kit import ConditionSet
from crp_kit.attribution.rows import RowBlock, paired
from crp_kit.conditions import parse_condition_text, parse_conditions
from crp_kit.errors import ConditionError


@pytest.mark.parametrize(
    "ids",
    [
        [3, 1],
        (3, 1),
        np.array([3, 1]),
        torch.tensor([3, 1]),
        [np.int64(3), torch.tensor(1)],
        iter([3, 1]),
    ],
    ids=["list", "tuple", "array", "tensor", "scalars", "iterator"],
)
def test_ids_of_any_kind_become_plain_numbers_in_the_order_given(ids: Any) -> None:
    condition = ConditionSet.of({"conv": ids, "y": 0})
    assert condition.layers == (("conv", (3, 1)),)
    assert all(type(one) is int for one in condition.layers[0][1])
    assert condition.targets == (0,)


@pytest.mark.parametrize("one", [7, np.int32(7), torch.tensor(7), np.array(7)])
def test_one_id_needs_no_list(one: Any) -> None:
    assert ConditionSet.of({"y": one}) == ConditionSet.of({"y": [7]})


def test_sets_are_equal_and_hashable_whatever_the_order_of_layers() -> None:
    first, second = ConditionSet.of({"b": [1], "a": [2, 0], "y": 1}), ConditionSet.of({"y": [1], "a": (2, 0), "b": 1})
    assert first == second
    assert hash(first) == hash(second)
    assert first.layer_names == ("a", "b")
    assert first.as_dict() == {"a": [2, 0], "b": [1], "y": [1]}
    assert repr(first) == "ConditionSet({'a': [2, 0], 'b': [1], 'y': [1]})"


def test_an_empty_list_is_kept_and_no_output_is_not_an_empty_one() -> None:
    assert ConditionSet.of({"conv": []}).layers == (("conv", ()),)
    assert ConditionSet.of({"conv": []}).targets is None
    assert ConditionSet.of({"y": []}).targets == ()


def test_index_tuples_stay_tuples() -> None:
    assert ConditionSet.of({"conv": [(0, 1), [2, 3]]}).layers == (("conv", ((0, 1), (2, 3))),)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ([], "list of condition sets is empty"),
        ("y", "conditions are a list of condition sets; got str"),
        (5, "got int"),
        ([3], "a condition set maps layer names to concept ids.*got int: 3"),
        ([{3: [0]}], "layer names are strings; got 3"),
        ([{"conv": None}], "ids of 'conv' are an id or a list of ids; got None"),
        ([{"conv": True}], "got True"),
        ([{"conv": [False]}], "got False"),
        ([{"conv": 1.5}], r"got 1\.5"),
        ([{"conv": {"a": 1}}], "got {'a': 1}"),
        ([{"conv": [None]}], "a concept id of 'conv' is a whole number.*got None"),
    ],
)
def test_what_is_no_condition_set_is_told(conditions: Any, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        parse_conditions(conditions)


def test_one_set_is_a_list_of_one_and_parsed_sets_stay() -> None:
    parsed = parse_conditions({"y": [1]})
    assert parsed == parse_conditions([{"y": 1}])
    assert parse_conditions(parsed) == parsed


@pytest.mark.parametrize(
    ("pairing", "samples", "conditions", "expected"),
    [
        ("auto", 3, 3, "zip"),
        ("auto", 3, 2, "product"),
        ("auto", 1, 5, "product"),
        ("auto", 1, 1, "zip"),
        ("product", 3, 3, "product"),
        ("zip", 3, 3, "zip"),
    ],
)
def test_pairing(pairing: Any, samples: int, conditions: int, expected: str) -> None:
    rows = paired(samples, parse_conditions([{"y": [0]}] * conditions), pairing)
    assert rows.zipped == (expected == "zip")
    assert len(rows) == (samples if rows.zipped else samples * conditions)


def pairs(block: RowBlock) -> list[tuple[int, int]]:
    """(sample, condition set) by row, the sets known by their targets."""
    targets = [condition.targets for condition in block.row_conditions()]
    return list(zip(block.row_samples(), [ids[0] for ids in targets if ids], strict=True))


@given(st.sampled_from(["zip", "product"]), st.integers(1, 9), st.integers(1, 9), st.integers(1, 12))
def test_blocks_have_every_row_once_in_order_and_are_not_too_big(
    pairing: Any, samples: int, conditions: int, batch_size: int
) -> None:
    conditions = samples if pairing == "zip" else conditions
    rows = paired(samples, parse_conditions([{"y": [number]} for number in range(conditions)]), pairing)
    blocks = [pairs(block) for block in rows.blocks(batch_size)]
    expected = (
        [(number, number) for number in range(samples)]
        if pairing == "zip"
        else [(sample, number) for sample in range(samples) for number in range(conditions)]
    )
    assert [pair for block in blocks for pair in block] == expected
    assert all(1 <= len(block) <= batch_size for block in blocks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer4.2.conv3:35,89", ("layer4.2.conv3", [35, 89])),
        ("y:282", ("y", [282])),
        ("conv:5-8", ("conv", [5, 6, 7, 8])),
        ("conv: 1 , 3 - 4 ", ("conv", [1, 3, 4])),
        ("conv:", ("conv", [])),
        ("chunk:1:5", ("chunk:1", [5])),
        (" conv :0", ("conv", [0])),
    ],
)
def test_conditions_as_text(text: str, expected: tuple[str, list[int]]) -> None:
    assert parse_condition_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected", "place"),
    [
        ("conv", "expected ':' and concept ids after the layer name", 4),
        (":5", "expected a layer name before ':'", 0),
        ("conv:5,x", "expected a concept id such as 35 or a range such as 5-8, got 'x'", 7),
        ("conv:5,,6", "got ''", 7),
        ("conv:-3", "got '-3'", 5),
        ("conv:5,8-6", "the range '8-6' runs backwards", 7),
        ("conv:1.5", "got '1.5'", 5),
    ],
)
def test_a_mark_stands_below_the_wrong_place(text: str, expected: str, place: int) -> None:
    with pytest.raises(ConditionError) as caught:
        parse_condition_text(text)
    message, shown, mark = str(caught.value).split("\n")
    assert expected in message
    assert shown == f"  {text}"
    assert mark == " " * (2 + place) + "^"
