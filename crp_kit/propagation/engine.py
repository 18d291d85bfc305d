"""Record forwards of a model, and plan their relevance passes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args
from weakref import WeakValueDictionary

import torch

from ..checks import is_integer
from ..conditions import OutputSelector
from ..errors import CompositeError, ConceptAxisError, InputError, ModelError
from ..graph.elementwise import Elementwise, check_elementwise, declarations, declared_paths
from ..graph.memory_format import Outline, with_maps_laid_out
from ..graph.recording.inputs import Calling, Inputs, checked_calling, checked_fixed
from ..graph.recording.record import Recording, Seen, first_sample, record, seen_through
from ..graph.recording.shadow import fingerprint, has_fingerprint, make_shadow, unwrap
from ..models.weights import check_weights
from ..numerics import full_float32
from ..rules.composite_key import Content, Same, content_of
from ..rules.presets import Composite
from .plan import BatchNormRule, Plan, make_plan, modules_with_rule_of_their_own
from .rule_steps import KeptUnit
from .run import ChosenAxes, Run
from .runtime import Runtime

_KEPT = 16
"""Composites, and recorded structures for each of them, that are remembered."""


def checked_axis(name: str, axis: Any) -> int | None:
    """Return the number of an axis behind the batch axis as a plain one.

    Raises
    ------
    ConceptAxisError
        If it is no such number.
    """
    if axis is None:
        return None
    if not is_integer(axis) or axis == 0:
        raise ConceptAxisError(
            f"{name} is the number of an axis, counted with the batch axis, which is 0: 1, 2, … or -1; got {axis!r}"
        )
    return int(axis)


def _advice(by_sample: Collection[str]) -> str:
    """Return what to do where an input was taken for one of each sample and is not."""
    return (
        f"{', '.join(by_sample)} have one entry for each of them: name the inputs that belong to all samples alike "
        f"with CondAttribution(model, fixed=({next(reversed(list(by_sample)))!r},))"
    )


def _agree(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two outputs of one sample differ by no more than rounding."""
    if one.shape != other.shape:
        return False
    tolerance = math.sqrt(torch.finfo(one.dtype).eps) * float(one.abs().max()) if one.numel() else 0.0
    return bool(((one - other).abs() <= tolerance).all() or torch.equal(one, other))


@dataclass
class _View:
    """A copy of the model, and what is known of it for the structures looked at.

    Parameters
    ----------
    shadow : torch.nn.Module
    opaque : frozenset of str
        Paths of modules that are not looked into.
    gradients : bool
        Plain gradients are wanted.
    elementwise : frozenset of str
        Paths of modules that work value by value.
    looked : dict
        What a forward with gradients showed, by the structure of the forward without.
    channels_last : bool or None, optional
        Whether images go through the model channels last; None if that was not tried yet.
    """

    shadow: torch.nn.Module
    opaque: frozenset[str]
    gradients: bool
    elementwise: frozenset[str]
    looked: dict[Any, Seen] = field(default_factory=dict)
    channels_last: bool | None = None

    def look(self, data: Any, output: OutputSelector) -> Recording:
        """Record a forward, having found modules whose inside cannot be seen, and how maps may lie in memory.

        Channels last, a forward is faster on CPUs, and rules need no copies. Not every model works with that.
        """
        seen = seen_through(
            self.shadow,
            data,
            output=output,
            opaque=self.opaque,
            elementwise=self.elementwise,
            gradients=self.gradients,
        )
        self.opaque = seen.opaque
        found = seen.marked(self._record(data, output))
        self.looked[found.structure] = seen
        on_cpu = found.value(found.graph.output).device.type == "cpu"
        has_maps = any(node.spec.layer is torch.nn.Conv2d for node in found.graph)
        if self.channels_last is False or not on_cpu or not has_maps:
            return found
        expected = Outline.of(found)
        del found  # two recordings would need twice the memory
        self.channels_last = False
        with suppress(ModelError):
            found = seen.marked(self._record(with_maps_laid_out(data), output))
            self.channels_last = Outline.of(found).agrees(expected)
        return found if self.channels_last else seen.marked(self._record(data, output))

    def record_if_known(self, data: Any, output: OutputSelector) -> Recording | None:
        """Return the recording of a forward, or None if it fails or its structure has not been looked at."""
        with suppress(ModelError):
            recording = self._record(with_maps_laid_out(data) if self.channels_last else data, output)
            seen = self.looked.get(recording.structure)
            if seen is not None:
                return seen.marked(recording)
        return None

    def _record(self, data: Any, output: OutputSelector) -> Recording:
        return record(self.shadow, data, output=output, opaque=self.opaque, elementwise=self.elementwise)


