"""The step of an operation that was registered with a rule of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..errors import CompositeError
from ..graph.graph import Node, Ref
from ..graph.nested import mapped
from ..graph.recording.record import Recording
from .node_functions import inputs_of, true_function, values_of
from .relevance import Relevance
from .sample_dependence import Samples, sample_by_sample
from .step import Backward, Given, Message, Step, arriving, only

__all__ = ["RegisteredStep"]


@dataclass(frozen=True, eq=False)
class RegisteredStep(Step):
    """A function from relevance, output and arguments of a call to the relevance of its arguments.

    Parameters
    ----------
    to : tuple of Ref
    function : callable
        See `crp_kit.graph.operations.OperationSpec`.
    """

    to: tuple[Ref, ...]
    function: Callable[..., Any]

    @property
    def parameters_in(self) -> Callable[..., Any]:
        return self.function

    def prepare(self, recording: Recording) -> Backward:
        node = self.node(recording)
        values = dict(zip(node.inputs, inputs_of(recording, node, node.inputs), strict=True))
        output = self._output(node)
        alone = self._sample_by_sample(recording, values, output) if node.inputs == self.to[:1] else None
        if alone is not None:
            return lambda message: [(self.to[0], alone(arriving(message)))]
        (z,) = values_of(recording, [output])

        def backward(message: Message) -> Given:
            return list(zip(self.to, self._parts(node, values, z, only(message)), strict=True))

        return backward

    def _output(self, node: Node) -> Ref:
        outputs = [Ref(node.index, i) for i, shape in enumerate(node.shapes) if shape is not None]
        if len(outputs) > 1:
            raise CompositeError(
                f"operation {node.op!r} at {node.name!r} has {len(outputs)} floating-point outputs, and a step that is "
                f"registered is for one: register an operation for each output"
            )
        return outputs[0]

    def _sample_by_sample(
        self, recording: Recording, values: Mapping[Ref, torch.Tensor], output: Ref
    ) -> Callable[[Relevance], Relevance] | None:
        """Return the step for each sample alone, where it depends on others; None where it does not."""
        node, (ref,) = self.node(recording), self.to
        run = true_function(node, recording, self.to)

        def pull(x: torch.Tensor, relevance: Relevance) -> Relevance:
            (part,) = self._parts(node, {ref: x}, run(x)[0], relevance.whole())
            return Relevance(part)

        samples = Samples(recording, ref, output)
        return sample_by_sample(self.function, lambda x: partial(pull, x), values[ref], samples, where=node.name)

    def _parts(
        self, node: Node, values: Mapping[Ref, torch.Tensor], z: torch.Tensor, relevance: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return what the function gives each argument, (row, *shape) each."""
        args, kwargs = mapped((node.args, dict(node.kwargs)), values.__getitem__, Ref)
        result = self.function(relevance, z, *args, **kwargs)
        parts = tuple(result) if isinstance(result, (tuple, list)) else (result,)
        expected = [(len(relevance), *values[ref].shape) for ref in self.to]
        shapes = [tuple(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__ for part in parts]
        if shapes != expected:
            raise CompositeError(
                f"the step of operation {node.op!r} at {node.name!r} returns relevance for each argument that carries "
                f"it, (row, *its shape): expected {expected}, got {shapes}"
            )
        return parts
