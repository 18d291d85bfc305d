"""How right conditions on directions are, beside copies of the model that encode and decode: of every kind, in float64.

A convolutional network and a vision transformer; directions that are drawn, and such that are fitted to some images.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from functools import lru_cache
from typing import Any

import torch
from dictionaries import REST, Autoencoder, Linear, inserted
from nets import lrp_0, normal, relative_error
from oracles.architectures import small_vit
from oracles.detached import DetachedNonlinearities
from torch import nn

from crp_kit import Concept, CondAttribution, DictionaryConcept, DirectionConcept, Study
from crp_kit.concepts import NonNegativeCode

CHANNELS = 6


def convnet() -> nn.Module:
    """ReLU and max pooling, a convolution with a BatchNorm, a ReLU read by two layers, and a head."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        nn.BatchNorm2d(CHANNELS),
        nn.ReLU(),
        Shortcut(),
        nn.Conv2d(CHANNELS, CHANNELS, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(CHANNELS, 4),
    )
    norm = model[4]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        for number, part in enumerate((norm.weight, norm.bias, norm.running_mean, norm.running_var)):
            assert part is not None
            part.copy_(normal(CHANNELS, seed=number).abs() + 0.2 if number in (0, 3) else normal(CHANNELS, seed=number))
    return model.eval()


class Shortcut(nn.Module):
    """A convolution whose input is added to its output."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch: torch.Tensor = self.inside(x)
        return x + branch


LAYERS = {"1": "1", "3": "3", "6": "6.add", "8": "8"}
"""By the module behind which encode and decode are inserted: the name of its node."""
VIT = ("encoder.layers.encoder_layer_1", "encoder.layers.encoder_layer_1.add_1")
"""The module of the vision transformer, and its node, of 48 channels."""


def pca(width: int, count: int) -> DirectionConcept:
    """Orthonormal directions with a mean."""
    return DirectionConcept(torch.linalg.qr(normal(width, count)).Q.T, mean=normal(width, seed=3) / 3)


def oblique(width: int, count: int) -> DirectionConcept:
    """Directions that are read otherwise than they are written."""
    return DirectionConcept(normal(count, width), mean=normal(width, seed=3), encoder=normal(count, width, seed=4) / 4)


def autoencoder(kind: Any) -> Callable[[int, int], DictionaryConcept]:
    return lambda width, count: DictionaryConcept(Autoencoder(width, count, kind))


CONCEPTS = {"pca": pca, "oblique": oblique, **{kind: autoencoder(kind) for kind in ("relu", "topk", "jumprelu")}}


def dictionary_of(concept: Concept) -> nn.Module:
    if isinstance(concept, DirectionConcept):
        return Linear(concept.directions, concept.mean, concept.encoder)
    assert isinstance(concept, DictionaryConcept)
    return concept.module


@lru_cache
def attribution_of(dtype: torch.dtype, *, transformer: bool = False) -> CondAttribution:
    """The convolutional network, or a vision transformer whose weights are not those of its initialisation."""
    if not transformer:
        return CondAttribution(convnet().to(dtype))
    torch.manual_seed(0)
    model = small_vit().eval().double()
    with torch.no_grad():
        for part in model.parameters():
            part.add_(0.1 * normal(*part.shape))
    return CondAttribution(model.to(dtype))


def gradient_times_input(model: nn.Module, x: torch.Tensor, cls: int, *, detached: bool) -> torch.Tensor:
    """Gradient x input of a class, summed over channels, with the factors of a transformer as constants."""
    leaf = x.clone().requires_grad_()
    with DetachedNonlinearities() if detached else nullcontext():
        output = model(leaf)
    (gradient,) = torch.autograd.grad(output[:, cls].sum(), leaf)
    return (gradient * x).sum(1)


RULES = lrp_0()


def choices_of(concept: Any, width: int) -> list[list[Any]]:
    """Ids of three conditions: one direction, two where there are as many, and what belongs to none."""
    last = concept.count(width, layer_name="layer") - 1
    return [[min(1, last)], list({0, min(3, last)}), [min(2, last), "rest", "mean"]]


def conditional(
    attribution: CondAttribution, x: torch.Tensor, node: str, concept: Any
) -> tuple[list[list[Any]], torch.Tensor]:
    """Ids of the choices, and heatmaps of class 1 without a condition and under each: (row, 1 + choice, y, x)."""
    choices = choices_of(concept, 48 if node == VIT[1] else CHANNELS)
    sets = [{"y": [1]}, *({node: ids, "y": [1]} for ids in choices)]
    maps = attribution(x, sets, RULES, mask_map=concept, pairing="product").heatmap
    return choices, maps.reshape(len(x), len(sets), *maps.shape[1:])


def compared(attribution: CondAttribution, x: torch.Tensor, layer: tuple[str, str], concept: Any) -> float:
    """The largest error of conditional heatmaps of class 1 against copies with encode and decode in them.

    For the decoder split the copies multiply what flows back through each channel by the share of the choice.
    """
    module, node = layer
    choices, maps = conditional(attribution, x, node, concept)
    axis = 1 if module in LAYERS else -1
    virtual = isinstance(concept, DirectionConcept) or concept.method == "virtual"
    errors = []
    for row, ids in enumerate(choices, 1):
        if virtual:
            dictionary, numbers = dictionary_of(concept).to(x.dtype), {"mean": -2, "rest": REST}
            own = [numbers.get(number, number) for number in ids]
            copied, _ = inserted(attribution.model, module, dictionary, own, axis=axis)
        else:
            copied = divided(attribution.model, module, concept, ids, axis=axis)
        expected = gradient_times_input(copied, x, 1, detached=axis != 1).detach()
        errors.append(float((maps[:, row] - expected).abs().max() / maps[:, 0].abs().max()))
    return max(errors)


def divided(model: nn.Module, layer: str, concept: Any, ids: list[Any], *, axis: int) -> nn.Module:
    """A copy of a model in which only the share of some entries flows back through each channel of a module."""
    copied = deepcopy(model)

    def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        activation = output.detach().movedim(axis, -1)
        code = concept.module.encode(activation)
        parts = code[..., None] * concept.module.entries.to(code)
        total = parts.sum(-2)
        chosen = parts[..., [number for number in ids if isinstance(number, int)], :].sum(-2)
        share = torch.where(total == 0, float("rest" in ids), chosen / torch.where(total == 0, 1.0, total))
        share = share.movedim(-1, axis).to(output)
        return output * share + (output * (1 - share)).detach()

    copied.get_submodule(layer).register_forward_hook(hook)
    return copied


def sum_of_shares(attribution: CondAttribution, x: torch.Tensor, layer: tuple[str, str], concept: Any) -> float:
    """How far shares of directions, mean and rest are from summing to the layer's relevance at each position."""
    module, node = layer
    attr = attribution(x, [{"y": [1]}], RULES, mask_map=concept, record_layer=[node], pairing="product")
    whole = attr.relevances[node].sum(1 if module in LAYERS else -1)
    return relative_error(attr.by_concept[node].sum(1), whole)


