"""What is known of zennit's own rules is what they do, to the bit; of any other rule nothing is known."""

import gc
import weakref

import pytest
import torch
from zennit.core import BasicHook, Stabilizer
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, WSquare, ZBox, ZPlus

from crp_kit.numerics import count_not_finite, is_finite
from crp_kit.propagation.closed_form import known_rule, reducer_factors
from crp_kit.rules.stabilizer import QuickStabilizer, added_epsilon, quick

RULES = {
    "epsilon": lambda: Epsilon(),
    "epsilon, large": lambda: Epsilon(0.25),
    "epsilon, own stabilizer": lambda: Epsilon(Stabilizer(0.1, clip=True)),
    "gamma": lambda: Gamma(0.3),
    "z plus": lambda: ZPlus(),
    "z plus, own function": lambda: ZPlus(stabilizer=lambda z: z + 1),
    "alpha2 beta1": lambda: AlphaBeta(),
    "alpha1 beta0": lambda: AlphaBeta(1, 0),
    "z box": lambda: ZBox(torch.full((1, 3, 1, 1), -1.0), torch.ones(1, 3, 1, 1)),
    "norm": lambda: Norm(),
    "w square": lambda: WSquare(),
    "flat": lambda: Flat(stabilizer=0.5),
}
SPECIAL = [0.0, -0.0, 1e-6, -1e-6, 1e-40, -1e-40, 3.0, -3.0, 1e30, float("inf"), -float("inf"), float("nan")]


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """NaNs are one, whatever bits they have; zeros are two."""
    return torch.allclose(first, second, rtol=0, atol=0, equal_nan=True) and torch.equal(
        first.nan_to_num(1).signbit(), second.nan_to_num(1).signbit()
    )


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    made.view(-1)[: len(SPECIAL)] = torch.tensor(SPECIAL)
    return made


class TestStabilizer:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("epsilon", [1e-6, 0.25, 1e-9])
    def test_gives_the_bits_of_zennits(self, dtype: torch.dtype, epsilon: float) -> None:
        z = values(4, 5).to(dtype)
        assert same_bits(QuickStabilizer(epsilon)(z), Stabilizer(epsilon)(z))

    def test_leaves_what_it_is_given_alone(self) -> None:
        z = torch.tensor([1.0, -1.0])
        QuickStabilizer(0.5)(z)
        assert z.tolist() == [1.0, -1.0]

    def test_stands_in_for_no_other(self) -> None:
        for other in (Stabilizer(clip=True), Stabilizer(norm_scale=True), abs):
            assert quick(other) is other
            assert added_epsilon(other) is None
        assert added_epsilon(quick(Stabilizer(0.5))) == 0.5


class TestKnownRule:
    @pytest.mark.parametrize("name", RULES)
    def test_factors_are_those_of_the_rule(self, name: str) -> None:
        rule = RULES[name]()
        known = known_rule(rule)
        assert known is not None
        x = values(2, 3, 4, 4)
        inputs = [modify(x) for modify in rule.input_modifiers]
        outputs = [values(2, 5, 3, 3, seed=place) for place in range(len(inputs))]
        mapped = rule.gradient_mapper(torch.ones_like(outputs[0]), outputs)
        mapped = [mapped] * len(inputs) if isinstance(mapped, torch.Tensor) else mapped
        assert all(same_bits(a, b) for a, b in zip(known.above(outputs), mapped, strict=True))
        for found, wanted in zip(known.below(inputs), reducer_factors(rule, inputs), strict=True):
            ordinary = wanted.isfinite()  # infinity times the zeros of the other terms is NaN
            assert torch.equal((torch.ones_like(wanted) if found is None else found)[ordinary], wanted[ordinary])

    @pytest.mark.parametrize("name", RULES)
    def test_inputs_of_what_is_nowhere_below_zero(self, name: str) -> None:
        rule = RULES[name]()
        known = known_rule(rule)
        assert known is not None
        x = values(2, 3, 4, 4).nan_to_num().abs()
        for found, modify in zip(known.inputs(x), rule.input_modifiers, strict=True):
            assert found is None or torch.equal(found, modify(x))
            assert (found is None) == (type(rule) not in (Gamma, ZPlus, AlphaBeta))

    @pytest.mark.parametrize("wrong", [-1.0, float("nan")])
    def test_inputs_of_anything_else_are_not_known(self, wrong: float) -> None:
        known = known_rule(ZPlus())
        assert known is not None
        assert known.inputs(torch.tensor([1.0, wrong])) == [None, None]
        assert known.inputs(torch.zeros(0)) == [None, None]

    @pytest.mark.parametrize("part", ["input_modifiers", "gradient_mapper", "reducer"])
    def test_a_rule_with_a_part_of_its_own_is_not_known(self, part: str) -> None:
        rule = Epsilon()
        own = getattr(rule, part)
        setattr(rule, part, [lambda x: x] if isinstance(own, list) else lambda *given: own(*given))
        assert known_rule(rule) is None

    def test_a_class_of_its_own_is_not_known(self) -> None:
        class Own(Epsilon):
            pass

        assert known_rule(Own()) is None
        assert known_rule(BasicHook()) is None

    @pytest.mark.examples
    @pytest.mark.slow
    @pytest.mark.parametrize("name", RULES)
    def test_is_forgotten_with_the_rule(self, name: str) -> None:
        rule = RULES[name]()
        known_rule(rule)
        gone = weakref.ref(rule)
        del rule
        gc.collect()
        assert gone() is None


class TestFinite:
    @pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
    def test_one_value_is_enough(self, wrong: float) -> None:
        sound = torch.randn(3, 5)
        assert is_finite(sound)
        assert count_not_finite(sound) == 0
        sound[1, 2] = wrong
        assert not is_finite(sound)
        assert count_not_finite(sound) == 1

    def test_two_infinities_do_not_cancel(self) -> None:
        assert count_not_finite(torch.tensor([float("inf"), -float("inf"), 0])) == 2

    def test_a_sum_may_be_too_large_for_a_float(self) -> None:
        assert is_finite(torch.full((4,), 3e38))
        assert is_finite(torch.full((4,), 6e4, dtype=torch.float16))

    def test_whole_numbers_and_nothing_are_finite(self) -> None:
        assert is_finite(torch.arange(3))
        assert is_finite(torch.zeros(0))
