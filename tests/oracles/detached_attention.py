"""Attention whose weights are constants (CP-LRP: relevance goes through the values only).

References
----------
Ali, Schnake, Eberle, Montavon, Müller and Wolf, "XAI for Transformers: Better Explanations through Conservative
Propagation", ICML 2022: the attention weights are treated as constants.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F

Constant = Callable[[torch.Tensor], torch.Tensor]


def attention(
    constant: Constant,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Scaled dot-product attention; its weights are the attention paid to the rows of a unit matrix."""
    if dropout_p:
        raise NotImplementedError("the oracle wants attention without dropout")
    length, heads = key.shape[-2], query.shape[-3] if enable_gqa else 0
    if enable_gqa:
        key = key.repeat_interleave(heads // key.shape[-3], -3)
        value = value.repeat_interleave(heads // value.shape[-3], -3)
    unit = torch.eye(length, dtype=query.dtype, device=query.device).expand(*key.shape[:-1], length)
    mask = None if attn_mask is None else attn_mask.detach()
    weights = F.scaled_dot_product_attention(
        query.detach(), key.detach(), unit, attn_mask=mask, is_causal=is_causal, scale=scale
    )
    return constant(weights) @ value


def multi_head_attention(constant: Constant, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """``F.multi_head_attention_forward``; torch itself says the weights, whatever masks there are."""
    call = _Call(*args, **kwargs)
    weights = constant(call.weights())
    batch, heads, length, _ = weights.shape
    value = call.values(heads)
    mixed = (weights @ value).permute(2, 0, 1, 3).reshape(length, batch, -1)
    output = F.linear(mixed, call.arguments["out_proj_weight"], call.arguments["out_proj_bias"])
    if not call.batched:
        output, weights = output.squeeze(1), weights.squeeze(0)
    if not call.arguments["need_weights"]:
        return output, None
    averaged = weights.mean(-3) if call.arguments["average_attn_weights"] else weights
    return output, averaged


class _Call:
    """Arguments of one call of ``F.multi_head_attention_forward``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bound = signature(F.multi_head_attention_forward).bind(*args, **kwargs)
        bound.apply_defaults()
        self.arguments = bound.arguments
        self.batched = self.arguments["query"].ndim == 3
        if self.arguments["static_k"] is not None or self.arguments["static_v"] is not None:
            raise NotImplementedError("the oracle has no rule for static keys or values")
        if self.arguments["dropout_p"] and self.arguments["training"]:
            raise NotImplementedError("the oracle wants a model in evaluation mode")

    def weights(self) -> torch.Tensor:
        """Attention weights (batch, head, target, source) of the detached call."""
        arguments: dict[str, Any] = {
            name: value.detach() if isinstance(value, torch.Tensor) else value for name, value in self.arguments.items()
        }
        arguments.update(need_weights=True, average_attn_weights=False)
        weights: Any = F.multi_head_attention_forward(**arguments)[1]
        result: torch.Tensor = weights if self.batched else weights.unsqueeze(0)
        return result

    def values(self, heads: int) -> torch.Tensor:
        """Projected values (batch, head, source, head channel), with the rows that the options append."""
        arguments = self.arguments
        value = arguments["value"] if self.batched else arguments["value"].unsqueeze(1)
        width = arguments["query"].shape[-1]
        weight = arguments["v_proj_weight"]
        if not arguments["use_separate_proj_weight"]:
            weight = arguments["in_proj_weight"][2 * width :]
        bias = arguments["in_proj_bias"]
        projected = F.linear(value, weight, None if bias is None else bias[2 * width :])
        if arguments["bias_v"] is not None:
            projected = torch.cat([projected, arguments["bias_v"].expand(1, *projected.shape[1:])])
        if arguments["add_zero_attn"]:
            projected = torch.cat([projected, torch.zeros_like(projected[:1])])
        length, batch, _ = projected.shape
        return projected.reshape(length, batch, heads, -1).permute(1, 2, 0, 3)
