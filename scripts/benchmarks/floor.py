"""The floor: what the arithmetic itself takes, with the plain model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .cases import BATCH, ROWS_AT_ONCE, Case
from .models import Images, images, make_model
from .work import Work


def heatmaps(case: Case, device: str, _: Path) -> Work:
    """One forward, and for every heatmap one gradient of each convolution's input, of all that ran up to the layer."""
    model, image = make_model(case, device).requires_grad_(False), images(1, case.size).to(device)
    steps = _convolutions(model, image, case.layer)
    rows = min(case.count, ROWS_AT_ONCE)
    inputs, outputs = (torch.rand(rows * max(shape.numel() for shape in shapes), device=device)
                       for shapes in zip(*(step[1:] for step in steps), strict=True))  # fmt: skip

    def run(count: int = case.count) -> None:
        with torch.no_grad():
            model(image)
            for first in range(0, count, ROWS_AT_ONCE):
                _backward(steps, inputs, outputs, min(ROWS_AT_ONCE, count - first))

    return Work(run, warm=lambda: run(1))


def _convolutions(model: nn.Module, image: torch.Tensor, layer: str) -> list[tuple[nn.Conv2d, torch.Size, torch.Size]]:
    """Return the convolutions that run up to a layer, with shapes of inputs and outputs; the last one first."""
    found: list[tuple[nn.Conv2d, torch.Size, torch.Size]] = []

    def note(module: Any, inputs: Any, output: torch.Tensor) -> None:
        found.append((module, inputs[0].shape, output.shape))

    handles = [one.register_forward_hook(note) for one in model.modules() if isinstance(one, nn.Conv2d)]
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    last = next(place for place, step in enumerate(found) if step[0] is model.get_submodule(layer))
    return found[last::-1]


def _backward(steps: Any, inputs: torch.Tensor, outputs: torch.Tensor, rows: int) -> None:
    for module, before, after in steps:
        torch.ops.aten.convolution_backward(
            outputs[: rows * after.numel()].view(rows, *after[1:]),
            inputs[: rows * before.numel()].view(rows, *before[1:]),
            module.weight,
            None,
            module.stride,
            module.padding,
            module.dilation,
            False,
            [0, 0],
            module.groups,
            [True, False, False],
        )


def atlas(case: Case, device: str, _: Path) -> Work:
    """A forward and a plain gradient, down to the image."""
    model, data = make_model(case, device).requires_grad_(False), Images(case)

    def run(count: int = case.count) -> None:
        for first in range(0, count, BATCH):
            samples = [data[index] for index in range(first, min(first + BATCH, count))]
            batch = torch.stack([image for image, _ in samples]).to(device).requires_grad_()
            output = model(batch)
            torch.autograd.grad(output[range(len(samples)), [label for _, label in samples]].sum(), batch)

    return Work(run, warm=lambda: run(min(BATCH, case.count)))


def forward(case: Case, device: str, _: Path) -> Work:
    model, image = make_model(case, device), images(1, case.size).to(device)

    def run() -> None:
        with torch.no_grad():
            model(image)

    return Work(run, warm=run)


WORKS = {"heatmaps": heatmaps, "atlas": atlas, "trace": forward, "plan": forward}
