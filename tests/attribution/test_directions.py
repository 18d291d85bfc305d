"""Conditions on directions are gradient x input of a copy of the model with encode and decode behind the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from dictionaries import Autoencoder, inserted
from direction_check import (
    CHANNELS,
    CONCEPTS,
    KINDS,
    LAYERS,
    RULES,
    VIT,
    attribution_of,
    compared,
    convnet,
    dictionary_of,
    errors_in,
    pca,
)
from nets import normal, relative_error
from oracles.architectures import small_swin
from torch import nn
from zennit.composites import EpsilonGammaBox

from crp_kit import ChannelConcept, Concept, CondAttribution, DictionaryConcept, DirectionConcept
from crp_kit.errors import ConditionError, CrpKitError, InputError

TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-4}
PRECISIONS = pytest.mark.parametrize("dtype", TOLERANCE)


@PRECISIONS
@pytest.mark.parametrize("name", CONCEPTS)
@pytest.mark.parametrize("module", LAYERS)
def test_a_heatmap_is_that_of_inserted_modules_in_a_convolutional_network(
    module: str, name: str, dtype: torch.dtype
) -> None:
    x, concept = normal(2, 3, 12, 12).to(dtype), CONCEPTS[name](CHANNELS, 4)
    assert compared(attribution_of(dtype), x, (module, LAYERS[module]), concept) < TOLERANCE[dtype]


@PRECISIONS
@pytest.mark.parametrize("name", CONCEPTS)
def test_a_heatmap_is_that_of_inserted_modules_in_a_vision_transformer(name: str, dtype: torch.dtype) -> None:
    x, attribution = normal(1, 3, 32, 32).to(dtype), attribution_of(dtype, transformer=True)
    error = compared(attribution, x, VIT, CONCEPTS[name](48, 8))
    assert error < {torch.float64: 1e-6, torch.float32: 1e-3}[dtype]  # attention divides by products near zero


@pytest.mark.parametrize("network", ["cnn", pytest.param("vit", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_directions_is_as_right_as_the_page_says(kind: str, network: str) -> None:
    heatmaps, sums = errors_in(network, kind)
    assert heatmaps < 1e-6
    assert sums < 1e-6


@PRECISIONS
@pytest.mark.parametrize("name", CONCEPTS)
@pytest.mark.parametrize("module", LAYERS)
def test_shares_are_code_times_gradient_and_sum_to_the_relevance_of_the_layer(
    module: str, name: str, dtype: torch.dtype
) -> None:
    x, concept, node = normal(2, 3, 12, 12).to(dtype), CONCEPTS[name](CHANNELS, 4), LAYERS[module]
    attribution, sets = attribution_of(dtype), [{"y": [1]}]
    attr = attribution(x, sets, RULES, mask_map=concept, record_layer=[node], pairing="product")
    shares, whole = attr.by_concept[node], attr.relevances[node]
    assert relative_error(shares.sum(1), whole.sum(1)) < TOLERANCE[dtype] / 10
    copied, seen = inserted(attribution.model, module, dictionary_of(concept).to(dtype), None, axis=1)
    output = copied(x)[:, 1].sum()
    _, code, error = seen
    by_code, by_error = torch.autograd.grad(output, [code, error])
    expected = torch.cat([code * by_code, (error * by_error).sum(-1, keepdim=True)], -1).movedim(-1, 1)
    actual = torch.cat([shares[:, :-2], shares[:, -1:]], 1)
    assert relative_error(actual, expected.detach()) < TOLERANCE[dtype]


@PRECISIONS
@pytest.mark.parametrize("composite", ["epsilon_plus_flat", "epsilon_alpha2_beta1", "gamma", "gradient"])
@pytest.mark.parametrize("node", LAYERS.values())
def test_identity_directions_are_channels(node: str, composite: str, dtype: torch.dtype) -> None:
    x, attribution = normal(2, 3, 12, 12).to(dtype), attribution_of(dtype)
    rules: Any = EpsilonGammaBox(low=-5.0, high=5.0) if composite == "gamma" else composite
    conditions = [{node: [number], "y": [cls]} for number, cls in ((0, 1), (3, 2), (5, 1))]
    results = [
        attribution(x, conditions, rules, mask_map=concept, record_layer=[node], pairing="product")
        for concept in (DirectionConcept(torch.eye(CHANNELS)), ChannelConcept())
    ]
    limit = 1e-12 if dtype is torch.float64 else 2e-6
    assert relative_error(results[0].heatmap, results[1].heatmap) < limit
    if composite != "gradient":
        shares = results[0].by_concept[node]
        assert relative_error(shares[:, :CHANNELS], results[1].relevances[node]) < limit
        assert float(shares[:, CHANNELS:].abs().max()) < limit * float(shares.abs().max())


def test_all_shares_pass_what_the_layer_passes() -> None:
    x, concept = normal(1, 3, 12, 12), pca(CHANNELS, 3)
    attribution = attribution_of(torch.float64)
    sets = [{"1": [number], "y": [1]} for number in (0, 1, 2, "mean", "rest")]
    apart = attribution(x, sets, RULES, mask_map=concept).heatmap
    whole = attribution(x, [{"1": [0, 1, 2, 3, 4], "y": [1]}, {"y": [1]}], RULES, mask_map=concept).heatmap
    assert relative_error(apart.sum(0), whole[1]) < 1e-12
    assert relative_error(whole[0], whole[1]) < 1e-12


@pytest.mark.parametrize("pairing", ["zip", "product"])
def test_rows_of_several_samples_and_sets_are_those_of_single_calls(pairing: Any) -> None:
    x, concept = normal(3, 3, 12, 12), CONCEPTS["relu"](CHANNELS, 5)
    sets = [{"1": [0], "y": [1]}, {"1": [2, "rest"], "y": [2]}, {"5": [1, 3], "y": [1]}]
    attribution = attribution_of(torch.float64)
    options: dict[str, Any] = {"mask_map": concept, "record_layer": ["5"]}
    attr = attribution(x, sets, RULES, pairing=pairing, **options)
    for row, (sample, condition) in enumerate(zip(attr.samples, attr.conditions, strict=True)):
        alone = attribution(x[sample][None], [condition], RULES, **options)
        scale = float(attr.heatmap.abs().max())
        assert float((attr.heatmap[row] - alone.heatmap[0]).abs().max()) < 1e-10 * scale
        assert float((attr.by_concept["5"][row] - alone.by_concept["5"][0]).abs().max()) < 1e-10 * scale


def test_directions_and_channels_may_be_conditioned_together() -> None:
    x = normal(1, 3, 12, 12)
    eye = {"1": DirectionConcept(torch.eye(CHANNELS)), "5": ChannelConcept()}
    sets = [{"1": [2], "5": [3], "y": [1]}, {"1": [0, 4], "5": [1, 2], "y": [0]}]
    attribution = attribution_of(torch.float64)
    for exclude in (True, False):
        own = attribution(x, sets, RULES, mask_map=eye, exclude_parallel=exclude)
        assert relative_error(own.heatmap, attribution(x, sets, RULES, exclude_parallel=exclude).heatmap) < 1e-12


def test_relevance_that_starts_at_a_direction_is_its_activation() -> None:
    """The heatmap is gradient x input of the direction's sum."""
    model, x, concept = convnet().double(), normal(2, 3, 12, 12), pca(CHANNELS, 3)
    assert isinstance(model, nn.Sequential)
    attr = CondAttribution(model)(x, [{"5": [1]}], RULES, mask_map=concept, start_layer="5", pairing="product")
    leaf = x.clone().requires_grad_()
    code = torch.einsum("c,ncyx->nyx", concept.directions[1], model[:6](leaf) - concept.mean[:, None, None])
    (gradient,) = torch.autograd.grad(code.sum(), leaf)
    assert relative_error(attr.heatmap, (gradient * x).sum(1)) < 1e-9


