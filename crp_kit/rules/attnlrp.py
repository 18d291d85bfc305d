"""AttnLRP: rules that send relevance into queries, keys and gates, instead of holding them fixed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.core import BasicHook, Hook, Stabilizer
from zennit.rules import Epsilon, Gamma
from zennit.types import Linear

from ..errors import CompositeError
from .module_stand_ins import Product

__all__ = ["AttnLRP", "SoftmaxTaylor", "Uniform", "softmax_axis", "softmax_taylor"]


class Uniform(Hook):  # type: ignore[misc]
    """The uniform rule for products: each factor gets an equal part of what it contributes.

    With ``O = A V``, ``A_ij`` gets ``sum_p A_ij V_jp R_ip / (2 O_ip)``, and ``V_jp`` as much (Achtibat et al., ICML
    2024). crp-kit asks composites for the rule of products by the type `crp_kit.rules.module_stand_ins.Product`; zennit
    has no such modules.

    Parameters
    ----------
    epsilon : float, optional
        Stabilizes the denominators.
    """

    def __init__(self, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.stabilizer_fn = Stabilizer.ensure(epsilon)

    def copy(self) -> Uniform:
        return Uniform(self.stabilizer_fn)


class SoftmaxTaylor(BasicHook):  # type: ignore[misc]
    """The rule for softmax: its Taylor expansion at the input, ``R_i = x_i (R_i - s_i sum_j R_j)``.

    R on the right is relevance at the output ``s`` (Achtibat et al., ICML 2024). An input of minus infinity, a masked
    position, gets nothing. Nothing is divided by the weights, which underflow to zero at masked positions.
    """

    def __init__(self) -> None:
        super().__init__()

    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> tuple[torch.Tensor]:
        """Return relevance at the module's input, as zennit's hooks do."""
        if not isinstance(module, nn.Softmax):
            raise CompositeError(f"SoftmaxTaylor is the rule for torch.nn.Softmax; got {type(module).__name__}")
        (x,) = (value.detach() for value in self.stored_tensors["input"])
        weights = module.forward(x)
        return (softmax_taylor(x, weights, grad_output[0], softmax_axis(module.dim, x.ndim)),)


def softmax_axis(dim: int | None, ndim: int) -> int:
    """Return the axis of a softmax, from the end; without a `dim`, torch takes the first or second by `ndim`."""
    if dim is None:
        dim = 0 if ndim in (0, 1, 3) else 1
    return dim if dim < 0 else dim - ndim


def softmax_taylor(x: torch.Tensor, weights: torch.Tensor, relevance: torch.Tensor, dim: int) -> torch.Tensor:
    """Return relevance at the input of a softmax, (*row, *shape), from that at its output.

    Weights that are NaN, where all positions are masked, count as zero.
    """
    masked = x.isinf()
    weights = weights.masked_fill(masked & weights.isnan(), 0.0)
    return x.masked_fill(masked, 0.0) * (relevance - weights * relevance.sum(dim, keepdim=True))


class AttnLRP(LayerMapComposite):  # type: ignore[misc]
    """Rules of AttnLRP: relevance goes through softmax, into queries and keys, and into gates.

    Products get the uniform rule, softmax its Taylor expansion, linear layers epsilon or gamma, activations pass;
    deviations of norms are constants.

    Parameters
    ----------
    epsilon : float, optional
        Stabilizer of linear layers, products, sums and poolings; absolute, in the units of their outputs.
    gamma : float or None, optional
        Linear layers get the gamma rule instead, which makes heatmaps of vision transformers less noisy; the authors
        take 0.25 for convolutions and 0.05 for linear layers there.
    layer_map : sequence of (types, zennit Hook), optional
        Rules that come before these.
    canonizers : sequence of zennit Canonizer, optional
        Applied to a private copy of the model before it is recorded.

    References
    ----------
    Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin, Samek: "AttnLRP: Attention-Aware Layer-Wise Relevance
    Propagation for Transformers", ICML 2024.

    Examples
    --------
    >>> type(AttnLRP(gamma=0.05).module_map({}, "", nn.Linear(1, 1))).__name__
    'Gamma'
    """

    def __init__(
        self,
        *,
        epsilon: float = 1e-6,
        gamma: float | None = None,
        layer_map: Any = None,
        canonizers: Any = None,
    ) -> None:
        linear = Epsilon(epsilon=epsilon) if gamma is None else Gamma(gamma=gamma, stabilizer=epsilon)
        own = [
            *(layer_map or ()),
            (nn.Softmax, SoftmaxTaylor()),
            (Product, Uniform(epsilon)),
            (Linear, linear),
        ]
        super().__init__(layer_map=own + layer_map_base(epsilon), canonizers=canonizers)
