"""Constructors of the torchvision families: the published ones and small ones made of the same blocks."""

# mypy: disable-error-code="no-any-return"

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import nn
from torchvision import models
from torchvision.models import (
    convnext,
    densenet,
    efficientnet,
    maxvit,
    mobilenetv3,
    regnet,
    resnet,
    segmentation,
    shufflenetv2,
    swin_transformer,
    vgg,
    vision_transformer,
)
from torchvision.models._utils import IntermediateLayerGetter

CLASSES = 20
NARROW = 64
HEAD_CHANNELS = 2048


def small_alexnet() -> nn.Module:
    """AlexNet with narrow fully connected layers."""
    with torch.device("meta"):
        model = models.alexnet(num_classes=CLASSES)
        _narrow_classifier(model, 256 * 6 * 6)
    return model.to_empty(device="cpu")


def small_vgg11(*, batch_norm: bool) -> nn.Module:
    """VGG11 with an eighth of the channels and narrow fully connected layers."""
    plan: list[str | int] = [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"]
    with torch.device("meta"):
        model = vgg.VGG(vgg.make_layers(plan, batch_norm=batch_norm), num_classes=CLASSES, init_weights=False)
        _narrow_classifier(model, 64 * 7 * 7)
    return model.to_empty(device="cpu")


def small_bottleneck_resnet(**kwargs: int) -> nn.Module:
    """ResNet of bottleneck blocks, (1, 2, 1, 1) of them; a block without down-sampling is in layer2."""
    return resnet.ResNet(resnet.Bottleneck, [1, 2, 1, 1], num_classes=CLASSES, **kwargs)


def small_densenet() -> nn.Module:
    """DenseNet with (2, 3, 2, 2) layers in its blocks and narrow growth."""
    return densenet.DenseNet(12, (2, 3, 2, 2), 16, num_classes=CLASSES)


def small_mobilenet_v2() -> nn.Module:
    """MobileNetV2 with one pair of blocks a stage, the second of each pair with a shortcut."""
    setting = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2], [6, 64, 2, 2]]
    return models.MobileNetV2(CLASSES, inverted_residual_setting=setting)


def mobilenet_v3_setting(*, dilation: int = 1) -> list[mobilenetv3.InvertedResidualConfig]:
    """MobileNetV3 blocks: with and without squeeze-excitation, ReLU and Hardswish, with and without shortcut."""
    block = partial(mobilenetv3.InvertedResidualConfig, width_mult=1.0)
    return [
        block(16, 3, 16, 16, False, "RE", 1, 1),
        block(16, 3, 64, 24, False, "RE", 2, 1),
        block(24, 5, 72, 40, True, "RE", 2, 1),
        block(40, 5, 120, 40, True, "RE", 1, 1),
        block(40, 3, 120, 48, False, "HS", 2, 1),
        block(48, 3, 184, 48, True, "HS", 1, 1),
        block(48, 5, 192, 56, True, "HS", 2, dilation),
        block(56, 5, 192, 56, True, "HS", 1, dilation),
    ]


def small_mobilenet_v3() -> nn.Module:
    """MobileNetV3 of eight blocks."""
    return mobilenetv3.MobileNetV3(mobilenet_v3_setting(), 128, num_classes=CLASSES)


def small_efficientnet_b0() -> nn.Module:
    """EfficientNet of four stages of inverted bottlenecks with squeeze-excitation."""
    block = efficientnet.MBConvConfig
    setting = [
        block(1, 3, 1, 32, 16, 1),
        block(6, 3, 2, 16, 24, 2),
        block(6, 5, 2, 24, 40, 2),
        block(6, 3, 1, 40, 64, 1),
    ]
    return efficientnet.EfficientNet(setting, 0.2, num_classes=CLASSES)


def small_efficientnet_v2() -> nn.Module:
    """EfficientNetV2 of two fused and two separable stages."""
    fused, separable = efficientnet.FusedMBConvConfig, efficientnet.MBConvConfig
    setting = [
        fused(1, 3, 1, 24, 24, 2),
        fused(4, 3, 2, 24, 32, 2),
        separable(4, 3, 2, 32, 48, 2),
        separable(6, 3, 1, 48, 64, 2),
    ]
    norm = partial(nn.BatchNorm2d, eps=1e-3)
    return efficientnet.EfficientNet(setting, 0.2, num_classes=CLASSES, norm_layer=norm, last_channel=128)


