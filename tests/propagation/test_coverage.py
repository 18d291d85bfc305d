"""Models of timm and Hugging Face agree with the whole-model oracle; without biases they conserve relevance."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import timm
import torch
from family_check import Check, check, check_built, lrp_zero, oracle_error, relative
from marks import slow_except
from oracles import zoo
from oracles.whole_model import whole_model_relevance
from torch import nn
from torch.nn import functional as F
from torchvision import models

import crp_kit
from crp_kit.graph.relevance_edges import Flow

LIMIT = 1e-6

STAGES: dict[str, Any] = {"layers": (1, 1, 1, 1), "channels": (16, 32, 48, 64)}
SMALL_TIMM: dict[str, dict[str, Any]] = {
    "resnetv2_50": {**STAGES, "channels": (32, 64, 96, 128)},
    "resnetv2_50x1_bit": {"channels": (128, 128, 256, 256)},
    "ecaresnet26t": STAGES,
    "densenet121": {"growth_rate": 8, "block_config": (2, 2, 2, 2)},
    "mobilenetv3_small_050": {},
    "convnextv2_atto": {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 40)},
    "swiftformer_xs": {"layers": (1, 1, 1, 1), "embed_dims": (16, 24, 32, 40)},
    "beit_base_patch16_224": {"img_size": 64, "depth": 2, "embed_dim": 32, "num_heads": 4},
    "swinv2_tiny_window8_256": {"img_size": 64, "embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (2, 2, 4, 4)},
    "levit_128s": {"img_size": 64, "embed_dim": (32, 48, 64), "num_heads": (2, 3, 4), "depth": (1, 1, 1)},
    "cait_xxs24_224": {"img_size": 64, "depth": 2, "embed_dim": 32, "num_heads": 4},
    "gmlp_ti16_224": {"img_size": 64},
}
"""Norms in front of layers, standardised weights, channel attention, norms with activations in them, concatenation,
hard sigmoid gates, response norms, normalised queries, position biases, cosine attention, hard swish behind norms,
heads that are mixed behind softmax, gating by tokens."""


def right(found: Check) -> bool:
    return found.right(LIMIT)


@pytest.mark.examples
@pytest.mark.parametrize("name", slow_except(SMALL_TIMM, ("resnetv2_50", "beit_base_patch16_224", "cait_xxs24_224")))
def test_timm_model_equals_the_whole_model_oracle_and_conserves_relevance(name: str) -> None:
    make = partial(timm.create_model, name, pretrained=False, num_classes=10, **SMALL_TIMM[name])
    assert right(check_built(partial(zoo.build, zoo.Entry(make, (3, 64, 64)))))


@pytest.mark.examples
@pytest.mark.parametrize("name", slow_except(zoo.HUGGINGFACE, ("BERT-sdpa", "GPT-2-eager", "ViT-sdpa")))
def test_hugging_face_model_equals_the_whole_model_oracle_and_conserves_relevance(name: str) -> None:
    assert right(check(f"huggingface:{name}"))


def test_every_torchvision_classifier_and_segmentation_model_is_in_the_zoo() -> None:
    names = {*models.list_models(module=models), *models.list_models(module=models.segmentation)}
    assert set(zoo.groups()["torchvision"]) == names
    assert not set(zoo.groups()["timm"]) - set(timm.list_models())


def test_zoo_leaves_no_parameter_at_a_value_that_it_was_initialised_with() -> None:
    make = partial(timm.create_model, "cait_xxs24_224", pretrained=False, **SMALL_TIMM["cait_xxs24_224"])
    model, _ = zoo.build(zoo.Entry(make, (3, 64, 64)))
    assert all(parameter.unique().numel() > 1 for parameter in model.parameters() if parameter.numel() > 1)
    _, first = zoo.build(zoo.entry("huggingface", "Llama-sdpa"))
    assert isinstance(first, dict)
    assert set(first) == {"inputs_embeds", "attention_mask"}


class NormWithActivation(nn.BatchNorm2d):
    """A BatchNorm with a module in it, as timm has them."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(super().forward(x))


class StandardisedConv(nn.Conv2d):
    """A convolution whose weights are normalised by batch_norm in training mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(weight, None, None, training=True).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias)


class GateLikeSignal(nn.Module):
    """A gate that takes its shape from the signal."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.fc(x.mean((2, 3))).sigmoid()[:, :, None, None]
        return gate.expand_as(x) * x


class Normalised(nn.Module):
    """Divided by its norm."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(x, p=1.5, dim=1)


class MixedHeads(nn.Module):
    """Attention weights that a convolution mixes between heads."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix((x @ x.transpose(-1, -2)).softmax(-1)) @ x


PARTS = {
    "norm with activation": partial(NormWithActivation, 4),
    "standardised convolution": partial(StandardisedConv, 4, 4, 1),
    "gate of the signal's shape": GateLikeSignal,
    "normalised signal": Normalised,
    "mixed attention heads": MixedHeads,
}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_part_equals_the_whole_model_oracle_and_conserves_relevance(part: str) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), PARTS[part](), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 5))

    assert right(check_built(partial(zoo.build, zoo.Entry(make, (3, 8, 8)))))


def test_shape_of_a_signal_is_no_path_of_relevance() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = (nn.Conv2d(3, 4, 1) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.third(self.first(x)[:, :3].mean((2, 3), keepdim=True).expand_as(x)) + self.second(x)

    model, x = zoo.build(zoo.Entry(Both, (3, 4, 4)))
    linear = nn.Linear(64, 5).double().requires_grad_(False)
    assert oracle_error(nn.Sequential(model, nn.Flatten(), linear), x)[0] < LIMIT
    graph = crp_kit.CondAttribution(model).graph(x)
    (expanded,) = (node for node in graph if node.op == "expand_as")
    assert len(expanded.inputs) == 2
    assert len(Flow(graph).carrying[expanded.index]) == 1


@pytest.mark.slow
def test_declared_arguments_of_a_dictionary_get_relevance_and_others_none() -> None:
    model, data = zoo.build(zoo.entry("huggingface", "BERT-eager"))
    attribution = crp_kit.CondAttribution(model, output="logits")
    found = attribution(data, {"y": [2]}, lrp_zero()).input_relevance
    selection = torch.eye(5, dtype=torch.float64)[None, 2]
    expected, _ = whole_model_relevance(model, data, selection)
    assert relative(found, expected) < LIMIT
    assert not found[:, -1].any()  # masked out of every attention, and no token that the classifier reads
    assert found[:, :-1].abs().sum((0, 2)).all()


def test_oracle_raises_where_it_has_no_rule() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x)[0][:, -1]

    model, x = zoo.build(zoo.Entry(Recurrent, (2, 3)))
    with pytest.raises(NotImplementedError, match="the oracle has no rule for lstm"):
        oracle_error(model, x)
