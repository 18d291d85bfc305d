"""Precision of rules and convolutions, checks for finite values, and checksums of tensors."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any

import torch

__all__ = ["checksum", "count_not_finite", "full_float32", "is_finite", "working"]


def working(value: torch.Tensor) -> torch.Tensor:
    """Return a value in the working precision of rules: float32 or better."""
    return value if value.dtype in (torch.float32, torch.float64) else value.float()


@contextmanager
def full_float32() -> Iterator[None]:
    """Let convolutions and matrix products of float32 run in float32.

    By torch's default cuDNN convolves in TF32, which keeps 10 of the 23 bits, and a program may have chosen it, or
    bfloat16, for matrix products. The settings are the whole process's. Uses may overlap, in threads as well: the last
    one to end restores what was set before the first.
    """
    _FLOAT32.enter()
    try:
        yield
    finally:
        _FLOAT32.leave()


class _Float32:
    """The settings to restore, and how many uses there are now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses = 0
        self._back: list[Callable[[], None]] = []

    def enter(self) -> None:
        with self._lock:
            if not self._uses:
                self._switch()
            self._uses += 1

    def leave(self) -> None:
        with self._lock:
            self._uses -= 1
            if not self._uses:
                while self._back:
                    self._back.pop()()

    def _switch(self) -> None:
        """Switch to float32: cuDNN by the older name, which models may read, and what is left by the newer names."""
        backends: Any = torch.backends
        with suppress(RuntimeError):  # where newer settings contradict it, the older name can be neither read nor set
            self._change(backends.cudnn, "allow_tf32", False)
        parts = ((backends.cudnn, ("conv", "rnn")), (backends.cuda, ("matmul",)), (backends.mkldnn, ("conv", "matmul")))
        for backend, names in parts:
            for settings in (getattr(backend, name, None) for name in names):
                if getattr(settings, "fp32_precision", "none") not in ("none", "ieee"):
                    self._change(settings, "fp32_precision", "ieee")
        if not hasattr(backends.cuda.matmul, "fp32_precision"):  # torch 2.8 or older
            self._back.append(partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()))
            torch.set_float32_matmul_precision("highest")

    def _change(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute, and note how to restore it."""
        self._back.append(partial(setattr, owner, name, getattr(owner, name)))
        setattr(owner, name, value)


_FLOAT32 = _Float32()


def is_finite(values: torch.Tensor) -> bool:
    """Return whether no value is NaN or infinite.

    A sum is finite only if all its terms are, and takes a small part of the time that a test of each of them does. They
    are tested one by one if it is not: finite values may sum to more than a float holds.
    """
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def count_not_finite(values: torch.Tensor) -> int:
    """Return how many values are NaN or infinite."""
    return 0 if is_finite(values) else int((~torch.isfinite(values)).sum())


def checksum(values: torch.Tensor) -> torch.Tensor:
    """Return a position-dependent checksum of a tensor (0-d).

    It is the same, up to rounding, in every memory format. Of weights, and of maps channels last, little is copied.
    """
    values = working(values.detach())
    values = values.flatten(2) if values.ndim > 2 else values
    weights = [_axis_weights(axis, size, values.device, values.dtype) for axis, size in enumerate(values.shape, 1)]
    if values.is_contiguous():
        for weight in weights:
            values = weight @ values.reshape(len(weight), -1)
    else:
        for weight in reversed(weights):
            values = values @ weight
    return values.reshape(())


@lru_cache(maxsize=256)
def _axis_weights(axis: int, size: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return weights that differ along an axis and from axis to axis, so that a transpose changes the checksum."""
    return (torch.arange(1, size + 1, device=device, dtype=dtype) * math.sqrt(axis + 1)).cos()