@dataclass
class _Planned:
    """What was planned for composites of one content, by recorded structure.

    Parameters
    ----------
    view : _View
    content : Content
        Of the composite whose hooks the plans hold, as it was when they were made and last used.
    """

    view: _View
    content: Content
    plans: OrderedDict[Any, Plan] = field(default_factory=OrderedDict)
    kept: MutableMapping[Any, KeptUnit] = field(default_factory=WeakValueDictionary)

    def __post_init__(self) -> None:
        self._hooks = content_of(self.content.hooks)

    def fits(self, content: Content) -> bool:
        """Return whether the plans are right for a content, and their hooks still as they were.

        Composites made alike share plans, unless code of the user's own is in them: that has to run in each.
        """
        if self.content.key != content.key:
            return False
        if self.content.has_hooks_of(content):
            return True
        return not content.has_own_code and content_of(self._hooks.hooks).key == self._hooks.key

    def settle(self, composite: Composite | None) -> None:
        """Take what the user's own code in a composite has written while it ran for a part of the run."""
        if self.content.has_own_code:
            self.content = content_of(composite)


class Engine:
    """Records forwards of a model and runs relevance backwards through them. The model is never touched.

    Parameters
    ----------
    model : torch.nn.Module
    output : str, int or callable, optional
        Which part of the model's output is attributed.
    elementwise : module types, str, or several of them, optional
        Modules that work value by value.
    batch_norm : str, optional
        What is done at a BatchNorm that belongs to no linear layer, see `BatchNormRule`.
    class_axis : int, optional
        The axis of the output that enumerates classes, the batch axis counted.
    feature_axis : int or "none", optional
        The axis of the first input that holds its channels or features, the batch axis counted.
    fixed : str, int, or several of them, optional
        Names or positions of inputs that belong to all samples alike.
    inputs : {"arguments", "single", "samples"}, optional
        How data becomes arguments of the forward, see `crp_kit.graph.recording.inputs.Calling`.

    Raises
    ------
    CompositeError
        If there is no such rule for BatchNorms.

    Attributes
    ----------
    runtime : Runtime
        What all forwards and passes share.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        output: OutputSelector = None,
        elementwise: Elementwise | Iterable[Elementwise] = (),
        batch_norm: BatchNormRule = "affine",
        *,
        class_axis: int | None = None,
        feature_axis: int | Literal["none"] | None = None,
        fixed: str | int | Iterable[str | int] = (),
        inputs: Calling = "arguments",
    ) -> None:
        if batch_norm not in get_args(BatchNormRule):
            raise CompositeError(f"batch_norm is one of {', '.join(get_args(BatchNormRule))}; got {batch_norm!r}")
        self.model, self.output, self.elementwise = model, output, declarations(elementwise)
        self.batch_norm, self.class_axis = batch_norm, checked_axis("class_axis", class_axis)
        self.feature_axis = feature_axis if feature_axis == "none" else checked_axis("feature_axis", feature_axis)
        self.fixed, self.inputs = checked_fixed(fixed), checked_calling(inputs)
        self._shadow: torch.nn.Module | None = None
        self._views: dict[tuple[frozenset[str], bool], _View] = {}
        self._planned: OrderedDict[tuple[Any, ...], _Planned] = OrderedDict()
        self._fingerprint: tuple[Any, ...] = ()
        self._tried: set[Any] = set()
        self.runtime = Runtime()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle and copy what the engine was made with; what was recorded and planned is made anew."""
        return {name: getattr(self, name) for name in _MADE_WITH}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def run(self, data: Any, composite: Composite | None) -> Run:
        """Record one forward and plan the relevance pass.

        Raises
        ------
        ModelError
            If the forward fails or its output cannot be attributed, or a module that is declared to work value by value
            does not.
        UnknownLayerError
            If there is no such module.
        """
        self._warn_of_training()
        with self.runtime.lock, torch.inference_mode(False), full_float32():
            return self._run(data, composite)

    def named(self, data: Any) -> Inputs:
        """Return the inputs that a user's data means."""
        return Inputs.of(data, self.fixed, self.inputs)

    def check_samples(self, inputs: Inputs, composite: Composite | None) -> None:
        """Make sure that samples can be taken apart: where they are more than one tensor, that is tried with two.

        Raises
        ------
        InputError
            If one sample alone gives something else than beside another.
        """
        by_sample = inputs.by_sample
        tried = tuple((name, value.shape) for name, value in by_sample.items())
        if inputs.samples < 2 or len(by_sample) < 2 or tried in self._tried:
            return
        outputs = []
        for count in (1, 2):
            try:
                run = self.run(inputs.part(slice(0, count)), composite)
            except ModelError as error:
                raise InputError(
                    f"the forward fails for {count} of the samples; {_advice(by_sample)}: {error}"
                ) from error
            outputs.append(run.recording.value(run.graph.output))
        one, two = outputs
        if one.shape[:1] == (1,) and two.shape[:1] == (2,) and not _agree(one[0], two[0]):
            raise InputError(f"the output of one sample alone is not that beside another; {_advice(by_sample)}")
        self._tried.add(tried)

    def _run(self, data: Any, composite: Composite | None) -> Run:
        planned = self._planned_for(composite)
        recording = self._record(planned.view, self.named(data))
        plan = planned.plans.get(recording.graph.signature)
        while plan is None:
            whole = modules_with_rule_of_their_own(composite, recording.graph, planned.view.shadow)
            if whole <= planned.view.opaque:
                break
            planned.view = self._hiding(planned.view, whole)
            recording = self._record(planned.view, data)
            plan = planned.plans.get(recording.graph.signature)
        if plan is None:
            check_elementwise(recording)
            plan = planned.plans[recording.graph.signature] = make_plan(
                recording.graph, composite, self.batch_norm, planned.kept
            )
            if len(planned.plans) > _KEPT:
                planned.plans.popitem(last=False)
        planned.plans.move_to_end(recording.graph.signature)
        planned.settle(composite)
        for note in recording.notes:
            self.runtime.say(note)
        chosen = ChosenAxes(self.class_axis, self.feature_axis)
        return Run(recording, plan, self.runtime, chosen=chosen, rules_ran=partial(planned.settle, composite))

    def _record(self, view: _View, data: Any) -> Recording:
        """Record a forward; a structure that is new is looked at first."""
        known = bool(view.looked) or self._look_at_one(view, data)
        recording = view.record_if_known(data, self.output) if known else None
        return view.look(data, self.output) if recording is None else recording

    def _look_at_one(self, view: _View, data: Any) -> bool:
        """Look at one sample of several, which takes less; return whether that is possible."""
        sample = first_sample(data)
        if sample is not None:
            with suppress(ModelError, InputError):
                view.look(sample, self.output)
        return bool(view.looked)

    def _planned_for(self, composite: Composite | None) -> _Planned:
        """Return what is kept for a composite, made anew when the model's parts were replaced.

        All composites share one shadow, except those with canonizers, which get a private one, remade at every call.
        """
        if self._shadow is None or not has_fingerprint(self.model, self._fingerprint):
            self._views.clear()
            self._planned.clear()
            check_weights(self.model)
            self._fingerprint, self._shadow = fingerprint(self.model), make_shadow(self.model)
        if composite is not None and composite.canonizers:
            private = make_shadow(self.model, private=True)
            for canonizer in composite.canonizers:
                canonizer.apply(private)
            view = _View(private, frozenset(), False, self._declared(private), channels_last=False)
            return _Planned(view, content_of(()))
        content = content_of(composite)
        key: tuple[Any, ...] = (Same(composite),) if content.has_own_code else content.key
        planned = self._planned.get(key)
        if planned is None or not planned.fits(content):
            view = self._view(_View(self._shadow, frozenset(), composite is None, self._declared(self._shadow)))
            planned = self._planned[key] = _Planned(view, content)
            if len(self._planned) > _KEPT:
                self._planned.popitem(last=False)
        self._planned.move_to_end(key)
        return planned

    def _declared(self, shadow: torch.nn.Module) -> frozenset[str]:
        """Return the paths of the modules that are declared to be element-wise."""
        return declared_paths(shadow, self.elementwise)

    def _view(self, view: _View) -> _View:
        """Return the view of the shared copy that hides the same modules and is known already, or else this one."""
        return self._views.setdefault((view.opaque, view.gradients), view)

    def _hiding(self, view: _View, whole: frozenset[str]) -> _View:
        """Return a view in which more modules are one node each."""
        hiding = _View(view.shadow, view.opaque | whole, view.gradients, view.elementwise)
        if view.shadow is self._shadow:
            return self._view(hiding)
        hiding.channels_last = False
        return hiding

    def _warn_of_training(self) -> None:
        model = unwrap(self.model)
        affected = sorted(
            {type(m).__name__ for m in model.modules() if m.training and type(m).__name__.startswith(_MODES)}
        )
        if affected:
            self.runtime.say(
                f"the model is in training mode; the attribution runs a copy in evaluation mode "
                f"({', '.join(affected)} differ) and leaves the model's own mode as it is"
            )


_MADE_WITH = ("model", "output", "elementwise", "batch_norm", "class_axis", "feature_axis", "fixed", "inputs")
"""What an engine is made with, by the names of its parameters."""
_MODES = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "BatchNorm", "SyncBatchNorm", "StochasticDepth")
"""How the names begin of modules that behave differently in training."""
