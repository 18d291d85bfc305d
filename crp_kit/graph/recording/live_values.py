"""Values of a running forward: the nodes recorded so far, and the tensor objects that hold their outputs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.weak import TensorWeakRef

from ..graph import Ref
from ..nested import leaves, mapped, tensors
from ..operations import Kind, OperationSpec
from .aliasing import memory_of, overlaps
from .shadow import ModelTensors


@dataclass
class Draft:
    """A node as long as the forward runs: its arguments may still be copied, and it has neither shapes nor name.

    Parameters
    ----------
    spec : OperationSpec
    owner : str
        Path of the innermost module that was running.
    func, args, kwargs
        The call; once it is on the tape, with a `Ref` for each argument that depends on the input.
    title : str, optional
        The operation by which the node is named, if that is another one.
    differentiable : bool, optional
        The forward had gradients switched on there.
    shapes : tuple of torch.Size or None, optional
        As of a `Node`; known once it is on the tape.
    """

    spec: OperationSpec
    owner: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    title: str = ""
    differentiable: bool = True
    shapes: tuple[torch.Size | None, ...] = ()


class Tape:
    """The nodes of one forward, and which tensor object holds which of their outputs.

    Parameters
    ----------
    own : ModelTensors
        The model's own tensors; a draft names them themselves as long as they have their first value.

    Attributes
    ----------
    drafts : list of Draft
        By node.
    values : list of list
        For each node, its outputs.
    """

    def __init__(self, own: ModelTensors) -> None:
        self.own = own
        self.drafts: list[Draft] = []
        self.values: list[list[Any]] = []
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], Ref | None]] = {}
        self._located: dict[int, list[TensorWeakRef]] = {}
        self._holding: dict[int, set[int]] = {}  # by memory, the nodes that have a value or a constant there

    def ref(self, value: Any) -> Ref | None:
        """Return which output a tensor is, or None if it does not depend on the input."""
        known = self._known.get(id(value))
        # a tensor that had the same id and is gone is another
        return known[1] if known is not None and known[0]() is value else None

    def first_ref(self, tree: Any) -> Ref | None:
        """Return which output the first tensor in a nested structure is that depends on the input."""
        return next(filter(None, map(self.ref, tensors(tree))), None)

    def assign(self, tensor: torch.Tensor, ref: Ref | None) -> int:
        """Let a tensor object be an output from now on, or something constant; return the address of its memory."""
        self._known[id(tensor)] = weakref.ref(tensor), ref
        return self.locate(tensor)

    def locate(self, tensor: torch.Tensor) -> int:
        """Note the memory of a tensor object, again whenever it stands for other memory; return its address."""
        address = memory_of(tensor)
        self._located.setdefault(address, []).append(TensorWeakRef(tensor))
        return address

    def notice(self, constants: Iterable[torch.Tensor]) -> None:
        """Take note of tensors that are no outputs, since a later write to their memory may make them depend."""
        for value in constants:
            known = self._known.get(id(value))
            if known is None or known[0]() is not value:
                self.assign(value, None)

    def tensors_at(self, address: int) -> list[torch.Tensor]:
        """Return the tensor objects in one piece of memory: the model's own, and those that the forward still has."""
        located = [reference() for reference in self._located.get(address, ())]
        members: dict[int, torch.Tensor] = {}
        for tensor in (*self.own.at(address), *located):
            if tensor is not None and memory_of(tensor) == address != 0:
                members[id(tensor)] = tensor
        return list(members.values())

    def add(self, draft: Draft, result: Any) -> int:
        """Make a node of a call, with its result for value; return its index."""
        draft.args = mapped(draft.args, self._constant_or_ref)
        draft.kwargs = mapped(draft.kwargs, self._constant_or_ref)
        draft.spec = draft.spec.of_call(draft.args, draft.kwargs)
        draft.differentiable = torch.is_grad_enabled()
        index, outputs, shapes = len(self.drafts), leaves(result), list[torch.Size | None]()
        for output, value in enumerate(outputs):
            shapes.append(None)
            if isinstance(value, torch.Tensor):
                floating = value.is_floating_point()
                self._hold(self.assign(value, Ref(index, output) if floating else None))
                shapes[output] = value.shape if floating else None
                outputs[output] = value.detach()
        draft.shapes = tuple(shapes)
        self.drafts.append(draft)
        self.values.append(outputs)
        return index

    def differentiate(self, ref: Ref) -> bool:
        """Let the calls inside of a custom autograd function, which runs without gradients, count as with gradients.

        Parameters
        ----------
        ref : Ref
            What the function returned.

        Returns
        -------
        bool
            Whether a gradient could pass through these calls. Through those of a straight-through estimator it cannot.
        """
        first = ref.node + 1
        while first and not self.drafts[first - 1].differentiable:
            first -= 1
        waiting, seen, passes = [ref.node], set[int](), False
        while waiting:
            index = waiting.pop()
            draft = self.drafts[index]
            if index in seen or draft.spec.kind is Kind.DETACHED:
                continue
            seen.add(index)
            passes |= draft.differentiable
            if index >= first:
                draft.differentiable = True
                read = leaves(draft.spec.values_read(draft.args, draft.kwargs))
                waiting += [leaf.node for leaf in read if isinstance(leaf, Ref)]
        return passes

    def keep_old_values(self, target: torch.Tensor) -> None:
        """Copy every recorded value and constant in the memory of a tensor about to be overwritten."""

        def copied(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.clone() if tensor not in self.own and overlaps(tensor, target) else tensor

        for index in self._holding.get(memory_of(target), ()):
            draft = self.drafts[index]
            self.values[index] = mapped(self.values[index], copied)
            draft.args, draft.kwargs = mapped((draft.args, draft.kwargs), copied)

    def _constant_or_ref(self, tensor: torch.Tensor) -> Any:
        """Return what stands for a tensor among the arguments of the next node."""
        ref = self.ref(tensor)
        if ref is not None:
            return ref
        if id(tensor) in self.own.untouched:
            return tensor
        self._hold(memory_of(tensor))
        return tensor.detach()

    def _hold(self, address: int) -> None:
        """Note that the next node has a value or a constant in some memory."""
        self._holding.setdefault(address, set()).add(len(self.drafts))
