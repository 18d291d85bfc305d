"""Transposes of convolutions for rows of one channel, against the definition and against the general one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from marks import slow_except
from nets import normal
from torch import nn
from torch.nn.functional import conv2d
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon
from zennit.types import Linear

import crp_kit
from crp_kit.data import demo_resnet
from crp_kit.errors import NonFiniteRelevanceError
from crp_kit.propagation import carrier
from crp_kit.propagation.kernels.transposed_conv import channel_transpose, linear_transpose
from crp_kit.propagation.relevance import Scaling, one_channel

GEOMETRIES = [
    {},
    {"padding": (1, 1)},
    {"padding": 2, "stride": 2},
    {"stride": (2, 3), "padding": (0, 1)},
    {"dilation": 2, "padding": (3, 0)},
    {"stride": (3,), "dilation": (1, 2)},
    {"stride": 4, "padding": 1, "kernel": (1, 1)},
    {"kernel": (7, 5), "padding": (3, 1), "stride": 2},
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("size", [(13, 13), (14, 17)])
def test_rows_of_one_channel_are_transposed_as_rows_of_all(geometry: dict[str, Any], size: tuple[int, int]) -> None:
    options = {name: value for name, value in geometry.items() if name != "kernel"}
    weight, x = normal(5, 36, *geometry.get("kernel", (3, 3))), normal(2, 36, *size, seed=1)
    unit: Any = SimpleNamespace(op="conv2d", options=options, dims=2)
    alone, general = (make(unit, weight, x.shape) for make in (channel_transpose, linear_transpose))
    channel = torch.tensor([3, 0, 3, 4])
    places = conv2d(x, weight, **options).shape[2:]
    s = normal(4, 2, *places, seed=2)
    rows = torch.zeros(4, 2, 5, *places, dtype=torch.float64)
    rows[torch.arange(4), :, channel] = s
    found = alone(s, channel)
    assert found.shape == (4, *x.shape)
    torch.testing.assert_close(found, general(rows), rtol=1e-12, atol=1e-12)
    for row, back in zip(rows, found, strict=True):
        leaf = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(conv2d(leaf, weight, **options), leaf, row)
        torch.testing.assert_close(back, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{"groups": 2}, {"padding": "same"}])
def test_other_convolutions_are_left_to_the_general_way(options: dict[str, Any]) -> None:
    unit: Any = SimpleNamespace(op="conv2d", options=options, dims=2)
    assert channel_transpose(unit, normal(4, 2, 3, 3), torch.Size((1, 4, 8, 8))) is None
    assert channel_transpose(unit, normal(4, 2, 3, 3), torch.Size((4, 8, 8))) is None


def test_kernels_with_more_positions_than_the_input_has_channels_are_too() -> None:
    unit: Any = SimpleNamespace(op="conv2d", options={}, dims=2)
    assert channel_transpose(unit, normal(4, 8, 3, 3), torch.Size((1, 8, 8, 8))) is None
    assert channel_transpose(unit, normal(4, 9, 3, 3), torch.Size((1, 9, 8, 8))) is not None


def test_a_mask_of_one_channel_is_known_by_its_values() -> None:
    rows, mask = torch.ones(3, 2, 4, 5, 5), torch.zeros(3, 1, 4, 1, 1)
    for row, channel in enumerate((2, 0, 2)):
        mask[row, :, channel] = 0.5
    found = one_channel(mask, rows)
    assert found is not None
    assert found.tolist() == [2, 0, 2]
    places = mask.expand(3, 2, 4, 5, 5).clone()
    places[0, :, :, 1:] = 0
    assert one_channel(places, rows).tolist() == [2, 0, 2]
    assert one_channel(mask[:1], rows).tolist() == [2, 2, 2]
    for more in (torch.ones(3, 1, 1, 1, 1), mask + mask.roll(1, 2), torch.zeros(3, 1, 4, 1, 1), torch.ones(3, 4)):
        assert one_channel(more, rows) is None
    samples = mask.expand(3, 2, 4, 1, 1).clone()
    samples[0, 1] = samples[0, 1].roll(1, 0)
    assert one_channel(samples, rows) is None


@pytest.mark.parametrize("channels", [[1], [1, 2]])
def test_what_is_not_finite_in_another_channel_is_an_error_for_any_mask(channels: list[int]) -> None:
    """A depthwise convolution divides zero by zero in channel 3 alone."""
    torch.manual_seed(0)
    first, depthwise = nn.Conv2d(9, 12, 3), nn.Conv2d(12, 12, 1, groups=12, bias=False)
    with torch.no_grad():
        depthwise.weight[3] = 0
    model = nn.Sequential(first, depthwise, nn.Flatten(), nn.Linear(12 * 36, 3)).eval()
    attribution, rules = crp_kit.CondAttribution(model), LayerMapComposite([(Linear, Epsilon(0.0))])
    with pytest.raises(NonFiniteRelevanceError):
        attribution(normal(1, 9, 8, 8).float(), [{"0": channels, "y": [1]}], rules)


@pytest.mark.filterwarnings("ignore:the rule Epsilon depends on other samples")
@pytest.mark.parametrize(
    "stabilizer", [lambda z: z.abs().amax(), lambda z: z.abs().flatten(1).amax(1).view(-1, *(1,) * (z.ndim - 1))]
)
def test_denominators_may_have_fewer_axes_than_the_output(stabilizer: Callable[[torch.Tensor], torch.Tensor]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(9, 12, 3), nn.Flatten(), nn.Linear(12 * 36, 3)).eval().double()
    rules = LayerMapComposite([(Linear, Epsilon(stabilizer))])
    conditions, x = [{"0": [channel], "y": [1]} for channel in range(3)], normal(2, 9, 8, 8)
    found = crp_kit.CondAttribution(model)(x, conditions, rules, pairing="product").heatmap
    both = crp_kit.CondAttribution(model)(x, [{"0": [0, 1, 2], "y": [1]}], rules).heatmap
    torch.testing.assert_close(found.view(2, 3, 8, 8).sum(1), both)


CONDITIONS = {
    "strided": [{"layer2.0.conv1": [channel], "y": [1]} for channel in (3, 0, 3, 9)],
    "twice the same": [{"layer2.0.conv1": [3, 3], "y": [1]}],
    "two in series": [{"layer3.0.conv1": [channel], "layer2.0.conv2": [channel], "y": [1]} for channel in range(8)],
    "above a sum": [{"layer1.1.relu_1": [channel], "y": [1]} for channel in range(3)],
    "read by two": [{"layer1.1.conv2": [channel], "y": [1]} for channel in range(3)],
    "some with two": [{"layer1.0.conv1": ids, "y": [1]} for ids in ([3], [4, 5])],
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return demo_resnet().double()


@pytest.mark.parametrize("composite", ["epsilon_plus_flat", "epsilon_alpha2_beta1"])
@pytest.mark.parametrize("name", slow_except(CONDITIONS, ("strided", "above a sum")))
def test_heatmaps_of_one_channel_are_those_of_the_general_way(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, name: str, composite: str
) -> None:
    images, taken = normal(2, 3, 32, 32, seed=1), []
    of_channel = Scaling.in_channel
    monkeypatch.setattr(Scaling, "in_channel", lambda *given: taken.append(1) or of_channel(*given))

    def heatmaps() -> torch.Tensor:
        return crp_kit.CondAttribution(model)(images, CONDITIONS[name], composite, pairing="product").heatmap

    found = heatmaps()
    assert bool(taken) == (name not in ("above a sum", "some with two"))
    monkeypatch.setattr(carrier, "one_channel", lambda mask, rows: None)
    expected = heatmaps()
    assert float(expected.norm()) > 0
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * float(expected.abs().max()))
