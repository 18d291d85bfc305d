"""Heatmaps of every target in every family of models that has it are those of the oracle."""

import pytest
from target_check import CASES, Case, error_of

LARGE = ("fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large")
"""Models whose checks take a second or more."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.model}-{case.target}", marks=[pytest.mark.slow] * (case.model in LARGE))
        for case in CASES
    ],
)
def test_a_heatmap_of_a_target_is_gradient_times_input_of_the_detached_model(case: Case) -> None:
    assert error_of(case) < 1e-6
