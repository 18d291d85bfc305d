"""Decompositions of fused torch functions into operations that have rules: recurrent layers, GLU, joint statistics.

The recorder calls a decomposition in place of the function, so that each of its operations becomes a node. Gates are
sigmoids there, so LRP holds them constant and the signal takes all relevance (Arras, Arjona-Medina et al., "Explaining
and Interpreting LSTMs", 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from ...errors import ModelError

__all__ = ["decomposed", "decomposition_of"]

_Cell = Callable[..., tuple[torch.Tensor, ...]]


def decomposition_of(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return the function that computes the same as a fused one by operations with rules, or None if there is none."""
    try:
        return _DECOMPOSITIONS.get(func)
    except TypeError:  # a callable without a hash
        return None


def decomposed() -> tuple[str, ...]:
    """Return the names of the functions that are decomposed."""
    return tuple(func.__name__ for func in _DECOMPOSITIONS)


def _glu(input: torch.Tensor, dim: int = -1) -> torch.Tensor:
    signal, gate = input.chunk(2, dim)
    return signal * gate.sigmoid()


def _std_mean(input: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.std(input, *args, **kwargs), _mean_beside(input, *args, **kwargs)


def _var_mean(input: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.var(input, *args, **kwargs), _mean_beside(input, *args, **kwargs)


def _mean_beside(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Return the mean over the axes of a deviation: ``(dim, unbiased, keepdim)`` or ``(unbiased)`` by position."""
    positional = args if not args or not isinstance(args[0], bool) else (None, *args)
    dim = kwargs.get("dim", kwargs.get("axis", positional[0] if positional else None))
    keepdim = kwargs.get("keepdim", positional[2] if len(positional) > 2 else False)
    return input.mean(dim=dim, keepdim=keepdim)


# ---------------------------------------------------------------------- recurrent layers


def _lstm_cell(x: torch.Tensor, state: Sequence[torch.Tensor], weights: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """Return hidden and cell state, (batch, feature) each, after one step."""
    of_input, of_hidden, bias, hidden_bias, projection = weights
    hidden, cell = state
    joint = functional.linear(x, of_input, bias) + functional.linear(hidden, of_hidden, hidden_bias)
    enter, forget, candidate, leave = joint.chunk(4, -1)
    cell = forget.sigmoid() * _as_signal(cell, candidate) + enter.sigmoid() * candidate.tanh()
    hidden = leave.sigmoid() * cell.tanh()
    return (hidden if projection is None else functional.linear(hidden, projection)), cell


def _as_signal(state: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
    """Return a state, perhaps a constant one, as a signal: a gate that multiplies a constant alone would be one."""
    return torch.add(state, signal, alpha=0)


def _gru_cell(x: torch.Tensor, state: Sequence[torch.Tensor], weights: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """Return the hidden state, (batch, feature), after one step."""
    of_input, of_hidden, bias, hidden_bias, _ = weights
    (hidden,) = state
    reset, update, candidate = functional.linear(x, of_input, bias).chunk(3, -1)
    hidden_reset, hidden_update, hidden_candidate = functional.linear(hidden, of_hidden, hidden_bias).chunk(3, -1)
    hidden_candidate = _as_signal(hidden_candidate, candidate)
    gate = (reset + hidden_reset).sigmoid()
    keep = (update + hidden_update).sigmoid()
    return ((1 - keep) * (candidate + gate * hidden_candidate).tanh() + keep * hidden,)


def _simple_cell(activation: Callable[[torch.Tensor], torch.Tensor]) -> _Cell:
    def cell(x: torch.Tensor, state: Sequence[torch.Tensor], weights: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        of_input, of_hidden, bias, hidden_bias, _ = weights
        joint = functional.linear(x, of_input, bias) + functional.linear(state[0], of_hidden, hidden_bias)
        return (activation(joint),)

    return cell


def _recurrent(cell: _Cell, *, states: int) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Return a recurrent layer with torch's own arguments, made of single steps of a cell."""

    def run(input: torch.Tensor, state: Any, parameters: Any, *settings: Any) -> tuple[torch.Tensor, ...]:
        if isinstance(state, torch.Tensor) and not state.is_floating_point():  # the sizes of a packed sequence
            raise ModelError(
                "packed sequences cannot be attributed: one time step holds the tokens of several samples there; give "
                "the recurrent layer padded sequences, (batch, time, feature), without pack_padded_sequence"
            )
        has_biases, num_layers, _, _, bidirectional, batch_first = settings
        directions = 2 if bidirectional else 1
        time_axis = 1 if batch_first and input.ndim == 3 else 0
        initial = [kept.unbind(0) for kept in (state if states > 1 else (state,))]
        by_direction = _by_direction(list(parameters), num_layers * directions, bool(has_biases))
        sequence, last = list(input.unbind(time_axis)), []
        for layer in range(num_layers):
            outputs = []
            for direction in range(directions):
                index = layer * directions + direction
                ordered = sequence[::-1] if direction else sequence
                hidden, final = _steps(cell, ordered, [kept[index] for kept in initial], by_direction[index])
                outputs.append(hidden[::-1] if direction else hidden)
                last.append(final)
            sequence = outputs[0] if len(outputs) == 1 else [torch.cat(pair, -1) for pair in zip(*outputs, strict=True)]
        finals = tuple(torch.stack(parts) for parts in zip(*last, strict=True))
        return (torch.stack(sequence, time_axis), *finals)

    return run


def _single(cell: _Cell, *, states: int) -> Callable[..., Any]:
    """Return one step of a recurrent layer with the arguments of torch's cells."""

    def run(input: torch.Tensor, state: Any, *weights: torch.Tensor | None) -> Any:
        padded = (*weights, *(None,) * (5 - len(weights)))
        result = cell(input, state if states > 1 else (state,), padded)
        return result if states > 1 else result[0]

    return run


def _by_direction(
    parameters: list[torch.Tensor], directions: int, has_biases: bool
) -> list[tuple[torch.Tensor | None, ...]]:
    """Return (input weight, hidden weight, input bias, hidden bias, projection) of each layer and direction."""
    size = len(parameters) // directions
    grouped = []
    for first in range(0, len(parameters), size):
        part = parameters[first : first + size]
        biases = part[2:4] if has_biases else [None, None]
        projection = part[-1] if size == (5 if has_biases else 3) else None
        grouped.append((part[0], part[1], *biases, projection))
    return grouped


def _steps(
    cell: _Cell,
    sequence: Sequence[torch.Tensor],
    state: Sequence[torch.Tensor],
    weights: Sequence[Any],
) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
    """Return the hidden state of each time step, and the last state."""
    hidden = []
    for x in sequence:
        state = cell(x, state, weights)
        hidden.append(state[0])
    return hidden, tuple(state)


_DECOMPOSITIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    functional.glu: _glu,
    torch.std_mean: _std_mean,
    torch.var_mean: _var_mean,
    torch.lstm: _recurrent(_lstm_cell, states=2),
    torch.gru: _recurrent(_gru_cell, states=1),
    torch.rnn_tanh: _recurrent(_simple_cell(torch.tanh), states=1),
    torch.rnn_relu: _recurrent(_simple_cell(torch.relu), states=1),
    torch.lstm_cell: _single(_lstm_cell, states=2),
    torch.gru_cell: _single(_gru_cell, states=1),
    torch.rnn_tanh_cell: _single(_simple_cell(torch.tanh), states=1),
    torch.rnn_relu_cell: _single(_simple_cell(torch.relu), states=1),
}
