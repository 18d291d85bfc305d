"""The feature axis of an input: what the first layers say, what is chosen, or an error."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from language_models import LANGUAGE_MODELS, WIDTH, language_model, scores
from torch import nn
from torch.nn import functional as F

import crp_kit as crp
from crp_kit.graph.axes.feature_axis import NO_AXIS, feature_axis
from crp_kit.graph.graph import Ref
from crp_kit.graph.model_graph import record_once

B, T, C = 2, 5, 6


class Read(nn.Module):
    """A function of the input and of layers that fit (batch, 5, 6)."""

    def __init__(self, function: Callable[["Read", torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.linear, self.norm, self.rms = nn.Linear(C, 4, bias=False), nn.LayerNorm(C), nn.RMSNorm(C)
        self.conv, self.across = nn.Conv1d(T, 4, 3), nn.Conv1d(C, 4, 3)
        self.image, self.whole = nn.Conv2d(1, 4, 3), nn.Linear(T * C, 4)
        self.lstm, self.position = nn.LSTM(C, 4, batch_first=True), nn.Parameter(torch.randn(1, T, C))
        self.token, self.batch_norm = nn.Parameter(torch.randn(1, 1, C)), nn.BatchNorm1d(T)
        self.graph = nn.Parameter(torch.randn(T, T))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = self.function(self, x)
        return value.flatten(1)


READ: dict[str, tuple[Callable[[Read, torch.Tensor], torch.Tensor], int | None]] = {
    "linear": (lambda m, x: m.linear(x), 2),
    "sum with a constant": (lambda m, x: m.linear(x + m.position), 2),
    "sum, dropout and scale": (lambda m, x: m.norm(F.dropout(0.5 * x + m.position, 0.5, False) * m.position), 2),
    "rms norm": (lambda m, x: m.rms(x), 2),
    "rms norm spelled out": (lambda m, x: m.linear(m.token * (x * x.pow(2).mean(-1, keepdim=True).rsqrt())), 2),
    "class token in front": (lambda m, x: m.linear(torch.cat([m.token.expand(len(x), -1, -1), x], 1)), 2),
    "one token of them": (lambda m, x: m.linear(x[:, 0]), 2),
    "mean over tokens": (lambda m, x: m.linear(x.mean(1)), 2),
    "every second token": (lambda m, x: m.norm(x[:, ::2]), 2),
    "tokens of a list": (lambda m, x: m.norm(x[:, torch.tensor([2, 0])]), 2),
    "heads in front": (lambda m, x: m.linear(x[:, None].expand(-1, 3, -1, -1)), 2),
    "tokens in the batch": (lambda m, x: m.linear(x.reshape(-1, C)).view(len(x), -1), 2),
    "matrix": (lambda m, x: x @ m.linear.weight.T, 2),
    "neighbours first": (lambda m, x: m.linear(m.graph @ x), 2),
    "activation": (lambda m, x: m.linear(x.relu().sqrt()), 2),
    "residual": (lambda m, x: m.norm(x + m.linear(x).mean(-1, keepdim=True)), 2),
    "recurrent": (lambda m, x: m.lstm(x)[0], 2),
    "convolution of signals": (lambda m, x: m.conv(x), 1),
    "padding": (lambda m, x: m.conv(F.pad(x - 1.0, (1, 1))), 1),
    "batch norm": (lambda m, x: m.batch_norm(x), 1),
    "pooling": (lambda m, x: F.avg_pool1d(x, 2), 1),
    "mean over time": (lambda m, x: F.linear(x.mean(2), m.graph), 1),
    "transposed to a convolution": (lambda m, x: m.across(x.transpose(1, 2)), 2),
    "permuted to a convolution": (lambda m, x: m.across((x + m.position).permute(0, 2, 1)), 2),
    "image without channels": (lambda m, x: m.image(x[:, None]), NO_AXIS),
    "image unsqueezed": (lambda m, x: m.image(x.unsqueeze(1)), NO_AXIS),
    "image by view": (lambda m, x: m.image(x.view(-1, 1, T, C)), NO_AXIS),
    "flattened": (lambda m, x: m.whole(x.flatten(1)), None),
    "only element-wise": (lambda m, x: x.tanh(), None),
    "two that contradict": (lambda m, x: m.conv(x).mean() + m.linear(x).flatten(1), None),
}


@pytest.mark.parametrize("name", READ)
def test_what_the_first_layers_say(name: str) -> None:
    function, expected = READ[name]
    assert feature_axis(record_once(Read(function), torch.rand(B, T, C)).graph, Ref(0)) == expected


@pytest.mark.parametrize("name", [name for name, (_, axis) in READ.items() if axis is not None and name != "recurrent"])
def test_the_heatmap_is_the_sum_over_that_axis(name: str) -> None:
    function, axis = READ[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crp.CrpKitWarning)  # a bare LSTM has no rule, and is not the point
        attr = crp.CondAttribution(Read(function))(torch.rand(B, T, C), [{"y": [0]}], "epsilon_plus")
    expected = attr.input_relevance.sum(axis) if axis else attr.input_relevance
    assert torch.equal(attr.heatmap, expected)


@pytest.mark.parametrize("name", ["flattened", "only element-wise", "two that contradict"])
@pytest.mark.parametrize(("chosen", "shape"), [(-1, (B, T)), (2, (B, T)), (1, (B, C)), ("none", (B, T, C))])
def test_what_nobody_says_is_an_error_until_it_is_chosen(name: str, chosen: Any, shape: tuple[int, ...]) -> None:
    model, x = Read(READ[name][0]), torch.rand(B, T, C)
    with pytest.raises(crp.CrpKitError, match=r"holds its features is not known.*feature_axis=-1\) for \(batch"):
        crp.CondAttribution(model)(x, [{"y": [0]}], "epsilon_plus")
    assert crp.CondAttribution(model, feature_axis=chosen)(x, [{"y": [0]}], "epsilon_plus").heatmap.shape == shape


@pytest.mark.parametrize("axis", [3, -3])
def test_an_axis_that_the_input_does_not_have_is_refused(axis: int) -> None:
    attribution = crp.CondAttribution(Read(READ["linear"][0]), feature_axis=axis)
    with pytest.raises(crp.CrpKitError, match=rf"feature_axis={axis} is no axis of the input 'input', whose shape"):
        attribution(torch.rand(B, T, C), [{"y": [0]}], "epsilon_plus")


@pytest.mark.parametrize("axis", [0, "all", 1.5, False])
def test_what_is_no_axis_is_refused_at_once(axis: Any) -> None:
    with pytest.raises(crp.CrpKitError, match="feature_axis is the number of an axis"):
        crp.CondAttribution(nn.Linear(2, 2), feature_axis=axis)


@pytest.mark.parametrize("size", [1, 3])
def test_sizes_that_agree_change_nothing(size: int) -> None:
    x = torch.rand(size, size, size)
    linear, conv, image = nn.Linear(size, 2), nn.Conv1d(size, 2, 1), nn.Conv2d(1, 2, 1)
    for function, expected in {
        (lambda x: linear(x + 1)): 2,
        (lambda x: conv(x.transpose(1, 2))): 2,
        (lambda x: conv(x)): 1,
        (lambda x: linear(x[:, 0])): 2,
        (lambda x: image(x[:, None])): NO_AXIS,
        (lambda x: image(x.unsqueeze(1))): NO_AXIS,
    }.items():
        module = nn.Module()
        module.forward = function  # type: ignore[method-assign]
        assert feature_axis(record_once(module, x).graph, Ref(0)) == expected


@pytest.mark.parametrize(
    ("layers", "shape", "axis"),
    [
        ([nn.Flatten(), nn.Linear(48, 2)], (B, 3, 4, 4), 1),
        ([nn.Conv2d(3, 2, 3), nn.Flatten()], (B, 3, 4, 4), 1),
        ([nn.Conv3d(3, 2, 3), nn.Flatten()], (B, 3, 4, 4, 4), 1),
        ([nn.Linear(4, 2), nn.Flatten()], (B, 3, 5, 4), 3),
    ],
)
def test_images_and_volumes_are_summed_over_their_channels(layers: Any, shape: tuple[int, ...], axis: int) -> None:
    attr = crp.CondAttribution(nn.Sequential(*layers))(torch.rand(shape), [{"y": [0]}], "epsilon_plus")
    assert torch.equal(attr.heatmap, attr.input_relevance.sum(axis))


def test_images_with_their_channels_last_are_summed_over_them() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x.permute(0, 3, 1, 2)).mean((2, 3))

    attr = crp.CondAttribution(Last())(torch.rand(B, 5, 4, 3), [{"y": [0]}], "epsilon_plus")
    assert torch.equal(attr.heatmap, attr.input_relevance.sum(3))


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_embedded_tokens_have_one_value_each(family: str) -> None:
    transformers = pytest.importorskip("transformers")
    attribution = crp.CondAttribution(language_model(family, transformers), output=scores)
    embedded = torch.randn(2, 7, WIDTH, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crp.CrpKitWarning)
        attr = attribution({"inputs_embeds": embedded}, [{"y": [1]}], "attnlrp")
    assert attr.heatmap.shape == (2, 7)
    assert torch.equal(attr.heatmap, attr.input_relevance.sum(2))
