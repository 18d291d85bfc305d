"""Convolutions run in float32 while relevance is computed, and the process gets its own precision back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from zennit.composites import NameMapComposite
from zennit.core import BasicHook

import crp_kit
from crp_kit.errors import ModelError
from crp_kit.precision import float32_convolutions

CUDNN = torch.backends.cudnn


def allowed() -> bool:
    """Return whether cuDNN may convolve in TF32 now."""
    return bool(CUDNN.allow_tf32)


@pytest.fixture(autouse=True, params=[True, False])
def allowed_before(request: pytest.FixtureRequest) -> Iterator[bool]:
    before, CUDNN.allow_tf32 = CUDNN.allow_tf32, request.param
    yield request.param
    CUDNN.allow_tf32 = before


def small(noted: list[bool]) -> torch.nn.Sequential:
    """Return a model whose convolution notes whether TF32 is allowed when it is called."""

    class Noting(torch.nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            noted.append(allowed())
            return super().forward(x)

    return torch.nn.Sequential(Noting(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 2)).eval()


def test_forward_and_rules_run_in_float32(allowed_before: bool) -> None:
    in_forward: list[bool] = []
    in_rule: list[bool] = []

    def note(value: torch.Tensor, _: str = "") -> torch.Tensor:
        in_rule.append(allowed())
        return value

    rule = BasicHook(input_modifiers=[note], param_modifiers=[note])
    attribution = crp_kit.CondAttribution(small(in_forward))
    attribution(torch.randn(1, 3, 8, 8), [{"0": [1], "y": [0]}], NameMapComposite([(["0"], rule)]))
    for noted in (in_forward, in_rule):
        assert set(noted) == {False}
    assert allowed() is allowed_before


def test_the_precision_comes_back_after_an_error(allowed_before: bool) -> None:
    with pytest.raises(ModelError):
        crp_kit.CondAttribution(small([]))(torch.randn(1, 3, 9, 9), [{"y": [0]}], "epsilon_plus_flat")
    assert allowed() is allowed_before


def test_uses_may_overlap_in_any_order(allowed_before: bool) -> None:
    one, another = float32_convolutions(), float32_convolutions()
    one.__enter__()
    another.__enter__()
    one.__exit__(None, None, None)
    assert not allowed()
    another.__exit__(None, None, None)
    assert allowed() is allowed_before


def test_a_choice_by_the_newer_names_comes_back() -> None:
    """In a process of its own, since torch does not let one mix them with the older names."""
    if not hasattr(CUDNN, "conv"):
        pytest.skip("this torch has the older names only")
    code = """
import torch
from crp_kit.precision import float32_convolutions
cudnn = torch.backends.cudnn
cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = "ieee", "tf32"
with float32_convolutions():
    print(cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision)
print(cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ieee", "ieee", "ieee", "tf32"]
