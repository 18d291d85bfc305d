"""Token ids: integer inputs that a forward looks up in a table, followed through moves to the lookup."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...errors import InputError
from ..nested import mapped, tensors
from ..operations import Kind, Trait
from .live_values import Draft

__all__ = ["TokenIds", "samples_first"]

_FIRST = 1 << 30
"""Stands for sample 0 among the integers that are moved with ids; whatever is below, such as padding, is no sample."""


@dataclass(frozen=True)
class _Ids:
    """The input that a tensor of ids is, and the sample of each id, moved as they were; None for shared inputs."""

    about: Mapping[str, Any]
    rows: torch.Tensor | None


class TokenIds:
    """The tensors of one forward that are ids, also moved, masked, clamped or shifted, but not what is computed."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], _Ids]] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def enter(self, tensor: torch.Tensor, about: Mapping[str, Any]) -> None:
        """Let a tensor be the ids of an input."""
        rows = None
        if not about["shared"]:
            count = torch.arange(len(tensor), device=tensor.device) + _FIRST
            rows = count.reshape(-1, *(1,) * (tensor.ndim - 1)).expand(tensor.shape).clone()
        self._set(tensor, _Ids(about, rows))

    def _set(self, tensor: torch.Tensor, ids: _Ids) -> None:
        self._known[id(tensor)] = weakref.ref(tensor), ids

    def _of(self, tensor: Any) -> _Ids | None:
        known = self._known.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None

    def rename(self, target: torch.Tensor, new: torch.Tensor) -> None:
        """Let a tensor be what another one is, of which it has the values now."""
        ids = self._of(new)
        if ids is not None:
            self._set(target, ids)
        else:
            self._known.pop(id(target), None)

    def follow(self, draft: Draft, outputs: Sequence[torch.Tensor]) -> None:
        """Take note of outputs that are ids, since a call has moved or shifted them."""
        spec = draft.spec
        compares = spec.has(Trait.MAXIMUM) or spec.has(Trait.ORDERING)
        moved = spec.kind is Kind.STRUCTURAL and not compares
        if not moved and not spec.has(Trait.SHIFTS_INTEGERS):
            return
        operands = tensors(spec.values_read(draft.args, draft.kwargs))
        if spec.has(Trait.WRITE):
            operands = tensors((draft.args[0], draft.args[-1], draft.kwargs))
        sources = [ids for value in operands if (ids := self._of(value)) is not None]
        if not sources or any(value.is_floating_point() or value.dtype == torch.bool for value in outputs):
            return
        about = sources[0].about
        rows: list[torch.Tensor | None] = [None] * len(outputs)
        if sources[0].rows is not None:
            rows = self._moved_rows(draft, outputs, sources[0].rows) if moved else [sources[0].rows for _ in outputs]
        for value, row in zip(outputs, rows, strict=True):
            self._set(value, _Ids(about, None if row is None else row.expand(value.shape)))

    def _moved_rows(
        self, draft: Draft, outputs: Sequence[torch.Tensor], rows: torch.Tensor
    ) -> list[torch.Tensor | None]:
        """Return of which sample each id is after a call, by making the call with these numbers instead of ids."""
        if draft.spec.has(Trait.TABLE) and self._of(draft.args[0]) is None:  # another number for each id
            return [rows.reshape(*rows.shape, *(1,) * (value.ndim - rows.ndim)) for value in outputs]

        def numbers(value: torch.Tensor) -> torch.Tensor:
            ids = self._of(value)
            return value if ids is None or ids.rows is None else ids.rows.clone()

        args, kwargs = mapped((draft.args, draft.kwargs), numbers)
        return [*tensors(draft.func(*args, **kwargs))]

    def looked_up(self, draft: Draft, outputs: Sequence[torch.Tensor]) -> _Ids | None:
        """Return the ids by which a call looks floating-point rows of a table up, None if it does not."""
        if not draft.spec.has(Trait.LOOKUP) or len(outputs) != 1 or not outputs[0].is_floating_point():
            return None
        arguments = tensors((draft.args, draft.kwargs))
        return next((ids for value in arguments if (ids := self._of(value)) is not None), None)


def samples_first(ids: Any, samples: int) -> tuple[str, tuple[int, ...]]:
    """Return how a table's rows, (*ids, feature), are brought into the order of samples: the call and its arguments.

    Raises
    ------
    InputError
        If ids of one sample stand among those of another.
    """
    rows = ids.rows
    if rows is None:
        return "", ()
    expected = torch.arange(samples, device=rows.device) + _FIRST
    for axis in range(rows.ndim):
        along = expected.reshape([-1 if i == axis else 1 for i in range(rows.ndim)])
        if rows.shape[axis] == samples and bool(((rows == along) | (rows < _FIRST)).all()):
            return ("", ()) if axis == 0 else ("movedim", (axis, 0))
    if rows.ndim and rows.shape[0] % samples == 0:
        folded = rows.reshape(samples, -1)
        if bool(((folded == expected[:, None]) | (folded < _FIRST)).all()):
            return "unflatten", (0, samples, rows.shape[0] // samples)
    raise InputError(
        f"the ids of input {ids.about['name']!r} are rearranged among samples before they are looked up, so that no "
        f"row of the table belongs to one sample: give the model inputs_embeds, or what else it takes instead of ids"
    )
