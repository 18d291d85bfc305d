"""A shadow copy of a model: a second module tree that shares every tensor with the first."""

from __future__ import annotations

import copy
from typing import Any

import torch

from ..errors import ModelError


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model below wrappers that hide its parts (``torch.compile``, data parallelism)."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


def make_shadow(model: torch.nn.Module, *, private: bool = False) -> torch.nn.Module:
    """Return a copy of the module tree, in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        The user's model; it is only read.
    private : bool, optional
        Copy the tensors too, for canonizers that write to them. By default every parameter, buffer and tensor
        attribute is shared.

    Raises
    ------
    ModelError
        If the model cannot be copied.
    """
    model = unwrap(model)
    memo: dict[int, Any] = {}
    if not private:
        for module in model.modules():
            stores = (module.__dict__, module._parameters, module._buffers)
            memo.update((id(t), t) for store in stores for t in store.values() if isinstance(t, torch.Tensor))
    try:
        shadow = copy.deepcopy(model, memo)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied, which crp-kit needs in order to leave it untouched: {error}"
        ) from error
    for parent in list(shadow.modules()):
        for name, child in parent.named_children():
            if not isinstance(parent, torch.jit.ScriptModule) and unwrap(child) is not child:
                setattr(parent, name, unwrap(child))
    return shadow.eval()


def fingerprint(model: torch.nn.Module) -> tuple[Any, ...]:
    """Return a value that changes when a module or a tensor of the model is replaced by another.

    It holds the modules themselves, so that none of their identities can be given to a new one; the tensors are kept
    alive by the shadow.
    """
    model = unwrap(model)
    parts: list[Any] = []
    for name, module in model.named_modules():
        parts += [name, module]
        parts += [id(t) for store in (module._parameters, module._buffers) for t in store.values() if t is not None]
        if isinstance(module, torch.jit.ScriptModule):
            parts += [t._version for t in module.parameters()]
    return tuple(parts)
