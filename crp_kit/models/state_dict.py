"""State dicts: read from files without running code, checked against a model, loaded whole or not at all; hashed."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import InputError, ModelError
from ..files import check_file
from .weights import check_weights

__all__ = ["is_state_file", "load_state", "state_digest"]

_SUFFIXES = (".pt", ".pth", ".safetensors", ".bin", ".ckpt", ".tar")
_SHOWN = 3


def is_state_file(text: str) -> bool:
    """Tell whether a text names a file and not published weights."""
    try:
        return Path(text).suffix in _SUFFIXES or Path(text).is_file()
    except OSError:  # a name that no file can have
        return False


def load_state(model: nn.Module, path: Path) -> None:
    """Load a state-dict file into a model, all of it or nothing.

    Parameters
    ----------
    model : torch.nn.Module
    path : Path
        Written by ``torch.save(model.state_dict(), path)`` or by safetensors. A dictionary around it (``state_dict``,
        ``model_state_dict``, ``model``) and the prefix ``module.`` of data-parallel training are taken off.

    Raises
    ------
    InputError
        If there is no such file, or it needs safetensors and that is not installed.
    ModelError
        If the file is no state dict, it has tensors without values or in another layout, its names, shapes or types are
        not the model's, or parameters of the model are not initialised or without values.
    """
    check_weights(model)
    state = _unwrapped(_read_state(path), path)
    own = model.state_dict()
    missing, unknown = [key for key in own if key not in state], [key for key in state if key not in own]
    # Older files have no counter of batches, which evaluation does not use.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unknown:
        parts = [f"lacks {_first(missing)}"] * bool(missing) + [f"has the unknown {_first(unknown)}"] * bool(unknown)
        raise ModelError(f"the state dict in {path} does not fit the model: it {' and '.join(parts)}")
    wrong = [key for key in own if key in state and state[key].shape != own[key].shape]
    if wrong:
        shapes = (
            f"{wrong[0]} has shape {tuple(state[wrong[0]].shape)} in the file and {tuple(own[wrong[0]].shape)} here"
        )
        raise ModelError(
            f"the state dict in {path} does not fit the model: {shapes}. For another number of classes, write a "
            f"factory that builds the model and name it as file.py:factory"
        )
    _check_types(state, own, path)
    model.load_state_dict(state, strict=False)


def _check_types(state: Mapping[str, torch.Tensor], own: Mapping[str, Any], path: Path) -> None:
    """Make sure that what a model gets are numbers like its own."""
    for key, value in state.items():
        mine = own[key]
        if value.is_floating_point() != mine.is_floating_point() or value.is_complex() != mine.is_complex():
            raise ModelError(
                f"the state dict in {path} does not fit the model: {key} is {value.dtype} in the file and {mine.dtype} "
                f"here; save it as {mine.dtype}"
            )


def state_digest(model: nn.Module) -> str:
    """Return a SHA-256 of a model's state dict: names, types, shapes and values.

    Raises
    ------
    ModelError
        If a tensor has no values, or an unknown layout.
    """
    check_weights(model)
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            for part in _parts(name, value.detach()):
                digest.update(part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(f"{name} {value!r}\n".encode())
    return digest.hexdigest()


def _parts(name: str, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return what determines the values of a tensor: itself, or the indices and values of a sparse one."""
    if value.layout is torch.sparse_coo:
        value = value.coalesce()
        return value.indices(), value.values()
    if value.layout is not torch.strided or value.is_quantized:
        words = "quantized" if value.is_quantized else str(value.layout)
        raise ModelError(f"{name!r} of the model is {words}, whose values have no fingerprint; use a dense tensor")
    return (value,)


def _first(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(map(repr, keys[:_SHOWN])) + more


def _read_state(path: Path) -> Any:
    check_file(path, "weights")
    if path.suffix == ".safetensors":
        try:
            reader = importlib.import_module("safetensors.torch")
        except ImportError as error:
            raise InputError(f"{path} needs safetensors, which is not installed: pip install safetensors") from error
        try:
            return reader.load_file(path)
        except Exception as error:
            raise ModelError(f"{path} cannot be read as safetensors: {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Validating sparse tensor")  # a sparse tensor is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is no state dict, or holds more than tensors, which could run code: save model.state_dict() alone"
        ) from error
    except OSError as error:
        raise InputError(f"the weights file {str(path)!r} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{path} cannot be read as a state dict ({reason}): it is damaged, or torch.save did not write it"
        ) from error


def _unwrapped(state: Any, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors by name, without what training scripts put around them."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not state:
        raise ModelError(f"{path} is no state dict: it holds {type(state).__name__} and not names with tensors")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            what = "a tensor" if isinstance(value, torch.Tensor) else type(value).__name__
            raise ModelError(
                f"{path} is no state dict: it holds {type(state).__name__} and not names with tensors; its key {key!r} "
                f"({type(key).__name__}) has {what}"
            )
        wrong = _unusable(value)
        if wrong:
            raise ModelError(f"{key!r} in {path} is {wrong}; save plain dense tensors, with values, on the CPU")
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _unusable(value: torch.Tensor) -> str:
    """Say why a tensor of a file cannot become a parameter, or nothing."""
    if value.is_meta:
        return "a tensor without values (device 'meta')"
    if value.is_quantized:
        return f"quantized ({value.dtype})"
    if value.is_nested:
        return "a nested tensor"
    return "" if value.layout is torch.strided else f"sparse ({value.layout})"
