"""Composites by name: zennit's, and those of crp-kit."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, Literal, get_args

import torch
from zennit.composites import COMPOSITES as ZENNIT
from zennit.core import Composite
from zennit.rules import Epsilon
from zennit.types import Linear

from ..errors import CompositeError
from .attnlrp import AttnLRP

__all__ = ["BOX", "GRADIENT", "Biases", "Composite", "Presets", "preset", "preset_names"]

GRADIENT, BOX = "gradient", "epsilon_gamma_box"
Biases = Literal["absorb", "distribute"]
"""Where the share of relevance goes that a layer's bias contributes to its output; see `preset`."""
_COMPOSITES = {**ZENNIT, "attnlrp": AttnLRP}


def preset_names() -> list[str]:
    """Return the names that `preset` knows."""
    return [GRADIENT, *sorted(_COMPOSITES)]


def preset(
    composite: Composite | str | None,
    *,
    low: float | torch.Tensor | None = None,
    high: float | torch.Tensor | None = None,
    biases: Biases = "absorb",
) -> Composite | None:
    """Return a composite by its name; composites and ``None`` (plain gradients) are returned as they are.

    Parameters
    ----------
    composite : zennit Composite, str or None
        A name such as ``"epsilon_plus_flat"``, or ``"gradient"``.
    low, high : float or torch.Tensor, optional
        Lowest and highest values that an input can have, for ``"epsilon_gamma_box"``.
    biases : {"absorb", "distribute"}, optional
        ``"absorb"``: the bias of a layer absorbs the share of relevance that it contributes to the output, as in
        zennit's presets; in deep networks little may be left for the input. ``"distribute"``: its share is handed on
        to the layer's inputs by what they contribute, as with zennit's ``zero_params="bias"``. It acts on convolutions
        and linear layers, and on the shift of a BatchNorm that is folded into one of them, which is part of its bias.
        Constants that the model adds otherwise keep their share: those of sums (positions, class tokens), the shifts
        of layer norms, and of BatchNorms that belong to no layer (``CondAttribution(batch_norm="pass")`` for these).

    Raises
    ------
    CompositeError
        If the name is not known, the value range is missing, it is no composite, or it is a composite of one's own of
        which `biases` cannot be changed.

    Examples
    --------
    >>> type(preset("epsilon_plus_flat")).__name__
    'EpsilonPlusFlat'
    """
    if biases not in get_args(Biases):
        raise CompositeError(f"biases is one of {', '.join(map(repr, get_args(Biases)))}; got {biases!r}")
    if composite is None or isinstance(composite, Composite):
        if composite is not None and biases != "absorb":
            raise CompositeError(
                f"biases={biases!r} is for presets by name, and this is a {type(composite).__name__}: make its rules "
                f"with zero_params='bias', such as zennit.composites.EpsilonPlusFlat(zero_params='bias') or "
                f"zennit.rules.Epsilon(zero_params='bias')"
            )
        return composite
    if isinstance(composite, type) and issubclass(composite, Composite):
        raise CompositeError(f"composite is the class {composite.__name__}; give an instance: {composite.__name__}()")
    if not isinstance(composite, str):
        raise CompositeError(f"composite is a zennit Composite, a preset name or None; got {type(composite).__name__}")
    if composite == GRADIENT:
        return None
    if composite not in _COMPOSITES:
        near = difflib.get_close_matches(composite, preset_names(), n=2)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "known are " + ", ".join(preset_names())
        raise CompositeError(f"no composite named {composite!r}; {hint}")
    options: dict[str, Any] = {}
    if composite == BOX:
        if low is None or high is None:
            raise CompositeError(
                "epsilon_gamma_box needs the lowest and highest values that a model input can have: "
                "zennit.composites.EpsilonGammaBox(low=..., high=...), or a crp_kit.Study with a Preprocess"
            )
        options = {"low": low, "high": high}
    if biases == "distribute":
        options |= _without_biases(_COMPOSITES[composite])
    return _COMPOSITES[composite](**options)


class Presets:
    """Presets, each made once, so that what is planned for it is kept."""

    def __init__(self, biases: Biases) -> None:
        preset(None, biases=biases)
        self._biases = biases
        self._known: dict[tuple[str, str], Composite | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickling and copying keep, which is no composite."""
        return {**vars(self), "_known": {}}

    def resolve(
        self, composite: Composite | str | None, input_range: tuple[torch.Tensor, torch.Tensor] | None
    ) -> Composite | None:
        """Return a composite from its name, for inputs whose lowest and highest values by channel may be known."""
        if not isinstance(composite, str):
            own = any(composite is known for known in self._known.values())
            return composite if own else preset(composite, biases=self._biases)
        low, high = input_range or (None, None)
        limits = "" if low is None or high is None else f"{low.flatten().tolist()} {high.flatten().tolist()}"
        key = (composite, limits)
        if key not in self._known:
            self._known[key] = preset(composite, low=low, high=high, biases=self._biases)
        return self._known[key]


def _without_biases(cls: type[Composite]) -> dict[str, Any]:
    """Return the options with which a preset distributes the share of biases; empty where they absorb nothing."""
    if cls is AttnLRP:
        return {"layer_map": [(Linear, Epsilon(zero_params="bias"))]}
    return {"zero_params": "bias"} if "zero_params" in inspect.signature(cls).parameters else {}
