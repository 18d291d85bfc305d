"""Choice of whether and how the scores of every sample are kept: the matrix of an atlas."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from ...errors import InputError
from ..file.header import HALF, LayerInfo

__all__ = ["MatrixChoice", "check_matrix", "chosen_matrix"]

_log = logging.getLogger(__name__)
MatrixChoice: TypeAlias = bool | Literal["auto", "float16"]
_SINGLE, _MOST = 10**9, 8 * 10**9
"""Bytes in float32, of all layers by relevance and activation, up to which they are kept so, and at all."""


def check_matrix(matrix: Any) -> None:
    """Make sure that this is a choice.

    Raises
    ------
    InputError
        If it is not.
    """
    if not isinstance(matrix, bool) and matrix not in ("auto", HALF):
        raise InputError(f"matrix is True, False, 'auto' or 'float16'; got {matrix!r}")


def chosen_matrix(
    matrix: MatrixChoice, samples: int, layers: Sequence[LayerInfo], *, abs_norm: bool
) -> tuple[bool, str]:
    """Return whether scores are kept, and the type that they are kept in where it is not float32.

    Only shares of a sample, which are at most 1, are kept in float16: others may be larger than it can be.

    Raises
    ------
    InputError
        If other scores are to be kept in float16.
    """
    if matrix == HALF and not abs_norm:
        raise InputError("matrix='float16' needs normalised scores (abs_norm): others may be too large for float16")
    if matrix != "auto":
        return bool(matrix), HALF if matrix == HALF else ""
    size = samples * sum(layer.n_concepts for layer in layers) * 2 * 4
    if size > _MOST:
        _log.warning(
            "the scores of every sample would take %.1f GB and are not kept: statistics that need this matrix are not "
            "available; matrix=True keeps it, %sfewer layers make it smaller",
            size / 1e9, f"matrix='float16' in {size / 2e9:.1f} GB, " if abs_norm else "",
        )  # fmt: skip
        return False, ""
    return True, HALF if size > _SINGLE and abs_norm else ""
