"""The side of captum's LRP, in an environment of its own: its rules are epsilon for all layers.

Only networks that are chains of modules run under it: an addition that is no module gets no rule.
"""

from __future__ import annotations

from pathlib import Path

import torch
from captum.attr import LRP
from torch import nn

from .cases import TARGET, Case
from .models import images, make_model
from .work import Work


def heatmap(case: Case, device: str, _: Path) -> Work:
    model, image = make_model(case, device), images(1, case.size).to(device)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # as captum asks for

    def run() -> torch.Tensor:
        return LRP(model).attribute(image.clone().requires_grad_(), target=TARGET).sum(1)

    return Work(run, warm=run)


WORKS = {"saliency": heatmap}
