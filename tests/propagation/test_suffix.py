"""The forward behind a node is the user's own forward: of all families, with writes in place and shapes in the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fuzz.generator import make_program
from marks import slow_except
from oracles.families import FAMILIES, QUICK, build
from shortcut_net import with_hook
from suffix_check import suffix_errors
from torch import nn

from crp_kit import CondAttribution, CrpKitWarning
from crp_kit.propagation.suffix import Suffix

LIMIT = 1e-9


@pytest.mark.parametrize("name", slow_except(FAMILIES, QUICK))
def test_other_values_of_a_layer_give_what_a_full_forward_gives(name: str) -> None:
    errors = suffix_errors(*build(name))
    assert len(errors) > 1
    assert max(errors.values()) < LIMIT, errors


@pytest.mark.filterwarnings("ignore:what follows from")
def test_random_programs_with_writes_in_place_and_views_agree_with_full_forwards() -> None:
    checked = 0
    for seed in range(40):
        program = make_program(seed)
        errors = suffix_errors(program.model(), program.data(1))
        assert all(error < LIMIT for error in errors.values()), (seed, errors)
        checked += len(errors)
    assert checked > 40


class _Awkward(nn.Module):
    """Writes in place into a layer's own output and into views of it, beside code that reads shapes and values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        y[:, :2] *= 3
        left = y[:, 2:4]
        left.add_(1)
        y.relu_()
        batch, channels, height, width = y.shape
        tokens = y.view(batch, channels, height * width).transpose(1, 2) / (height * width) ** 0.5
        grid = torch.arange(batch * channels, dtype=y.dtype).reshape(batch, channels)
        return self.head(tokens.sum(1) + grid) if len(y) == batch else self.head(grid)


@pytest.mark.parametrize("samples", [1, 2])
def test_writes_into_the_layer_itself_and_code_that_reads_shapes_are_run_again(samples: int) -> None:
    torch.manual_seed(0)
    model, images = _Awkward().double().eval(), torch.rand(samples, 3, 6, 6, dtype=torch.float64)
    run = CondAttribution(model).engine.run(images, None)
    rows = torch.randn(5, samples, 6, 4, 4, dtype=torch.float64)
    before = rows.clone()
    found = Suffix(run, run.graph.find("layer"))(rows)
    handle = [torch.zeros(0)]
    model.layer.register_forward_hook(lambda module, inputs, output: handle[0].clone())
    for row, output in zip(rows, found, strict=True):
        handle[0] = row
        torch.testing.assert_close(output, model(images), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(rows, before, rtol=0, atol=0)


def _branch(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if float(x.detach().sum()) > 0 else x * 3


def _mask(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0.1, x, x * 0.1)


def _order(x: torch.Tensor) -> torch.Tensor:
    return x.gather(1, x.argsort(1)) * torch.arange(4, dtype=x.dtype)


def _numpy(x: torch.Tensor) -> torch.Tensor:
    return x * torch.from_numpy(np.sign(x.detach().numpy()))


class _Applied(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize("function", [_branch, _mask, _order, _numpy])
def test_the_whole_forward_runs_where_code_reads_values_or_compares_them(function: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), _Applied(function), nn.Linear(4, 2)).double().eval()
    data = torch.rand(1, 3, dtype=torch.float64)
    run = CondAttribution(model).engine.run(data, None)
    rows = torch.randn(5, 1, 4, dtype=torch.float64)
    with pytest.warns(CrpKitWarning, match="what follows from '0' is read in Python or compared: the whole forward"):
        found = Suffix(run, run.graph.find("0"))(rows)
    expected = [with_hook(model, "0", data[0], lambda output, row=row: row) for row in rows]
    torch.testing.assert_close(found[:, 0], torch.stack(expected))
    assert Suffix(run, run.graph.output).is_fixed


def test_values_that_are_maxima_or_shapes_need_no_whole_forward() -> None:
    class Maxima(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.layer(x)
            return self.head(x.flatten(2).max(2).values * x.shape[1] / x.size(0))

    run = CondAttribution(Maxima().double().eval()).engine.run(torch.rand(1, 3, 5, 5, dtype=torch.float64), None)
    assert Suffix(run, run.graph.find("layer")).is_fixed


@pytest.mark.filterwarnings("ignore:the model cannot run with gradients")
def test_rows_are_run_one_by_one_where_torch_cannot_batch_an_operation() -> None:
    class Alone(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * (2.0 if x.sum().item() > 0 else 3.0)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * 2

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), _Applied(Alone.apply), nn.Linear(4, 2)).double().eval()
    data = torch.rand(1, 3, dtype=torch.float64)
    run = CondAttribution(model).engine.run(data, None)
    rows = torch.randn(4, 1, 4, dtype=torch.float64)
    found = Suffix(run, run.graph.find("0"))(rows)
    expected = [with_hook(model, "0", data[0], lambda output, row=row: row) for row in rows]
    torch.testing.assert_close(found[:, 0], torch.stack(expected))
