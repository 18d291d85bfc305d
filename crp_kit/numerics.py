"""The precision in which rules, sums and convolutions run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch

__all__ = ["full_float32", "working"]


def working(value: torch.Tensor) -> torch.Tensor:
    """Return a value in the precision in which rules run: float32 or better."""
    return value if value.dtype in (torch.float32, torch.float64) else value.float()


@contextmanager
def full_float32() -> Iterator[None]:
    """Let convolutions and matrix products of float32 run in float32.

    By torch's default cuDNN convolves in TF32, which keeps 10 of the 23 bits, and a program may have chosen it, or
    bfloat16, for matrix products. The settings are the whole process's. Uses may overlap, in threads as well: the last
    one to end gives back what the first one found.
    """
    _FLOAT32.enter()
    try:
        yield
    finally:
        _FLOAT32.leave()


class _Float32:
    """How the settings of before are given back, and how many uses there are now."""

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
        kinds = ((backends.cudnn, ("conv", "rnn")), (backends.cuda, ("matmul",)), (backends.mkldnn, ("conv", "matmul")))
        for backend, names in kinds:
            for one in (getattr(backend, name, None) for name in names):
                if getattr(one, "fp32_precision", "none") not in ("none", "ieee"):
                    self._change(one, "fp32_precision", "ieee")
        if not hasattr(backends.cuda.matmul, "fp32_precision"):  # torch 2.8 or older
            self._back.append(partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()))
            torch.set_float32_matmul_precision("highest")

    def _change(self, owner: Any, name: str, value: Any) -> None:
        self._back.append(partial(setattr, owner, name, getattr(owner, name)))
        setattr(owner, name, value)


_FLOAT32 = _Float32()
