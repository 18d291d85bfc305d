"""The precision in which rules, sums and convolutions run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["float32_convolutions", "working"]


def working(value: torch.Tensor) -> torch.Tensor:
    """Return a value in the precision in which rules run: float32 or better."""
    return value if value.dtype in (torch.float32, torch.float64) else value.float()


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """Let cuDNN convolve float32 in float32: by torch's default it does so in TF32, which keeps 10 of the 23 bits.

    The setting is the whole process's. Uses may overlap, in threads as well: the last one to end gives back what the
    first one found.
    """
    _FLOAT32.enter()
    try:
        yield
    finally:
        _FLOAT32.leave()


class _Float32:
    """What cuDNN's precision was before, and how many uses there are now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses = 0
        self._before: list[tuple[Any, str, Any]] = []

    def enter(self) -> None:
        with self._lock:
            if not self._uses:
                exact = _exact()
                self._before = [(owner, name, getattr(owner, name)) for owner, name, _ in exact]
                _set(exact)
            self._uses += 1

    def leave(self) -> None:
        with self._lock:
            self._uses -= 1
            if not self._uses:
                _set(self._before)


_FLOAT32 = _Float32()


def _exact() -> list[tuple[Any, str, Any]]:
    """Return owner, name and value of the settings that keep cuDNN in float32."""
    cudnn: Any = torch.backends.cudnn
    try:
        bool(cudnn.allow_tf32)
    except RuntimeError:  # it cannot be told in one word, since the newer names have said something else
        return [(cudnn.conv, "fp32_precision", "ieee"), (cudnn.rnn, "fp32_precision", "ieee")]
    return [(cudnn, "allow_tf32", False)]


def _set(settings: list[tuple[Any, str, Any]]) -> None:
    for owner, name, value in settings:
        setattr(owner, name, value)
