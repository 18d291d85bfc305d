"""Operations that move or select values: views, parts, joins, odd indices, casts, maxima."""

from __future__ import annotations

import torch

from .draft import GATE, LIVE, SIGNAL, TAINTED, Draft, UnfitError

ALL = (SIGNAL, SIGNAL, TAINTED, GATE)


def _axis(draft: Draft, operand: str) -> tuple[int, int]:
    """An axis beside that of the batch, and the number by which it is called."""
    ndim = len(draft.shape(operand))
    axis = draft.random.randrange(1, ndim)
    return axis, draft.random.choice((axis, axis - ndim))


def _one(draft: Draft, operand: str, forms: list[str]) -> None:
    draft.add(f"{{o}} = {draft.random.choice(forms)}", reads=[operand])


def parts(draft: Draft) -> None:
    """Several outputs, of which some may stay unused."""
    operand = draft.take(lambda v: max(v.shape[1:]) > 1)
    axis, shown = _axis(draft, operand)
    size = draft.shape(operand)[axis]
    if size < 2:
        raise UnfitError
    cut = draft.random.randrange(1, size)
    half = -(-size // 2)
    forms = [
        (f"{operand}.chunk(2, {shown})", [half, size - half]),
        (f"torch.chunk({operand}, 2, dim={shown})", [half, size - half]),
        (f"{operand}.split([{cut}, {size - cut}], {shown})", [cut, size - cut]),
        (f"torch.split({operand}, ({cut}, {size - cut}), dim={shown})", [cut, size - cut]),
        (f"torch.tensor_split({operand}, [{cut}], dim={shown})", [cut, size - cut]),
        (f"{operand}.split(1, {shown})", [1] * size),
        (f"{operand}.split_with_sizes([{cut}, {size - cut}], dim={shown})", [cut, size - cut]),
    ]
    plain, sizes = draft.random.choice(forms)
    draft.add(f"{{o}} = {plain}", f"{{o}} = q.split({operand}, {sizes}, {axis})", reads=[operand], outs=len(sizes))


def unbound(draft: Draft) -> None:
    operand = draft.take(lambda v: v.ndim > 2)
    axis, shown = _axis(draft, operand)
    text = draft.random.choice((f"{operand}.unbind({shown})", f"torch.unbind({operand}, dim={shown})"))
    size = draft.shape(operand)[axis]
    draft.add(
        f"{{o}}, = {text}" if size == 1 else f"{{o}} = {text}",
        f"{{o}}, = q.unbind({operand}, {axis})" if size == 1 else f"{{o}} = q.unbind({operand}, {axis})",
        reads=[operand],
        outs=size,
    )


def joined(draft: Draft) -> None:
    first = draft.take()
    axis, shown = _axis(draft, first)
    shape = list(draft.shape(first))

    def fits(v: torch.Tensor) -> bool:
        other = list(v.shape)
        return len(other) == len(shape) and other[:axis] == shape[:axis] and other[axis + 1 :] == shape[axis + 1 :]

    second = draft.take(fits)
    pair = f"{first}, {second}"
    forms = [f"torch.cat([{pair}], {shown})", f"torch.cat(({pair}), dim={shown})", f"torch.concat([{pair}], {shown})"]
    if axis == 1:
        forms.append(f"torch.hstack([{pair}])")
    if tuple(draft.shape(second)) == tuple(shape):
        forms += [f"torch.stack([{pair}], {shown})", f"torch.stack(({pair}), dim={axis})"]
    draft.add(f"{{o}} = {draft.random.choice(forms)}", reads=[first, second])


def joined_with_a_parameter(draft: Draft) -> None:
    """A class token."""
    operand = draft.take(lambda v: v.ndim == 3)
    token = draft.parameter(1, 1, draft.shape(operand)[-1])
    _one(draft, operand, [f"torch.cat([{token}.expand(len({operand}), -1, -1), {operand}], 1)"])


def view(draft: Draft) -> None:
    operand = draft.take(kinds=ALL)
    shape = draft.shape(operand)
    ndim, n = len(shape), f"len({operand})"
    sizes = ", ".join(map(str, shape[1:]))
    forms = [
        f"{operand}.reshape({n}, -1)",
        f"{operand}.flatten(1)",
        f"torch.flatten({operand}, start_dim=1)",
        f"{operand}.unsqueeze(1)",
        f"{operand}.unsqueeze(-1)",
        f"{operand}[:, None]",
        f"{operand}[..., None]",
        f"{operand}.contiguous().view({operand}.shape[0], 1, {sizes})",
        f"{operand}.reshape(-1, {sizes})",
        f"{operand}.view_as({operand})",
        f"torch.atleast_3d({operand})" if ndim > 2 else f"{operand}.clone()",
    ]
    if ndim > 2:
        forms += [
            f"{operand}.transpose(1, 2)",
            f"{operand}.transpose(-1, -2)" if ndim > 3 else f"{operand}.mT",
            f"{operand}.swapaxes(1, -1)",
            f"{operand}.movedim(1, -1)",
            f"{operand}.flatten(-2)" if ndim > 3 else f"{operand}.transpose(-1, 1).contiguous()",
            f"{operand}.flatten(1, 2)",
            f"torch.permute({operand}, (0, {', '.join(map(str, range(ndim - 1, 0, -1)))}))",
        ]
        forms += [f"{operand}.squeeze({axis})" for axis in range(1, ndim) if shape[axis] == 1]
    if ndim == 4:
        forms += [
            f"{operand}.contiguous(memory_format=torch.channels_last)",
            f"{operand}.permute(0, 2, 3, 1)",
            f"{operand}.permute(0, 3, 1, 2).contiguous()",
            f"torch.rot90({operand}, 1, (2, 3))",
        ]
    for axis in range(1, ndim):
        if shape[axis] % 2 == 0:
            forms += [f"{operand}.unflatten({axis}, (2, -1))"] * 2
    _one(draft, operand, forms)


def expanded(draft: Draft) -> None:
    operand = draft.take(kinds=ALL)
    shape = draft.shape(operand)
    axis, shown = _axis(draft, operand)
    minus = ", ".join(["-1"] * len(shape))
    ones = ", ".join(["2" if i == axis else "1" for i in range(len(shape))])
    forms = [
        f"{operand}.repeat({ones})",
        f"{operand}.repeat_interleave(2, dim={shown})",
        f"{operand}.tile(({ones}))",
        f"{operand}.unsqueeze(1).expand({minus.replace('-1', '-1, 2', 1)})",
    ]
    if shape[axis] == 1:
        sizes = ", ".join("3" if i == axis else "-1" for i in range(len(shape)))
        forms += [f"{operand}.expand({sizes})"] * 3
    _one(draft, operand, forms)


def moved(draft: Draft) -> None:
    operand = draft.take(kinds=ALL)
    axis, shown = _axis(draft, operand)
    size = draft.shape(operand)[axis]
    index = draft.indices(size, draft.random.randint(1, 3))
    forms = [
        f"{operand}.roll(1, {shown})",
        f"torch.roll({operand}, shifts=(-1,), dims=({shown},))",
        f"{operand}.flip({shown})",
        f"torch.flip({operand}, dims=({shown},))",
        f"{operand}.index_select({shown}, {index})",
        f"torch.index_select({operand}, {axis}, {index})",
        f"{operand}.narrow({shown}, 0, {max(1, size - 1)})",
        f"F.pad({operand}, (1, 1))",
        f"F.pad({operand}, (0, 1), value=0.5)",
        f"F.pad({operand}, (-1, 2))" if draft.shape(operand)[-1] > 1 else f"F.pad({operand}, (0, 2))",
    ]
    if len(draft.shape(operand)) == 3 and draft.shape(operand)[-1] > 1:
        forms += [f"F.pad({operand}, (1, 1), mode='reflect')", f"F.pad({operand}, (1, 0), mode='replicate')"]
    draft.add(f"{{o}} = {draft.random.choice(forms)}", reads=[operand])


def indexed(draft: Draft) -> None:
    operand = draft.take(kinds=ALL)
    axis, _ = _axis(draft, operand)
    shape = draft.shape(operand)
    size = shape[axis]
    colons = ":, " * axis
    index = draft.random.randrange(-size, size)
    chosen = [draft.random.randrange(size) for _ in range(2)]
    buffer = draft.indices(size, 2)
    forms = [
        f"{operand}[{colons}{max(0, size - 2)}:]",
        f"{operand}[{colons}::2]",
        f"{operand}[{colons}:{max(1, size - 1)}]",
        f"{operand}[{colons}{chosen}]",
        f"{operand}[{colons}{buffer}]",
        f"{operand}[{colons}None]",
        f"{operand}[{colons}{index}:]",
        f"{operand}[..., -1:]",
        f"{operand}[:, :, None]",
    ]
    if len(shape) > 2:
        forms += [
            f"{operand}[{colons}{index}]",
            f"{operand}.select({axis}, {index})",
            f"{operand}[..., -1]",
            f"{operand}[:, None, ..., 0]",
            f"{operand}.take_along_dim({operand}.argmax({axis}, keepdim=True), {axis})",
        ]
    if len(shape) == 4:
        forms += [
            f"{operand}[:, :, 0, 0]",
            f"{operand}[:, None, :, :, 0]",
            f"{operand}.diagonal(dim1=2, dim2=3)",
            f"{operand}.diagonal(dim1=1, dim2=2)",
        ]
    if len(shape) == 3:
        forms += [
            f"{operand}.tril()",
            f"torch.triu({operand}, 1)",
            f"{operand}.unfold(2, 1, 1)",
            f"{operand}.diagonal(dim1=1, dim2=2)",
        ]
    _one(draft, operand, forms)


def masked(draft: Draft) -> None:
    operand = draft.take(kinds=LIVE)
    other = draft.take(lambda v: tuple(v.shape) == draft.shape(operand))
    forms = [
        f"torch.where({operand} > 0, {operand}, {other})",
        f"torch.where({other} > 0.3, {operand}, 0.2)",
        f"{operand}.masked_fill({other} < 0, 0.0)",
        f"torch.where({other} > 0, {operand}, {other}.detach())",
        f"torch.maximum({operand}, {other} * 0.5)",
        f"torch.min({operand}, {other} - 0.2)",
    ]
    draft.add(f"{{o}} = {draft.random.choice(forms)}", reads=[operand, other], elementwise=True)


def winners(draft: Draft) -> None:
    """Maxima and sorting: all goes where the value comes from."""
    operand = draft.take(lambda v: v.ndim > 2)
    axis, shown = _axis(draft, operand)
    shape = draft.shape(operand)
    forms = [
        f"{operand}.max({shown})[0]",
        f"{operand}.amax({shown}, keepdim=True)",
        f"{operand}.min({shown}).values",
        f"torch.max({operand}, dim={shown}, keepdim=True).values",
        f"{operand}.sort({shown})[0]",
        f"{operand}.topk({min(2, shape[axis])}, dim={shown})[0]",
    ]
    if len(shape) == 3:
        forms.append(f"F.max_pool1d({operand}, {min(2, shape[2])}, stride=1)")
    if len(shape) == 4:
        forms += [
            f"F.max_pool2d({operand}, {min(2, *shape[2:])})",
            f"F.adaptive_max_pool2d({operand}, 1)",
            f"F.max_pool2d({operand}, {min(2, *shape[2:])}, stride=1)",
        ]
    _one(draft, operand, forms)


def cast(draft: Draft) -> None:
    """Types and devices taken from other variables."""
    operand, other = draft.take(kinds=ALL), draft.take()
    forms = [
        f"{operand}.to({other})",
        f"{operand}.type_as({other})",
        f"{operand}.to({other}.dtype)",
        f"{operand}.double().to({other})",
        f"{operand}.to('cpu').to({other}.dtype)",
        f"{operand}.contiguous()",
        f"{operand}.to(dtype={other}.dtype, copy=True)",
        f"{operand}.clone()",
    ]
    kind = draft.variables[operand].kind
    draft.add(f"{{o}} = {draft.random.choice(forms)}", reads=[operand, other], kind=kind, elementwise=True)


def position(draft: Draft) -> None:
    """A constant that is cast like a signal, added."""
    operand, other = draft.take(), draft.take()
    shape = draft.shape(operand)
    constant = draft.parameter(*(shape if draft.chance(0.3) and draft.batch == 1 else (1, *shape[1:])))
    cast_of = draft.random.choice(
        (".to({b})", ".type_as({b})", ".to({b}.dtype)", ".expand_as({a})", ".clone().to({b})")
    )
    text = cast_of.replace("{a}", operand).replace("{b}", other)
    kind = draft.variables[operand].kind
    join = draft.random.choice("+*")
    draft.add(f"{{o}} = {operand} {join} {constant}{text}", reads=[operand, other], kind=kind, elementwise=True)


def identity(draft: Draft) -> None:
    """Modules that return their input."""
    operand = draft.take()
    expression = draft.random.choice(("nn.Identity()", "nn.Dropout(0.5)", "nn.Sequential()", "Unchanged()"))
    module = draft.module(expression)
    kind = draft.variables[operand].kind
    draft.add(f"{{o}} = self.{module}({operand})", reads=[operand], kind=kind, elementwise=True)


OPERATIONS = {
    parts: 4,
    unbound: 2,
    joined: 4,
    joined_with_a_parameter: 1,
    view: 6,
    expanded: 2,
    moved: 3,
    indexed: 4,
    masked: 2,
    winners: 3,
    cast: 2,
    position: 2,
    identity: 1,
}
