"""Rankings and moments of a stream: equal to brute force and to exact fractions, however the stream was divided."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crp_kit.atlas.build.array_storage import ArrayStorage
from crp_kit.atlas.statistics import group_array
from crp_kit.atlas.statistics.accumulators import Moments, Ranking
from crp_kit.atlas.statistics.base import Allocate, in_memory

Array = npt.NDArray[Any]
QUICK = settings(max_examples=80, derandomize=True, deadline=None)
GROUPS, CONCEPTS = 3, 2


@pytest.fixture(scope="module", params=["in one block", "in blocks"])
def blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Merge arrays whole, or in blocks that are smaller than they are."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "in blocks":
            patch.setattr(group_array, "_CELLS_AT_ONCE", 4)
        yield


@pytest.fixture(scope="module", params=["memory", "files"])
def allocate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Allocate:
    """Arrays in memory, or in files because the limit is nothing."""
    return in_memory if request.param == "memory" else ArrayStorage(0, tmp_path_factory.mktemp("mapped"))


@dataclass(frozen=True)
class Stream:
    """Rows, and how they are divided: cuts between samples into batches, cuts between batches into parts."""

    group: Array
    sample: Array
    score: Array
    position: Array
    target: Array
    batches: tuple[slice, ...]
    parts: tuple[slice, ...]
    order: tuple[int, ...]


def slices(bounds: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(*pair) for pair in pairwise(bounds))


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    """Bounds of a division of so many things, empty pieces included."""
    return st.lists(st.integers(0, size), max_size=4).map(lambda some: [0, *sorted(some), size])


TIES = st.sampled_from([-0.0, 0.0, 1.0, -1.0, 0.5, -0.5, 1e-45, -1e-45, 3e38, -3e38])
WHOLE_RANGE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def streams(draw: st.DrawFn, values: st.SearchStrategy[float] = TIES, *, several: bool = True) -> Stream:
    """Samples with a gap in their numbers, of no, one or several groups each."""
    chosen = st.lists(st.integers(0, GROUPS - 1), unique=True, max_size=GROUPS if several else 1)
    groups = draw(st.lists(chosen, max_size=14))
    sample = np.array([3 * number + 1 for number, some in enumerate(groups) for _ in some], "i8")
    group = np.array([one for some in groups for one in some], "i8")
    row = st.lists(values, min_size=CONCEPTS, max_size=CONCEPTS)
    score = np.array(draw(st.lists(row, min_size=len(group), max_size=len(group))), "f4").reshape(-1, CONCEPTS)
    batches = draw(cuts(len(groups)))
    parts = draw(cuts(len(batches) - 1))
    ends = np.searchsorted(sample, [3 * number for number in batches]).tolist()
    return Stream(
        group,
        sample,
        score,
        position=np.arange(score.size, dtype="i4").reshape(score.shape) * 7,
        target=(group * 5 + sample).astype("i8"),
        batches=slices(ends),
        parts=slices(parts),
        order=tuple(draw(st.permutations(range(len(parts) - 1)))),
    )


def divided(stream: Stream, make: Callable[[], Any], add: Callable[[Any, slice], None]) -> Any:
    """Let each part take in its batches, and an empty one merge the parts in their order."""
    parts = []
    for part in stream.parts:
        parts.append(make())
        for batch in stream.batches[part]:
            add(parts[-1], batch)
    whole = make()
    for number in stream.order:
        whole.merge(parts[number].arrays)
    return whole


def same_bits(one: dict[str, Array], two: dict[str, Array]) -> bool:
    return one.keys() == two.keys() and all(
        one[name].dtype == two[name].dtype and one[name].tobytes() == two[name].tobytes() for name in one
    )


# -------------------------------------------------------------------------------------------------------- rankings


def add_rows(ranking: Ranking, stream: Stream, rows: slice, target: Array | None = None) -> None:
    ranking.add(
        stream.group[rows],
        stream.score[rows],
        sample=stream.sample[rows],
        position=stream.position[rows],
        target=(stream.target if target is None else target)[rows],
    )


def sorted_by_brute_force(stream: Stream, k: int, target: Array) -> dict[str, Array]:
    """The k best of each group and concept, by Python's own sorting of (-score, sample)."""
    shape = (GROUPS, CONCEPTS, k)
    found = {
        "score": np.full(shape, -np.inf, "f4"),
        "sample": np.full(shape, -1, "i8"),
        "position": np.full(shape, -1, "i4"),
        "target": np.full(shape, -1, "i4"),
    }
    for group in range(GROUPS):
        for concept in range(CONCEPTS):
            rows = [row for row in range(len(stream.group)) if stream.group[row] == group]
            rows.sort(key=lambda row: (-float(stream.score[row, concept]), int(stream.sample[row])))
            for place, row in enumerate(rows[:k]):
                cell = group, concept, place
                found["score"][cell], found["sample"][cell] = stream.score[row, concept], stream.sample[row]
                found["position"][cell] = stream.position[row, concept]
                found["target"][cell] = target[row] if target.ndim == 1 else target[row, concept]
    return found


