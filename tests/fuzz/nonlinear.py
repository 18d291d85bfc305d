"""Activations, norms and attention."""

from __future__ import annotations

from .draft import TAINTED, Draft
from .linear import call
from .products import fill

ACTIVATIONS = (
    "F.relu",
    "torch.relu",
    "F.gelu",
    "F.silu",
    "torch.tanh",
    "F.elu",
    "F.leaky_relu",
    "F.softplus",
    "F.hardswish",
    "torch.abs",
    "torch.square",
    "F.mish",
    "F.relu6",
    "torch.atan",
    "torch.asinh",
    "torch.erf",
    "torch.expm1",
)
MODULES = {
    "nn.ReLU()": "torch.relu",
    "nn.GELU()": "F.gelu",
    "nn.SiLU()": "F.silu",
    "nn.Tanh()": "torch.tanh",
    "nn.LeakyReLU(0.2)": "(lambda v: F.leaky_relu(v, 0.2))",
    "nn.Hardtanh()": "F.hardtanh",
}
WRITTEN = {
    "{h}.clamp(min=0)": "(lambda v: v.clamp(min=0))",
    "torch.clamp({h}, -1, 1)": "(lambda v: v.clamp(-1, 1))",
    "{h} ** 2": "(lambda v: v ** 2)",
    "{h}.pow(2)": "(lambda v: v ** 2)",
    "-{h}": "torch.neg",
    "{h}.relu()": "torch.relu",
    "torch.sigmoid({h})": "torch.sigmoid",
}


def activation(draft: Draft) -> None:
    operand = draft.take()
    function = draft.random.choice(ACTIVATIONS)
    lines = f"{{o}} = {function}({operand})", f"{{o}} = q.act({function}, {operand})"
    draft.add(*lines, reads=[operand], elementwise=True)


def activation_module(draft: Draft) -> None:
    operand = draft.take()
    expression, function = draft.random.choice(list(MODULES.items()))
    name = call(draft, draft.module(expression), operand, f"q.act({function}, {{h}})")
    if name in draft.variables:
        draft.variables[name].roots |= draft.variables[operand].roots


def written_activation(draft: Draft) -> None:
    """Activations as methods and operators; a sigmoid taints what follows."""
    operand = draft.take()
    form, function = draft.random.choice(list(WRITTEN.items()))
    sigmoid = "sigmoid" in form
    kind = TAINTED if sigmoid else draft.variables[operand].kind
    lines = f"{{o}} = {fill(form, h=operand)}", f"{{o}} = q.act({function}, {operand})"
    draft.add(*lines, reads=[operand], kind=kind, elementwise=True)


def norm(draft: Draft) -> None:
    operand = draft.take(lambda v: v.ndim in (2, 3, 4))
    shape = draft.shape(operand)
    expressions = {"layer_norm": f"nn.LayerNorm({shape[-1]})"}
    if len(shape) > 2:
        expressions["layer_norm "] = f"nn.LayerNorm({list(shape[-2:])})"
    groups = draft.random.choice([g for g in (1, 2, 3) if shape[1] % g == 0])
    if draft.value(operand)[0].numel() > groups:
        expressions["group_norm"] = f"nn.GroupNorm({groups}, {shape[1]})"
    if len(shape) > 2 and draft.value(operand)[0, 0].numel() > 1:
        expressions["instance_norm"] = f"nn.InstanceNorm{len(shape) - 2}d({shape[1]}, affine={draft.chance(0.5)})"
    form = draft.random.choice(list(expressions))
    module = draft.module(expressions[form])
    call(draft, module, operand, f"q.{form.strip()}(self.{module}, {{h}})")


def functional_norm(draft: Draft) -> None:
    operand = draft.take(lambda v: v.ndim > 2)
    last = draft.shape(operand)[-1]
    forms = [(f"F.layer_norm({operand}, ({last},))", f"q.standardised({operand}, (-1,))")]
    if len(draft.shape(operand)) == 3 and last > 1:
        forms += [(f"F.instance_norm({operand})", f"q.standardised({operand}, (2,))")] * 2
    forms.append(
        (f"F.normalize({operand}, dim=-1)", f"{operand} / q.c({operand}.norm(dim=-1, keepdim=True).clamp_min(1e-12))")
    )
    deviation = f"({operand}.var(-1, unbiased=False, keepdim=True) + 1e-5)"
    centred = f"({operand} - {operand}.mean(-1, keepdim=True))"
    standardised = f"q.standardised({operand}, (-1,))"
    forms += [
        (f"{centred} / {deviation}.sqrt()", standardised),
        (f"{centred} * torch.rsqrt({deviation})", standardised),
    ]
    if last > 1:
        below = f"({operand}.std(-1, keepdim=True) + 0.1)"
        forms.append((f"{operand} / {below}", f"{operand} / q.c({below})"))
    plain, detached = draft.random.choice(forms)
    draft.add(f"{{o}} = {plain}", f"{{o}} = {detached}", reads=[operand])


