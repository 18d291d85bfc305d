"""The side of zennit's own Gradient attributor, in the release that crp-kit uses.

It has no conditions: its batch is so many times the same image and class. What is compared is a conditional heatmap
in float64, made of zennit's rules with two plain calls of autograd: to the layer, and, after the mask, to the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from zennit.attribution import Gradient

from .cases import ROWS_AT_ONCE, TARGET, Case
from .models import canonizers, images, make_composite, make_model
from .work import Work

COMPARED = 2


def heatmaps(case: Case, device: str, _: Path) -> Work:
    model, image = make_model(case, device), images(1, case.size).to(device)
    with torch.no_grad():
        model(image)
    known = canonizers(case.model)

    def run(count: int = case.count) -> torch.Tensor:
        with Gradient(model, make_composite(case, canonizers=known)) as attributor:
            parts = []
            for first in range(0, count, ROWS_AT_ONCE):
                rows = min(ROWS_AT_ONCE, count - first)
                wanted = torch.eye(case.classes, device=device)[[TARGET] * rows]
                parts.append(attributor(image.repeat(rows, 1, 1, 1), wanted)[1].sum(1))
        return torch.cat(parts)

    def result(_: torch.Tensor) -> dict[str, Any]:
        exact = known or case.model == "vgg16"  # which has nothing to canonize
        return {"heatmaps": conditional(case, device).detach().cpu().numpy()} if exact else {}

    return Work(run, warm=lambda: run(1), result=result)


def conditional(case: Case, device: str) -> torch.Tensor:
    """Return the first conditional heatmaps in float64, or the one of a case without a layer."""
    model, image = make_model(case, device).double(), images(1, case.size).to(device).double().requires_grad_()
    if not case.layer:
        with Gradient(model, make_composite(case, canonizers=canonizers(case.model))) as attributor:
            return attributor(image, lambda output: torch.eye(case.classes)[[TARGET]].to(output) * output)[1].sum(1)
    kept: list[torch.Tensor] = []
    maps: list[torch.Tensor] = []
    with make_composite(case, canonizers=canonizers(case.model)).context(model) as modified:
        handle = modified.get_submodule(case.layer).register_forward_hook(lambda *hooked: kept.append(hooked[-1]))
        output = modified(image)
        handle.remove()
        start = torch.zeros_like(output)
        start[:, TARGET] = output[:, TARGET].detach()
        arrived = torch.autograd.grad(output, kept[0], start, retain_graph=True)[0]
        for channel in range(min(case.count, COMPARED)):
            masked = torch.zeros_like(arrived)
            masked[:, channel] = arrived[:, channel]
            maps.append(torch.autograd.grad(kept[0], image, masked, retain_graph=True)[0].sum(1))
    return torch.cat(maps)


WORKS = {"heatmaps": heatmaps, "saliency": heatmaps}
