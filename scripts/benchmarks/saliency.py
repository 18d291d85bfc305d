"""The unit of published times: saliency maps, each one gradient of a class's logit by the image."""

from __future__ import annotations

from pathlib import Path

import torch

from .cases import ROWS_AT_ONCE, TARGET, Case
from .models import images, make_model
from .work import Work


def maps(case: Case, device: str, _: Path) -> Work:
    """A forward and a gradient of so many equal images, by batches; parameters need no gradient."""
    model, image = make_model(case, device).requires_grad_(False), images(1, case.size).to(device)

    def run(count: int = case.count) -> None:
        for first in range(0, count, ROWS_AT_ONCE):
            batch = image.repeat(min(ROWS_AT_ONCE, count - first), 1, 1, 1).requires_grad_()
            torch.autograd.grad(model(batch)[:, TARGET].sum(), batch)

    return Work(run, warm=lambda: run(1))


WORKS = {"saliency": maps}
