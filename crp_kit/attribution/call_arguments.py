"""Checks of what a call is given: data, batch size, layers, device, and the start of each row."""

from __future__ import annotations

from typing import Any

import torch

from ..checks import check_integer
from ..errors import ConditionError, InputError
from ..graph.recording.inputs import Inputs
from ..numerics import count_not_finite
from .block import CallOptions
from .rows import Rows
from .start_relevance import target_of

__all__ = ["check_data", "check_start", "checked_batch_size", "device_of", "layer_names", "warning_threshold"]

_BATCH_SIZE = 16
_BATCH_SIZE_OF_ONE_SAMPLE = 64
_UNEXPLAINED_SHARE = 0.01


def checked_batch_size(batch_size: int | None, samples: int) -> int:
    """Return the number of rows of a block, by default from the number of samples."""
    if batch_size is None:
        return _BATCH_SIZE_OF_ONE_SAMPLE if samples == 1 else _BATCH_SIZE
    return check_integer("batch_size", batch_size, low=1, error=ConditionError)


def warning_threshold(diagnose: bool | float) -> float | None:
    """Return the share from which what no rule explains is worth a warning; None without a relevance balance."""
    if isinstance(diagnose, bool):
        return _UNEXPLAINED_SHARE if diagnose else None
    if not isinstance(diagnose, (int, float)) or not diagnose >= 0:
        raise ConditionError(f"diagnose is True, False, or a share of at least 0; got {diagnose!r}")
    return float(diagnose)


def layer_names(names: Any) -> tuple[str, ...]:
    """Return the layers to record, from several names, one, or none."""
    layers = () if names is None else (names,) if isinstance(names, str) else tuple(names)
    wrong = [name for name in layers if not isinstance(name, str)]
    if wrong:
        raise ConditionError(f"record_layer is names of layers; got {wrong[0]!r}")
    return layers


def device_of(name: torch.device | str | None) -> torch.device | None:
    """Return the device on which results are kept, with its index; None for that of the data."""
    if name is None:
        return None
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"on_device={name!r} cannot be used: {str(error).splitlines()[0]}") from error


def check_data(inputs: Inputs) -> int:
    """Check the values of model inputs and return the number of samples."""
    listed = inputs.tree if isinstance(inputs.tree, list) and inputs.calling == "arguments" else ()
    if len(listed) > 1 and all(isinstance(value, torch.Tensor) for value in listed):
        raise InputError(
            f"a list of {len(listed)} tensors: torch.stack them to a batch, or give a tuple of several inputs. A "
            f"model that takes such a list: CondAttribution(model, inputs='samples') if it has one tensor for each "
            f"sample, inputs='single' if each tensor is a batch"
        )
    tensors = [value for _, value in inputs.named()]
    floats = [value for value in tensors if value.is_floating_point()]
    if not floats and not inputs.starts_with_ids:
        raise InputError(f"data has to be floating point to carry relevance; got {tensors[0].dtype}: use data.float()")
    main = next(iter(inputs.by_sample.values()))
    for value in floats:
        if value.ndim < 2 and value is main:
            raise InputError(f"data needs a batch axis in front: (batch, ...); got shape {tuple(value.shape)}")
        if value.numel() == 0:
            raise InputError(f"data is empty: its shape is {tuple(value.shape)}")
        # Only the first input has to be finite: another may be a mask of minus infinities.
        first = value is floats[0] and not inputs.starts_with_ids
        bad = count_not_finite(value) if first else int(value.isnan().sum())
        if bad:
            raise InputError(f"data has {bad} values that are NaN or infinite (of {value.numel()})")
    return inputs.samples


def check_start(rows: Rows, options: CallOptions) -> None:
    """Raise a `ConditionError` unless every row has exactly one start."""
    for condition in rows.conditions:
        if target_of(condition.targets) is not None and options.init_rel is not None:
            raise ConditionError(f"{condition!r} and init_rel are two starts; leave one of them out")
        if options.start_layer is not None and condition.targets is not None:
            raise ConditionError(
                f"start_layer={options.start_layer!r} and 'y' in {condition!r} are two starts; leave one of them out"
            )
        if options.start_layer is None and condition.targets is None and options.init_rel is None:
            raise ConditionError(
                f"{condition!r} has no start: add 'y' (ids of the model output), or give start_layer or init_rel"
            )
