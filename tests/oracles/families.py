"""The 27 torchvision families with random, non-trivial parameters and a small random input."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.ops import SqueezeExcitation

from . import architectures as small
from .start import called

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CALIBRATION_SAMPLES = 4


@dataclass(frozen=True)
class Family:
    """How to make a model of one family, as published and reduced, and the input side length of each, in pixels."""

    published: Callable[[], nn.Module]
    reduced: Callable[[], nn.Module]
    published_size: int = 64
    reduced_size: int = 32
    segmentation: bool = False


def _classifier(name: str, **kwargs: object) -> Callable[[], nn.Module]:
    """Constructor of a published classifier without pretrained weights."""
    return partial(models.get_model, name, weights=None, **kwargs)


def _few_classes(name: str, **kwargs: object) -> Callable[[], nn.Module]:
    """Constructor of a published classifier with few classes."""
    return partial(models.get_model, name, weights=None, num_classes=small.CLASSES, **kwargs)


_NO_AUX = {"aux_logits": False, "init_weights": False}

FAMILIES: dict[str, Family] = {
    "alexnet": Family(_classifier("alexnet"), small.small_alexnet, 64, 64),
    "vgg11": Family(_classifier("vgg11"), partial(small.small_vgg11, batch_norm=False)),
    "vgg11_bn": Family(_classifier("vgg11_bn"), partial(small.small_vgg11, batch_norm=True)),
    "resnet18": Family(_classifier("resnet18"), _few_classes("resnet18")),
    "resnet50": Family(_classifier("resnet50"), small.small_bottleneck_resnet),
    "resnext50_32x4d": Family(
        _classifier("resnext50_32x4d"), partial(small.small_bottleneck_resnet, groups=32, width_per_group=4)
    ),
    "wide_resnet50_2": Family(
        _classifier("wide_resnet50_2"), partial(small.small_bottleneck_resnet, width_per_group=128)
    ),
    "densenet121": Family(_classifier("densenet121"), small.small_densenet),
    "googlenet": Family(_classifier("googlenet", **_NO_AUX), _few_classes("googlenet", **_NO_AUX)),
    "inception_v3": Family(_classifier("inception_v3", **_NO_AUX), _few_classes("inception_v3", **_NO_AUX), 96, 75),
    "mobilenet_v2": Family(_classifier("mobilenet_v2"), small.small_mobilenet_v2),
    "mobilenet_v3_large": Family(_classifier("mobilenet_v3_large"), small.small_mobilenet_v3),
    "efficientnet_b0": Family(_classifier("efficientnet_b0"), small.small_efficientnet_b0),
    "efficientnet_v2_s": Family(_classifier("efficientnet_v2_s"), small.small_efficientnet_v2),
    "regnet_x_400mf": Family(_classifier("regnet_x_400mf"), partial(small.small_regnet, se_ratio=None)),
    "regnet_y_400mf": Family(_classifier("regnet_y_400mf"), partial(small.small_regnet, se_ratio=0.25)),
    "shufflenet_v2_x1_0": Family(_classifier("shufflenet_v2_x1_0"), small.small_shufflenet),
    "squeezenet1_1": Family(_classifier("squeezenet1_1"), _few_classes("squeezenet1_1"), 64, 40),
    "mnasnet1_0": Family(_classifier("mnasnet1_0"), partial(models.MNASNet, 0.5, num_classes=small.CLASSES)),
    "convnext_tiny": Family(_classifier("convnext_tiny"), small.small_convnext),
    "vit_b_16": Family(_classifier("vit_b_16", image_size=64), small.small_vit),
    "swin_t": Family(_classifier("swin_t"), partial(small.small_swin, second_version=False), 112),
    "swin_v2_t": Family(_classifier("swin_v2_t"), partial(small.small_swin, second_version=True), 112),
    "maxvit_t": Family(_classifier("maxvit_t", input_size=(224, 224)), small.small_maxvit, 224, 64),
    "fcn_resnet50": Family(partial(small.published_segmentation, "fcn_resnet50"), small.small_fcn, segmentation=True),
    "deeplabv3_resnet50": Family(
        partial(small.published_segmentation, "deeplabv3_resnet50"), small.small_deeplab, segmentation=True
    ),
    "lraspp_mobilenet_v3_large": Family(
        partial(small.published_segmentation, "lraspp_mobilenet_v3_large"), small.small_lraspp, segmentation=True
    ),
}

QUICK = ("alexnet", "vgg11_bn", "resnet50", "densenet121", "squeezenet1_1", "shufflenet_v2_x1_0", "vit_b_16")
"""Families of the quick tests: no shortcuts, BatchNorm, sums, concatenations, splits, attention."""


def build(
    name: str, *, dtype: torch.dtype = torch.float64, biases: bool = True, seed: int = 0, full: bool = False
) -> tuple[nn.Module, torch.Tensor]:
    """Model of a family in evaluation mode with random parameters, and one random input.

    Parameters
    ----------
    name : str
        Key of ``FAMILIES``.
    dtype : torch.dtype
        Floating type of parameters and input; the values are drawn in float32 and are the same in every type.
    biases : bool
        Whether anything adds a constant. Without, every bias, running mean, positional embedding and class token is
        zero, so that LRP-0 conserves relevance exactly.
    seed : int
        Seed of all parameters and of the input.
    full : bool
        Whether the published architecture is built, else a reduced one of the same blocks.

    Returns
    -------
    model, x : nn.Module, Tensor
        The model, its parameters not requiring gradients, and an input (1, channel, height, width).
    """
    family = FAMILIES[name]
    size = family.published_size if full else family.reduced_size
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (family.published if full else family.reduced)().float().requires_grad_(False)
    for parameter_name, parameter in model.named_parameters():
        _randomise(parameter_name, parameter, generator)
    for module in model.modules():
        if isinstance(module, SqueezeExcitation):
            module.fc2.weight *= 0.3  # steep gates, one behind the other, would amplify rounding errors
        elif isinstance(module, (nn.LayerNorm, nn.GroupNorm, *BATCH_NORMS)):
            module.weight.uniform_(0.5, 1.5, generator=generator)
            module.weight[torch.rand(module.weight.shape, generator=generator) < 0.15] *= -1
    if not biases:
        _remove_constants(model)
    calibrate(model, torch.randn(CALIBRATION_SAMPLES, 3, size, size, generator=generator), generator, centred=biases)
    x = torch.randn(1, 3, size, size, generator=generator)
    return model.to(dtype).eval(), x.to(dtype)


def _randomise(name: str, parameter: torch.Tensor, generator: torch.Generator) -> None:
    """Draw one parameter: weights keep the variance of a signal behind a ReLU, scales are of order one."""
    if name.endswith("layer_scale"):
        parameter.uniform_(0.5, 1.5, generator=generator)
    elif name.endswith("logit_scale"):
        parameter.uniform_(0.0, 2.0, generator=generator)
    elif name.endswith(("bias", "bias_table", "pos_embedding", "class_token")):
        parameter.normal_(0, 0.2, generator=generator)
    elif parameter.ndim > 1:
        parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)


def _remove_constants(model: nn.Module) -> None:
    """Set to zero each parameter that adds a constant to the signal."""
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "pos_embedding", "class_token")):
            parameter.zero_()


def calibrate(model: nn.Module, samples: Any, generator: torch.Generator, *, centred: bool) -> None:
    """Give batch norms random statistics near those of samples; means are zero unless ``centred``."""

    def adjust(norm: Any, args: tuple[torch.Tensor, ...]) -> None:
        signal = args[0].transpose(0, 1).flatten(1)
        mean = signal.mean(1) if centred else torch.zeros(len(signal))
        variance = (signal - mean[:, None]).square().mean(1)
        variance.lerp_(variance.mean(), 0.5)  # of a few values a channel's own variance can be tiny
        noise = torch.randn(mean.shape, generator=generator) * float(centred)
        norm.running_mean.copy_(mean + 0.3 * variance.sqrt() * noise)
        norm.running_var.copy_(variance * (0.5 + torch.rand(mean.shape, generator=generator)))

    batch_norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    handles = [norm.register_forward_pre_hook(adjust) for norm in batch_norms]
    if batch_norms:
        with torch.no_grad():
            called(model.eval(), samples)
    for handle in handles:
        handle.remove()