class Rows(nn.Module):
    """A dictionary whose code is not negative and whose entries are not, as those of NMF."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = nn.Parameter(normal(4, CHANNELS).abs() * (normal(4, CHANNELS, seed=1) > -0.5))
        self.readers = nn.Parameter(normal(CHANNELS, 4, seed=2))

    def encode(self, activation: torch.Tensor) -> torch.Tensor:
        return (activation @ self.readers).relu()

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        return code @ self.entries


@PRECISIONS
def test_the_decoder_split_divides_each_channel_by_what_rebuilds_it(dtype: torch.dtype) -> None:
    x, rows = normal(2, 3, 8, 8).to(dtype), Rows().to(dtype)
    attribution, concept = attribution_of(dtype), DictionaryConcept(rows, split="decoder")
    attr = attribution(x, [{"y": [1]}], RULES, mask_map=concept, record_layer=["1"], pairing="product")
    relevance, activation, shares = attr.relevances["1"], attr.activations["1"], attr.by_concept["1"]
    expected = torch.zeros_like(shares)
    factors = torch.zeros(6, *relevance.shape, dtype=dtype)
    for sample in range(2):
        for y in range(relevance.shape[2]):
            for column in range(relevance.shape[3]):
                code = rows.encode(activation[sample, :, y, column]).detach()
                parts = code[:, None] * rows.entries.detach()
                for channel, total in enumerate(parts.sum(0)):
                    share = torch.zeros(6, dtype=dtype)
                    share[:4] = parts[:, channel] / total if total != 0 else 0.0
                    share[5] = float(total == 0)
                    factors[:, sample, channel, y, column] = share
                    expected[sample, :, y, column] += share * relevance[sample, channel, y, column]
    assert relative_error(shares, expected) < TOLERANCE[dtype]
    for number in (0, 2, "rest"):
        own = attribution(x, [{"1": [number], "y": [1]}], RULES, mask_map=concept, pairing="product")
        factor = factors[{"rest": 5}.get(str(number), number)]  # type: ignore[arg-type]

        def masked(ids: Any, shape: Any, *, layer_name: str) -> torch.Tensor:
            return factor[ids[0]]  # noqa: B023

        for sample in range(2):
            alone = attribution(x[sample][None], [{"1": [sample], "y": [1]}], RULES, mask_map=masked)
            assert relative_error(own.heatmap[sample], alone.heatmap[0]) < TOLERANCE[dtype]


def named(message: str, call: Callable[[], object], error: type[CrpKitError] = ConditionError) -> None:
    with pytest.raises(error, match=message):
        call()


def test_wrong_conditions_are_named() -> None:
    x, attribution = normal(1, 3, 12, 12), attribution_of(torch.float64)

    def call(concept: Concept, ids: Any = (0,)) -> Callable[[], object]:
        return lambda: attribution(x, [{"1": ids, "y": [1]}], RULES, mask_map=concept)

    pair = DirectionConcept(torch.eye(CHANNELS)[:2], names=["first", "second"])
    named("directions are for 7 channels, and '1' has 6", call(DirectionConcept(torch.eye(7))))
    named(
        "a direction of '1' is a number from 0 to 1, 'mean', 'rest', or a name: first, second; got 'x'",
        call(pair, ["x"]),
    )
    named("direction 4 of '1' is out of range: it has 4 of them", call(pair, [4]))
    named("encode fails for the 6 channels of '1'", call(DictionaryConcept(Autoencoder(5, 3))))


def test_wrong_directions_are_named() -> None:
    class NoDecode(nn.Module):
        def encode(self, activation: torch.Tensor) -> torch.Tensor:
            return activation

    class Curved(NoDecode):
        def decode(self, code: torch.Tensor) -> torch.Tensor:
            return code**2

    eye = torch.eye(3)
    named("NoDecode, which has no decode", lambda: DictionaryConcept(NoDecode()), InputError)
    named("decode is not affine", lambda: DictionaryConcept(Curved(), axis=1).values(torch.rand(1, 3)))
    named("split is 'virtual' or 'decoder'", lambda: DictionaryConcept(Curved(), split="other"), InputError)  # type: ignore[arg-type]
    named(r"directions is \(direction, channel\)", lambda: DirectionConcept(eye[0]), InputError)
    named("mean has a value for each of 3 channels", lambda: DirectionConcept(eye, mean=[1.0]), InputError)
    named("encoder and directions are both", lambda: DirectionConcept(eye, encoder=eye[:2]), InputError)
    named("NaN or infinite", lambda: DirectionConcept([[float("nan")]]), InputError)
    named("3 directions and 1 names", lambda: DirectionConcept(eye, names=["a"]), InputError)
    named("name of its own", lambda: DirectionConcept(eye, names=["a", "a", "b"]), InputError)
    named("a list of strings, one for each; got 'abc'", lambda: DirectionConcept(eye, names="abc"), InputError)
    named("complex numbers are no coordinates", lambda: DirectionConcept(eye * 1j), InputError)
    named("directions is an array of numbers", lambda: DirectionConcept("pca"), InputError)
    named("strings other than", lambda: DirectionConcept(eye, names=["mean", "a", "b"]), InputError)


def test_relevance_that_is_no_multiple_of_the_activation_is_not_divided() -> None:
    """The flat rule spreads relevance evenly, also over inputs that are zero."""
    model = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    concept = DirectionConcept(torch.eye(3))
    named(
        "where its activation is zero",
        lambda: CondAttribution(model)(
            normal(1, 3, 6, 6), [{"0": [0], "y": [1]}], "epsilon_plus_flat", mask_map=concept
        ),
    )


def test_a_relevance_balance_shows_what_directions_leave() -> None:
    concept = pca(CHANNELS, 3)
    attr = attribution_of(torch.float64)(
        normal(1, 3, 12, 12), [{"1": [1], "y": [1]}], RULES, mask_map=concept, record_layer=["1"], diagnose=True
    )
    assert attr.conservation is not None
    plain = attribution_of(torch.float64)(normal(1, 3, 12, 12), [{"1": [1], "y": [1]}], RULES, mask_map=concept)
    assert relative_error(attr.heatmap, plain.heatmap) < 1e-9


def test_gradients_pass_directions_and_have_no_shares() -> None:
    """With mean and rest, all of them is the whole gradient."""
    x, concept = normal(1, 3, 12, 12), pca(CHANNELS, 3)
    attribution = attribution_of(torch.float64)
    sets = [{"1": ids, "y": [1]} for ids in ([0], [1, 2], ["rest"], [0, 1, 2, "mean", "rest"])] + [{"y": [1]}]
    attr = attribution(x, sets, None, mask_map=concept, record_layer=["1"])
    assert relative_error(attr.heatmap[:3].sum(0), attr.heatmap[4]) < 1e-12
    assert relative_error(attr.heatmap[3], attr.heatmap[4]) < 1e-12
    assert not attr.by_concept


@pytest.mark.slow
@pytest.mark.parametrize("pairing", ["product", "zip"])
def test_windows_that_a_layer_keeps_in_its_batch_axis_are_positions(pairing: Any) -> None:
    """Identity directions are channels there, too."""
    torch.manual_seed(0)
    node, x = "features.3.0.attn.linear_1", normal(2, 3, 64, 64)
    attribution = CondAttribution(small_swin(second_version=False).eval().double())
    sets = [{node: [3], "y": [1]}, {node: [0, 7], "y": [2]}]
    own, channels = (
        attribution(x, sets, RULES, mask_map=concept, record_layer=[node], pairing=pairing)
        for concept in (DirectionConcept(torch.eye(32)), None)
    )
    assert relative_error(own.heatmap, channels.heatmap) < 1e-10
    expected = channels.relevances[node].movedim(-1, 1)
    assert relative_error(own.by_concept[node][:, :32], expected) < 1e-10