def attention(draft: Draft) -> None:
    """Query, key and value of one or two signals, spelled out or fused, with or without a mask."""
    operand = draft.take(lambda v: v.ndim == 3)
    shape = draft.shape(operand)
    other = draft.take(lambda v: v.ndim == 3 and v.shape[2] == shape[2])
    width = draft.random.choice((2, 3, shape[2]))
    query, key = (draft.module(f"nn.Linear({shape[2]}, {width})") for _ in range(2))
    value = draft.module(f"nn.Linear({shape[2]}, {draft.size()})")
    q, k = f"self.{query}({operand})", f"self.{key}({other})"
    v, noted = f"self.{value}({other})", f"q.node('{value}', self.{value}({other}))"
    if draft.chance(0.2):
        v = noted = other
    tokens, keys = shape[1], draft.shape(other)[1]
    score = f"({q} @ {k}.transpose(-1, -2)) / {width} ** 0.5"
    boolean, bias = f"torch.ones({tokens}, {keys}).tril().bool()", draft.parameter(tokens, keys)
    forms = [
        (f"({score}).softmax(-1) @ {v}", ""),
        (f"torch.bmm(F.softmax({score}, dim=-1), {v})", ""),
        (f"torch.einsum('bij,bjd->bid', torch.softmax({score}, -1), {v})", ""),
        (f"({score}).masked_fill(~{boolean}, float('-inf')).softmax(-1) @ {v}", boolean),
        (f"({score} + {bias}).softmax(-1) @ {v}", bias),
        (f"F.scaled_dot_product_attention({q}, {k}, {v})", ""),
        (f"F.scaled_dot_product_attention({q}, {k}, {v}, attn_mask={boolean})", boolean),
        (f"F.scaled_dot_product_attention({q}, {k}, {v}, {bias})", bias),
        (f"F.scaled_dot_product_attention({q}, {k}, {v}, is_causal=True)", boolean),
        (f"({score}).softmax(-1).detach() @ {v}", "detached"),
    ]
    plain, mask = draft.random.choice(forms)
    detached = f"q.attention({q}, {k}, {noted}{f', {mask}' if mask else ''})"
    if mask == "detached":
        detached = plain.replace(v, noted)
    kind = draft.variables[other].kind
    draft.add(f"{{o}} = {plain}", f"{{o}} = {detached}", reads=[operand, other], kind=kind)


def heads(draft: Draft) -> None:
    """Fused attention with heads, of three parts of one layer."""
    operand = draft.take(lambda v: v.ndim == 3)
    _, tokens, features = draft.shape(operand)
    module = draft.module(f"nn.Linear({features}, 12)")
    plain = (
        f"q1, k1, w1 = self.{module}({operand}).view(len({operand}), {tokens}, 3, 2, 2).permute(2, 0, 3, 1, 4)\n"
        f"{{o}} = F.scaled_dot_product_attention(q1, k1, w1).transpose(1, 2).reshape(len({operand}), {tokens}, 4)"
    )
    detached = plain.replace(f"self.{module}({operand})", f"q.node('{module}', self.{module}({operand}))").replace(
        "F.scaled_dot_product_attention", "q.attention"
    )
    draft.add(plain, detached, reads=[operand], kind=draft.variables[operand].kind)


def multi_head(draft: Draft) -> None:
    """``nn.MultiheadAttention``, batch first or not, weights wanted or not; or a whole encoder layer."""
    operand = draft.take(lambda v: v.ndim == 3 and v.shape[2] in (2, 4))
    size = draft.shape(operand)[2]
    style = draft.random.choice(("first", "second", "encoder"))
    if style == "encoder":
        module = draft.module(f"nn.TransformerEncoderLayer({size}, 2, {size + 1}, batch_first=True)")
        plain, detached = f"self.{module}({operand})", f"q.encoder_layer(self.{module}, {operand})"
    else:
        module = draft.module(f"nn.MultiheadAttention({size}, 2, batch_first={style == 'first'})")
        weights = "" if draft.chance(0.5) else ", need_weights=False"
        if style == "first":
            plain = f"self.{module}({operand}, {operand}, {operand}{weights})[0]"
        else:
            turned = f"{operand}.transpose(0, 1)"
            plain = f"self.{module}({turned}, {turned}, {turned}{weights})[0].transpose(0, 1)"
        detached = f"q.multi_head(self.{module}, {operand})"
    draft.add(f"{{o}} = {plain}", f"{{o}} = {detached}", reads=[operand], kind=draft.variables[operand].kind)


OPERATIONS = {
    activation: 4,
    activation_module: 4,
    written_activation: 3,
    norm: 3,
    functional_norm: 2,
    attention: 3,
    heads: 1,
    multi_head: 2,
}
