"""Path exclusion for one layer or one set of parallel layers, by a subtraction of two maps.

What passes the layers and what by-passes them is one map; what by-passes them is another. Their difference passed the
layers. This is wrong for layers in series: there, a path may pass one and by-pass the other.
"""

from collections.abc import Mapping

import torch
from torch import nn

from .whole_model import Mask, OracleRun


def masked(model: nn.Module, x: torch.Tensor, selection: torch.Tensor, masks: Mapping[str, Mask]) -> torch.Tensor:
    """Input relevance with plain masks on module outputs; paths that by-pass them count.

    Parameters
    ----------
    model, x, selection
        As for ``whole_model_relevance``.
    masks : mapping of str to callable
        For each module name a function that multiplies relevance of the module's output shape by a factor.

    Returns
    -------
    Tensor
        Input relevance in float64, of the input's shape.
    """
    return OracleRun(model, x, selection, masks).relevance(masks)


def two_pass(model: nn.Module, x: torch.Tensor, selection: torch.Tensor, masks: Mapping[str, Mask]) -> torch.Tensor:
    """Input relevance that passed one layer, or any of several parallel ones; parameters as for ``masked``."""
    return passed_relevance(OracleRun(model, x, selection, masks), masks)


def passed_relevance(run: OracleRun, masks: Mapping[str, Mask]) -> torch.Tensor:
    """The same of a run that has been made with the masked modules among its names."""
    return run.relevance(masks) - run.relevance(dict.fromkeys(masks, torch.zeros_like))
