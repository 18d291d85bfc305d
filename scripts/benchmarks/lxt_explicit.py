"""The side of lxt's explicit form, in an environment of its own: a rule for each layer, as its modules have them.

As in its efficient form, nothing passes the softmax of attention: only times are comparable.
"""

from __future__ import annotations

import operator
from pathlib import Path

import lxt.explicit.functional as lf
import lxt.explicit.modules as lm
import torch
from lxt.explicit import rules
from lxt.explicit.core import Composite
from torch import nn

from .cases import TARGET, Case
from .models import images, make_model
from .work import Work

RULES = {
    nn.GELU: rules.IdentityRule,
    nn.MultiheadAttention: lm.MultiheadAttention_CP,
    nn.LayerNorm: lm.LayerNormEpsilon,
    nn.Linear: lm.LinearEpsilon,
    operator.add: lf.add2,
}


def heatmap(case: Case, device: str, _: Path) -> Work:
    model, image = make_model(case, device), images(1, case.size).to(device)
    traced = Composite(RULES).register(model, dummy_inputs={"x": image})

    def run() -> torch.Tensor:
        batch = image.clone().requires_grad_()
        logit = traced(batch)[:, TARGET]
        return torch.autograd.grad(logit.sum(), batch, logit.detach().sum())[0].sum(1)

    return Work(run, warm=run)


WORKS = {"saliency": heatmap}
