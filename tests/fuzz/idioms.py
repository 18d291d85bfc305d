"""Operations of several statements, as networks have them: branches, shortcuts, gated units."""

from __future__ import annotations

import torch

from .draft import SIGNAL, Draft
from .linear import call


def _layer(draft: Draft, operand: str, out: int) -> str:
    """A layer that changes the channels only: a convolution of one pixel, or a linear layer of vectors."""
    shape = draft.shape(operand)
    expression = (
        f"nn.Linear({shape[1]}, {out})" if len(shape) == 2 else f"nn.Conv{len(shape) - 2}d({shape[1]}, {out}, 1)"
    )
    return call(draft, draft.module(expression), operand)


def _wide(value: torch.Tensor) -> bool:
    return value.ndim in (2, 3, 4) and value.shape[1] >= 2 and value.shape[1] % 2 == 0


def branch(draft: Draft) -> None:
    """Half of the channels goes through a layer, the other half past it."""
    operand = draft.take(_wide)
    half = draft.shape(operand)[1] // 2
    text = draft.random.choice((f"{operand}.chunk(2, 1)", f"{operand}.split({half}, 1)"))
    kept, changed = draft.add(
        f"{{o}} = {text}", f"{{o}} = q.split({operand}, [{half}, {half}], 1)", reads=[operand], outs=2
    )
    changed = _layer(draft, changed, half)
    if draft.chance(0.5):
        changed = draft.add(f"{{o}} = F.relu({changed})", f"{{o}} = q.act(F.relu, {changed})", reads=[changed])[0]
    draft.add(f"{{o}} = torch.cat([{kept}, {changed}], 1)", reads=[kept, changed])


def shortcut(draft: Draft) -> None:
    """A layer and its input are summed, perhaps in place."""
    operand = draft.take(lambda v: v.ndim in (2, 3, 4))
    name = _layer(draft, operand, draft.shape(operand)[1])
    if draft.chance(0.4):
        draft.overwrite(f"{name} += {operand}", target=name, reads=[operand])
    else:
        draft.add(f"{{o}} = {name} + {operand}", reads=[name, operand])


def gated_unit(draft: Draft) -> None:
    """Half of the channels is a gate of the other half."""
    operand = draft.take(_wide, kinds=(SIGNAL,))
    half = draft.shape(operand)[1] // 2
    first, second = draft.add(
        f"{{o}} = {operand}.chunk(2, dim=1)", f"{{o}} = q.split({operand}, [{half}, {half}], 1)",
        reads=[operand], outs=2,
    )  # fmt: skip
    lines = f"{{o}} = {first} * torch.sigmoid({second})", f"{{o}} = {first} * q.c(torch.sigmoid({second}))"
    draft.add(*lines, reads=[first, second])


OPERATIONS = {branch: 5, shortcut: 3, gated_unit: 2}
