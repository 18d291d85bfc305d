"""The built-in demo model: a small residual network that knows the classes of `ShapesDataset`."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ..errors import InputError
from .random_state import random_state_kept

__all__ = ["demo_preprocess", "demo_resnet"]

_FILES = {None: "demo_resnet.pt", "tag": "demo_resnet_tag.pt"}
"""Weights by the variant of the images that they were trained on."""
_WIDTHS = (16, 32, 64)
_N_CLASSES = 8

# Of the training images, by channel.
_MEAN = (0.58, 0.56, 0.57)
_STD = (0.17, 0.17, 0.17)


class _Block(nn.Module):
    """Two convolutions beside a shortcut: the identity, or a 1x1 convolution where the shape changes."""

    def __init__(self, n_inputs: int, n_outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, n_outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(n_outputs, n_outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or n_inputs != n_outputs:
            projection = nn.Conv2d(n_inputs, n_outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(n_outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + shortcut
        result: torch.Tensor = self.relu(out)
        return result


class _DemoResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.relu = nn.ReLU()
        self.layer1 = self._stage(_WIDTHS[0], _WIDTHS[0], stride=1)
        self.layer2 = self._stage(_WIDTHS[0], _WIDTHS[1], stride=2)
        self.layer3 = self._stage(_WIDTHS[1], _WIDTHS[2], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(_WIDTHS[2], _N_CLASSES)

    @staticmethod
    def _stage(n_inputs: int, n_outputs: int, *, stride: int) -> nn.Sequential:
        return nn.Sequential(_Block(n_inputs, n_outputs, stride), _Block(n_outputs, n_outputs, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = torch.flatten(self.avgpool(x), 1)
        logits: torch.Tensor = self.fc(x)
        return logits


def demo_resnet(weights: bool = True, variant: Literal["tag"] | None = None) -> nn.Module:
    """Give a residual network for the demo images, in evaluation mode.

    Three stages of two blocks (16, 32 and 64 channels), with BatchNorm after each convolution, identity shortcuts, and
    1x1 convolutions as shortcuts where the resolution halves. Modules bear the names that torchvision's ResNets use.

    Examples
    --------
    >>> from crp_kit.data import ShapesDataset, demo_preprocess
    >>> images, labels = ShapesDataset(4, split="test").batch(range(4))
    >>> bool((demo_resnet()(demo_preprocess(images)).argmax(1) == labels).all())
    True

    Parameters
    ----------
    weights : bool
        Whether to load the weights that come with the package; otherwise they are drawn at random by torch.
    variant : {"tag"}, optional
        The variant of `ShapesDataset` that the weights were trained on: the model takes a tag in a corner for a class.

    Returns
    -------
    torch.nn.Module
        Maps normalised images (batch, channel=3, height=64, width=64; see `demo_preprocess`) to logits (batch,
        class=8).

    Raises
    ------
    InputError
        If there are no weights of the variant.
    """
    if variant not in _FILES:
        raise InputError(f"variant of the demo model is 'tag' or None; got {variant!r}")
    if not weights:
        return _DemoResNet().eval()
    with random_state_kept():  # what is drawn first is overwritten
        model = _DemoResNet()
    path = Path(__file__).with_name(_FILES[variant])
    state: OrderedDict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state)
    return model.eval()


def demo_preprocess(images: torch.Tensor) -> torch.Tensor:
    """Give images normalised as the demo model expects them.

    Parameters
    ----------
    images : torch.Tensor
        Values in [0, 1]: channel, height, width, with any leading dimensions.

    Returns
    -------
    torch.Tensor
        Of the same shape; each channel has about mean 0 and standard deviation 1 over the demo images.
    """
    mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return (images - mean) / std
