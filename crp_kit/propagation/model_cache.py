"""Cache of one model: its shadow copies, and the plans made on them, by what a composite consists of.

Everything is dropped when a module, tensor, hook or attribute of the model is replaced by another one
(`crp_kit.graph.recording.shadow.fingerprint`). What is written into its tensors in place is seen by the shadow copies,
which share them, and by each step that keeps something made of weights (`crp_kit.propagation.rule_steps.KeptUnit`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import torch

from ..conditions import OutputSelector
from ..graph.elementwise import Elementwise, check_elementwise, declarations, declared_paths
from ..graph.graph import Ref
from ..graph.recording.inputs import Inputs
from ..graph.recording.record import Recording
from ..graph.recording.shadow import fingerprint, has_fingerprint, make_shadow
from ..models.weights import check_weights
from ..rules.composite_key import Content, Same, content_of
from ..rules.presets import Composite
from .plan import Plan, make_plan
from .rule_choice import modules_with_rule_of_their_own
from .rule_steps import KeptUnit
from .shadow_model import ShadowModel
from .step_choice import BatchNormRule

__all__ = ["ModelCache"]

_KEPT = 16
"""Composites, and recorded structures for each of them, that are remembered."""


@dataclass(eq=False)
class _CompositePlans:
    """The plans for composites of one content, by recorded structure.

    Parameters
    ----------
    shadow : ShadowModel
        In which a module for which the composite has a rule is one node.
    content : Content
        Of the composite whose hooks the plans hold, as it was when they were made and last used.
    """

    shadow: ShadowModel
    content: Content
    plans: OrderedDict[Any, Plan] = field(default_factory=OrderedDict)
    kept: MutableMapping[Any, KeptUnit] = field(default_factory=WeakValueDictionary)

    def __post_init__(self) -> None:
        self._hooks = content_of(self.content.hooks)

    def fit(self, content: Content) -> bool:
        """Return whether the plans are right for a content, and their hooks still as they were.

        Composites made alike share plans, unless code of the user's own is in them: that has to run in each.
        """
        if self.content.key != content.key:
            return False
        if self.content.has_hooks_of(content):
            return True
        return not content.has_own_code and content_of(self._hooks.hooks).key == self._hooks.key

    def rules_ran(self, composite: Composite | None) -> None:
        """Take what the user's own code in a composite has written while it ran for a part of its content."""
        if self.content.has_own_code:
            self.content = content_of(composite)

    def get(self, signature: Any) -> Plan | None:
        """Return the plan for a recorded structure."""
        if signature in self.plans:
            self.plans.move_to_end(signature)
        return self.plans.get(signature)

    def add(self, signature: Any, plan: Plan) -> None:
        """Keep a plan, and drop the one that was not used for longest if there are too many."""
        self.plans[signature] = plan
        if len(self.plans) > _KEPT:
            self.plans.popitem(last=False)


class ModelCache:
    """Shadow copies of one model, and plans made on them.

    Parameters
    ----------
    model : torch.nn.Module
        The user's model, which is only read.
    output : str, int or callable, optional
        Which part of the model's output is attributed.
    elementwise : module types, str, or several of them, optional
        Modules that are element-wise.
    batch_norm : str
        What is done at a BatchNorm that belongs to no linear layer, see `BatchNormRule`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        output: OutputSelector,
        elementwise: Iterable[Elementwise],
        batch_norm: BatchNormRule,
    ) -> None:
        self._model, self._output, self._batch_norm = model, output, batch_norm
        self._elementwise = declarations(elementwise)
        self._fingerprint: tuple[Any, ...] = ()
        self._copy: torch.nn.Module | None = None
        self._shadows: dict[tuple[frozenset[str], bool], ShadowModel] = {}
        self._plans: OrderedDict[Any, _CompositePlans] = OrderedDict()

    def planned_forward(
        self, inputs: Inputs, composite: Composite | None
    ) -> tuple[Recording, Plan, Callable[[], None], Callable[[Ref, torch.Tensor], torch.Tensor]]:
        """Record a forward, and plan its relevance passes unless its structure has a plan already.

        Returns
        -------
        recording : Recording
        plan : Plan
        rules_ran : callable
            To be called behind each pass, since code of the user's own in the rules may have written to them.
        output_with : callable
            From an output of a node and another value of it to the model's output, by a whole forward.

        Raises
        ------
        ModelError
            If the forward fails, its output cannot be attributed, or a module that is declared element-wise is not.
        CompositeError, UnknownLayerError
            If the composite asks for layers that the graph does not have.
        """
        plans = self._plans_for(composite)
        recording = plans.shadow.forward(inputs)
        while True:
            plan = plans.get(recording.graph.signature)
            if plan is not None:
                break
            whole = modules_with_rule_of_their_own(composite, recording.graph, plans.shadow.module)
            if whole <= plans.shadow.opaque:
                check_elementwise(recording)
                plan = make_plan(recording.graph, composite, self._batch_norm, plans.kept)
                plans.add(recording.graph.signature, plan)
                break
            plans.shadow = self._hiding(plans.shadow, whole)
            recording = plans.shadow.forward(inputs)
        plans.rules_ran(composite)
        return recording, plan, partial(plans.rules_ran, composite), partial(plans.shadow.output_with, inputs)

    def _plans_for(self, composite: Composite | None) -> _CompositePlans:
        """Return what is kept for a composite; all of it is made anew when a part of the model was replaced.

        A composite with canonizers, which write to the model, gets a private copy, remade at every call.
        """
        if self._copy is None or not has_fingerprint(self._model, self._fingerprint):
            self._shadows.clear()
            self._plans.clear()
            check_weights(self._model)
            self._fingerprint, self._copy = fingerprint(self._model), make_shadow(self._model)
        if composite is not None and composite.canonizers:
            return _CompositePlans(self._canonized(composite), content_of(()))
        content = content_of(composite)
        key = Same(composite) if content.has_own_code else content.key
        plans = self._plans.get(key)
        if plans is None or not plans.fit(content):
            shadow = self._shadow_of(self._copy, frozenset(), gradients=composite is None)
            plans = self._plans[key] = _CompositePlans(shadow, content)
            if len(self._plans) > _KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plans

    def _shadow_of(self, module: torch.nn.Module, opaque: frozenset[str], *, gradients: bool) -> ShadowModel:
        """Return the shadow on the shared copy with some opaque modules; all composites that need it share it."""
        key = opaque, gradients
        if key not in self._shadows:
            elementwise = declared_paths(module, self._elementwise)
            self._shadows[key] = ShadowModel(module, self._output, elementwise, opaque, gradients)
        return self._shadows[key]

    def _canonized(self, composite: Composite) -> ShadowModel:
        """Return a shadow with tensors of its own, to which the canonizers of a composite wrote."""
        private = make_shadow(self._model, private=True)
        for canonizer in composite.canonizers:
            canonizer.apply(private)
        return ShadowModel(private, self._output, declared_paths(private, self._elementwise), channels_last=False)

    def _hiding(self, shadow: ShadowModel, whole: frozenset[str]) -> ShadowModel:
        """Return a shadow in which more modules are one node each."""
        opaque = shadow.opaque | whole
        if shadow.module is self._copy:
            return self._shadow_of(shadow.module, opaque, gradients=shadow.gradients)
        return ShadowModel(shadow.module, self._output, shadow.elementwise, opaque, channels_last=False)
