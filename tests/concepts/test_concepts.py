"""What a concept is: masks, shares and references by hand arithmetic, and which axis is meant in real models."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from oracles.families import build
from torch import nn
from zennit.composites import EpsilonPlusFlat

from crp_kit import ChannelConcept, Concept, CondAttribution, NeuronConcept
from crp_kit.concepts import Aggregate, Reference
from crp_kit.errors import ConceptAxisError, ConceptRangeError, ConditionError

RELEVANCE = torch.tensor([[[[1.0, 2.0], [0.0, 3.0]], [[-4.0, 0.0], [0.0, 0.0]]]])
"""(row 1, channel 2, height 2, width 2)"""


def test_a_channel_mask_keeps_the_named_channels_and_broadcasts() -> None:
    mask = ChannelConcept().mask([2, 0], torch.Size([3, 4, 5]), layer_name="conv")
    assert torch.equal(mask, torch.tensor([1.0, 0, 1]).reshape(3, 1, 1))
    assert torch.equal(ChannelConcept().mask([], torch.Size([3, 4, 5]), layer_name="conv"), torch.zeros(3, 1, 1))


def test_a_channel_mask_along_another_axis() -> None:
    mask = ChannelConcept(axis=-1).mask([1], torch.Size([4, 3]), layer_name="block")
    assert torch.equal(mask, torch.tensor([[0.0, 1, 0]]))


def test_shares_of_channels() -> None:
    assert torch.equal(ChannelConcept().attribute(RELEVANCE), torch.tensor([[0.6, -0.4]]))
    assert torch.equal(ChannelConcept().attribute(RELEVANCE, abs_norm=False), torch.tensor([[6.0, -4.0]]))
    assert torch.equal(ChannelConcept().attribute(torch.zeros(2, 3, 1, 1)), torch.zeros(2, 3))
    assert torch.equal(ChannelConcept().attribute(torch.tensor([[1.0, -3.0]])), torch.tensor([[0.25, -0.75]]))
    tokens = torch.tensor([[[1.0, 0.0], [2.0, -1.0]]])  # (row, token, channel)
    assert torch.equal(ChannelConcept(axis=-1).attribute(tokens, abs_norm=False), torch.tensor([[3.0, -1.0]]))
    assert torch.equal(ChannelConcept(axis=1).attribute(tokens, abs_norm=False), torch.tensor([[1.0, 1.0]]))


def test_references_of_channels() -> None:
    summed, highest = (ChannelConcept().reference(RELEVANCE, aggregate=one) for one in ("sum", "max"))
    assert torch.equal(summed.score, torch.tensor([[6.0, -4.0]]))
    assert torch.equal(highest.score, torch.tensor([[3.0, 0.0]]))
    assert summed.position[0, 0] == highest.position[0, 0] == 3
    assert RELEVANCE[0, 1].flatten()[summed.position[0, 1]] == 0.0


@pytest.mark.parametrize("shape", [(2, 3, 31, 17), (2, 3, 11, 12), (1, 5, 40, 40), (3, 2, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_position_is_the_first_of_the_highest_in_any_memory_format(shape: Any, dtype: torch.dtype) -> None:
    maps = torch.randint(0, 7, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    maps[0, 0], maps[0, 1] = 0, torch.arange(maps[0, 1].numel()).view(shape[2:])
    expected = [[row.flatten().tolist().index(max(row.flatten())) for row in channels] for channels in maps]
    for memory_format in (torch.contiguous_format, torch.channels_last):
        reference = ChannelConcept().reference(maps.contiguous(memory_format=memory_format))
        assert reference.position.tolist() == expected


def test_neurons_by_flat_index_and_by_tuple() -> None:
    shape = torch.Size([2, 2, 3])
    by_tuple = NeuronConcept().mask([(1, 0, 2), (0, 1, 1)], shape, layer_name="conv")
    expected = torch.zeros(2, 2, 3)
    expected[1, 0, 2] = expected[0, 1, 1] = 1
    assert torch.equal(by_tuple, expected)
    assert torch.equal(NeuronConcept().mask([8, 4], shape, layer_name="conv"), expected)


def test_shares_and_references_of_neurons() -> None:
    assert torch.equal(NeuronConcept().attribute(RELEVANCE), torch.tensor([[0.1, 0.2, 0.0, 0.3, -0.4, 0.0, 0.0, 0.0]]))
    reference = NeuronConcept().reference(RELEVANCE)
    assert torch.equal(reference.score, RELEVANCE.flatten(1))
    assert torch.equal(reference.position, torch.zeros(1, 8, dtype=torch.long))


SHAPE = torch.Size([2, 2, 3])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ChannelConcept().mask([2], SHAPE, layer_name="c"),
            ConceptRangeError,
            "channel 2 of 'c' is out of range",
        ),
        (
            lambda: NeuronConcept().mask([12], SHAPE, layer_name="c"),
            ConceptRangeError,
            "neuron 12 of 'c' .* 12 of them",
        ),
        (lambda: NeuronConcept().mask([(0, 2, 0)], SHAPE, layer_name="c"), ConceptRangeError, r"of neuron \(0, 2, 0\)"),
        (lambda: NeuronConcept().mask([(0, 0)], SHAPE, layer_name="c"), ConditionError, "needs 3 indices"),
        (lambda: NeuronConcept().mask(["a"], SHAPE, layer_name="c"), ConditionError, "neuron of 'c' is a whole number"),
        (lambda: ChannelConcept().attribute(torch.ones(1, 2, 3)), ConceptAxisError, r"\(row, a, b\).*ambiguous"),
        (lambda: ChannelConcept().attribute(torch.ones(2)), ConceptAxisError, "has no channel axis"),
        (lambda: ChannelConcept(axis=4).attribute(RELEVANCE), ConceptAxisError, "axis 4 is no channel axis"),
        (lambda: ChannelConcept(axis=0).attribute(RELEVANCE), ConceptAxisError, "axis 0 is no channel axis"),
        (
            lambda: ChannelConcept().reference(RELEVANCE, aggregate="mean"),  # type: ignore[arg-type]
            ConditionError,
            "aggregate is 'sum' or 'max'; got 'mean'",
        ),
    ],
)
def test_what_is_no_concept_of_a_layer_is_told(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "layer", "channels"),
    [
        ("vit_b_16", "encoder.layers.encoder_layer_0", 16),
        ("swin_t", "features.1.0", None),
        ("swin_t", "features.1.0.norm1", None),
        ("resnet18", "layer2.0.relu_1", None),
    ],
)
def test_channel_5_is_channel_5_and_not_token_or_row_5(family: str, layer: str, channels: int | None) -> None:
    model, x = build(family)
    attribution = CondAttribution(model)
    last = family != "resnet18"
    chosen, conditions = [5, 0], [{layer: [5, 0], "y": [1]}]

    def along_channels(ids: Sequence[int], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        mask = torch.zeros(shape)
        mask[(..., list(ids)) if last else (list(ids),)] = 1
        return mask

    ours = attribution(x, conditions, EpsilonPlusFlat(), record_layer=[layer])
    by_hand = attribution(x, conditions, EpsilonPlusFlat(), mask_map=along_channels)
    assert float(ours.heatmap.abs().max()) > 0
    assert torch.allclose(ours.input_relevance, by_hand.input_relevance, rtol=1e-10, atol=1e-14)
    axis = attribution.channel_axis(x, layer)
    assert axis == (ours.relevances[layer].ndim - 1 if last else 1)
    size = ours.relevances[layer].shape[axis]
    with pytest.raises(ConceptRangeError, match=f"channel {size} of '{layer}' is out of range: it has {size} of them"):
        attribution(x, [{layer: [*chosen, size], "y": [1]}], EpsilonPlusFlat())


class Halves(Concept):
    """Concepts 'left' and 'right' of a feature map."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[Any], torch.Size, str]] = []

    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        self.asked.append((list(concept_ids), shape, layer_name))
        left = torch.arange(shape[-1]) < shape[-1] // 2
        return sum((left if one == "left" else ~left).float() for one in concept_ids)  # type: ignore[return-value]

    def attribute(self, relevance: torch.Tensor, *, abs_norm: bool = True) -> torch.Tensor:
        raise NotImplementedError

    def reference(self, relevance: torch.Tensor, *, aggregate: Aggregate = "sum") -> Reference:
        raise NotImplementedError