@pytest.mark.slow
@QUICK
@given(stream=streams(), k=st.integers(1, 6))
def test_a_ranking_is_what_sorting_gives_however_the_rows_were_divided(
    blocks: None, allocate: Allocate, stream: Stream, k: int
) -> None:
    found = divided(
        stream,
        lambda: Ranking(GROUPS, CONCEPTS, k, allocate=allocate, targets=True),
        lambda ranking, rows: add_rows(ranking, stream, rows),
    )
    assert same_bits(found.arrays, sorted_by_brute_force(stream, k, stream.target))


@QUICK
@given(stream=streams(), k=st.integers(1, 6))
def test_targets_may_be_those_of_each_concept(stream: Stream, k: int) -> None:
    target = np.stack([stream.target, -stream.target], 1)
    ranking = Ranking(GROUPS, CONCEPTS, k, targets=True)
    for batch in stream.batches:
        add_rows(ranking, stream, batch, target)
    assert same_bits(ranking.arrays, sorted_by_brute_force(stream, k, target))


@pytest.mark.slow
@QUICK
@given(stream=streams(WHOLE_RANGE), k=st.integers(1, 3))
def test_a_ranking_goes_on_from_what_it_has_merged(stream: Stream, k: int) -> None:
    # As a resumed build does: what was saved is merged into an empty ranking, and the later batches are added to that.
    expected = sorted_by_brute_force(stream, k, stream.target)
    for kept in range(len(stream.batches)):
        saved, ranking = (Ranking(GROUPS, CONCEPTS, k, targets=True) for _ in range(2))
        for batch in stream.batches[:kept]:
            add_rows(saved, stream, batch)
        ranking.merge(saved.arrays)
        for batch in stream.batches[kept:]:
            add_rows(ranking, stream, batch)
        assert same_bits(ranking.arrays, expected)


def test_a_ranking_without_rows_is_empty_and_keeps_targets_only_when_asked() -> None:
    ranking = Ranking(2, 3, 4)
    assert ranking.arrays.keys() == {"score", "sample", "position"}
    assert (ranking.score == -np.inf).all()
    assert (ranking.sample == -1).all()
    assert (ranking.arrays["position"] == -1).all()
    assert Ranking(2, 3, 4, targets=True).arrays.keys() == {"score", "sample", "position", "target"}


def test_ties_go_to_the_first_samples_also_from_a_later_part() -> None:
    later, earlier = Ranking(1, 1, 2), Ranking(1, 1, 2)
    for ranking, first in ((later, 10), (earlier, 0)):
        sample = np.arange(first, first + 3)
        zeros = np.zeros((3, 1), "f4")
        ranking.add(np.zeros(3, "i8"), zeros, sample=sample, position=zeros.astype("i4"), target=np.zeros(3, "i8"))
    later.merge(earlier.arrays)
    assert later.sample.tolist() == [[[0, 1]]]


def test_zeros_of_either_sign_are_equal_and_keep_their_sign() -> None:
    ranking, score = Ranking(1, 1, 4), np.array([[-0.0], [0.0], [-0.0]], "f4")
    ranking.add(
        np.zeros(3, "i8"), score, sample=np.arange(3), position=np.zeros((3, 1), "i4"), target=np.zeros(3, "i8")
    )
    assert ranking.sample[0, 0].tolist() == [0, 1, 2, -1]
    assert np.signbit(ranking.score[0, 0, :3]).tolist() == [True, False, True]


# --------------------------------------------------------------------------------------------------------- moments

_DIGITS = 1200  # bits behind the point in a square root: the smallest float32 has 149 of them, its square 298


