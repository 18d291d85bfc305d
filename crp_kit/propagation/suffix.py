"""Re-execution of a recorded forward behind one node, for other values of that node: the suffix.

The forward up to the node has run once and is not run again. What the suffix reads beside the node's values, such as a
shortcut past it, keeps its recorded value. Where code behind the node reads values in Python, or compares them, the
recorded calls are not those of other values, and the whole forward runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..graph.graph import Node, Ref
from ..numerics import full_float32
from .run import Run

__all__ = ["Suffix"]

_TOLERANCE = 16.0
"""Units of rounding, relative to the largest value, by which rows together may differ from rows alone."""


class Suffix:
    """The part of a recorded forward behind one output.

    Parameters
    ----------
    run : Run
        The recorded forward. As long as no weight of the model changes.
    ref : Ref
        The output whose values are replaced.

    Attributes
    ----------
    run : Run
    ref : Ref
    nodes : tuple of Node
        What is executed again, in order; empty if the model's output does not depend on `ref`.
    is_fixed : bool
        Whether other values of the node make the same calls; else the whole forward runs for each row.
    """

    def __init__(self, run: Run, ref: Ref) -> None:
        self.run, self.ref = run, ref
        self.nodes, self.is_fixed = _between(run, ref)
        self._together: bool | None = None

    @torch.no_grad()
    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Return the model's output, (row, batch, *shape), for values of the node, (row, batch, *shape).

        Other values need a whole forward each where code reads them in Python or compares them, which a warning says.
        Rows are executed together where a trial of two rows shows that torch batches all operations rightly, and one
        by one elsewhere; as many at once as keep their largest map small.
        """
        if not self.is_fixed:
            return self._whole(values)
        at_once, outputs = self.run.rows_at_once, []
        for start in range(0, len(values), at_once):
            rows = values[start : start + at_once]
            if len(rows) > 1 and self._together is None:
                self._together = self._batches(rows[:2])
            outputs.append(self._beside(rows) if self._together and len(rows) > 1 else self._alone(rows))
        return torch.cat(outputs)

    def _whole(self, values: torch.Tensor) -> torch.Tensor:
        """Return the outputs of whole forwards in which the node has the values of a row."""
        assert self.run.output_with is not None
        self.run.runtime.warn_once(
            f"what follows from {self.run.graph.label(self.ref)!r} is read in Python or compared: the whole forward "
            f"runs for each of its other values, which takes longer"
        )
        with self.run.runtime.lock, torch.inference_mode(False), full_float32():
            return torch.stack([self.run.output_with(self.ref, value) for value in values])

    def _beside(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the outputs of rows that go through the suffix together."""
        with sdpa_kernel(SDPBackend.MATH):  # torch cannot batch the fused kernels
            outputs: torch.Tensor = torch.vmap(self._once)(rows)
        return outputs

    def _alone(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.stack([self._once(row) for row in rows])

    def _once(self, value: torch.Tensor) -> torch.Tensor:
        """Return the output, (batch, *shape), for values of the node, (batch, *shape)."""
        now: dict[Ref, torch.Tensor] = {self.ref: value}
        recording = self.run.recording
        for node in self.nodes:
            read = {ref: now[ref] if ref in now else recording.value(ref) for ref in node.inputs}
            for number, output in enumerate(_callable(node)(read)):
                if isinstance(output, torch.Tensor):
                    now[Ref(node.index, number)] = output
        return now.get(self.run.graph.output, recording.value(self.run.graph.output))

    def _batches(self, rows: torch.Tensor) -> bool:
        """Return whether two rows together are the rows alone. A warning counts as a failure: torch would loop."""
        expected = self._alone(rows)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                together = self._beside(rows)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception:  # noqa: BLE001, a user's module may raise anything at batched tensors
            return False
        bound = _TOLERANCE * torch.finfo(expected.dtype).eps * float(expected.abs().max()) * len(self.nodes)
        return together.shape == expected.shape and bool(((together - expected).abs() <= bound).all())


def _between(run: Run, ref: Ref) -> tuple[tuple[Node, ...], bool]:
    """Return the nodes that depend on an output and on which the model's output depends, in execution order.

    And whether no constant of the recorded graph depends on the output's value.
    """
    graph = run.graph
    depending: set[int] = set()
    for node in graph.nodes[ref.node + 1 :]:
        if any(read == ref or read.node in depending for read in node.inputs):
            depending.add(node.index)
    needed: set[int] = {graph.output.node} & depending
    for node in reversed(graph.nodes[ref.node + 1 :]):
        if node.index in needed:
            needed |= {read.node for read in node.inputs} & depending
    is_fixed = not any(read == ref or read.node in depending for read in run.recording.read)
    return tuple(graph.nodes[index] for index in sorted(needed)), is_fixed


def _callable(node: Node) -> Callable[[dict[Ref, torch.Tensor]], list[object]]:
    """Return the computation of a node; a module may write to what it reads, and gets copies."""
    if not node.is_module:
        return node.call
    return lambda values: node.call({ref: value.clone() for ref, value in values.items()})
