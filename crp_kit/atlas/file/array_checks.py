"""Checks of the shapes and types of arrays in a file, before anything of them is read."""

from __future__ import annotations

from ...errors import AtlasError
from .hdf5_reader import H5File

__all__ = ["check_array", "check_strings"]


def check_array(file: H5File, path: str, shape: tuple[int, ...], kind: str) -> None:
    """Make sure that an array has a shape, and a type of one of NumPy's letters.

    Raises
    ------
    AtlasError
        If it does not, or is not there.
    """
    array = file.array(path)
    if array.shape != shape:
        raise AtlasError(f"its array {path} has shape {array.shape} and should have {shape}")
    if array.dtype.kind != kind:
        raise AtlasError(f"its array {path} has the type {array.dtype}, which is of another kind")


def check_strings(file: H5File, path: str, count: int) -> None:
    """Make sure that an array, if it is there, has so many strings.

    Raises
    ------
    AtlasError
        If it does not.
    """
    if file.has(path):
        array = file.array(path)
        if array.shape != (count,) or array.dtype.kind != "S":
            raise AtlasError(f"its array {path} should be {count} texts; it is {array.shape} of {array.dtype}")