def root(value: Fraction) -> Fraction:
    return Fraction(math.isqrt(value.numerator * 4**_DIGITS // value.denominator), 2**_DIGITS)


def exact_moments(values: Sequence[float]) -> dict[str, Fraction]:
    """Moments in exact arithmetic; the standard deviation to 1200 binary digits."""
    fractions = [Fraction(one) for one in values]
    mean = sum(fractions, Fraction(0)) / len(fractions)
    variance = sum(((one - mean) ** 2 for one in fractions), Fraction(0)) / len(fractions)
    return {"mean": mean, "std": root(variance), "min": min(fractions), "max": max(fractions)}


def rounding(value: Fraction) -> Fraction:
    """One unit in the last place of float32: half for its rounding, and as much for that of the division before."""
    return Fraction(float(np.spacing(np.float32(min(abs(float(value)), 2e38)))))


def check_moments(found: Moments, columns: dict[tuple[int, int], Sequence[float]], slack: Fraction) -> None:
    """Compare with exact arithmetic, up to a share of the largest magnitude of the same group and concept."""
    values = found.values()
    for (group, concept), column in columns.items():
        expected = exact_moments(column)
        largest = max(abs(Fraction(one)) for one in column)
        for name, exact in expected.items():
            ours = Fraction(float(getattr(values, name)[group, concept]))
            allowed = Fraction(0) if name in ("min", "max") else rounding(exact) + slack * largest
            assert abs(ours - exact) <= allowed, (name, group, concept, float(ours), float(exact))


def moments_of(columns: Sequence[Sequence[float]]) -> Moments:
    """Moments of one group with a concept for each column."""
    score = np.array(columns, "f4").T
    moments = Moments(1, len(columns))
    moments.add(np.zeros(len(score), "i8"), score)
    return moments


def checked(columns: Sequence[Sequence[float]], slack: Fraction = Fraction(0)) -> None:
    rounded = [np.array(column, "f4").tolist() for column in columns]
    check_moments(moments_of(columns), {(0, number): column for number, column in enumerate(rounded)}, slack)


CUT = Fraction(1, 2**31)
"""Squares are kept to 64 bits under the largest: a standard deviation below 2^-32 of the largest value is lost."""


@pytest.mark.slow
@QUICK
@given(stream=streams(TIES | WHOLE_RANGE))
def test_moments_have_the_same_bits_however_the_rows_were_divided(
    blocks: None, allocate: Allocate, stream: Stream
) -> None:
    def add(moments: Moments, rows: slice) -> None:
        moments.add(stream.group[rows], stream.score[rows])

    found = divided(stream, lambda: Moments(GROUPS, CONCEPTS, allocate=allocate), add).values()
    whole = Moments(GROUPS, CONCEPTS)
    whole.add(stream.group, stream.score)
    expected = whole.values()
    assert same_bits(vars(found), vars(expected))


@pytest.mark.slow
@QUICK
@given(stream=streams(TIES | WHOLE_RANGE))
def test_moments_also_have_the_same_bits_in_another_order_of_rows(stream: Stream) -> None:
    order = np.arange(len(stream.group))[::-1]
    one, two = Moments(GROUPS, CONCEPTS), Moments(GROUPS, CONCEPTS)
    one.add(stream.group, stream.score)
    two.add(stream.group[order], stream.score[order])
    assert same_bits(vars(one.values()), vars(two.values()))


@pytest.mark.slow
@QUICK
@given(stream=streams(st.floats(-1, 1, width=32, allow_subnormal=False).map(lambda one: one if abs(one) > 1e-4 else 0)))
def test_moments_of_scores_are_exact_to_the_rounding_of_float32(stream: Stream) -> None:
    moments = Moments(GROUPS, CONCEPTS)
    moments.add(stream.group, stream.score)
    assert moments.values().count.tolist() == [int((stream.group == group).sum()) for group in range(GROUPS)]
    columns = {
        (group, concept): stream.score[stream.group == group, concept].tolist()
        for group in set(stream.group.tolist())
        for concept in range(CONCEPTS)
    }
    check_moments(moments, columns, Fraction(1, 2**60))


@pytest.mark.slow
@settings(QUICK, max_examples=150)
@given(column=st.lists(WHOLE_RANGE, min_size=1, max_size=12))
def test_moments_over_the_whole_range_of_float32_are_exact_to_its_rounding(column: list[float]) -> None:
    checked([column], CUT)


@QUICK
@given(
    value=WHOLE_RANGE, count=st.integers(1, 9), batches=st.integers(1, 3), beside=st.sampled_from([0.0, 1e-30, 1e30])
)
def test_a_constant_has_no_spread_and_is_its_own_mean(value: float, count: int, batches: int, beside: float) -> None:
    moments, constant = Moments(1, 2), np.float32(value)
    for _ in range(batches):
        score = np.stack([np.full(count, constant), np.linspace(-beside, beside, count, dtype="f4")], 1)
        moments.add(np.zeros(count, "i8"), score)
    found = moments.values()
    assert found.std[0, 0] == 0
    assert found.mean[0, 0] == found.min[0, 0] == found.max[0, 0] == constant
    assert found.count.tolist() == [count * batches]


def test_magnitudes_that_grow_and_shrink_from_batch_to_batch_change_nothing() -> None:
    values = [10.0**power for power in (0, 30, -30, 20, -45, 38, 5, -10)]
    expected = moments_of([values]).values()
    for order in (values, values[::-1], sorted(values)):
        moments = Moments(1, 1)
        for one in order:
            moments.add(np.zeros(1, "i8"), np.array([[one]], "f4"))
        assert same_bits(vars(moments.values()), vars(expected))
    checked([values], CUT)


@pytest.mark.parametrize(("mean", "spread"), [(1.0, 1e-3), (100.0, 0.01), (1e4, 0.1), (-1e30, 1e27)])
def test_a_large_mean_with_a_small_spread(mean: float, spread: float) -> None:
    checked([np.random.default_rng(0).normal(mean, spread, 500).tolist()], Fraction(1, 2**60))


@pytest.mark.parametrize("count", [2, 1000, 30000])
@pytest.mark.parametrize("value", [1.0, 1e4, 1.9999998, 3e-20])
def test_the_spread_of_one_value_that_is_off_by_a_rounding(value: float, count: int) -> None:
    # Variance = (n - 1) / n² times the square of the step, by hand.
    step = np.spacing(np.float32(value))
    column = np.full((count, 1), value, "f4")
    column[count // 2] -= step
    moments = Moments(1, 1)
    moments.add(np.zeros(count, "i8"), column)
    exact = float(step) * math.sqrt(count - 1) / count
    assert float(moments.values().std[0, 0]) == pytest.approx(exact, rel=2**-22, abs=0)


@pytest.mark.parametrize(
    ("small", "large"), [(1.0, 1e6), (1e-2, 1e8), (1e-30, 1e30)], ids=["a million", "ten billions", "all of float32"]
)
@pytest.mark.parametrize("where", ["concept", "class"])
def test_the_moments_of_a_concept_do_not_depend_on_larger_ones_beside_it(
    small: float, large: float, where: str
) -> None:
    draw = np.random.default_rng(0)
    column = (small * (1 + 1e-2 * draw.standard_normal(50))).astype("f4")
    beside = (large * draw.standard_normal(50)).astype("f4")
    together = Moments(1, 2) if where == "concept" else Moments(2, 1)
    if where == "concept":
        together.add(np.zeros(50, "i8"), np.stack([column, beside], 1))
    else:
        together.add(np.repeat([0, 1], 50), np.concatenate([column, beside])[:, None])
    check_moments(together, {(0, 0): column.tolist()}, Fraction(1, 2**60))


def test_values_of_opposite_sign_cancel_exactly() -> None:
    for column in ([3e38, -3e38, 3e38, -3e38], [1.0, -1.0, 0.0, -0.0], [1e-45, -1e-45]):
        checked([column])
    found = moments_of([[1e10, 1.0, -1e10]]).values()
    assert found.mean[0, 0] == np.float32(1 / 3)


def test_a_million_rows_in_one_batch_keep_every_bit() -> None:
    values = np.full((1 << 20, 1), np.float32(1 / 3))
    values[0] = 1
    moments = Moments(1, 1)
    moments.add(np.zeros(len(values), "i8"), values)
    exact = (Fraction(float(np.float32(1 / 3))) * (len(values) - 1) + 1) / len(values)
    assert moments.values().mean[0, 0] == np.float32(float(exact))


def test_an_empty_group_is_not_a_number_and_a_part_without_rows_changes_nothing() -> None:
    moments, nothing = Moments(3, 2), Moments(3, 2)
    moments.add(np.array([1, 1]), np.array([[1, 2], [3, 2]], "f4"))
    before = vars(moments.values())
    moments.merge(nothing.arrays)
    moments.add(np.zeros(0, "i8"), np.zeros((0, 2), "f4"))
    assert same_bits(vars(moments.values()), before)
    found = moments.values()
    assert found.count.tolist() == [0, 2, 0]
    for name in ("mean", "std", "min", "max"):
        values = getattr(found, name)
        assert np.isnan(values[[0, 2]]).all()
        assert values.dtype == np.float32
    assert found.mean[1].tolist() == [2, 2]
    assert found.std[1].tolist() == [1, 0]
    nothing.merge(moments.arrays)
    assert same_bits(vars(nothing.values()), before)


@pytest.mark.slow
@QUICK
@given(stream=streams(WHOLE_RANGE), start=st.integers(0, GROUPS), size=st.integers(0, GROUPS))
def test_the_moments_of_some_groups_are_cut_from_those_of_all(stream: Stream, start: int, size: int) -> None:
    moments, part = Moments(GROUPS, CONCEPTS), slice(start, start + size)
    moments.add(stream.group, stream.score)
    whole = {name: values[part] for name, values in vars(moments.values()).items()}
    assert same_bits(vars(moments.values(part)), whole)


# --------------------------------------------------------------------------------------------- groups that appear later


def appearing(stream: Stream, make: Callable[[int], Any], add: Callable[[Any, slice, Array], None]) -> Any:
    """Let each part have rows only for groups that it has met, in the order in which it met them, and merge them."""
    whole, known = make(0), np.full(GROUPS, -1)
    for number in stream.order:
        part, row = make(0), np.full(GROUPS, -1)
        for batch in stream.batches[stream.parts[number]]:
            meet(part, row, stream.group[batch])
            add(part, batch, row[stream.group[batch]])
        met = np.argsort(np.where(row < 0, GROUPS, row), kind="stable")[: (row >= 0).sum()]
        meet(whole, known, met)
        whole.merge(part.arrays, known[met])
    return whole, known


def meet(accumulator: Any, row: Array, groups: Array) -> None:
    for group in groups.tolist():
        if row[group] < 0:
            row[group] = row.max() + 1
    accumulator.grow(int(row.max()) + 1)


@pytest.mark.slow
@QUICK
@given(stream=streams(), k=st.integers(1, 4))
def test_a_ranking_in_which_groups_appear_is_that_with_all_groups_from_the_beginning(
    blocks: None, allocate: Allocate, stream: Stream, k: int
) -> None:
    def add(ranking: Ranking, rows: slice, group: Array) -> None:
        names = ("score", "sample", "position", "target")
        ranking.add(group, **{name: getattr(stream, name)[rows] for name in names})

    found, row = appearing(stream, lambda groups: Ranking(groups, CONCEPTS, k, allocate=allocate, targets=True), add)
    expected = sorted_by_brute_force(stream, k, stream.target)
    held = np.flatnonzero(row >= 0)
    assert set(held) == set(stream.group.tolist())
    assert same_bits(
        {name: values[row[held]] for name, values in found.arrays.items()},
        {name: values[held] for name, values in expected.items()},
    )


@pytest.mark.slow
@QUICK
@given(stream=streams(TIES | WHOLE_RANGE))
def test_moments_in_which_groups_appear_are_those_with_all_groups_from_the_beginning(
    blocks: None, allocate: Allocate, stream: Stream
) -> None:
    def add(moments: Moments, rows: slice, group: Array) -> None:
        moments.add(group, stream.score[rows])

    found, row = appearing(stream, lambda groups: Moments(groups, CONCEPTS, allocate=allocate), add)
    whole = Moments(GROUPS, CONCEPTS)
    whole.add(stream.group, stream.score)
    held = np.flatnonzero(row >= 0)
    assert same_bits(vars(found.values(row[held])), vars(whole.values(held)))


def test_groups_of_another_that_have_no_row_here_are_left_out() -> None:
    other, whole = Moments(3, 1), Moments(1, 1)
    other.add(np.array([0, 1, 1]), np.array([[1], [2], [4]], "f4"))
    whole.merge(other.arrays, np.array([-1, 0, -1]))
    assert whole.values().mean.tolist() == [[3]]
    assert whole.count.tolist() == [2]
