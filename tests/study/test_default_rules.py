"""Rules that a study has by default, and the range of inputs that rules need."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision import transforms
from torchvision.transforms import v2
from zennit.composites import EpsilonGammaBox

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import CompositeError

MODEL, DATA = demo_resnet(), ShapesDataset(2)
IMAGE = DATA[0][0]
MEAN, STD = (0.58, 0.56, 0.57), (0.17, 0.17, 0.17)
Y = [{"y": [1]}]


def box(low: Any, high: Any) -> torch.Tensor:
    """Heatmap with the range said by hand."""
    low, high = (torch.as_tensor(values).reshape(1, 3, 1, 1) for values in (low, high))
    return crp.CondAttribution(MODEL)(demo_preprocess(IMAGE)[None], Y, EpsilonGammaBox(low=low, high=high)).heatmap


def test_a_study_has_rules_and_not_the_plain_gradient_if_none_are_named() -> None:
    study = crp.Study(MODEL, DATA, preprocess=demo_preprocess)
    named = crp.Study(MODEL, DATA, preprocess=demo_preprocess, composite="epsilon_plus_flat")
    gradient = crp.Study(MODEL, DATA, preprocess=demo_preprocess, composite="gradient")
    heatmaps = [one(IMAGE, Y).heatmap for one in (study, named, gradient)]
    assert heatmaps[0].equal(heatmaps[1])
    assert not heatmaps[0].allclose(heatmaps[2])


def test_a_result_without_rules_says_so() -> None:
    attribution, inputs = crp.CondAttribution(MODEL), demo_preprocess(IMAGE)[None]
    assert "plain gradients, no rules" in repr(attribution(inputs, Y))
    assert "plain gradients" not in repr(attribution(inputs, Y, "epsilon_plus"))


@pytest.mark.parametrize(
    "preprocess",
    [
        demo_preprocess,
        transforms.Normalize(MEAN, STD),
        v2.Normalize(list(MEAN), list(STD)),
        crp.Preprocess(64, 64, MEAN, STD),
    ],
)
@pytest.mark.parametrize("data", [DATA, None])
def test_the_range_of_inputs_is_that_of_black_and_white_images(preprocess: Any, data: Any) -> None:
    study = crp.Study(MODEL, data, preprocess=preprocess, composite="epsilon_gamma_box")
    bounds = ([(end - mean) / std for mean, std in zip(MEAN, STD, strict=True)] for end in (0.0, 1.0))
    torch.testing.assert_close(study(IMAGE[None], Y).heatmap, box(*bounds))


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        (None, "inputs without preprocess may have any"),
        (lambda images: images**2, "preprocess is no shift and scale"),
        (lambda images: images - torch.linspace(0, 1, images.shape[-1]), "preprocess is no shift and scale"),
        (lambda images: images.mean((1, 2, 3)), "preprocess is no shift and scale"),
    ],
)
def test_what_does_not_say_its_range_is_refused(preprocess: Any, message: str) -> None:
    with pytest.raises(
        CompositeError, match=f"epsilon_gamma_box needs the lowest .* a crp_kit.Preprocess, or give .*{message}"
    ):
        crp.Study(MODEL, DATA, preprocess=preprocess, composite="epsilon_gamma_box")
