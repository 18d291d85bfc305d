"""Few cases of a test differ as much as they can, and the standard run has every value of every argument."""

from __future__ import annotations

from itertools import product

from sampling import TABLE, Choice, diverse, read

GRID = [dict(zip(("name", "rule", "exclude"), values, strict=True)) for values in product("abcd", "xyz", "tf")]


def test_the_first_cases_have_every_value() -> None:
    order = diverse(GRID, Choice(1, 6))
    assert sorted(order) == list(range(len(GRID)))
    assert {value for number in order[:4] for value in GRID[number].items()} == {
        value for case in GRID for value in case.items()
    }


def test_half_of_the_cases_have_every_pair_of_values() -> None:
    pairs = [{frozenset(pair) for pair in product(case.items(), repeat=2)} for case in GRID]
    assert set().union(*(pairs[number] for number in diverse(GRID, Choice(1, 6))[:14])) == set().union(*pairs)


def test_tests_over_the_same_values_may_take_different_ones() -> None:
    names = [{"name": name} for name in "abcdefghi"]
    taken = [diverse(names, Choice(0, 3, first))[:3] for first in range(3)]
    assert taken == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert diverse(names, Choice(0, 3, 3)) == diverse(names, Choice(0, 3, 0))


def test_the_table_is_read_without_its_comments() -> None:
    assert read("# head\n2 9 4 tests/test_a.py::Test::test_b\n") == {"tests/test_a.py::Test::test_b": Choice(2, 9, 4)}
    assert all(choice.quick <= choice.standard > 0 for choice in read(TABLE.read_text(encoding="utf-8")).values())
