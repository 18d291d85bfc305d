"""A shadow copy of a model, the forwards that run on it, and what is known of their structures."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from ..conditions import OutputSelector
from ..errors import InputError, ModelError
from ..graph.graph import Graph, Ref
from ..graph.memory_format import Outline, with_maps_laid_out
from ..graph.recording.record import Recording, first_sample, record, seen_through
from ..matrix_product import linear

__all__ = ["ShadowModel"]

_KERNELS = {torch.nn.functional.linear: linear}


@dataclass(eq=False)
class ShadowModel:
    """A shadow copy of a model in which some modules are one node each, and what was seen of its forwards.

    A forward whose structure is new runs once more with gradients, which shows what a plain one does not: custom
    autograd functions, detached values. On the CPU it is also tried with images channels last, which is faster, and
    saves the rules copies; not every model works with that. What comes out is kept by structure.

    Parameters
    ----------
    module : torch.nn.Module
        The copy, which may share its tensors with the user's model.
    output : str, int or callable, optional
        Which part of the model's output is attributed.
    elementwise : frozenset of str
        Paths of modules that are declared to be element-wise.
    opaque : frozenset of str
        Paths of modules that are one node each. Modules whose inside cannot be seen are added when that shows.
    gradients : bool
        Plain gradients are wanted.
    channels_last : bool or None, optional
        Whether images go through the model channels last; None if that was not tried yet.
    """

    module: torch.nn.Module
    output: OutputSelector
    elementwise: frozenset[str]
    opaque: frozenset[str] = frozenset()
    gradients: bool = False
    channels_last: bool | None = None
    _detached: dict[Any, frozenset[int]] = field(default_factory=dict)  # by structure, of those that were looked at
    _last: Graph | None = None

    def forward(self, data: Any) -> Recording:
        """Record a forward; one whose structure is new is looked at first.

        Raises
        ------
        ModelError
            If the forward fails or its output cannot be attributed.
        """
        if self._detached or self._has_looked_at_one(data):
            recording = self._recorded_if_seen(data)
            if recording is not None:
                return recording
        return self._look(data)

    def output_with(self, data: Any, ref: Ref, value: torch.Tensor) -> torch.Tensor:
        """Return the output of a forward that was recorded before, in which a node's output has another value.

        Raises
        ------
        ModelError
            If the forward fails.
        """
        recording = record(
            self.module,
            with_maps_laid_out(data) if self.channels_last else data,
            output=self.output,
            opaque=self.opaque,
            elementwise=self.elementwise,
            replaced=(ref, value),
            kernels=_KERNELS,
        )
        return recording.value(recording.graph.output)

    def _has_looked_at_one(self, data: Any) -> bool:
        """Look at one sample of several, which takes less; return whether that is possible."""
        sample = first_sample(data)
        if sample is not None:
            with suppress(ModelError, InputError):
                self._look(sample)
        return bool(self._detached)

    def _look(self, data: Any) -> Recording:
        """Record a forward, after it ran with gradients, and see whether it works channels last."""
        self.opaque, self._last = seen_through(
            self.module,
            data,
            output=self.output,
            opaque=self.opaque,
            elementwise=self.elementwise,
            gradients=self.gradients,
        )
        recording = self._record(data)
        self._detached[recording.graph.structure] = recording.graph.detached
        on_cpu = recording.value(recording.graph.output).device.type == "cpu"
        has_maps = any(node.spec.layer is torch.nn.Conv2d for node in recording.graph)
        if self.channels_last is False or not on_cpu or not has_maps:
            return recording
        expected = Outline.of(recording)
        del recording  # two recordings would need twice the memory
        self.channels_last = False
        with suppress(ModelError):
            recording = self._record(with_maps_laid_out(data))
            self.channels_last = expected.agrees(recording)
        return recording if self.channels_last else self._record(data)

    def _recorded_if_seen(self, data: Any) -> Recording | None:
        """Return the recording of a forward, or None if it fails or its structure has not been looked at."""
        with suppress(ModelError):
            recording = self._record(with_maps_laid_out(data) if self.channels_last else data)
            detached = self._detached.get(recording.graph.structure)
            if detached is not None:
                recording = recording.with_detached(detached)
                self._last = recording.graph
                return recording
        return None

    def _record(self, data: Any) -> Recording:
        """Record a forward; the graph of the last one is taken again if the calls are the same."""
        recording = record(
            self.module,
            data,
            output=self.output,
            opaque=self.opaque,
            elementwise=self.elementwise,
            known=self._last,
            kernels=_KERNELS,
        )
        self._last = recording.graph
        return recording
