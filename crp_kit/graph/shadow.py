"""A shadow copy of a model: a second module tree that shares every tensor with the first."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..errors import ModelError


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model below wrappers that hide its parts (``torch.compile``, data parallelism)."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            inner = model.module
        if not isinstance(inner, torch.nn.Module):
            return model
        model = inner


def shared_tensors(model: torch.nn.Module) -> dict[int, torch.Tensor]:
    """Return the parameters, buffers and tensor attributes, also in lists and dictionaries, of a module tree by id."""
    found: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for value in vars(module).values():
            inside = (
                value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else (value,)
            )
            for one in inside:
                if isinstance(one, torch.Tensor):
                    found[id(one)] = one
    return found


class ModelTensors:
    """The tensors of a module tree, with the values that they had before a forward wrote to them.

    Parameters
    ----------
    model : torch.nn.Module
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._tensors = shared_tensors(model)
        self._before: dict[int, torch.Tensor] = {}

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self._tensors.values())

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._tensors

    def untouched(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is the model's and still has its first value."""
        return id(tensor) in self._tensors and id(tensor) not in self._before

    def remember(self, tensor: torch.Tensor) -> None:
        """Note what a tensor of the model is before it becomes something else; any other is passed over."""
        if id(tensor) in self._tensors:
            self._before.setdefault(id(tensor), tensor.data)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Give the tensors their first values back at the end."""
        try:
            yield
        finally:
            for key, old in self._before.items():
                self._tensors[key].data = old


def state_tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    """Return what a module may write to as it runs: its buffers and tensor attributes, not its parameters."""
    return [one for one in shared_tensors(module).values() if not isinstance(one, torch.nn.Parameter)]


def with_own_state(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a module that shares its parameters; its buffers and attributes are its own to write to."""
    tensors = shared_tensors(module).values()
    shared = [one for one in tensors if isinstance(one, torch.nn.Parameter) or not one.is_leaf]
    scripted = [one for one in module.modules() if isinstance(one, ScriptedModule)]
    return copy.deepcopy(module, {id(one): one for one in (*shared, *scripted)})


@contextmanager
def attributes_kept(model: torch.nn.Module) -> Iterator[None]:
    """Give the modules of a tree the attributes back that they had, with what was in their lists and dictionaries."""
    kept = [(vars(module), dict(vars(module))) for module in model.modules() if not _is_scripted(module)]
    contents = [(one, one.copy()) for _, own in kept for one in own.values() if isinstance(one, (dict, list, set))]
    try:
        yield
    finally:
        for one, before in (*kept, *contents):
            one.clear()
            one.extend(before) if isinstance(one, list) else one.update(before)


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
    shared = {} if private else shared_tensors(model)
    memo: dict[int, Any] = {key: _usable(tensor) for key, tensor in shared.items()}
    try:
        shadow = copy.deepcopy(model, memo)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied, which crp-kit needs in order to leave it untouched: {error}"
        ) from error
    shadow.eval()
    for parent in [module for module in shadow.modules() if not _is_scripted(module)]:
        parent._backward_hooks.clear()  # they run custom autograd functions around the module's inputs and outputs
        parent._backward_pre_hooks.clear()
        for name, child in parent.named_children():
            setattr(parent, name, _hookable(unwrap(child)))
    return _hookable(shadow)


def _usable(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor, or a copy of one that was made in inference mode and can have no gradients."""
    if not tensor.is_inference():
        return tensor
    copied = tensor.detach().clone()
    return torch.nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else copied


class ScriptedModule(torch.nn.Module):
    """A scripted module as one that can have hooks."""

    def __init__(self, scripted: torch.nn.Module) -> None:
        super().__init__()
        self.eval()
        self._scripted = (scripted,)  # a tuple hides it from torch: its parts are no modules of their own

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._scripted[0](*args, **kwargs)


class ModuleRun:
    """A module as a function of its inputs; with `own_state` each run writes to a copy."""

    def __init__(self, module: torch.nn.Module, *, own_state: bool) -> None:
        self.module, self.own_state, self.__name__ = module, own_state, type(module).__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module = with_own_state(self.module) if self.own_state else self.module
        return module(*args, **kwargs)


def _hookable(module: torch.nn.Module) -> torch.nn.Module:
    return ScriptedModule(module) if _is_scripted(module) else module


def fingerprint(model: torch.nn.Module) -> tuple[Any, ...]:
    """Return a value that changes when a module, a tensor, a hook or another attribute is replaced by another.

    It holds modules and attributes themselves, so that none of their identities can be given to a new one; the tensors
    are kept alive by the shadow.
    """
    model = unwrap(model)
    parts: list[Any] = []
    for name, module in model.named_modules():
        parts += [name, module]
        parts += [id(t) for store in (module._parameters, module._buffers) for t in store.values() if t is not None]
        if _is_scripted(module):
            parts += [t._version for t in module.parameters()]
        else:
            parts += [_Same(value) for key, value in vars(module).items() if key not in _TREE]
            parts += [_Same(hook) for key in _HOOKS for hook in vars(module)[key].values()]
    return tuple(parts)


_TREE = ("_parameters", "_buffers", "_modules", "training")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class _Same:
    """An attribute that equals itself; numbers, texts and tuples of them also what is as large."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Same):
            return False
        plain = isinstance(self.value, (bool, int, float, str, tuple, torch.dtype, torch.device, torch.Size))
        return self.value is other.value or (plain and type(self.value) is type(other.value) and self._equals(other))

    def _equals(self, other: _Same) -> bool:
        try:
            return bool(self.value == other.value)
        except (RuntimeError, TypeError, ValueError):  # a tuple of tensors
            return False

    __hash__ = None  # type: ignore[assignment]


def _is_scripted(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)