class Reversed(ChannelConcept):
    """A subclass of ChannelConcept must not be taken for it."""

    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        return super().mask([shape[0] - 1 - one for one in concept_ids], shape, layer_name=layer_name)


def convolution() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3)).double().eval()


def test_a_concept_of_ones_own_makes_the_mask_and_is_never_by_passed() -> None:
    concept, x = Halves(), torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    attribution = CondAttribution(convolution())
    left, right, both = (
        attribution(x, [{"0": ids, "y": [1]}], EpsilonPlusFlat(), mask_map=concept).heatmap
        for ids in (["left"], ["right"], ["left", "right"])
    )
    assert concept.asked[0] == (["left"], torch.Size([4, 4, 4]), "0")
    assert torch.equal(left[..., 2:], torch.zeros(2, 4, 2).double())
    assert torch.equal(right[..., :2], torch.zeros(2, 4, 2).double())
    assert torch.allclose(left + right, both)
    assert torch.allclose(both, attribution(x, [{"y": [1]}], EpsilonPlusFlat()).heatmap)


@pytest.mark.parametrize("how", ["concept", "method", "by layer"])
def test_a_subclass_of_channel_concept_is_asked(how: str) -> None:
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    concept = Reversed()
    given: Any = {"concept": concept, "method": concept.mask, "by layer": {"0": concept}}[how]
    attribution = CondAttribution(convolution())
    ours = attribution(x, [{"0": [0], "y": [1]}], EpsilonPlusFlat(), mask_map=given).heatmap
    assert torch.equal(ours, attribution(x, [{"0": [3], "y": [1]}], EpsilonPlusFlat()).heatmap)


def test_a_soft_mask_of_a_half_means_a_half() -> None:
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    attribution = CondAttribution(convolution())
    for exclude_parallel in (True, False):
        full, half = (
            attribution(
                x,
                [{"0": [0], "y": [1]}],
                EpsilonPlusFlat(),
                mask_map=lambda ids, shape, *, layer_name, soft=soft: torch.full(shape, soft),
                exclude_parallel=exclude_parallel,
                record_layer=["0"],
            )
            for soft in (1.0, 0.5)
        )
        assert torch.allclose(half.heatmap, full.heatmap / 2)
        assert torch.equal(half.relevances["0"], full.relevances["0"])
        free = attribution(x, [{"y": [1]}], EpsilonPlusFlat(), record_layer=["0"])
        assert torch.allclose(full.relevances["0"], free.relevances["0"])


def test_masking_one_summand_leaves_the_other_as_it_is() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x) + self.second(x)  # type: ignore[no-any-return]

    model = Sum()
    conditions: Any = [{"second": [], "y": [1]}, {"first": [], "y": [1]}, {"y": [1]}]
    attr = CondAttribution(model)(torch.ones(1, 3).double(), conditions, None, init_rel=1, exclude_parallel=False)
    rows = torch.stack([model.first.weight[1], model.second.weight[1], (model.first.weight + model.second.weight)[1]])
    assert torch.allclose(attr.input_relevance, rows)
