"""Arrays of float16 that are read as float32."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["SinglePrecision"]


class SinglePrecision:
    """An array of a file that gives float32, whatever float it is kept in, when it is cut.

    Parameters
    ----------
    array : array
        With a shape, and parts.
    """

    dtype = np.dtype("f4")

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape: tuple[int, ...] = array.shape

    def __getitem__(self, part: Any) -> Any:
        return self._array[part].astype("f4")

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self[()], dtype=dtype)
