"""The side of lxt's efficient form, in an environment of its own: modified gradient times input.

Its map for torchvision's transformers is CP-LRP in attention (nothing passes the softmax) and AttnLRP elsewhere, so
that its heatmaps are others than those of crp-kit's AttnLRP: only times are comparable.
"""

from __future__ import annotations

from pathlib import Path

import torch
from lxt.efficient import monkey_patch
from torchvision.models import vision_transformer

from .cases import TARGET, Case
from .models import images, make_model
from .work import Work


def heatmap(case: Case, device: str, _: Path) -> Work:
    monkey_patch(vision_transformer)
    model, image = make_model(case, device).requires_grad_(False), images(1, case.size).to(device)

    def run() -> torch.Tensor:
        batch = image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(batch)[:, TARGET].sum(), batch)
        return (gradient * batch.detach()).sum(1)

    return Work(run, warm=run)


WORKS = {"saliency": heatmap}
