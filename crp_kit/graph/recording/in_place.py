"""In-place calls: a graph whose values never change, from a model whose memory does.

Each write is recorded as a new value, held by the tensor object that the model goes on using. Views of the same memory
get a node of their own that takes the write over; what was recorded before keeps the old values; the model's own memory
is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..graph import Ref
from ..operations import OnCopy, out_of_place
from .aliasing import memory_of, overlaps, write_through
from .live_values import Draft, Tape


def value_after(
    raw: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], torch.Tensor]:
    """Return a call that writes nothing and gives what an in-place call leaves behind, and that value."""
    replay = out_of_place(raw, func)
    new = replay(*args, **kwargs)
    if new.dtype != args[0].dtype:
        replay = OnCopy(func)
        new = replay(*args, **kwargs)
    return replay, new


def rebind(tape: Tape, target: torch.Tensor, new: torch.Tensor) -> None:
    """Let a tensor object stand for the memory and the shape of another tensor; no memory is written to."""
    tape.own.remember(target)
    tape.assign(target, tape.ref(new))
    target.data = new
    tape.place(target)


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
    _make_private(tape, target)
    ref = tape.ref(new)
    aliases = [other for other in tape.lying_at(memory_of(target)) if other is not target and overlaps(other, target)]
    dead = ref is None and tape.ref(target) is None and all(tape.ref(alias) is None for alias in aliases)
    if not aliases and not dead and new.shape == target.shape:
        target.data = _like(new.detach(), target)
        tape.place(target)
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


def _make_private(tape: Tape, target: torch.Tensor) -> None:
    """Move everything that lies in the memory about to be overwritten out of the model's own memory."""
    found = tape.lying_at(memory_of(target))
    if not any(tape.own.untouched(one) for one in found):
        return
    storage = target.untyped_storage().clone()  # type: ignore[no-untyped-call]
    for member in {id(one): one for one in (*found, target)}.values():
        tape.own.remember(member)
        place = member.storage_offset(), member.shape, member.stride()
        member.data = torch.empty(0, dtype=member.dtype, device=member.device).set_(storage, *place)
        tape.place(member)


def _write_alias(
    tape: Tape, alias: torch.Tensor, old: torch.Tensor, *, target: torch.Tensor, ref: Ref | None, owner: str
) -> None:
    """Record that a view of the same memory changed with it."""
    tape.assign(old, tape.ref(alias))
    if (ref is None and tape.ref(alias) is None) or not alias.is_floating_point():
        return
    written = target.detach()
    tape.assign(written, ref)
    draft = Draft("write_through", owner, write_through(alias, target), (old, written), {})
    tape.assign(alias, Ref(tape.add(draft, alias.detach().clone())))


def _like(new: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return a value that lies in memory of its own, with the strides of the tensor that it replaces."""
    if new.stride() == target.stride() and memory_of(new) != memory_of(target):
        return new
    layout = torch.empty_strided(target.shape, target.stride(), dtype=new.dtype, device=new.device)
    return layout.copy_(new)
