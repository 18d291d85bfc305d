"""A small network with a shortcut, a study of it, and forwards of the user's model with a hook."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

import crp_kit as crp

CONCEPTS, SAMPLES = 6, 5


class Shortcut(nn.Module):
    """Two convolutions, the second beside a shortcut that by-passes it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu_()
        x = x + self.branch(x)
        x *= 2.0
        return self.head(x.relu().mean((2, 3)).view(x.shape[0], -1))


def shortcut_study(**options: Any) -> crp.Study:
    torch.manual_seed(3)
    images = torch.rand(SAMPLES, 3, 8, 8, dtype=torch.float64)
    data = TensorDataset(images, torch.arange(SAMPLES) % 4)
    return crp.Study(Shortcut().double().eval(), data, **{"composite": "epsilon_plus", **options})


def with_hook(model: nn.Module, layer: str, image: torch.Tensor, change: Callable[[torch.Tensor], Any]) -> torch.Tensor:
    handle = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: change(output))
    with handle, torch.no_grad():
        return model(image[None])[0]
