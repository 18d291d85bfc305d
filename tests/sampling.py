"""Choice of the cases of a test that a run takes: quick, standard or nightly.

Tests that cost more than others have a line in ``cases.txt``. ``scripts/choose_cases`` writes it from measured times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest

TABLE = Path(__file__).with_name("cases.txt")

Case = Mapping[str, Hashable]
"""What stands for the value of each argument of one case."""


class Choice(NamedTuple):
    """How many cases of a test the quick and the standard run take, and with which of them to begin.

    The standard run takes more where it needs them to have each value of each argument, unless the test is marked
    ``examples``.
    """

    quick: int
    standard: int
    first: int = 0


def read(text: str) -> dict[str, Choice]:
    """Return the choices in lines such as ``2 9 4 tests/test_a.py::test_b``, by test."""
    lines = [line.split(maxsplit=3) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: Choice(*map(int, numbers)) for *numbers, name in lines}


def thin(items: Iterable[pytest.Item], choices: Mapping[str, Choice]) -> None:
    """Mark cases ``slow`` that only the standard run takes, and ``nightly`` those that it leaves out as well."""
    tests: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    for name in tests.keys() & choices.keys():
        choice, cases = choices[name], [item for item in tests[name] if not item.get_closest_marker("nightly")]
        values = [_values(case) for case in cases]
        order = diverse(values, choice)
        quick = [number for number in order if not cases[number].get_closest_marker("slow")][: choice.quick]
        order = quick + [number for number in order if number not in quick]
        least = 0 if cases and cases[0].get_closest_marker("examples") else _covering([values[one] for one in order])
        for place, number in list(enumerate(order))[len(quick) :]:
            cases[number].add_marker("slow" if place < max(choice.standard, least) else "nightly")


def diverse(cases: Sequence[Case], choice: Choice) -> list[int]:
    """Return the numbers of all cases, so ordered that any first ones of them differ much.

    The next case is each time the one with the most values, and pairs of values, that did not occur yet, so that few
    cases have all of them. Of equal ones it is the next in steps from the first that was chosen: tests over the same
    values, such as architectures, then take different ones.
    """
    stride = max(len(cases) // max(choice.standard, 1), 1)
    numbers = sorted(range(len(cases)), key=lambda number: ((number - choice.first) % stride, number))
    new = {number: _parts(cases[number]) for number in numbers}
    order: list[int] = []
    while new:
        best = max(new, key=lambda number: len(new[number]))  # the first of equal ones
        seen = new.pop(best)
        order.append(best)
        for parts in new.values():
            parts.difference_update(seen)
    return order


def _parts(case: Case) -> set[object]:
    """Return the values of a case and all pairs of them."""
    values = sorted(case.items())
    return {*values, *combinations(values, 2)}


def _covering(cases: Sequence[Case]) -> int:
    """Return how many cases from the first on have every value that occurs in any."""
    left = {value for case in cases for value in case.items()}
    for number, case in enumerate(cases):
        if not left:
            return number
        left -= set(case.items())
    return len(cases)


def _values(item: pytest.Item) -> Case:
    """Return what stands for the values of a case: cases that share a value share its identity."""
    call = getattr(item, "callspec", None)
    return {name: id(value) for name, value in call.params.items()} if call is not None else {}
