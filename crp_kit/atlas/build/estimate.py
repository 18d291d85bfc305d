"""Estimate of the memory and the disk that a build needs, said before a large one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ..file.schema import Header, LayerInfo
from .pass_state import state_bytes

__all__ = ["say_estimate"]

_log = logging.getLogger(__name__)
_LARGE = 10**9
"""Bytes of what is worth saying."""


def say_estimate(header: Header, layers: Sequence[LayerInfo], target: Path, max_memory: int) -> None:
    """Log how much a build takes at most, and the settings that lower it, if that is much.

    The number of classes that occur is not known before: there are no more than samples, where each has one class.
    """
    classes = min(header.n_classes, header.n_samples)
    state = state_bytes(header, tuple(layers), header.n_samples, classes)
    scores = _score_bytes(header, layers)
    disk = state + min(scores, 2 * state)
    if max(state, disk) < _LARGE:
        return
    holder = "in memory" if state <= max_memory else f"in files beside {target} (max_memory)"
    fewer = ["layers", "k", "k_class", *(["matrix"] if header.matrix else [])]
    _log.warning(
        "this build takes at most about %.1f GB %s, and %.1f GB of disk; less with fewer or smaller %s",
        state / 1e9, holder, disk / 1e9, ", ".join(fewer),
    )  # fmt: skip


def _score_bytes(header: Header, layers: Sequence[LayerInfo]) -> int:
    """Return the bytes of all scores of a pass with their positions, by relevance and activation."""
    return header.n_samples * sum(info.n_concepts for info in layers) * 2 * (4 + 2)
