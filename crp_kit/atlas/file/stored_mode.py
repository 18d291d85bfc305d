"""Arrays of one layer by relevance or by activation, as a file holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .hdf5_reader import H5File
from .header import Integers

__all__ = ["StoredMode"]


@dataclass(frozen=True, eq=False)
class StoredMode:
    """The group of a layer and mode of an open file, for statistics to read from.

    Parameters
    ----------
    file : H5File
    base : str
        Path of the group.
    classes : numpy.ndarray
        (row,), the class of each row of the axis ``"seen"``; -1 for a class without samples.
    """

    file: H5File
    base: str
    classes: Integers

    def __call__(self, path: str) -> Any:
        """Return an array by its path below the group; it is read when it is cut."""
        return self.file.array(f"{self.base}/{path}")
