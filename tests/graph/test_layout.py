"""Maps go through a model channels last where that changes nothing but rounding."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from crp_kit import CondAttribution
from crp_kit.graph.memory_format import laid_out
from crp_kit.numerics import checksum


class Head(nn.Module):
    """A convolution, and a linear layer on its flattened maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 6 * 5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.flat(self.conv(x).relu()))

    def flat(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


class Viewing(Head):
    """A view of maps that lie channels last is an error."""

    def flat(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(len(x), -1)


class InMemoryOrder(Head):
    """What this sees depends on how maps lie in memory."""

    def flat(self, x: torch.Tensor) -> torch.Tensor:
        return x.as_strided((len(x), 4 * 6 * 5), (4 * 6 * 5, 1))


class Asking(Head):
    """This makes other calls, which give the same."""

    def flat(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) if x.is_contiguous() else (2 * x).flatten(1) / 2


def made(kind: type[Head]) -> Head:
    torch.manual_seed(0)
    return kind().double().eval()


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def layouts(kind: type[Head], x: torch.Tensor) -> list[bool]:
    """Whether what the convolution made lies channels last, call by call."""
    seen: list[bool] = []
    attribution = CondAttribution(made(kind))
    for _ in range(2):
        run = attribution.engine.run(x, attribution.resolve_composite("epsilon_plus_flat"))
        value = run.recording.value(run.graph.find("conv"))
        seen.append(value.is_contiguous(memory_format=torch.channels_last))
    return seen


class NormedViewing(Viewing):
    """The norm belongs to the linear layer behind the view."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        for values in (self.norm.running_mean, self.norm.running_var, self.norm.weight.data, self.norm.bias.data):
            nn.init.uniform_(values, 0.5, 1.5)

    def flat(self, x: torch.Tensor) -> torch.Tensor:
        return super().flat(self.norm(x))


class NormedHead(NormedViewing):
    """The same, reshaped in another way."""

    def flat(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x).flatten(1)


@pytest.mark.parametrize("count", [1, 3])
def test_forwards_run_channels_last_from_the_first_call_on(count: int) -> None:
    assert layouts(Head, images(count)) == [True, True]


@pytest.mark.parametrize("kind", [Viewing, InMemoryOrder, Asking])
@pytest.mark.parametrize("count", [1, 3])
def test_a_model_that_minds_gets_its_maps_as_they_were_given(kind: type[Head], count: int) -> None:
    assert layouts(kind, images(count)) == [False, False]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "same"),
    [(Head, Head), (Viewing, Head), (InMemoryOrder, Head), (Asking, Head), (NormedViewing, NormedHead)],
)
def test_results_are_those_of_the_same_layers_however_maps_lie(kind: type[Head], same: type[Head]) -> None:
    x = images(2)
    conditions = [{"conv": [1], "y": [0]}, {"y": [2]}]
    expected, found = (CondAttribution(made(one))(x[:1], conditions, "epsilon_plus_flat") for one in (same, kind))
    assert torch.allclose(found.heatmap, expected.heatmap, rtol=1e-12, atol=1e-15)
    assert torch.allclose(found.prediction, made(kind)(x[:1]).detach(), rtol=1e-12)


def test_the_same_call_gives_the_same_bits_again() -> None:
    attribution, x = CondAttribution(made(Head)), images(2)
    first, second = (attribution(x, [{"y": [1]}, {"y": [1]}], "epsilon_plus_flat") for _ in range(2))
    assert torch.equal(first.heatmap, second.heatmap)
    assert torch.equal(first.prediction, second.prediction)


@pytest.mark.parametrize("shape", [(), (7,), (5, 5), (3, 3, 3), (2, 3, 4, 4), (2, 3, 2, 3, 2)])
def test_every_place_has_a_weight_of_its_own_in_a_checksum(shape: tuple[int, ...]) -> None:
    alone = torch.eye(math.prod(shape), dtype=torch.float64)
    weights = sorted(float(checksum(one.view(shape))) for one in alone)
    assert min(map(abs, weights)) > 1e-6
    assert all(above - below > 1e-6 for below, above in pairwise(weights))


def test_a_checksum_does_not_see_how_values_lie() -> None:
    values = images(4)
    assert float(checksum(laid_out(values))) == pytest.approx(float(checksum(values)), rel=1e-12)
    assert float(checksum(values.bfloat16())) == pytest.approx(float(checksum(values.bfloat16().float())), rel=1e-6)


def test_only_maps_on_the_cpu_are_laid_out() -> None:
    assert laid_out(images(1)).is_contiguous(memory_format=torch.channels_last)
    tokens, elsewhere = torch.zeros(2, 5, 7), torch.zeros(1, 3, 4, 4, device="meta")
    assert laid_out(tokens) is tokens
    assert laid_out(elsewhere) is elsewhere
