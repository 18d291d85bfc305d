"""Small dictionaries for the channels of a layer, and encode and decode inserted into a copy of a model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import linear, relu

Kind = Literal["relu", "topk", "jumprelu"]
REST = -1
"""The id of the reconstruction error in `inserted`."""


class Autoencoder(nn.Module):
    """A sparse autoencoder with seeded weights, whose code is that of a ReLU, of the k largest, or of a jump."""

    def __init__(self, channels: int, latents: int, kind: Kind = "relu", *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=generator) / shape[-1] ** 0.5)

        self.kind, self.k, self.threshold = kind, 2, 0.1
        self.reader, self.writer = drawn(latents, channels), drawn(channels, latents)
        self.reader_bias, self.writer_bias = drawn(latents), drawn(channels)

    def encode(self, activation: torch.Tensor) -> torch.Tensor:
        before = linear(activation - self.writer_bias, self.reader, self.reader_bias)
        if self.kind == "topk":
            largest, index = relu(before).topk(self.k, dim=-1)
            return torch.zeros_like(before).scatter(-1, index, largest)
        return relu(before) if self.kind == "relu" else before * (before > self.threshold)

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        return linear(code, self.writer, self.writer_bias)

    def slow_encode(self, activation: torch.Tensor) -> torch.Tensor:
        """The same with constant gates, in functions that an oracle of detached factors knows."""
        before = linear(activation - self.writer_bias, self.reader, self.reader_bias)
        with torch.no_grad(), torch._C.DisableTorchFunction():
            passed = self.encode(activation) != 0
        return before * passed.to(before)


class Linear(nn.Module):
    """Directions as a module: those of `crp_kit.DirectionConcept`."""

    def __init__(self, directions: torch.Tensor, mean: torch.Tensor, encoder: torch.Tensor) -> None:
        super().__init__()
        self.directions, self.mean, self.encoder = (nn.Parameter(part) for part in (directions, mean, encoder))

    def encode(self, activation: torch.Tensor) -> torch.Tensor:
        return linear(activation - self.mean, self.encoder)

    slow_encode = encode

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        return linear(code, self.directions.T, self.mean)


def inserted(
    model: nn.Module, layer: str, dictionary: nn.Module, ids: Sequence[int] | None, *, axis: int = -1
) -> tuple[nn.Module, list[torch.Tensor]]:
    """A copy of a model that runs encode and decode behind a module, with constants for all codes but some.

    Returns the copy, and a list to which its forward adds the module's output, the live code and the live error.
    `ids` None leaves all of them live.
    """
    copied, seen = deepcopy(model), list[torch.Tensor]()

    def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        activation = output.movedim(axis, -1)
        code = dictionary.slow_encode(activation)  # type: ignore[operator]
        error = activation - dictionary.decode(code)  # type: ignore[operator]
        seen.extend([activation, code, error])
        if ids is not None:
            kept = torch.tensor([float(number in ids) for number in range(code.shape[-1])], dtype=code.dtype)
            code = code * kept + (code * (1 - kept)).detach()
            error = error if REST in ids else error.detach()
        else:
            error = error.detach().requires_grad_()
            code = code.detach().requires_grad_()
            seen[1:] = [code, error]
        return (dictionary.decode(code) + error).movedim(-1, axis)  # type: ignore[operator, no-any-return]

    copied.get_submodule(layer).register_forward_hook(hook)
    return copied, seen
