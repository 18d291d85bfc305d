"""Stand-in modules for functional operations: ``zennit.layer.Sum`` for ``+``, ``nn.ReLU`` for ``relu``."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from zennit.layer import Sum

from ..graph.graph import Node
from ..graph.operations import Kind

__all__ = ["FAMILY", "STAND_INS", "Product", "shown_module"]


class Product(nn.Module):
    """Stands for a product, ``a * b`` or ``a @ b``, those of attention included, where a composite is asked."""


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "hardtanh": nn.Hardtanh, "clamp": nn.Hardtanh, "clamp_min": nn.ReLU,
    "clamp_max": nn.Hardtanh, "hardswish": nn.Hardswish, "silu": nn.SiLU, "gelu": nn.GELU, "elu": nn.ELU,
    "celu": nn.CELU, "selu": nn.SELU, "leaky_relu": nn.LeakyReLU, "prelu": nn.PReLU, "rrelu": nn.RReLU,
    "mish": nn.Mish, "softplus": nn.Softplus, "softsign": nn.Softsign, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid, "logsigmoid": nn.LogSigmoid, "softshrink": nn.Softshrink,
    "hardshrink": nn.Hardshrink, "tanhshrink": nn.Tanhshrink, "threshold": lambda: nn.Threshold(0, 0),
}  # fmt: skip
_PRODUCTS = (
    "mul matmul mm bmm mv dot vdot inner outer ger kron einsum tensordot chain_matmul multi_dot vecdot linalg_cross "
    "baddbmm addbmm scaled_dot_product_attention"
)
_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(1, 1, device="meta"),
    "conv1d": lambda: nn.Conv1d(1, 1, 1, device="meta"),
    "conv2d": lambda: nn.Conv2d(1, 1, 1, device="meta"),
    "conv3d": lambda: nn.Conv3d(1, 1, 1, device="meta"),
    "conv_transpose1d": lambda: nn.ConvTranspose1d(1, 1, 1, device="meta"),
    "conv_transpose2d": lambda: nn.ConvTranspose2d(1, 1, 1, device="meta"),
    "conv_transpose3d": lambda: nn.ConvTranspose3d(1, 1, 1, device="meta"),
    "batch_norm": lambda: nn.BatchNorm2d(1, device="meta"),
    "layer_norm": lambda: nn.LayerNorm(1, device="meta"),
    "group_norm": lambda: nn.GroupNorm(1, 1, device="meta"),
    "add": Sum,
    "sub": Sum,
    "sum": Sum,
    "mean": lambda: nn.AdaptiveAvgPool2d(1),
    "avg_pool1d": lambda: nn.AvgPool1d(1),
    "avg_pool2d": lambda: nn.AvgPool2d(1),
    "avg_pool3d": lambda: nn.AvgPool3d(1),
    "adaptive_avg_pool1d": lambda: nn.AdaptiveAvgPool1d(1),
    "adaptive_avg_pool2d": lambda: nn.AdaptiveAvgPool2d(1),
    "adaptive_avg_pool3d": lambda: nn.AdaptiveAvgPool3d(1),
    "interpolate": nn.Upsample,
    "max_pool1d": lambda: nn.MaxPool1d(1),
    "max_pool2d": lambda: nn.MaxPool2d(1),
    "max_pool3d": lambda: nn.MaxPool3d(1),
    "adaptive_max_pool2d": lambda: nn.AdaptiveMaxPool2d(1),
    "softmax": lambda: nn.Softmax(-1),
    "flatten": nn.Flatten,
    **dict.fromkeys(_PRODUCTS.split(), Product),
    "dropout": nn.Dropout,
}
STAND_INS: dict[str, Callable[[], nn.Module]] = {**_ACTIVATIONS, **_LAYERS}
FAMILY: dict[Kind, Callable[[], nn.Module]] = {
    Kind.ACTIVATION: nn.ReLU,
    Kind.AFFINE: lambda: nn.AvgPool2d(1),
    Kind.SUM: Sum,
}
"""The module whose rule an operation inherits if the composite does not know its own type."""


def shown_module(node: Node) -> nn.Module | None:
    """Return the module that a composite is first asked about for a node: its own, or the one that stands for it."""
    if node.module is not None:
        return node.module
    return STAND_INS[node.op]() if node.op in STAND_INS else None
