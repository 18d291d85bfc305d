"""Operations that write in place, into fresh tensors and into views of them."""

from __future__ import annotations

import torch

from .draft import CONSTANT, GATE, LIVE, SIGNAL, Draft, UnfitError
from .products import broadcasts, fill


def _target(draft: Draft, *, axis: int | None = None) -> str:
    """A signal that may be written into: not the input, and nothing that is expanded."""

    def fits(v: torch.Tensor) -> bool:
        own = v.untyped_storage().data_ptr() != draft.value("x").untyped_storage().data_ptr()
        plain = all(stride > 0 or size == 1 for stride, size in zip(v.stride(), v.shape, strict=True))
        return own and plain and v.untyped_storage().nbytes() // 8 >= v.numel() and (axis is None or v.ndim > axis)

    return draft.take(fits)


def _shares(draft: Draft, target: str, value: torch.Tensor) -> bool:
    """Whether a value has memory in common with a variable: torch does not define what is then written."""
    return value.untyped_storage().data_ptr() == draft.value(target).untyped_storage().data_ptr()


def in_place_activation(draft: Draft) -> None:
    target = _target(draft)
    if draft.variables[target].kind not in LIVE:
        raise UnfitError
    style = draft.random.choice(
        (
            "{h}.relu_()",
            "F.relu({h}, inplace=True)",
            "{h}.clamp_(min=0)",
            "module",
            "{h}.abs_()",
            "F.silu({h}, inplace=True)",
        )
    )
    function = {"{h}.abs_()": "torch.abs", "F.silu({h}, inplace=True)": "F.silu"}.get(style, "torch.relu")
    if style == "module":
        style = f"self.{draft.module('nn.ReLU(inplace=True)')}({{h}})"
    detached = f"q.write({target}, q.act({function}, {target}))"
    draft.overwrite(fill(style, h=target), detached, target=target)


def in_place_arithmetic(draft: Draft) -> None:
    """Sums and products in place."""
    target = _target(draft)
    shape = draft.shape(target)
    scale = draft.parameter(*shape[1:])
    other = draft.take(lambda v: broadcasts(v.shape, shape) and not _shares(draft, target, v))
    own = [
        f"{target} *= {scale}",
        f"{target}.mul_(0.5)",
        f"{target} += {scale}",
        f"{target}.add_({scale}, alpha=2)",
        f"{target} /= 2",
        f"{target}.sub_(0.3)",
        f"{target}.neg_()",
    ]
    both = [f"{target} += {other}", f"{target}.add_({other})", f"{target} -= {other} * 0.5"]
    detached = [f"{target} *= {other}.detach()", f"{target} += {other}.detach()"]
    if draft.variables[target].kind == GATE:
        draft.overwrite(draft.random.choice(own), target=target)
    else:
        choice = draft.random.choice([*own, *both, *both, *detached])
        reads = [] if choice in own else [other]
        kinds = {draft.variables[name].kind for name in (target, *reads)}
        if choice in detached and kinds != {SIGNAL}:
            raise UnfitError
        noted = f"before = {target}.detach().clone()\n{choice}\nq.total({target}, before)"
        draft.overwrite(choice, choice if "*=" in choice else noted, target=target, reads=reads)


def gated_in_place(draft: Draft) -> None:
    target = _target(draft)
    factor = draft.take(lambda v: broadcasts(v.shape, draft.shape(target)), kinds=(GATE,))
    draft.overwrite(f"{target} *= {factor}", f"q.write({target}, {target} * {factor})", target=target)


def part_written(draft: Draft) -> None:
    """A part of a tensor, overwritten or changed."""
    target = _target(draft)
    shape = draft.shape(target)
    axis = draft.random.randrange(1, len(shape))
    size, colons = shape[axis], ":, " * axis
    part = draft.random.choice(
        (
            f"{colons}{draft.random.randrange(size)}",
            f"{colons}:{max(1, size - 1)}",
            f"{colons}::2",
            "..., 0",
            f"{colons}-1:",
        )
    )
    region = f"{target}[{part}]"
    wanted = tuple(draft.value(target)[eval(f"__import__('numpy').s_[{part}]")].shape)
    sources = [
        name
        for name, variable in draft.variables.items()
        if variable.kind in LIVE and draft.shape(name) == wanted and not _shares(draft, target, draft.value(name))
    ]
    own = [
        (f"{region} = 0.5", None),
        (f"{region} *= 1.5", None),
        (f"{region} += 0.2", None),
        (f"{region} = 0", None),
        (f"{region}.mul_(-0.5)", None),
        (f"{region}.zero_()", None),
        (f"{region} = {region} * 2", None),
        (f"F.relu_({region})", f"q.write({region}, q.act(torch.relu, {region}))"),
        (f"{region}.fill_(0.1)", None),
    ]
    if sources:
        source = draft.random.choice(sources)
        both = [
            f"{region} = {source}",
            f"{region} += {source}",
            f"{region}.copy_({source})",
            f"{region} -= {source}",
            f"{region}.add_({source} * 2)",
        ]
        draft.overwrite(draft.random.choice(both), target=target, reads=[source])
    else:
        plain, detached = draft.random.choice(own)
        draft.overwrite(plain, detached, target=target)


def filled(draft: Draft) -> None:
    """A fresh tensor of zeros, filled by parts from signals."""
    source = draft.take()
    shape = draft.shape(source)
    fresh = draft.random.choice(
        (
            f"torch.zeros_like({source})",
            f"{source}.new_zeros({source}.shape)",
            f"torch.zeros({source}.shape, dtype={source}.dtype)",
        )
    )
    name = draft.add(f"{{o}} = {fresh}", reads=[source], kind=CONSTANT, fresh=True)[0]
    cut = max(1, shape[1] - 1)
    form = draft.random.choice(
        (
            "{t}[:, :{c}] = {s}[:, :{c}]",
            "{t}[:, :{c}] += {s}[:, :{c}]",
            "{t} += {s}",
            "{t}.copy_({s})",
            "{t}[:, 0] = {s}[:, 0]",
            "{t}[:, -{c}:] = {s}[:, :{c}]",
        )
    )
    draft.overwrite(fill(form, t=name, s=source, c=str(cut)), target=name, reads=[source])


def view_written(draft: Draft) -> None:
    """A view that is written into, so that what it is a view of changes."""
    target = _target(draft)
    shape = draft.shape(target)
    form = draft.random.choice(
        (
            f"{target}[:, :{max(1, shape[1] - 1)}]",
            f"{target}.narrow(1, 0, 1)",
            f"{target}.view({target}.shape)",
            f"{target}.unsqueeze(1)",
            f"{target}.transpose(1, -1)",
            f"{target}.chunk(1, 1)[0]",
            f"{target}.detach()",
        )
    )
    if form.endswith("detach()"):
        form = f"{target}[:, -1:]"
    detached = form.replace(".chunk(1, 1)[0]", f".narrow(1, 0, {shape[1]})")
    name = draft.add(f"{{o}} = {form}", f"{{o}} = {detached}", reads=[target])[0]
    if name in draft.variables:
        change = draft.random.choice(("{v}.mul_(2)", "{v} += 0.3", "{v}.relu_()", "{v} *= -0.5", "{v}.add_(1)"))
        plain = fill(change, v=name)
        relu = f"q.write({name}, q.act(torch.relu, {name}))"
        draft.overwrite(plain, relu if "relu" in change else None, target=name)


OPERATIONS = {
    in_place_activation: 3,
    in_place_arithmetic: 3,
    gated_in_place: 2,
    part_written: 4,
    filled: 2,
    view_written: 2,
}
