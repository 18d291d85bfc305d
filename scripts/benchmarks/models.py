"""Models, images and rules, the same in both environments."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torchvision
from torch import nn
from zennit import composites
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from .cases import Case

SEED, CALIBRATED_ON = 0, 8
LOWEST, HIGHEST = -5.0, 5.0
"""Bounds of an image's values, for EpsilonGammaBox."""
COMPOSITES: dict[str, Any] = {
    "epsilon_plus_flat": composites.EpsilonPlusFlat,
    "epsilon_alpha2_beta1_flat": composites.EpsilonAlpha2Beta1Flat,
    "epsilon_gamma_box": lambda **options: composites.EpsilonGammaBox(low=LOWEST, high=HIGHEST, **options),
}


def make_model(case: Case, device: str) -> nn.Module:
    """Return an untrained model whose BatchNorms have the statistics of its own activations, as after a training.

    Their epsilon is zero, because zennit's canonizers leave a factor 1 / sqrt(1 + epsilon) in the model.
    """
    torch.manual_seed(SEED)
    if case.model == "small_cnn":
        model = small_cnn(case.classes)
    else:
        model = torchvision.models.get_model(case.model, weights=None, num_classes=case.classes)
    random = torch.Generator().manual_seed(SEED)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5, generator=random)
            norm.bias.normal_(0, 0.2, generator=random)
            norm.momentum = 1.0
        model.train()(images(CALIBRATED_ON, case.size))
    for norm in norms:
        norm.eps = 0.0
    return model.eval().to(device)


def small_cnn(classes: int) -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]

    features = nn.Sequential(*block(3, 16), nn.MaxPool2d(2), *block(16, 32), nn.MaxPool2d(2), *block(32, 64))
    head = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), classifier=nn.Linear(64, classes))
    return nn.Sequential(OrderedDict(features=features, **head))


def images(count: int, size: int) -> torch.Tensor:
    """Return random noise, (image, channel, height, width)."""
    random = torch.Generator().manual_seed(SEED + 1)
    return torch.randn(count, 3, size, size, generator=random).clamp(LOWEST, HIGHEST)


def labels(case: Case) -> list[int]:
    random = torch.Generator().manual_seed(SEED + 2)
    return torch.randint(case.classes, (case.count,), generator=random).tolist()


class Images:
    """Images and labels, sample by sample."""

    def __init__(self, case: Case) -> None:
        self.images, self.labels = images(case.count, case.size), labels(case)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index], self.labels[index]


def convolutions(model: nn.Module) -> list[str]:
    """Return the names of all convolutions, in the order of registration."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


def atlas_layers(case: Case, model: nn.Module) -> list[str]:
    """Return so many convolutions as the case wants, the lowest always among them, so that passes are equally deep."""
    names = convolutions(model)
    wanted = case.layers or len(names)
    return [names[place * len(names) // wanted] for place in range(wanted)]


def make_composite(case: Case, *, canonizers: list[Any] | None = None) -> Any:
    """Return the composite of a case: zennit's, or the name of crp-kit's own."""
    if case.composite not in COMPOSITES:
        return case.composite
    return COMPOSITES[case.composite](**({"canonizers": canonizers} if canonizers else {}))


def canonizers(model: str) -> list[Any]:
    """Return what zennit has for a model; nothing for DenseNet, so that its results there are not LRP's."""
    known = {"vgg": VGGCanonizer, "resnet": ResNetCanonizer, "small": SequentialMergeBatchNorm}
    return [kind() for prefix, kind in known.items() if model.startswith(prefix)]
