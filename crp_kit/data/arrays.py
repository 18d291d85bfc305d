"""NumPy files as samples: read without running code, checked, with a channel axis in front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError
from ..files import check_file
from ..numerics import count_not_finite

__all__ = ["AXES", "open_array"]

AXES = {1: "(channel, time)", 2: "(channel, height, width)", 3: "(channel, depth, height, width)"}
"""What a sample is, by the number of axes behind its channels."""
_OF_IMAGES = 2
_SAID = "; a model of {} says so with Preprocess(shape={}, mean=..., std=...)"
_SHAPES = {
    2: _SAID.format("signals", "(time,)"),
    4: _SAID.format("volumes", "(depth, height, width)"),
}
"""What an array that is no image may be, by the number of its axes."""


def open_array(path: str | Path, *, channels: int, axes: int) -> torch.Tensor:
    """Return the sample in a ``.npy`` file, float32: (channel, *place).

    Bytes (uint8) are divided by 255, as those of images are; all other numbers stay as they are. Where the model takes
    one channel, the file may leave the channel axis out.

    Parameters
    ----------
    path : str or Path
    channels, axes : int
        How many channels the model takes, and how many axes there are behind them.

    Raises
    ------
    InputError
        If it is no file of one array of finite real numbers, or the array has another shape. Objects, which could run
        code, are never unpickled.
    """
    path = Path(path)
    array = _loaded(path)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{str(path)!r} holds {_words(array.dtype)}; a sample is an array of real numbers")
    if not array.size:
        raise InputError(f"{str(path)!r} holds no value: its shape is {array.shape}")
    if array.ndim == axes and channels == 1:
        array = array[None]
    if array.ndim != axes + 1 or array.shape[0] != channels:
        raise InputError(
            f"{str(path)!r} holds an array of shape {array.shape}; the model takes {AXES[axes]} with {channels} "
            f"channel{'s' * (channels > 1)}, as mean and std of its Preprocess say"
            f"{_SHAPES.get(array.ndim, '') if axes == _OF_IMAGES else ''}"
        )
    with np.errstate(over="ignore"):
        sample = torch.from_numpy(array.astype(np.float32))
    bad = count_not_finite(sample)
    if bad:
        raise InputError(f"{str(path)!r} has {bad} values that are NaN, infinite or too large for float32")
    return sample / 255 if array.dtype == np.uint8 else sample


def _loaded(path: Path) -> npt.NDArray[Any]:
    """Return the array of a file, mapped: a header that promises more than the file has costs no memory."""
    check_file(path, "array")
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise InputError(f"the array file {str(path)!r} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged file fails in any way
        reason = "it holds Python objects, which could run code" if "bjects" in str(error) else "it is none or damaged"
        raise InputError(f"{str(path)!r} is no .npy file of numbers ({reason}); write one with numpy.save") from error
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise InputError(f"{str(path)!r} is an .npz archive of arrays; write the sample alone with numpy.save")
    return loaded


def _words(dtype: np.dtype[Any]) -> str:
    """Say what an array holds instead of real numbers."""
    names = {
        "c": "complex numbers",
        "U": "text",
        "S": "text",
        "V": "records",
        "M": "dates",
        "m": "times",
        "O": "objects",
    }
    return f"{names.get(dtype.kind, 'other things')} ({dtype})"
