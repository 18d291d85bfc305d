"""Vector-Jacobian products by autograd, for many rows at once where torch batches them rightly.

Plain autograd runs whatever a user's backward passes run: also functions and operations whose gradient is Python. The
rows of a call go through one backward under ``torch.vmap``, which fails for some operations and is wrong for others
(``cdist``), so that it is compared with single rows before it is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ..errors import ModelError
from ..graph.graph import Node, Ref
from ..graph.nested import mapped

__all__ = ["Transposed", "described", "ordered_like"]

_TRIED: dict[Hashable, bool] = {}
"""Whether rows may be batched, by operation and shapes."""
_REMEMBERED = 4096


class Transposed:
    """The vector-Jacobian product of a function at fixed inputs, batched over rows.

    Parameters
    ----------
    func : callable
        From the inputs to a list of tensors; it does not write to them.
    inputs : sequence of torch.Tensor
    of : Node or torch.nn.Module
        What the function computes: its operation and options are part of what was tried.
    """

    def __init__(
        self, func: Callable[..., list[torch.Tensor]], inputs: Sequence[torch.Tensor], *, of: Node | torch.nn.Module
    ) -> None:
        self._of = of
        self._leaves = [value.detach().requires_grad_() for value in inputs]
        with torch.enable_grad(), self._explained():
            self._live = func(*self._leaves)
        self.outputs = [output.detach() for output in self._live]
        self._batched: bool | None = None

    def __call__(self, message: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor, ...]:
        """Return (row, *shape) for each input, from (row, *shape) or None for each output."""
        (rows,) = {len(part) for part in message if part is not None}  # the same number at each output
        full = tuple(
            ordered_like(part.to(output.dtype), output)
            if part is not None
            else output.new_zeros(()).expand(rows, *output.shape)
            for part, output in zip(message, self.outputs, strict=True)
        )
        if rows == 1:
            return tuple(gradient[None] for gradient in self._pull(tuple(part[0] for part in full)))
        if self._batched is None:
            self._batched = self._may_be_batched()
        return self._together(full) if self._batched else self._one_by_one(full)

    def _pull(self, parts: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return the product for one row, (*shape) for each input."""
        pairs = [(out, part) for out, part in zip(self._live, parts, strict=True) if out.requires_grad]
        if not pairs:
            return tuple(map(torch.zeros_like, self._leaves))
        outputs, seeds = zip(*pairs, strict=True)
        with self._explained():
            gradients = torch.autograd.grad(outputs, self._leaves, seeds, retain_graph=True, allow_unused=True)
        return tuple(
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(self._leaves, gradients, strict=True)
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Let an operation without a derivative be an error that says what to do."""
        try:
            yield
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not isinstance(self._of, Node) or "vmap" in str(error):
                raise
            raise ModelError(
                f"torch cannot differentiate the operation {self._of.op} at {self._of.name!r}, so that no relevance "
                f"passes there: {str(error).splitlines()[0]}; register its gradient, write it otherwise, or "
                f"give it a rule with crp_kit.register_operation"
            ) from error

    def _together(self, full: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        pulled: tuple[torch.Tensor, ...] = torch.vmap(self._pull)(full)
        return pulled

    def _one_by_one(self, full: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        pulled = [self._pull(row) for row in zip(*full, strict=True)]
        return tuple(torch.stack(parts) for parts in zip(*pulled, strict=True))

    def _may_be_batched(self) -> bool:
        """Return whether batched rows are the rows one by one, from a trial that is made once."""
        key = self._key()
        if key not in _TRIED:
            if len(_TRIED) >= _REMEMBERED:
                _TRIED.clear()
            _TRIED[key] = self._batches()
        return _TRIED[key]

    def _batches(self) -> bool:
        """Try two rows of random numbers. A warning counts as a failure: what torch cannot batch, it loops over."""
        generator = torch.Generator().manual_seed(0)
        shapes = ((2, *output.shape) for output in self.outputs)
        rows = [torch.randn(shape, generator=generator, device="cpu") for shape in shapes]
        drawn = tuple(row.to(output) for row, output in zip(rows, self.outputs, strict=True))
        expected = self._one_by_one(drawn)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                together = self._together(drawn)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception:  # noqa: BLE001, a user's own backward may raise anything at batched tensors
            return False
        return all(map(_are_alike, together, expected))

    def _key(self) -> Hashable:
        """Return what the outcome of a trial depends on: operation, options, backward functions, shapes and types."""
        values = (*self._leaves, *self.outputs)
        shapes = tuple((value.shape, value.dtype, value.device.type, value.stride()) for value in values)
        return described(self._of), _backward_functions(self._live), shapes


def described(of: Node | torch.nn.Module) -> str:
    """Return an operation with its options, or a module with its own, as text."""
    if isinstance(of, torch.nn.Module):
        return f"{type(of).__module__}.{type(of).__qualname__} {of!r}"
    options = mapped((of.args, dict(of.kwargs)), lambda tensor: (tuple(tensor.shape), tensor.dtype))
    return f"{of.op} {of.name if of.is_module else ''} {mapped(options, lambda _: 'signal', Ref)!r}"


def _backward_functions(outputs: Sequence[torch.Tensor]) -> tuple[Any, ...]:
    """Return the types of the functions that autograd runs, and which feeds which."""
    order: dict[Any, int] = {}
    waiting = [output.grad_fn for output in outputs if output.grad_fn is not None]
    edges: list[tuple[Any, ...]] = []
    while waiting:
        function = waiting.pop()
        if function in order:
            continue
        order[function] = len(order)
        following = [(source, output) for source, output in function.next_functions if source is not None]
        edges.append((type(function), tuple(output for _, output in following)))
        waiting += [source for source, _ in following]
    return tuple(edges)


def _are_alike(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Return whether two tensors differ by no more than rounding does, relative to the largest value."""
    if not first.numel():
        return first.shape == second.shape
    largest = float(torch.nan_to_num(second).abs().max())
    tolerance = torch.finfo(second.dtype).eps ** 0.5
    return torch.allclose(first, second, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


def ordered_like(rows: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Return (row, *shape) with each row in the memory format of an output, and at an even place of its memory.

    The CPU backward of some fused norms reads a gradient as if it were stored in the order of the input, and that of
    ``view_as_real`` reads pairs.
    """
    axes = sorted(range(output.ndim), key=output.stride, reverse=True)
    back = sorted(range(output.ndim), key=axes.__getitem__)
    ordered = rows.permute(0, *(axis + 1 for axis in axes)).contiguous()
    ordered = ordered.clone() if ordered.storage_offset() % 2 else ordered
    return ordered.permute(0, *(axis + 1 for axis in back))
