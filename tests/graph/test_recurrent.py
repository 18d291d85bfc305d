"""Recurrent layers: the signal takes all relevance, gates are constants, as in the cell spelled out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import lrp_0
from torch import nn

from crp_kit import CondAttribution
from crp_kit.errors import ModelError

TIME, FEATURES, HIDDEN = 5, 4, 3
LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Last(nn.Module):
    """A linear map of all outputs of a recurrent layer, whose states begin with a constant."""

    def __init__(self, layer: nn.RNNBase, width: int, initial: float = 0.0) -> None:
        super().__init__()
        self.layer, self.head, self.initial = layer, nn.Linear(TIME * width, 2, bias=False), initial

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = None
        if self.initial:
            count = self.layer.num_layers * (2 if self.layer.bidirectional else 1)
            state = torch.full((count, len(x), HIDDEN), self.initial, dtype=x.dtype)
            states = (state, state) if isinstance(self.layer, nn.LSTM) else state
        out = self.layer(x if self.layer.batch_first else x.transpose(0, 1), states)[0]
        return self.head((out if self.layer.batch_first else out.transpose(0, 1)).flatten(1))


def _act(value: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """An activation through which relevance passes: its value over its argument is a constant."""
    return value * (function(value) / value).detach()


def _cell(kind: str, x: torch.Tensor, state: list[torch.Tensor], weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """One step with detached gates, for weights (input, hidden, biases)."""
    of_input, of_hidden, *biases = weights
    bias, hidden_bias = biases or (0.0, 0.0)
    one, two = x @ of_input.T + bias, state[0] @ of_hidden.T + hidden_bias
    if kind == "rnn":
        return [_act(one + two, torch.tanh)]
    if kind == "gru":
        r, z, n = one.chunk(3, -1)
        hr, hz, hn = two.chunk(3, -1)
        update = (z + hz).sigmoid().detach()
        reset = (r + hr).sigmoid().detach()
        return [(1 - update) * _act(n + reset * hn, torch.tanh) + update * state[0]]
    i, f, g, o = (one + two).chunk(4, -1)
    cell = f.sigmoid().detach() * state[1] + i.sigmoid().detach() * _act(g, torch.tanh)
    return [o.sigmoid().detach() * _act(cell, torch.tanh), cell]


def gradient_times_input(model: Last, kind: str, x: torch.Tensor) -> torch.Tensor:
    layer, leaf = model.layer, x.clone().requires_grad_()
    sequence = list(leaf.unbind(1))
    for number in range(layer.num_layers):
        outputs = []
        for suffix in ("", "_reverse")[: 2 if layer.bidirectional else 1]:
            names = [f"{part}_{side}_l{number}{suffix}" for part in ("weight", "bias") for side in ("ih", "hh")]
            weights = [getattr(layer, name) for name in names if hasattr(layer, name)]
            state = [torch.full((len(x), HIDDEN), model.initial).to(x)] * (2 if kind == "lstm" else 1)
            steps = []
            for value in reversed(sequence) if suffix else sequence:
                state = _cell(kind, value, state, weights)
                steps.append(state[0])
            outputs.append(steps[::-1] if suffix else steps)
        sequence = [torch.cat(parts, -1) for parts in zip(*outputs, strict=True)]
    out = model.head(torch.stack(sequence, 1).flatten(1))
    assert torch.allclose(out, model(x))
    return leaf.detach() * torch.autograd.grad(out[:, 1].sum(), leaf)[0]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("layers", "bias", "batch_first"), [(1, True, True), (2, False, False), (2, True, True)])
def test_relevance_is_that_of_the_cell_spelled_out(
    kind: str, bidirectional: bool, layers: int, bias: bool, batch_first: bool
) -> None:
    torch.manual_seed(0)
    options = {"bidirectional": bidirectional, "num_layers": layers, "bias": bias, "batch_first": batch_first}
    layer = LAYERS[kind](FEATURES, HIDDEN, **options)
    model = Last(layer, HIDDEN * (2 if bidirectional else 1)).double().eval()
    x = torch.randn(2, TIME, FEATURES).double()
    result = CondAttribution(model)(x, [{"y": [1]}], lrp_0(), pairing="product")
    expected = gradient_times_input(model, kind, x)
    assert torch.allclose(result.input_relevance, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))
    assert torch.allclose(result.prediction, model(x), rtol=1e-12)
    assert result.gradient_nodes == ()
    single = CondAttribution(model.float())(x.float(), [{"y": [1]}], lrp_0(), pairing="product").input_relevance
    assert torch.allclose(single.double(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", LAYERS)
def test_initial_states_that_are_constants_leave_gates_constants(kind: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind](FEATURES, HIDDEN, num_layers=2, batch_first=True, bidirectional=True)
    model, x = Last(layer, HIDDEN * 2, initial=0.6).double().eval(), torch.randn(2, TIME, FEATURES).double()
    result = CondAttribution(model)(x, [{"y": [1]}], lrp_0(), pairing="product")
    expected = gradient_times_input(model, kind, x)
    assert torch.allclose(result.input_relevance, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


def test_a_recurrent_layer_is_recorded_and_conditioned_by_its_name() -> None:
    torch.manual_seed(0)
    model = Last(nn.LSTM(FEATURES, HIDDEN, batch_first=True), HIDDEN).double().eval()
    attribution, x = CondAttribution(model), torch.randn(1, TIME, FEATURES).double()
    whole = attribution(x, [{"y": [1]}], lrp_0(), record_layer=["layer"])
    assert whole.relevances["layer"].shape == (1, TIME, HIDDEN)
    parts = attribution(x, [{"layer": [c], "y": [1]} for c in range(HIDDEN)], lrp_0(), pairing="product")
    assert torch.allclose(parts.input_relevance.sum(0), whole.input_relevance[0], rtol=1e-8, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "states"), [(nn.LSTMCell, 2), (nn.GRUCell, 1), (nn.RNNCell, 1)])
def test_a_cell_equals_its_layer(cell: type[nn.RNNCellBase], states: int) -> None:
    class Looped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = cell(FEATURES, HIDDEN), nn.Linear(HIDDEN, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            zeros = x.new_zeros(len(x), HIDDEN)
            state = (zeros, zeros) if states == 2 else zeros
            for value in x.unbind(1):
                state = self.cell(value, state)
            return self.head(state[0] if states == 2 else state)

    torch.manual_seed(0)
    layer = {nn.LSTMCell: nn.LSTM, nn.GRUCell: nn.GRU, nn.RNNCell: nn.RNN}[cell](FEATURES, HIDDEN, batch_first=True)
    looped, x = Looped().double().eval(), torch.randn(2, TIME, FEATURES).double()
    layer.load_state_dict({f"{name}_l0": value for name, value in looped.cell.state_dict().items()})

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = layer, looped.head

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layer(x)[0][:, -1])

    one, other = (
        CondAttribution(model.double().eval())(x, [{"y": [0]}], "epsilon_plus", pairing="product").input_relevance
        for model in (looped, Layer())
    )
    assert torch.allclose(one, other, rtol=1e-8, atol=1e-12)


def test_packed_sequences_are_refused_with_the_way_out() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.full((len(x),), TIME), batch_first=True)
            return self.layer(packed)[1][0][-1]

    with pytest.raises(ModelError, match="without pack_padded_sequence"):
        CondAttribution(Packed().eval())(torch.randn(2, TIME, FEATURES), [{"y": [0]}], "epsilon_plus")
