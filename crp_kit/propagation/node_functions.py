"""The computation of a node as a function of the inputs that receive relevance; everything else is held fixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..graph.graph import Node, Ref
from ..graph.memory_format import laid_out
from ..graph.nested import mapped
from ..graph.operations import Kind, Trait
from ..graph.recording.record import Recording
from ..numerics import working

Function = Callable[..., list[torch.Tensor]]


def values_of(recording: Recording, refs: Sequence[Ref]) -> list[torch.Tensor]:
    """Return the recorded values as rules use them, the same tensor each time: in working precision, maps laid out."""
    return [_value_of(recording, ref) for ref in refs]


def _value_of(recording: Recording, ref: Ref) -> torch.Tensor:
    known = recording.working
    if ref not in known:
        value = working(recording.value(ref))
        known[ref] = laid_out(value) if ref in recording.maps else value
    return known[ref]


def output_of(recording: Recording, ref: Ref) -> torch.Tensor | None:
    """Return the recorded output as rules use it, or None if the forward made it in less than working precision."""
    value = recording.value(ref)
    return values_of(recording, [ref])[0] if working(value) is value else None


def inputs_of(recording: Recording, node: Node, refs: Sequence[Ref]) -> list[torch.Tensor]:
    """Return recorded values as a node's own computation takes them.

    A module, an unknown operation and a view may depend on the memory format: they get the one of the forward.
    """
    if node.is_module or node.kind is Kind.UNKNOWN or node.spec.has(Trait.MEMORY_ORDER):
        return [working(recording.value(ref)) for ref in refs]
    return values_of(recording, refs)


def true_function(node: Node, recording: Recording, refs: Sequence[Ref]) -> Function:
    """Return the node's own computation; its Jacobian is the plain gradient. Norms are spelled out, see `_NORMS`."""
    if node.kind is Kind.BATCH_NORM:
        return affine_norm(with_constants(node, recording))
    if node.kind is Kind.NORM:
        return _norm(node, recording, refs, detached=False)
    floats = [i for i, shape in enumerate(node.shapes) if shape is not None]
    own_precision = node.is_module
    recorded = {ref: recording.value(ref) for ref in node.inputs}
    fixed = recorded if own_precision else {ref: working(value) for ref, value in recorded.items()}
    promoted = node if own_precision else _promoted(node)
    if node.spec.has(Trait.ATTENTION):
        promoted = replace(promoted, func=partial(_attention_in_steps, promoted.func))

    def run(*values: torch.Tensor) -> list[torch.Tensor]:
        now = {ref: value.to(fixed[ref].dtype) for ref, value in zip(refs, values, strict=True)}
        if own_precision:  # a module may write to its inputs, and its fused norms need contiguous gradients
            now = {ref: value.clone(memory_format=torch.contiguous_format) for ref, value in now.items()}
        outputs = promoted.call({**fixed, **now})
        return [working(outputs[i]) for i in floats]

    return run


def linearised_function(node: Node, recording: Recording, refs: Sequence[Ref]) -> Function:
    """Return the node as an affine map of some inputs: deviations of norms, gates and other inputs are constants."""
    if node.kind is Kind.NORM:
        return _norm(node, recording, refs, detached=True)
    if node.op == "cosine_similarity":
        return _cosine_similarity(node, recording, refs)
    if node.spec.has(Trait.ATTENTION):
        node = _with_fixed_weights(node, recording)
    return true_function(node, recording, refs)


def _with_fixed_weights(node: Node, recording: Recording) -> Node:
    """Return an attention node whose query and key are constants, even if they are the value's own tensor."""
    fixed = {name: _recorded(recording, node.argument(name)) for name in ("query", "key")}
    positional = [fixed.get(name, value) for name, value in zip(("query", "key"), node.args[:2], strict=False)]
    named = {name: fixed.get(name, value) for name, value in node.kwargs.items()}
    return replace(node, args=(*positional, *node.args[2:]), kwargs=named)


def _recorded(recording: Recording, argument: Any) -> Any:
    """Return the value of an argument of a node."""
    return recording.value(argument) if isinstance(argument, Ref) else argument


