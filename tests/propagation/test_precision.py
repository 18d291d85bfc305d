"""Everything runs in float32 while relevance is computed, and the process gets its own precision back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from processes import run_python
from zennit.composites import NameMapComposite
from zennit.core import BasicHook

import crp_kit
from crp_kit.errors import ModelError
from crp_kit.numerics import full_float32

CUDNN = torch.backends.cudnn


def allowed() -> bool:
    """Return whether cuDNN may convolve in TF32 now."""
    return bool(CUDNN.allow_tf32)


@pytest.fixture(params=[True, False])
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


@pytest.mark.filterwarnings("ignore:layers to which the composite gives no rule")
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
    one, another = full_float32(), full_float32()
    one.__enter__()
    another.__enter__()
    one.__exit__(None, None, None)
    assert not allowed()
    another.__exit__(None, None, None)
    assert allowed() is allowed_before


CHOICES = [
    "pass",
    "torch.set_float32_matmul_precision('medium')",
    "torch.backends.cuda.matmul.allow_tf32 = True",
    "torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.rnn.fp32_precision = 'ieee', 'tf32'",
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "torch.backends.fp32_precision = 'tf32'",
    "torch.backends.fp32_precision = 'ieee'",
    "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
]


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_whatever_a_program_has_chosen_is_float32_and_comes_back(choice: str) -> None:
    """In a process of its own, since the older names and the newer ones can contradict each other for good."""
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has the older names only")
    code = f"""
import torch
from crp_kit.numerics import full_float32
cudnn, cuda, mkldnn = torch.backends.cudnn, torch.backends.cuda, torch.backends.mkldnn
def precisions():
    return [one.fp32_precision for one in (cudnn.conv, cudnn.rnn, cuda.matmul, mkldnn.conv, mkldnn.matmul)]
{choice}
before = precisions()
with full_float32():
    assert set(precisions()) <= {{"none", "ieee"}}, precisions()
assert precisions() == before, (before, precisions())
print(before)
"""
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr
    assert ("tf32" in finished.stdout or "bf16" in finished.stdout) == (choice != CHOICES[-2])
