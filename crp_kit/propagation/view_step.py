"""Views of one tensor (reshapes, permutations, slices, parts): relevance goes back to the places that they show.

A view is known by its strides on a contiguous tensor, which are found once for each recorded structure. Its transpose
is then another view of the rows where every element is shown once, and a write into zeros where only some are: autograd
would take longer for this than most layers do in networks of attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from ..graph.graph import Node, Ref
from ..graph.nested import tensors
from ..graph.operations import Trait
from ..graph.recording.record import Recording
from .node_functions import values_of
from .own_steps import GradientStep
from .relevance import Relevance
from .step import Backward, Given, Message

__all__ = ["ShownPart", "ViewStep", "shown_parts"]


@dataclass(frozen=True)
class ShownPart:
    """What one output of a view shows of a contiguous tensor.

    Parameters
    ----------
    whole : torch.Size
        Shape of the tensor.
    size, stride : tuple of int
        Of the output.
    offset : int
        The element of the tensor that is the output's first.
    """

    whole: torch.Size
    size: torch.Size
    stride: tuple[int, ...]
    offset: int

    @cached_property
    def is_reshape(self) -> bool:
        """Whether all elements are shown in their order."""
        return math.prod(self.size) == math.prod(self.whole) and self.stride == _contiguous(self.size)

    @cached_property
    def permutation(self) -> list[int] | None:
        """For each axis of the tensor the axis of the output that it is, or None if they are not one to one."""
        if len(self.size) != len(self.whole):
            return None
        left = list(range(len(self.size)))
        axes = []
        for size, stride in zip(self.whole, _contiguous(self.whole), strict=True):
            same = (axis for axis in left if self.size[axis] == size and (size == 1 or self.stride[axis] == stride))
            axis = next(same, None)
            if axis is None:
                return None
            axes.append(axis)
            left.remove(axis)
        return axes

    def transposed(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (row, *whole) from (row, *size): the same memory if all elements are shown, else new memory."""
        if self.is_reshape:
            return rows.reshape(len(rows), *self.whole)
        axes = self.permutation
        if axes is not None:
            return rows.permute(0, *(1 + axis for axis in axes))
        whole = rows.new_zeros((len(rows), *self.whole))
        self.write(rows, whole)
        return whole

    def write(self, rows: torch.Tensor, whole: torch.Tensor) -> None:
        """Write (row, *size) into its places in a contiguous (row, *whole)."""
        strides = (math.prod(self.whole), *self.stride)
        whole.as_strided((len(rows), *self.size), strides, self.offset).copy_(rows)


def _contiguous(size: torch.Size) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor, as torch computes them."""
    return torch.empty(size, device="meta").stride()


def shown_parts(node: Node, whole: torch.Size) -> tuple[ShownPart, ...] | None:
    """Return what each output of a node shows of its one input, or None if the node is no such view.

    Parameters
    ----------
    node : Node
    whole : torch.Size
        Shape of the input.
    """
    views = not {Trait.STRIDED_VIEW, Trait.RESHAPE, Trait.ADDED_AXIS}.isdisjoint(node.spec.traits)
    if not views or len(node.inputs) != 1 or tensors((node.args, node.kwargs)):
        return None
    with torch.inference_mode(False), torch.no_grad():
        shown = torch.empty(whole, device="meta")
        outputs = node.call({node.inputs[0]: shown})
    memory = shown.untyped_storage()._cdata
    if not all(isinstance(part, torch.Tensor) and part.dtype == shown.dtype for part in outputs):
        return None
    if tuple(part.shape for part in outputs) != node.shapes:
        return None
    if any(part.untyped_storage()._cdata != memory for part in outputs):  # indices of a tensor copy
        return None
    return tuple(ShownPart(whole, part.shape, part.stride(), part.storage_offset()) for part in outputs)


@dataclass(frozen=True, eq=False)
class ViewStep(GradientStep):
    """Relevance of what a view shows goes to its places in the tensor.

    Relevance that is still to be multiplied with the view's own values is, in the tensor, still to be multiplied with
    the tensor's values, so that what its other readers send up can be summed before that.

    Parameters
    ----------
    parts : tuple of ShownPart
        By output.
    """

    parts: tuple[ShownPart, ...]

    def prepare(self, recording: Recording) -> Backward:
        known, (to,) = recording.working, self.to
        dtype = torch.promote_types(recording.value(to).dtype, torch.float32)  # of rules there, see `working`
        kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

        def shows_values(output: int, factor: torch.Tensor | None) -> bool:
            return factor is not None and factor is known.get(Ref(self.index, output))

        def factor_below(output: int, factor: torch.Tensor) -> torch.Tensor:
            """Return the same tensor for the same factor again: what follows keeps its products with it."""
            if shows_values(output, factor):
                return values_of(recording, self.to)[0]
            if id(factor) not in kept:
                kept[id(factor)] = factor, self.parts[output].transposed(factor[None])[0]
            return kept[id(factor)][1]

        def from_one(output: int, part: Relevance) -> Relevance:
            if part.factor is None or (len(part.rows) == 1 and not shows_values(output, part.factor)):
                return Relevance(self.parts[output].transposed(part.whole().to(dtype)), owned=part.owned)
            factor = factor_below(output, part.factor)
            return Relevance(self.parts[output].transposed(part.rows.to(dtype)), factor, owned=part.owned)

        def from_several(arrived: list[tuple[int, Relevance]]) -> Relevance:
            whole_factor = all(shows_values(output, part.factor) for output, part in arrived)
            shown = [part.rows if whole_factor else part.whole() for _, part in arrived]
            whole = shown[0].new_zeros((len(shown[0]), *recording.graph.shape(to)), dtype=dtype)
            for (output, _), rows in zip(arrived, shown, strict=True):
                self.parts[output].write(rows, whole)
            return Relevance(whole, values_of(recording, self.to)[0] if whole_factor else None, owned=True)

        def backward(message: Message) -> Given:
            arrived = [(output, part) for output, part in enumerate(message) if part is not None]
            return [(to, from_one(*arrived[0]) if len(arrived) == 1 else from_several(arrived))]

        return backward
