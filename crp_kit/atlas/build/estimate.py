"""Estimate of the memory and the disk that a build needs, said before a large one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ..file.header import MODES, Header, LayerInfo
from ..statistics.table import statistics_of
from .pass_state import most_classes, state_bytes

__all__ = ["say_estimate"]

_log = logging.getLogger(__name__)
_LARGE = 10**9
"""Bytes of what is worth saying."""


def say_estimate(header: Header, layers: Sequence[LayerInfo], target: Path, max_memory: int) -> None:
    """Log what is left out of large layers, how much a build takes at most, and what lowers it, if that is much.

    The number of classes that occur is not known before.
    """
    for layer in layers:
        for statistic in statistics_of(header, MODES[0]):
            if statistic.most_concepts is not None and layer.n_concepts > statistic.most_concepts:
                _log.info(
                    "%s has %d concepts: there is no statistic %r of layers with more than %d",
                    layer.name, layer.n_concepts, statistic.name, statistic.most_concepts,
                )  # fmt: skip
    state = state_bytes(header, tuple(layers), header.n_samples, most_classes(header))
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
