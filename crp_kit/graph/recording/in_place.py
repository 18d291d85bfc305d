"""In-place calls: a graph whose values never change, from a model whose memory does.

The relevance pass reads every value as it was when it was used, so that a write must not reach what was recorded before
it. Each write is recorded as a new value, held by the tensor object that the model goes on using; views of the same
memory change with it, so each gets a node of its own that takes the write over; what was recorded before keeps copies
of the old values. The model's own memory is left as it is: parameters and buffers belong to the user.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..graph import Ref
from ..operation_names import IN_PLACE_OPERATORS
from ..registry import spec_of
from .aliasing import memory_of, overlaps, write_through
from .live_values import Draft, Tape

MOVING = frozenset({"resize_", "set_"})
"""Methods that let a tensor stand for other memory."""
RESHAPING = frozenset("squeeze_ unsqueeze_ transpose_ t_ swapaxes_ swapdims_ as_strided_ detach_".split())
"""In-place calls that give a tensor another shape and leave its memory as it is."""
_METADATA_METHODS = MOVING | {"requires_grad_", "retain_grad", "rename_"}


def is_in_place(raw: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call overwrites its first argument."""
    if raw in _METADATA_METHODS:
        return False
    if raw in IN_PLACE_OPERATORS or raw == "__setitem__":
        return True
    if raw.endswith("_") and not raw.startswith("_") and not raw.endswith("__"):
        return True
    position = _position_of_inplace(func)
    return bool(kwargs.get("inplace")) or (position is not None and len(args) > position and bool(args[position]))


def value_after(
    raw: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], torch.Tensor]:
    """Return a call that writes nothing and gives what an in-place call leaves behind, and that value."""
    replay = _out_of_place(raw, func)
    new = replay(*args, **kwargs)
    if new.dtype != args[0].dtype:
        replay = _OnCopy(func)
        new = replay(*args, **kwargs)
    return replay, new


def rebind(tape: Tape, target: torch.Tensor, new: torch.Tensor) -> None:
    """Let a tensor object stand for the memory and the shape of another tensor; no memory is written to."""
    tape.own.remember(target)
    tape.assign(target, tape.ref(new))
    target.data = new
    tape.locate(target)


def overwrite(tape: Tape, target: torch.Tensor, new: torch.Tensor, *, owner: str) -> list[torch.Tensor]:
    """Let the tensor object that the model holds be the new value, and so for every other view of its memory.

    Parameters
    ----------
    tape : Tape
        Gets a node for each view that changes.
    target : torch.Tensor
        What the model writes to.
    new : torch.Tensor
        What it holds from now on; recorded already, if it depends on the input.
    owner : str
        Path of the module that is running.

    Returns
    -------
    list of torch.Tensor
        The tensor objects that may be another output now; empty if nothing involved depends on the input.
    """
    members = tape.tensors_at(memory_of(target))
    if not tape.own.untouched.isdisjoint(map(id, members)):
        _make_private(tape, target, members)
    ref = tape.ref(new)
    aliases = [other for other in members if other is not target and overlaps(other, target)]
    dead = ref is None and tape.ref(target) is None and all(tape.ref(alias) is None for alias in aliases)
    if not aliases and not dead and new.shape == target.shape:
        target.data = _like(new.detach(), target)
    else:
        tape.keep_old_values(target)
        before = [] if dead else [(alias, alias.detach().clone()) for alias in aliases]
        target.data.copy_(new.detach())
        for alias, old in before:
            _write_alias(tape, alias, old, target=target, ref=ref, owner=owner)
    if dead:
        return []
    tape.assign(target, ref)
    return [*aliases, target]


def _make_private(tape: Tape, target: torch.Tensor, members: Sequence[torch.Tensor]) -> None:
    """Move all tensors in the memory about to be overwritten out of the model's own memory."""
    storage = target.untyped_storage().clone()  # type: ignore[no-untyped-call]
    for member in {id(member): member for member in (*members, target)}.values():
        tape.own.remember(member)
        geometry = member.storage_offset(), member.shape, member.stride()
        member.data = torch.empty(0, dtype=member.dtype, device=member.device).set_(storage, *geometry)
        tape.locate(member)


def _write_alias(
    tape: Tape, alias: torch.Tensor, old: torch.Tensor, *, target: torch.Tensor, ref: Ref | None, owner: str
) -> None:
    """Record that a view of the same memory changed with it."""
    tape.assign(old, tape.ref(alias))
    if (ref is None and tape.ref(alias) is None) or not alias.is_floating_point():
        return
    written = target.detach()
    tape.assign(written, ref)
    draft = Draft(spec_of("write_through"), owner, write_through(alias, target), (old, written), {})
    tape.assign(alias, Ref(tape.add(draft, alias.detach().clone())))


def _like(new: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return a value in memory of its own, with the strides of the tensor that it replaces."""
    if new.stride() == target.stride() and memory_of(new) != memory_of(target):
        return new
    layout = torch.empty_strided(target.shape, target.stride(), dtype=new.dtype, device=new.device)
    return layout.copy_(new)


@functools.lru_cache(maxsize=1024)
def _position_of_inplace(func: Callable[..., Any]) -> int | None:
    """Position of a functional's ``inplace`` parameter."""
    if not inspect.isfunction(func):
        return None
    try:
        parameters = list(inspect.signature(func).parameters)
    except ValueError:  # a wrapper around something in C, such as Tensor.__pow__
        return None
    return parameters.index("inplace") if "inplace" in parameters else None


def _out_of_place(raw: str, func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that returns the value that an in-place call would have left behind."""
    if raw in IN_PLACE_OPERATORS:
        return IN_PLACE_OPERATORS[raw]
    position = _position_of_inplace(func)
    if position is not None:
        return _without_inplace(func, position)
    plain = raw.rstrip("_")
    method = getattr(torch.Tensor, plain, None) if raw.endswith("_") and not raw.startswith("_") else None
    return method if callable(method) and plain != "copy" else _OnCopy(func)


@functools.lru_cache(maxsize=1024)
def _without_inplace(func: Callable[..., Any], position: int) -> Callable[..., Any]:
    """Return a functional with its ``inplace`` argument forced to False, the same object each time."""

    @functools.wraps(func)
    def without_inplace(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("inplace", None)
        if len(args) > position:
            args = (*args[:position], False, *args[position + 1 :])
        return func(*args, **kwargs)

    return without_inplace


@dataclass(frozen=True)
class _OnCopy:
    """An in-place call, run on a copy of what it would overwrite; returns the copy."""

    func: Callable[..., Any]

    @property
    def __name__(self) -> str:
        return getattr(self.func, "__name__", "inplace")

    def __call__(self, target: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        others = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        differentiable = any(value.requires_grad for value in others)
        copy = target + torch.zeros_like(target) if differentiable else target.clone()
        self.func(copy, *args, **kwargs)
        return copy
