"""Operations that are linear with weights: layers, convolutions, batch norms, matrix products with parameters."""

from __future__ import annotations

from .draft import GATE, LIVE, Draft, UnfitError


def call(draft: Draft, module: str, operand: str, form: str = "") -> str:
    """A module's call, whose output is a node for the oracle; ``form`` is the oracle's, if it has one."""
    plain = f"self.{module}({{h}})"
    detached = f"q.node('{module}', {form or plain})"
    draft.reusable.append((module, plain, detached))
    return _run(draft, operand, plain, detached)


def _run(draft: Draft, operand: str, plain: str, detached: str) -> str:
    lines = (f"{{o}} = {text.replace('{h}', operand)}" for text in (plain, detached))
    return draft.add(*lines, reads=[operand])[0]


def again(draft: Draft) -> None:
    """A module that ran before, on another signal."""
    if not draft.reusable:
        raise UnfitError
    module, plain, detached = draft.random.choice(draft.reusable)
    first = next(s for s in draft.statements if f"self.{module}(" in s.plain)
    shape = draft.shape(first.uses[0])
    _run(draft, draft.take(lambda v: tuple(v.shape) == shape), plain, detached)


def linear(draft: Draft) -> None:
    operand = draft.take()
    sizes = f"{draft.shape(operand)[-1]}, {draft.size()}, bias={draft.chance(0.7)}"
    kind = "ScaledLinear" if draft.chance(0.15) else "nn.Linear"
    call(draft, draft.module(f"{kind}({sizes})"), operand)


def residual(draft: Draft) -> None:
    operand = draft.take()
    module = draft.module(f"Residual({draft.shape(operand)[-1]})")
    own = f"self.{module}"
    call(draft, module, operand, f"{{h}} + {own}.second(q.act(torch.relu, {own}.first({{h}})))")