def small_regnet(*, se_ratio: float | None) -> nn.Module:
    """RegNet of four stages, (1, 2, 2, 1) blocks in them."""
    blocks = regnet.BlockParams([1, 2, 2, 1], [16, 32, 48, 64], [8, 8, 16, 16], [1.0] * 4, [2] * 4, se_ratio)
    return regnet.RegNet(blocks, num_classes=CLASSES)


def small_shufflenet() -> nn.Module:
    """ShuffleNetV2 with (2, 3, 2) blocks, the first of each stage down-sampling."""
    return shufflenetv2.ShuffleNetV2([2, 3, 2], [24, 48, 96, 192, 256], num_classes=CLASSES)


def small_convnext() -> nn.Module:
    """ConvNeXt of three stages."""
    block = convnext.CNBlockConfig
    return convnext.ConvNeXt([block(16, 32, 1), block(32, 64, 2), block(64, None, 1)], num_classes=CLASSES)


def small_vit() -> nn.Module:
    """Vision transformer of three blocks and four heads on 16 patches."""
    return vision_transformer.VisionTransformer(32, 8, 3, 4, 48, 96, num_classes=CLASSES)


def small_swin(*, second_version: bool) -> nn.Module:
    """Swin transformer with (2, 2, 2, 2) blocks and windows of 4 tokens a side; the first stage shifts its windows."""
    kwargs: dict[str, Callable[..., nn.Module]] = {}
    if second_version:
        kwargs = {
            "block": swin_transformer.SwinTransformerBlockV2,
            "downsample_layer": swin_transformer.PatchMergingV2,
        }
    return swin_transformer.SwinTransformer(
        [4, 4], 16, [2, 2, 2, 2], [2, 2, 4, 4], [4, 4], num_classes=CLASSES, **kwargs
    )


def small_maxvit() -> nn.Module:
    """MaxViT of three stages with partitions of 4 tokens a side."""
    return maxvit.MaxVit(
        (64, 64), 16, 4, [16, 32, 64], [1, 2, 1], head_dim=8, stochastic_depth_prob=0.2, num_classes=CLASSES
    )


def small_fcn() -> nn.Module:
    """FCN on a dilated ResNet of bottleneck blocks."""
    head = segmentation.fcn.FCNHead(HEAD_CHANNELS, CLASSES)
    return segmentation.FCN(_dilated_resnet(), head)


def small_deeplab() -> nn.Module:
    """DeepLabV3, its pyramid pooling narrow, on a dilated ResNet of bottleneck blocks."""
    head = segmentation.deeplabv3.DeepLabHead(HEAD_CHANNELS, CLASSES)
    head[0] = segmentation.deeplabv3.ASPP(HEAD_CHANNELS, [2, 4, 6], NARROW)
    head[1] = nn.Conv2d(NARROW, NARROW, 3, padding=1, bias=False)
    head[2] = nn.BatchNorm2d(NARROW)
    head[4] = nn.Conv2d(NARROW, CLASSES, 1)
    return segmentation.DeepLabV3(_dilated_resnet(), head)


def small_lraspp() -> nn.Module:
    """LRASPP on a dilated MobileNetV3 of eight blocks."""
    features = mobilenetv3.MobileNetV3(mobilenet_v3_setting(dilation=2), 128, num_classes=CLASSES).features
    low, high = 4, len(features) - 1
    channels = features[low].out_channels, features[high].out_channels
    backbone = IntermediateLayerGetter(features, {str(low): "low", str(high): "high"})
    return segmentation.LRASPP(backbone, *channels, num_classes=CLASSES)


def published_segmentation(name: str) -> nn.Module:
    """Published segmentation model without pretrained weights."""
    kwargs = {} if name.startswith("lraspp") else {"aux_loss": False}
    return models.get_model(name, weights=None, weights_backbone=None, num_classes=21, **kwargs)


def _narrow_classifier(model: nn.Module, features: int) -> None:
    """Put linear layers of ``NARROW`` units in the place of a classifier's 4096 units."""
    classifier = model.get_submodule("classifier")
    places = [name for name, layer in classifier.named_children() if isinstance(layer, nn.Linear)]
    widths = [features, NARROW, NARROW, CLASSES]
    for place, (inputs, outputs) in zip(places, pairwise(widths), strict=True):
        setattr(classifier, place, nn.Linear(inputs, outputs))


def _dilated_resnet() -> nn.Module:
    """Features of a small bottleneck ResNet whose last two stages are dilated instead of strided."""
    model = resnet.ResNet(resnet.Bottleneck, [1, 2, 1, 1], replace_stride_with_dilation=[False, True, True])
    return IntermediateLayerGetter(model, {"layer4": "out"})