def _cosine_similarity(node: Node, recording: Recording, refs: Sequence[Ref]) -> Function:
    """Return the product of two normalised vectors, whose norms are constants."""
    operands = [node.argument(name) for name in ("x1", "x2")]
    values = [working(_recorded(recording, operand)) for operand in operands]
    dim, eps = node.argument("dim", 1), node.argument("eps", 1e-8)
    scales = [1 / torch.linalg.vector_norm(value, dim=dim, keepdim=True).clamp_min(eps) for value in values]

    def run(*signals: torch.Tensor) -> list[torch.Tensor]:
        now = dict(zip(refs, signals, strict=True))
        first, second = (
            (now[operand] if isinstance(operand, Ref) and operand in now else value) * scale
            for operand, value, scale in zip(operands, values, scales, strict=True)
        )
        return [(first * second).sum(dim)]

    return run


def _attention_in_steps(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return attention made of products and a softmax: the fused kernels cannot be transposed for many rows at once."""
    with sdpa_kernel(SDPBackend.MATH):
        return func(*args, **kwargs)


def _promoted(node: Node) -> Node:
    """Return the node with half-precision constants in working precision, so that it can be recomputed there."""

    def up(tree: Any) -> Any:
        if isinstance(tree, torch.Tensor):
            return working(tree).detach() if tree.is_floating_point() else tree
        if isinstance(tree, (tuple, list)) and type(tree) in (tuple, list):
            return type(tree)(up(part) for part in tree)
        return tree

    return replace(node, args=up(node.args), kwargs={key: up(value) for key, value in node.kwargs.items()})


# ---------------------------------------------------------------------- norms


def with_constants(node: Node, recording: Recording) -> Node:
    """Return a norm whose weights and statistics are values, also those that are outputs of other nodes."""
    signal = node.argument("input")
    if node.inputs == (signal,):
        return node
    return _with_values(node, {ref: ref if ref == signal else recording.value(ref) for ref in node.inputs})


def _with_values(node: Node, values: Mapping[Ref, Any]) -> Node:
    """Return a node with values in place of outputs of other nodes; its own constants have no gradient."""
    constant = mapped((node.args, dict(node.kwargs)), torch.Tensor.detach)
    args, kwargs = mapped(constant, values.__getitem__, Ref)
    return replace(node, args=args, kwargs=kwargs)


def spelled_norm(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Return a norm of an input in primitive operations; its weights are values."""
    return _NORMS[node.op](node, None)(x)[0]


def _norm(node: Node, recording: Recording, refs: Sequence[Ref], *, detached: bool) -> Function:
    """Return a norm in primitive operations; `detached`, its deviation and its weight are constants."""
    recorded = {ref: working(recording.value(ref)) for ref in node.inputs}
    weight = node.argument("weight") if "weight" in node.spec.parameters else None

    def run(*values: torch.Tensor) -> list[torch.Tensor]:
        now = {**recorded, **dict(zip(refs, values, strict=True))}
        if detached and isinstance(weight, Ref):
            now[weight] = recorded[weight]
        concrete, signal = _with_values(node, now), node.argument("input")
        return _NORMS[node.op](concrete, recorded.get(signal) if detached else None)(concrete.argument("input"))

    return run


def batch_norm_factors(node: Node) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift, (channel,), of a BatchNorm with running statistics; its epsilon is part of them."""
    mean, variance = working(node.argument("running_mean")), working(node.argument("running_var"))
    weight, bias, eps = node.argument("weight"), node.argument("bias"), node.argument("eps", 1e-5)
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * working(weight)
    shift = -mean * scale
    if bias is not None:
        shift = shift + working(bias)
    return scale.detach(), shift.detach()


def per_channel(values: torch.Tensor, ndim: int) -> torch.Tensor:
    """Return (channel,) so that it broadcasts to (batch, channel, ...)."""
    return values.view(1, -1, *(1,) * (ndim - 2))


def affine_map(node: Node) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``a`` and ``c`` of a BatchNorm as ``x * a + c``, each of the shape of its output."""
    scale, shift = (per_channel(factor, len(node.shape)).expand(node.shape) for factor in batch_norm_factors(node))
    return scale, shift


def affine_norm(node: Node) -> Function:
    """Return a BatchNorm with running statistics as the affine map that it is."""
    scale, shift = affine_map(node)
    return lambda x: [x * scale + shift]


def _affine(node: Node, normalised: torch.Tensor, shape: Sequence[int] | None = None) -> torch.Tensor:
    """Return normalised values times the norm's weight plus its bias, which are viewed in a shape that broadcasts."""
    for name in ("weight", "bias"):
        factor = node.argument(name) if name in node.spec.parameters else None
        if factor is None:
            continue
        factor = working(factor)
        factor = factor if shape is None else factor.view(*shape)
        normalised = normalised * factor if name == "weight" else normalised + factor
    return normalised


def _like(fixed: torch.Tensor | None, v: torch.Tensor) -> torch.Tensor:
    """Return the values whose deviation is taken: those at which it is held fixed, or else the norm's own input."""
    return v if fixed is None else fixed


def _variance(v: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    """Return the variance over some axes, which stay with size 1; ``Tensor.var`` takes ten times as long on a CPU."""
    return (v - v.mean(dims, keepdim=True)).square().mean(dims, keepdim=True)


def _layer_norm(node: Node, fixed: torch.Tensor | None) -> Function:
    dims, eps = tuple(range(-len(node.argument("normalized_shape")), 0)), node.argument("eps", 1e-5)

    def run(v: torch.Tensor) -> list[torch.Tensor]:
        scale = torch.rsqrt(_variance(_like(fixed, v), dims) + eps)
        return [_affine(node, (v - v.mean(dims, keepdim=True)) * scale)]

    return run


def _rms_norm(node: Node, fixed: torch.Tensor | None) -> Function:
    dims, eps = tuple(range(-len(node.argument("normalized_shape")), 0)), node.argument("eps")

    def run(v: torch.Tensor) -> list[torch.Tensor]:
        added = torch.finfo(v.dtype).eps if eps is None else eps
        return [_affine(node, v * torch.rsqrt(_like(fixed, v).square().mean(dims, keepdim=True) + added))]

    return run


def _group_norm(node: Node, fixed: torch.Tensor | None) -> Function:
    return _grouped(node, fixed, node.argument("num_groups"))


def _instance_norm(node: Node, fixed: torch.Tensor | None) -> Function:
    if not node.argument("use_input_stats", True):
        return affine_norm(node)
    return _grouped(node, fixed, node.shape[1])


def _grouped(node: Node, fixed: torch.Tensor | None, groups: int) -> Function:
    shape, eps = (1, node.shape[1], *(1,) * (len(node.shape) - 2)), node.argument("eps", 1e-5)

    def parts(v: torch.Tensor) -> torch.Tensor:
        return v.reshape(v.shape[0], groups, -1)

    def run(v: torch.Tensor) -> list[torch.Tensor]:
        scale = torch.rsqrt(_variance(parts(_like(fixed, v)), (-1,)) + eps)
        normalised = ((parts(v) - parts(v).mean(-1, keepdim=True)) * scale).reshape(v.shape)
        return [_affine(node, normalised, shape)]

    return run


def _local_response_norm(node: Node, fixed: torch.Tensor | None) -> Function:
    size, alpha = node.argument("size"), node.argument("alpha", 1e-4)
    beta, k = node.argument("beta", 0.75), node.argument("k", 1.0)

    def run(v: torch.Tensor) -> list[torch.Tensor]:
        squares = _like(fixed, v).square()
        edges = (*(0, 0) * (v.ndim - 2), size // 2, (size - 1) // 2)  # channels beyond the first and the last are zero
        windows = torch.nn.functional.pad(squares, edges).unfold(1, size, 1)
        return [v / (windows.mean(-1) * alpha + k) ** beta]

    return run


def _normalize(node: Node, fixed: torch.Tensor | None) -> Function:
    p, dim, eps = node.argument("p", 2.0), node.argument("dim", 1), node.argument("eps", 1e-12)
    return lambda v: [v / torch.linalg.vector_norm(_like(fixed, v), p, dim, keepdim=True).clamp_min(eps)]


_NORMS: dict[str, Callable[[Node, torch.Tensor | None], Function]] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "local_response_norm": _local_response_norm,
    "normalize": _normalize,
}
"""Norms in primitive operations, with their deviation held fixed at a value, or with their own if that is None.

A fused norm is never differentiated: the CPU backward of torch's `instance_norm` is wrong for one sample and a gradient
channels last, and so is that of `batch_norm` in evaluation mode in some releases.
"""
