"""A shadow copy of a model: a second module tree that shares every tensor with the first."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ...errors import ModelError
from .aliasing import memory_of


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model below wrappers that hide its parts (``torch.compile``, data parallelism)."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            inner = model.module
        if not isinstance(inner, torch.nn.Module):
            return model
        model = inner


def modules_by_path(model: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """Return the paths and modules that `torch.nn.Module.named_modules` yields, whose nested generators are slow."""
    modules: list[tuple[str, torch.nn.Module]] = []
    visited: set[torch.nn.Module] = set()
    waiting: list[tuple[str, torch.nn.Module | None]] = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if module is None or module in visited:
            continue
        visited.add(module)
        modules.append((path, module))
        prefix = f"{path}." if path else ""
        for name, child in reversed(module._modules.items()):
            waiting.append((prefix + name, child))
    return modules


def shared_tensors(modules: Iterable[torch.nn.Module]) -> dict[int, torch.Tensor]:
    """Return the parameters, buffers and tensor attributes, also in lists and dictionaries, of modules by id."""
    tensors: dict[int, torch.Tensor] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, (dict, list, tuple)):
                for item in value.values() if isinstance(value, dict) else value:
                    if isinstance(item, torch.Tensor):
                        tensors[id(item)] = item
            elif isinstance(value, torch.Tensor):
                tensors[id(value)] = value
    return tensors


class ModelTensors:
    """The tensors of a module tree, with the values that they had before a forward wrote to them.

    Parameters
    ----------
    modules : iterable of torch.nn.Module
        All modules of the tree.

    Attributes
    ----------
    untouched : set of int
        The ids of those that still have their first values.
    """

    def __init__(self, modules: Iterable[torch.nn.Module]) -> None:
        self._tensors = shared_tensors(modules)
        self._before: dict[int, torch.Tensor] = {}
        self.untouched = set(self._tensors)

    @cached_property
    def _by_address(self) -> dict[int, list[torch.Tensor]]:
        by_address: dict[int, list[torch.Tensor]] = {}
        for tensor in self._tensors.values():
            by_address.setdefault(memory_of(tensor), []).append(tensor)
        return by_address

    def at(self, address: int) -> list[torch.Tensor]:
        """Return those that lay in one piece of memory when this was first asked for."""
        return self._by_address.get(address, [])

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._tensors

    def remember(self, tensor: torch.Tensor) -> None:
        """Note what a tensor of the model is before it becomes something else; any other is passed over."""
        if id(tensor) in self.untouched:
            self.untouched.remove(id(tensor))
            self._before[id(tensor)] = tensor.data

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
    tensors = shared_tensors(module.modules()).values()
    return [tensor for tensor in tensors if not isinstance(tensor, torch.nn.Parameter)]


def with_own_state(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a module that shares its parameters; its buffers and attributes are its own to write to."""
    tensors = shared_tensors(module.modules()).values()
    shared = [tensor for tensor in tensors if isinstance(tensor, torch.nn.Parameter) or not tensor.is_leaf]
    scripted = [part for part in module.modules() if isinstance(part, ScriptedModule)]
    return copy.deepcopy(module, {id(part): part for part in (*shared, *scripted)})


@contextmanager
def attributes_kept(modules: Iterable[torch.nn.Module]) -> Iterator[None]:
    """Give modules the attributes back that they had, with what was in their lists and dictionaries."""
    own = [vars(module) for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    inside = [value for attributes in own for value in attributes.values() if isinstance(value, (dict, list, set))]
    containers = [*own, *inside]
    # most are empty, and a copy of each takes long
    contents = [container.copy() if container else None for container in containers]
    try:
        yield
    finally:
        for container, before in zip(containers, contents, strict=True):
            if before is None and not container:
                continue
            container.clear()
            if before is not None:
                container.extend(before) if isinstance(container, list) else container.update(before)


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
    shared = {} if private else shared_tensors(model.modules())
    memo: dict[int, Any] = {key: _usable(tensor) for key, tensor in shared.items()}
    try:
        shadow = copy.deepcopy(model, memo)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied, which crp-kit needs in order to leave it untouched: {error}"
        ) from error
    _evaluate(shadow)
    for parent in [module for module in shadow.modules() if not isinstance(module, torch.jit.ScriptModule)]:
        parent._backward_hooks.clear()  # they run custom autograd functions around the module's inputs and outputs
        parent._backward_pre_hooks.clear()
        for name, child in parent.named_children():
            setattr(parent, name, _hookable(unwrap(child)))
    return _hookable(shadow)


def _evaluate(shadow: torch.nn.Module) -> None:
    """Put a copy into evaluation mode; exported modules, which refuse to change theirs, keep it."""
    try:
        shadow.eval()
    except NotImplementedError:
        for module in shadow.modules():
            module.training = False


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


@dataclass(frozen=True)
class ModuleRun:
    """A module as a function of its inputs; each run writes to a copy of its state."""

    module: torch.nn.Module

    @property
    def __name__(self) -> str:
        return type(self.module).__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return with_own_state(self.module)(*args, **kwargs)


def _hookable(module: torch.nn.Module) -> torch.nn.Module:
    return ScriptedModule(module) if isinstance(module, torch.jit.ScriptModule) else module


def fingerprint(model: torch.nn.Module) -> tuple[Any, ...]:
    """Return what has to stay the same for a copy of a model to stay right: modules, tensors, hooks, other attributes.

    It holds the objects themselves, so that none of their identities can be given to a new object.
    """
    return tuple(_parts(model))


def has_fingerprint(model: torch.nn.Module, known: tuple[Any, ...]) -> bool:
    """Return whether no module, tensor, hook or other attribute of a model was replaced by another."""
    parts = _parts(model)
    if not known or len(known) != len(parts):
        return False
    replaced = [pair for pair in zip(known, parts, strict=True) if pair[0] is not pair[1]]
    return all(_are_alike(before, now) for before, now in replaced)


def _parts(model: torch.nn.Module) -> list[Any]:
    """Return what a fingerprint holds: one flat list, since this runs over the whole model at each call."""
    parts: list[Any] = []
    for name, module in modules_by_path(unwrap(model)):
        parts += (name, module, *module._parameters.values(), *module._buffers.values())
        if isinstance(module, torch.jit.ScriptModule):
            parts += [parameter._version for parameter in module.parameters()]
            continue
        for key, value in vars(module).items():
            if key in _TREE:
                continue
            parts.append(value)
            if isinstance(value, (dict, list, set)):
                parts.append(len(value))  # or else the contents of the next container could be taken for its own
                parts += value
                parts += value.values() if isinstance(value, dict) else ()
    return parts


_TREE = ("_parameters", "_buffers", "_modules", "training")
_PLAIN = (bool, int, float, str, tuple, torch.dtype, torch.device, torch.Size)


def _are_alike(first: Any, second: Any) -> bool:
    """Return whether two attributes are equal numbers or strings, or tuples of them."""
    if type(first) is not type(second) or not isinstance(first, _PLAIN):
        return False
    try:
        return bool(first == second)
    except (RuntimeError, TypeError, ValueError):  # a tuple of tensors
        return False