def convolution(draft: Draft) -> str:
    operand = draft.take(lambda v: v.ndim in (3, 4))
    shape = draft.shape(operand)
    dims = len(shape) - 2
    groups = draft.random.choice([g for g in (1, 1, 1, 2, 3) if shape[1] % g == 0])
    out = groups * draft.random.randint(1, max(1, 4 // groups))
    kernel = draft.random.choice([k for k in (1, 2, 3) if k <= min(shape[2:]) + 1 + (k == 3)])
    padding = draft.random.choice([p for p in (0, 1) if min(shape[2:]) + 2 * p >= kernel and p < max(kernel, 2)])
    stride = draft.random.choice((1, 1, 2))
    bias = draft.chance(0.5)
    style = draft.random.choice(("module", "module", "functional", "padded", "standard", "transposed"))
    if style == "functional":
        weight = draft.parameter(out, shape[1] // groups, *(kernel,) * dims)
        extra = f", {draft.parameter(out)}" if bias else ", None"
        options = f"stride={stride}, padding={padding}, groups={groups}"
        return draft.add(f"{{o}} = F.conv{dims}d({operand}, {weight}{extra}, {options})", reads=[operand])[0]
    if style == "padded":
        kernel = min(kernel, 2)
        expression = f"PaddedConv{dims}d({shape[1]}, {out}, {kernel}, groups={groups}, bias={bias})"
    elif style == "transposed":
        expression = (
            f"nn.ConvTranspose{dims}d({shape[1]}, {out}, {kernel}, stride={stride}, groups={groups}, bias={bias})"
        )
    else:
        kind = "StandardConv1d" if style == "standard" and dims == 1 else f"nn.Conv{dims}d"
        options = f"stride={stride}, padding={padding}, groups={groups}, bias={bias}"
        expression = f"{kind}({shape[1]}, {out}, {kernel}, {options})"
    return call(draft, draft.module(expression), operand)


def batch_norm(draft: Draft, operand: str | None = None) -> str:
    operand = operand or draft.take(lambda v: v.ndim in (2, 3, 4))
    shape = draft.shape(operand)
    module = draft.module(f"nn.BatchNorm{2 if len(shape) == 4 else 1}d({shape[1]})")
    return call(draft, module, operand, f"q.batch_norm(self.{module}, {{h}})")


def convolution_and_norm(draft: Draft) -> None:
    operand = convolution(draft)
    if operand in draft.variables:
        batch_norm(draft, operand)


def norm_and_layer(draft: Draft) -> None:
    operand = batch_norm(draft, draft.take(lambda v: v.ndim in (2, 3, 4)))
    if len(draft.shape(operand)) == 2:
        call(draft, draft.module(f"nn.Linear({draft.shape(operand)[1]}, {draft.size()})"), operand)
    else:
        dims = len(draft.shape(operand)) - 2
        call(draft, draft.module(f"nn.Conv{dims}d({draft.shape(operand)[1]}, {draft.size()}, 1)"), operand)


def stacked(draft: Draft) -> None:
    """A Sequential of a layer, a batch norm and an activation."""
    operand = draft.take(lambda v: v.ndim in (2, 4))
    shape, out = draft.shape(operand), draft.size()
    layer, norm = ("Linear", 1) if len(shape) == 2 else ("Conv2d", 2)
    sizes = f"{shape[1]}, {out}" + (", 1" if norm == 2 else "")
    module = draft.module(f"nn.Sequential(nn.{layer}({sizes}), nn.BatchNorm{norm}d({out}), nn.ReLU(inplace=True))")
    inner = f"q.batch_norm(self.{module}[1], q.node('{module}.0', self.{module}[0]({{h}})))"
    call(draft, module, operand, f"q.act(torch.relu, {inner})")


def matrix(draft: Draft) -> None:
    """A product with a parameter, in one of many writings."""
    operand = draft.take()
    shape = draft.shape(operand)
    last, out = shape[-1], draft.size()
    weight = draft.parameter(last, out)
    forms = [
        f"{operand} @ {weight}",
        f"torch.matmul({operand}, {weight})",
        f"torch.einsum('...i,ij->...j', {operand}, {weight})",
        f"F.linear({operand}, {weight}.t())",
        f"F.linear({operand}, ({weight} * 0.5).t(), None)",
        f"torch.tensordot({operand}, {weight}, dims=([-1], [0]))",
        f"torch.tensordot({operand}, {weight}, 1)",
    ]
    if len(shape) == 2:
        forms += [f"torch.mm({operand}, {weight})", f"torch.addmm({draft.parameter(out)}, {operand}, {weight})"]
    if len(shape) == 3:
        batched = f"{weight}.expand(len({operand}), -1, -1)"
        forms += [
            f"torch.bmm({operand}, {batched})",
            f"torch.baddbmm({draft.parameter(out)}, {operand}, {batched})",
            f"torch.einsum('bti,io->bot', {operand}, {weight})",
            f"torch.einsum('bti,io->bto', [{operand}, {weight}])",
        ]
    draft.add(f"{{o}} = {draft.random.choice(forms)}", reads=[operand])


def matrix_from_the_left(draft: Draft) -> None:
    operand = draft.take(lambda v: v.ndim >= 3)
    weight = draft.parameter(draft.size(), draft.shape(operand)[-2])
    form = draft.random.choice((f"{weight} @ {operand}", f"torch.matmul({weight}, {operand})"))
    draft.add(f"{{o}} = {form}", reads=[operand])


def linear_map_of_a_gate(draft: Draft) -> None:
    operand = draft.take(kinds=(GATE,))
    weight = draft.parameter(draft.shape(operand)[-1], draft.size())
    draft.add(f"{{o}} = {operand} @ {weight}", reads=[operand])


def pooled(draft: Draft) -> None:
    """Sums and means over some axes."""
    operand = draft.take(lambda v: v.ndim >= 3, kinds=LIVE)
    shape = draft.shape(operand)
    axis = draft.random.randrange(1, len(shape))
    shown = draft.random.choice((axis, axis - len(shape)))
    forms = [f"{operand}.{f}({shown}{k})" for f in ("mean", "sum") for k in ("", ", keepdim=True")]
    forms += [f"{operand}.cumsum({shown})", f"torch.mean({operand}, dim=({shown},))"]
    if len(shape) == 3:
        forms += [f"F.avg_pool1d({operand}, {min(2, shape[2])})", f"F.adaptive_avg_pool1d({operand}, 1)"]
    if len(shape) == 4:
        forms += [
            f"F.avg_pool2d({operand}, {min(2, *shape[2:])})",
            f"F.adaptive_avg_pool2d({operand}, 1)",
            f"F.interpolate({operand}, scale_factor=2)",
            f"F.interpolate({operand}, size=(2, 2), mode='bilinear', align_corners=False)",
            f"{operand}.mean((2, 3))",
            f"{operand}.mean((-1, -2), keepdim=True)",
        ]
    draft.add(f"{{o}} = {draft.random.choice(forms)}", reads=[operand])


def complex_map(draft: Draft) -> None:
    """A linear map by complex numbers: filters of a spectrum, rotations of pairs."""
    operand = draft.take(lambda v: v.shape[-1] > 1)
    last = draft.shape(operand)[-1]
    spectrum = f"torch.fft.rfft({operand})"
    forms = [
        f"torch.fft.irfft({spectrum} * 0.7, n={last})",
        f"torch.fft.irfft({spectrum} * torch.fft.rfft({draft.parameter(last)}), n={last})",
        f"torch.fft.fft({operand}).real",
        f"torch.fft.irfft(torch.cat([{spectrum}[..., :1] * 2, {spectrum}[..., 1:]], -1), n={last})",
    ]
    if last % 2 == 0:
        pairs = f"torch.view_as_complex({operand}.reshape(*{operand}.shape[:-1], -1, 2).contiguous())"
        turns = f"torch.view_as_complex({draft.parameter(last // 2, 2)})"
        forms += [f"torch.view_as_real({pairs} * {by}).flatten(-2)" for by in ("(0.6 + 0.8j)", turns)]
    form = draft.random.choice(forms)
    # torch cannot differentiate view_as_real where a gradient begins at an odd place of its memory
    draft.add(f"{{o}} = {form}", f"{{o}} = {form} * 1", reads=[operand])


OPERATIONS = {
    again: 2, linear: 5, residual: 1, convolution: 5, batch_norm: 1, convolution_and_norm: 3, norm_and_layer: 2,
    stacked: 2, matrix: 3, matrix_from_the_left: 1, linear_map_of_a_gate: 1, pooled: 2,
    complex_map: 1,
}  # fmt: skip