def fitted(method: str, attribution: CondAttribution, node: str) -> Any:
    """Directions of a layer that are fitted to some images: four, or a vector that leads from some to others."""
    size = 32 if node == VIT[1] else 12
    data = [(image, number % 3) for number, image in enumerate(normal(8, 3, size, size, seed=7))]
    study = Study(attribution.model, data, composite=RULES)
    if method == "cav":
        return study.concept_vector([0, 1, 2, 3], [4, 5, 6, 7], layer=node)
    return study.fit_directions(node, method, 4)  # type: ignore[arg-type]


Maker = Callable[[CondAttribution, str], Any]


def drawn(name: str) -> Maker:
    """Directions that are drawn: four in the convolutional network, eight in the transformer."""
    return lambda _, node: CONCEPTS[name](48, 8) if node == VIT[1] else CONCEPTS[name](CHANNELS, 4)


def non_negative(attribution: CondAttribution, node: str) -> Any:
    """NMF, which in the transformer has entries that are drawn: there activations are negative too."""
    if node == VIT[1]:
        return DictionaryConcept(NonNegativeCode(normal(4, 48).abs()), "decoder")
    return fitted("nmf", attribution, node)


KINDS: dict[str, Maker] = {
    "PCA": lambda attribution, node: fitted("pca", attribution, node),
    "PRCA": lambda attribution, node: fitted("prca", attribution, node),
    "CAV": lambda attribution, node: fitted("cav", attribution, node),
    "directions with another encoder": drawn("oblique"),
    "ReLU autoencoder": drawn("relu"),
    "top-k autoencoder": drawn("topk"),
    "JumpReLU autoencoder": drawn("jumprelu"),
    "NMF": non_negative,
    "k-means": lambda attribution, node: fitted("kmeans", attribution, node),
}
"""What makes each kind of directions for a layer."""


def errors_in(network: str, kind: str) -> tuple[float, float]:
    """The largest errors of a kind in the "cnn" or the "vit": of conditional heatmaps, and of the sum of shares."""
    transformer = network == "vit"
    attribution, size = attribution_of(torch.float64, transformer=transformer), 32 if transformer else 12
    layers = [VIT] if transformer else [pair for pair in LAYERS.items() if kind != "NMF" or pair[0] in ("1", "8")]
    x, errors = normal(1, 3, size, size), list[tuple[float, float]]()
    for layer in layers:
        concept = KINDS[kind](attribution, layer[1])
        errors.append((compared(attribution, x, layer, concept), sum_of_shares(attribution, x, layer, concept)))
    heatmaps, sums = zip(*errors, strict=True)
    return max(heatmaps), max(sums)
