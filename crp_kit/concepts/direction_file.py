"""Files of directions: small HDF5 files with arrays, settings, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError
from ..files import atomic_file, check_file, error_reason
from .direction_arrays import digest_of

if TYPE_CHECKING:
    import h5py

__all__ = ["StoredDirections", "read_directions", "write_directions"]

_FORMAT, _VERSION = "crp-kit directions", 1
_LARGEST = 1 << 30
"""Bytes of all arrays of a file that is read."""


@dataclass(frozen=True, eq=False)
class StoredDirections:
    """What a file of directions holds.

    Parameters
    ----------
    arrays : dict
        By name, of float64.
    settings : dict
        What the arrays make.
    provenance : dict
        Where they come from.
    """

    arrays: Mapping[str, npt.NDArray[np.float64]]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]


def write_directions(path: str | Path, stored: StoredDirections, *, overwrite: bool) -> None:
    """Write a file of directions beside its place, and rename it.

    Raises
    ------
    InputError
        If it cannot be written, or exists.
    """
    import h5py  # only where it is needed: conditions on channels need no files

    if not Path(path).parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {Path(path).parent}; make it first")
    try:
        with atomic_file(Path(path), replace=overwrite) as new:
            # In memory, since h5py prints what HDF5 meets on a full disk, and goes on.
            with h5py.File("directions", "w", driver="core", backing_store=False) as file:
                file.attrs["format"], file.attrs["version"] = _FORMAT, _VERSION
                file.attrs["settings"] = json.dumps(dict(stored.settings))
                file.attrs["provenance"] = json.dumps(dict(stored.provenance), default=str)
                file.attrs["sha256"] = _digest(stored.arrays)
                for name, values in stored.arrays.items():
                    file.create_dataset(name, data=values)
                file.flush()
                content = file.id.get_file_image()
            new.write_bytes(content)
    except FileExistsError as error:
        raise InputError(f"{path} exists: say overwrite to replace it") from error
    except OSError as error:
        raise InputError(f"cannot write {path}: {error_reason(error)}") from error


def read_directions(path: str | Path) -> StoredDirections:
    """Return what a file of directions holds.

    Raises
    ------
    InputError
        If it is no such file.
    """
    import h5py

    check_file(Path(path), "directions")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != _FORMAT:
                raise InputError("its format is not named")
            if int(file.attrs["version"]) != _VERSION:
                raise InputError(f"its version is {file.attrs['version']}, and this crp-kit reads version {_VERSION}")
            settings, provenance = (json.loads(file.attrs[name]) for name in ("settings", "provenance"))
            if not isinstance(settings, dict) or not isinstance(provenance, dict):
                raise InputError("its settings are no names with values")
            arrays = dict(_arrays(file))
            if file.attrs.get("sha256") not in (None, _digest(arrays)):
                raise InputError("its arrays are not those that were written: it is damaged")
            return StoredDirections(arrays, settings, provenance)
    except Exception as error:  # a damaged file may fail in any way
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is no file of directions: {reason}") from error


def _digest(arrays: Mapping[str, npt.NDArray[np.float64]]) -> str:
    return digest_of(torch.from_numpy(arrays[name]) for name in sorted(arrays))


def _arrays(file: h5py.File) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Yield the arrays of a file; what leads out of it, or is too large, is refused before it is read."""
    import h5py

    size = 0
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"{name!r} is a link")
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual or dataset.dtype != "f8":
            raise InputError(f"{name!r} is no array of float64")
        size += dataset.size * 8
        if size > _LARGEST:
            raise InputError(f"its arrays take more than {_LARGEST >> 20} MiB")
        yield name, dataset[()]
