"""Arrays of scores that are read as float32, whatever float they are kept in."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import AtlasError

__all__ = ["FiniteScores", "SinglePrecision"]


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
        return self._array[part].astype("f4", copy=False)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self[()], dtype=dtype)


class FiniteScores(SinglePrecision):
    """Scores of samples in a file, not-a-number for those that were left out, and never infinite.

    Parameters
    ----------
    array : array
    name : str
        What they are, for the error message.
    """

    def __init__(self, array: Any, name: str) -> None:
        super().__init__(array)
        self._name = name

    def __getitem__(self, part: Any) -> Any:
        """Return a part.

        Raises
        ------
        AtlasError
            If a score in it is infinite.
        """
        scores = super().__getitem__(part)
        if np.isinf(scores).any():
            raise AtlasError(f"{self._name} has infinite scores: it is damaged; crp-kit atlas verify says where else")
        return scores
