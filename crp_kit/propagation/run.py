"""One recorded forward with its plan: the prepared steps, axes and memory budget that its relevance passes share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Literal

import torch

from ..errors import ModelError
from ..graph.axes.output_axes import batch_axes, channel_axes
from ..graph.graph import Ref
from ..graph.nested import tensors
from ..graph.operations import Kind
from ..graph.recording.record import Recording
from ..numerics import is_finite
from .folded_values import cut_apart, restated
from .node_functions import affine_map, values_of, with_constants
from .plan import Plan
from .runtime import Runtime
from .step import Absorbed, Backward

__all__ = ["Run"]


class Run:
    """One recorded forward, ready for many relevance passes, as long as no weight changes. Made by `Engine.run`.

    Parameters
    ----------
    recording : Recording
    plan : Plan
    runtime : Runtime
    class_axis : int, optional
        The axis of the model's output that enumerates classes, the batch axis counted, if the user has named it.
    feature_axis : int or "none", optional
        The axis of the first input that holds its features, if the user has named it.
    detections : bool, optional
        The model's output has a row for each detection, see `crp_kit.targets.Box`, and no axis of classes.
    whole : Run, optional
        The run of the same recording in which no unit is cut, if this one has a unit cut. Steps that both have are
        prepared there.
    rules_ran : callable, optional
        Called at the end of a pass, in which code of the user's own may have run.
    output_with : callable, optional
        From an output of a node and another value of it to the model's output, by a whole forward.
    """

    def __init__(
        self,
        recording: Recording,
        plan: Plan,
        runtime: Runtime,
        *,
        class_axis: int | None = None,
        feature_axis: int | Literal["none"] | None = None,
        detections: bool = False,
        whole: Run | None = None,
        rules_ran: Callable[[], None] = lambda: None,
        output_with: Callable[[Ref, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.recording, self.plan, self.runtime, self.whole = recording, plan, runtime, whole
        self.class_axis, self.feature_axis, self.rules_ran = class_axis, feature_axis, rules_ran
        self.detections, self.output_with = detections, output_with
        self.graph = recording.graph
        self._prepared: dict[int, Backward] = {}
        self._prepared_by_cut: dict[int, dict[int, Backward]] = {}

    def cut_at(self, start: Ref) -> Run:
        """Return the run for relevance that starts at an output: another one where that is inside of a unit."""
        plan = self.plan.cut_at(start)
        if plan is self.plan:
            return self
        # Not kept: in a cycle of references, its values would stay in memory.
        cut = Run(
            self.recording,
            plan,
            self.runtime,
            class_axis=self.class_axis,
            feature_axis=self.feature_axis,
            detections=self.detections,
            whole=self,
            rules_ran=self.rules_ran,
            output_with=self.output_with,
        )
        cut._prepared = self._prepared_by_cut.setdefault(start.node, cut._prepared)
        return cut

    def check_forward(self) -> None:
        """Make sure that the forward itself made no NaN or infinity of which relevance could not be finite.

        Raises
        ------
        ModelError
            If its output and the value of some node are not finite.
        """
        if is_finite(self.recording.value(self.graph.output)):
            return
        for node, values in zip(self.graph, self.recording.values, strict=True):
            floats = (value for value in tensors(values) if value.is_floating_point())
            if not all(map(is_finite, floats)) and node.kind is not Kind.INPUT:
                raise ModelError(
                    f"the model's own forward makes values that are NaN or infinite, first at {node.name!r} ({node.op})"
                )

    # ------------------------------------------------------------------ axes and memory

    @property
    def channel_axes(self) -> Mapping[Ref, int | None]:
        """For each output, the axis along which it keeps its channels, or None if it is unknown."""
        return channel_axes(self.graph)

    @property
    def batch_axes(self) -> Mapping[Ref, int | None]:
        """For each output, the axis along which it keeps its samples, or None if it is unknown."""
        return batch_axes(self.graph, mixing=True)

    @cached_property
    def _largest(self) -> int:
        """Elements of the largest map of one row."""
        sizes = [math.prod(shape) for node in self.graph for shape in node.shapes if shape is not None]
        return max(1, *sizes)

    @property
    def rows_at_once(self) -> int:
        """How many rows are carried at once: as many as keep the largest map of them small."""
        return self.runtime.rows_at_once(self._largest, self.recording.value(self.graph.output).device)

    @property
    def samples_at_once(self) -> int:
        """How many samples go through the model at once: as many as keep small what a forward records of them."""
        values = [value for output in self.recording.values for value in tensors(output)]
        storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in values}
        recorded = sum(storages.values()) // max(self.graph.batch, 1)
        return self.runtime.samples_at_once(recorded, self.recording.value(self.graph.output).device)

    def carry_fewer(self, rows: int) -> None:
        """Halve a number of rows for which memory did not suffice, for this and all later passes."""
        self.runtime.carry_fewer(rows, self._largest)

    # ------------------------------------------------------------------ prepared steps

    @cached_property
    def _restated(self) -> Recording:
        """The recording as the steps see it."""
        if self.whole is None:
            return restated(self.recording, self.plan.units, self.plan.maps)
        apart = [node.index for node in self.graph if not self._is_shared(node.index)]
        return cut_apart(self.whole._restated, self.recording, apart)

    def _is_shared(self, index: int) -> bool:
        """Return whether the step of a node is that of the run in which no unit is cut."""
        return self.whole is not None and self.plan.steps[index] is self.whole.plan.steps[index]

    def activation(self, ref: Ref) -> torch.Tensor:
        """Return an output as the steps see it, (*shape), of which its relevance is a multiple.

        A layer with a BatchNorm behind it has the relevance of what that makes: it counts as if the norm only scaled,
        and its shift were part of the layer's bias. Channels that the norm switches off count as what it makes.
        """
        norm = self.plan.units.norm_behind(self.graph, ref.node)
        if norm is None:
            return values_of(self._restated, [ref])[0]
        scale, _ = affine_map(with_constants(self.graph.nodes[norm], self._restated))
        return values_of(self._restated, [Ref(norm)])[0] / torch.where(scale == 0, 1.0, scale)

    def backward(self, index: int) -> Backward:
        """Return the prepared step of a node."""
        if self.whole is not None and self._is_shared(index):
            return self.whole.backward(index)
        if index not in self._prepared:
            self._prepared[index] = self.plan.steps[index].prepare(self._restated)
            while self._restated.remarks:
                self.runtime.warn_once(self._restated.remarks.pop())
        return self._prepared[index]

    def forget(self, index: int) -> None:
        """Drop what was prepared for a node and for those that read it."""
        if self.whole is not None:
            self.whole.forget(index)
        self._prepared.pop(index, None)
        for output in range(len(self.graph.nodes[index].shapes)):
            self._restated.working.pop(Ref(index, output), None)

    def absorbed(self, index: int) -> Absorbed | None:
        """Return what the rule of a node absorbs, or None where its formula does not say."""
        return self.plan.steps[index].absorbed(self._restated)
