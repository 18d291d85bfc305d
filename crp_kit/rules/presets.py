"""Composites by name: zennit's, and those of crp-kit."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from zennit.composites import COMPOSITES as ZENNIT
from zennit.core import Composite

from ..errors import CompositeError
from .attnlrp import AttnLRP

__all__ = ["GRADIENT", "Composite", "preset", "preset_names"]

GRADIENT = "gradient"
_COMPOSITES = {**ZENNIT, "attnlrp": AttnLRP}


def preset_names() -> list[str]:
    """Return the names that `preset` knows."""
    return [GRADIENT, *sorted(_COMPOSITES)]


def preset(
    composite: Composite | str | None,
    *,
    low: float | torch.Tensor | None = None,
    high: float | torch.Tensor | None = None,
) -> Composite | None:
    """Return a composite from its name; composites and ``None`` (plain gradients) come back as they are.

    Parameters
    ----------
    composite : zennit Composite, str or None
        A name such as ``"epsilon_plus_flat"``, or ``"gradient"``.
    low, high : float or torch.Tensor, optional
        Lowest and highest values that an input can have, for ``"epsilon_gamma_box"``.

    Raises
    ------
    CompositeError
        If the name is not known, the value range is missing, or it is no composite.

    Examples
    --------
    >>> type(preset("epsilon_plus_flat")).__name__
    'EpsilonPlusFlat'
    """
    if composite is None or isinstance(composite, Composite):
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
    if composite == "epsilon_gamma_box":
        if low is None or high is None:
            raise CompositeError(
                "epsilon_gamma_box needs the lowest and highest values that a model input can have: "
                "zennit.composites.EpsilonGammaBox(low=..., high=...)"
            )
        options = {"low": low, "high": high}
    return _COMPOSITES[composite](**options)
