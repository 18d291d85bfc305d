"""Operations that join variables: sums, products with constants, gates and other signals, quotients."""

from __future__ import annotations

import torch

from .draft import CONSTANT, GATE, LIVE, SIGNAL, TAINTED, Draft, UnfitError

SIGMOIDS = ("torch.sigmoid", "F.hardsigmoid")


def constant(draft: Draft, shape: tuple[int, ...]) -> tuple[str, list[str]]:
    """Expression of a constant that broadcasts to a shape, and the variables in it; detached ones keep the shape."""
    style = draft.random.choice(("number", "parameter", "parameter", "detach", "data", "variable", "mask"))
    if style == "number":
        return str(draft.random.choice((0.5, -1.5, 2))), []
    if style == "parameter":
        ranks = [shape[i:] for i in range(1, len(shape))] + [(1, *shape[1:])]
        sizes = tuple(draft.random.choice((size, size, 1)) for size in draft.random.choice(ranks))
        return draft.parameter(*sizes), []
    if style == "variable":
        name = draft.take(lambda v: broadcasts(v.shape, shape), kinds=(CONSTANT,))
        return name, [name]
    name = draft.take(lambda v: broadcasts(v.shape, shape), kinds=(SIGNAL, TAINTED))
    if style == "mask":
        cast = draft.random.choice(
            (f".to({name})", f".type_as({name})", f".to({name}.dtype)", f".to(dtype={name}.dtype)")
        )
        return f"({name} > 0){cast}", [name]
    return f"{name}.{'detach()' if style == 'detach' else 'data'}", [name]


def broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether a shape of a whole batch broadcasts to another without making it larger."""
    return len(shape) == len(target) and all(a in (1, b) for a, b in zip(shape, target, strict=True))


def fill(template: str, **names: str) -> str:
    """A template with names in it."""
    for key, name in names.items():
        template = template.replace(f"{{{key}}}", name)
    return template


def _kind(draft: Draft, operand: str) -> str:
    """Kind of a product or sum of an operand and constants."""
    return draft.variables[operand].kind


def add_constant(draft: Draft) -> None:
    operand = draft.take()
    other, reads = constant(draft, draft.shape(operand))
    sign = draft.random.choice("+++-")
    text = f"{operand} {sign} {other}" if draft.chance(0.6) else f"{other} {sign} {operand}"
    kind = _kind(draft, operand)
    detached = f"{{o}} = q.total({text}, {operand})"
    draft.add(f"{{o}} = {text}", detached, reads=[operand, *reads], kind=kind, elementwise=True)


def times_constant(draft: Draft) -> None:
    operand = draft.take(kinds=(SIGNAL, SIGNAL, TAINTED, GATE))
    other, reads = constant(draft, draft.shape(operand))
    text = draft.random.choice(
        (f"{operand} * {other}", f"{other} * {operand}", f"torch.mul({operand}, {other})", f"{operand}.mul({other})")
    )
    draft.add(f"{{o}} = {text}", reads=[operand, *reads], kind=_kind(draft, operand), elementwise=True)


def times_frozen(draft: Draft) -> None:
    """A product with something that was computed without gradients."""
    operand = draft.take()
    other = draft.take(lambda v: broadcasts(v.shape, draft.shape(operand)))
    if draft.chance(0.4):
        module = draft.module(f"Frozen({draft.shape(other)[-1]})")
        plain = f"{{o}} = {operand} * self.{module}({other})"
    else:
        function = draft.random.choice(("torch.sigmoid", "torch.tanh", "torch.relu", "torch.abs"))
        factor = f"w_{other}"
        form = draft.random.choice((f"{operand} * {factor}", f"{factor} * {operand}", f"{operand} / ({factor} + 1.5)"))
        plain = f"with torch.no_grad():\n    {factor} = {function}({other}) * 0.9\n{{o}} = {form}"
    draft.add(plain, reads=[operand, other], kind=_kind(draft, operand), elementwise=True)


def divided(draft: Draft) -> None:
    """A quotient, whose denominator is a constant in any case."""
    operand = draft.take()
    other = draft.take(lambda v: broadcasts(v.shape, draft.shape(operand)))
    below = draft.random.choice(
        ("({b}.abs() + 1)", "({b}.square().mean(-1, keepdim=True) + 1).sqrt()", "({b}.exp() + 1)")
    )
    style = draft.random.choice(("{a} / {c}", "torch.div({a}, {c})", "{a} * (1 / {c})", "{a} * torch.rsqrt({c})"))

    def lines(denominator: str) -> str:
        return "{o} = " + fill(style, a=operand, c=fill(denominator, b=other))

    draft.add(
        lines(below), lines(f"q.c({below})"), reads=[operand, other], kind=_kind(draft, operand), elementwise=True
    )


def sum_of_signals(draft: Draft) -> None:
    first = draft.take()
    second = draft.take(lambda v: broadcasts(v.shape, draft.shape(first)))
    forms = (f"{first} + {second}", f"{first} - {second}", f"torch.add({first}, {second}, alpha=0.5)",
             f"{first}.sub({second}, alpha=2)", f"{second} + {first}")  # fmt: skip
    form = draft.random.choice(forms)
    draft.add(f"{{o}} = {form}", f"{{o}} = q.total({form}, {first})", reads=[first, second], elementwise=True)


def gate(draft: Draft) -> None:
    """A sigmoid or softmax of a signal, whose only use is as a factor."""
    operand = draft.take(kinds=(SIGNAL,))
    axis = draft.random.randrange(1, len(draft.shape(operand)))
    form = draft.random.choice(
        ("{h}.sigmoid()", "torch.sigmoid({h})", "F.hardsigmoid({h})", "nn.Sigmoid()({h})", "1 - torch.sigmoid({h})",
         "torch.exp(-F.softplus({h}))", "torch.exp(F.logsigmoid({h}) / 2)", "torch.exp2({h} / 4)",
         "2 * torch.sigmoid({h}) - 0.5", "1 / (1 + torch.exp(-{h}))", "torch.reciprocal(1 + {h}.abs())",
         f"{{h}}.softmax({axis})", f"F.softmax({{h}}, dim={axis - len(draft.shape(operand))})")
    )  # fmt: skip
    form = fill(form, h=operand)
    draft.add(f"{{o}} = {form}", f"{{o}} = q.c({form})", reads=[operand], kind=GATE, elementwise=True)
    if draft.chance(0.6):
        times_gate(draft)


def excitation(draft: Draft) -> None:
    """Squeeze and excitation over the channels."""
    operand = draft.take(lambda v: v.ndim == 4)
    module = draft.module(f"nn.Conv2d({draft.shape(operand)[1]}, {draft.shape(operand)[1]}, 1)")
    factor = f"torch.sigmoid(self.{module}({operand}.mean((2, 3), keepdim=True)))"
    lines = f"{{o}} = {operand} * {factor}", f"{{o}} = {operand} * q.c({factor})"
    draft.add(*lines, reads=[operand], kind=_kind(draft, operand), elementwise=True)


def times_gate(draft: Draft) -> None:
    factor = draft.take(kinds=(GATE,))
    shape = draft.shape(factor)
    operand = draft.take(lambda v: broadcasts(shape, v.shape), kinds=LIVE)
    form = draft.random.choice((f"{operand} * {factor}", f"{factor} * {operand}", f"torch.mul({factor}, {operand})"))
    draft.add(f"{{o}} = {form}", reads=[operand, factor], kind=_kind(draft, operand), elementwise=True)


def own_gate(draft: Draft) -> None:
    """A hand-written activation: a signal times a function of itself."""
    operand = draft.take(kinds=(SIGNAL,))
    factor = draft.random.choice(
        ("torch.sigmoid({h})", "torch.sigmoid(1.7 * {h})", "F.relu6({h} + 3) / 6", "torch.tanh({h})",
         "(0.5 * (1 + torch.tanh({h})))", "F.softplus({h}).tanh()", "{h}.detach()")
    )  # fmt: skip
    factor = fill(factor, h=operand)
    lines = f"{{o}} = {operand} * {factor}", f"{{o}} = {operand} * q.c({factor})"
    draft.add(*lines, reads=[operand], kind=SIGNAL, elementwise=True)


def times_signal(draft: Draft) -> None:
    """A product of two live signals of one shape, which share."""
    first = draft.take(kinds=(SIGNAL,))
    second = draft.factor_of(first, lambda v: tuple(v.shape) == draft.shape(first))
    form = draft.random.choice(("{a} * {b}", "torch.mul({a}, {b})", "{a}.mul({b})", "torch.multiply({a}, {b})"))
    plain = form.replace("{a}", first).replace("{b}", second)
    detached = f"{{o}} = q.halves(torch.mul, {first}, {second})"
    draft.add(f"{{o}} = {plain}", detached, reads=[first, second], elementwise=True)


def matrix_product(draft: Draft) -> None:
    """A product of matrices: of two signals, or of a signal and something without relevance."""
    first = draft.take(lambda v: v.ndim >= 3, kinds=LIVE)
    shape = draft.shape(first)
    style = draft.random.choice(("live", "live", "detach", "gate"))

    def fits(v: torch.Tensor) -> bool:
        return tuple(v.shape[:-2]) == shape[:-2] and v.ndim == len(shape) and v.shape[-2] == shape[-1]

    functions = ["torch.matmul", "torch.bmm", "einsum"] if len(shape) == 3 else ["torch.matmul"]
    function = draft.random.choice(functions)
    if style == "live":
        second = other = draft.factor_of(first, fits)
    elif style == "detach":
        second = draft.take(fits, kinds=LIVE)
        other = f"{second}.detach()"
    else:
        second = other = draft.take(fits, kinds=(GATE,))
    if function == "einsum":
        function = "(lambda a, b: torch.einsum('bij,bjk->bik', a, b))"
        plain = f"torch.einsum('bij,bjk->bik', {first}, {other})"
    else:
        plain = f"{function}({first}, {other})"
    detached = f"q.halves({function}, {first}, {other})" if style == "live" else plain
    kind = draft.variables[first].kind
    draft.add(f"{{o}} = {plain}", f"{{o}} = {detached}", reads=[first, second], kind=kind)


def computed_weights(draft: Draft) -> None:
    """A layer whose weights are computed for each sample behind a gate, from a bank of weights."""
    operand = draft.take(lambda v: v.ndim == 3)
    _, channels, length = draft.shape(operand)
    router = draft.take(lambda v: v[0].numel() <= 8, kinds=(SIGNAL,))
    out = draft.size()
    bank = draft.parameter(draft.value(router)[0].numel(), out * channels)
    function = draft.random.choice(("{h}.softmax(1)", "torch.sigmoid({h})", "F.softmax({h}, dim=-1)"))
    weights = f"({fill(function, h=f'{router}.flatten(1)')} @ {bank})"
    form = draft.random.choice(
        (f"torch.einsum('bct,boc->bot', {operand}, {{w}}.view(-1, {out}, {channels}))",
         f"torch.bmm({{w}}.view(-1, {out}, {channels}), {operand})",
         f"F.conv1d({operand}.reshape(1, -1, {length}), {{w}}.view(-1, {channels}, 1), groups=len({operand}))"
         f".view(len({operand}), {out}, {length})")
    )  # fmt: skip
    lines = (f"{{o}} = {fill(form, w=text)}" for text in (weights, f"q.c{weights}"))
    draft.add(*lines, reads=[operand, router], kind=draft.variables[operand].kind)


def detached_weights(draft: Draft) -> None:
    """A layer whose weights are a detached signal, for one sample."""
    if draft.batch != 1:
        raise UnfitError
    operand = draft.take()
    last = draft.shape(operand)[-1]
    source = draft.take(lambda v: v[0].numel() % last == 0)
    weight = f"{source}[0].reshape(-1, {last}).detach()"
    forms = [f"F.linear({operand}, {weight})", f"{operand} @ {weight}.t()"]
    if len(draft.shape(operand)) == 3 and draft.value(source)[0].numel() % draft.shape(operand)[1] == 0:
        channels = draft.shape(operand)[1]
        forms += [f"F.conv1d({operand}, {source}[0].reshape(-1, {channels}, 1).detach())"] * 2
    kind = draft.variables[operand].kind
    draft.add(f"{{o}} = {draft.random.choice(forms)}", reads=[operand, source], kind=kind, one_sample=True)


def constant_variable(draft: Draft) -> None:
    """A variable without relevance: detached, frozen, compared, or like another."""
    operand = draft.take()
    plain = draft.random.choice(
        (f"{{o}} = {operand}.detach() * 0.5", f"with torch.no_grad():\n    {{o}} = torch.relu({operand})",
         f"{{o}} = ({operand} > 0).type_as({operand})", f"{{o}} = torch.ones_like({operand}) * 0.3",
         f"{{o}} = {operand}.clone().detach()", f"{{o}} = torch.sign({operand})")
    )  # fmt: skip
    draft.add(plain, reads=[operand], kind=CONSTANT)


OPERATIONS = {
    add_constant: 3, times_constant: 5, times_frozen: 2, divided: 2, sum_of_signals: 4, gate: 3, excitation: 1,
    times_gate: 6, own_gate: 1, times_signal: 3, matrix_product: 4, computed_weights: 4, detached_weights: 1,
    constant_variable: 2,
}  # fmt: skip
