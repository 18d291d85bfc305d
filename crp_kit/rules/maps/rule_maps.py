"""Rules by layer: maps that address layers by index, name, pattern or type, composed so that later ones win.

They are composites of zennit's, but the layers of a model have an index only when it is known which of them run, and in
what order. crp-kit looks that up in the recorded graph; for zennit itself, ``composite.bind(model, sample)`` does.
``crp_kit.show_layer_indices(model, sample)`` shows the indices, ``crp_kit.rule_table`` which rule each node gets.

Examples
--------
>>> from torch import nn
>>> from zennit.rules import Epsilon, Flat, Gamma, Pass
>>> from zennit.types import Activation, Convolution
>>> compose(
...     GlobalTypeMap({Convolution: Gamma(), nn.Linear: Epsilon(), Activation: Pass()}),
...     LayerMap("features.*", Gamma(0.1)),
...     FirstLayerMap(Flat()),
... )
compose(GlobalTypeMap({Convolution: Gamma(gamma=0.25), Linear: Epsilon(epsilon=1e-06), Activation: Pass}),
        LayerMap('features.*', Gamma(gamma=0.1)),
        FirstLayerMap(Flat))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from zennit.core import Composite, Hook

from ...checks import is_integer
from ...errors import CompositeError
from ..parameters import short_rule
from .arguments import (
    Choice,
    Span,
    TypeRules,
    checked_choice,
    checked_pairs,
    checked_rule,
    checked_span,
    choice_text,
)
from .base import EVERYWHERE, RuleMap
from .layer_index import Layers

__all__ = [
    "FirstLayerMap",
    "FirstLayerTypeMap",
    "FirstNTypeMap",
    "GlobalMap",
    "GlobalTypeMap",
    "LastLayerMap",
    "LastLayerTypeMap",
    "LayerMap",
    "RangeMap",
    "RangeTypeMap",
    "RuleMap",
    "compose",
]


class LayerMap(RuleMap):
    """A rule for chosen layers.

    Parameters
    ----------
    layer : int, str, type, or a list of these
        An index in execution order, below zero from the end; a name; a pattern for whole names (``"features.*"``); a
        type of modules, of torch or zennit. A module's name means the one layer in it.
    rule : zennit Hook or None
    """

    def __init__(self, layer: Choice, rule: Hook | None) -> None:
        choice = checked_choice(layer)
        super().__init__(choice, [(None, checked_rule(rule))], choice_text(choice))


class GlobalMap(RuleMap):
    """A rule for every layer that has an index, whatever it is: see `GlobalTypeMap` for a choice.

    Parameters
    ----------
    rule : zennit Hook or None
    """

    def __init__(self, rule: Hook | None) -> None:
        super().__init__(EVERYWHERE, [(None, checked_rule(rule))])


class RangeMap(RuleMap):
    """A rule for a range of layers.

    Parameters
    ----------
    indices : range, slice or (int, int)
        A pair is start and stop, the stop not included. A slice is cut to the layers that there are; every other index
        has to exist.
    rule : zennit Hook or None
    """

    def __init__(self, indices: Span, rule: Hook | None) -> None:
        super().__init__(checked_span(indices), [(None, checked_rule(rule))], repr(indices))


class FirstLayerMap(RuleMap):
    """A rule for the layer that runs first, index 0.

    Parameters
    ----------
    rule : zennit Hook or None
    """

    def __init__(self, rule: Hook | None) -> None:
        super().__init__(0, [(None, checked_rule(rule))])


class LastLayerMap(RuleMap):
    """A rule for the layer that runs last, index -1.

    Parameters
    ----------
    rule : zennit Hook or None
    """

    def __init__(self, rule: Hook | None) -> None:
        super().__init__(-1, [(None, checked_rule(rule))])


class GlobalTypeMap(RuleMap):
    """Rules by type, for layers anywhere.

    Parameters
    ----------
    types : dict of type to zennit Hook or None, or pairs of these
        Types are modules of torch or types of zennit (``zennit.types.Convolution``), one or a tuple; the first that
        fits decides. Functional operations have the type of the module that does the same: ``+`` is
        ``zennit.layer.Sum``, ``relu`` is ``torch.nn.ReLU``. Types that the model does not have do nothing.
    """

    def __init__(self, types: TypeRules) -> None:
        super().__init__(EVERYWHERE, checked_pairs(types))


class RangeTypeMap(RuleMap):
    """Rules by type, for a range of layers.

    Parameters
    ----------
    indices : range, slice or (int, int)
        As for `RangeMap`.
    types : dict of type to zennit Hook or None, or pairs of these
        As for `GlobalTypeMap`.
    """

    def __init__(self, indices: Span, types: TypeRules) -> None:
        super().__init__(checked_span(indices), checked_pairs(types), repr(indices))


class FirstLayerTypeMap(RuleMap):
    """Rules by type for the layer that runs first; if it is of none of the types, it keeps what it has.

    Parameters
    ----------
    types : dict of type to zennit Hook or None, or pairs of these
        As for `GlobalTypeMap`.
    """

    def __init__(self, types: TypeRules) -> None:
        super().__init__(0, checked_pairs(types))


class LastLayerTypeMap(RuleMap):
    """Rules by type for the layer that runs last; if it is of none of the types, it keeps what it has.

    Parameters
    ----------
    types : dict of type to zennit Hook or None, or pairs of these
        As for `GlobalTypeMap`.
    """

    def __init__(self, types: TypeRules) -> None:
        super().__init__(-1, checked_pairs(types))


class FirstNTypeMap(RuleMap):
    """Rules by type, for the first layers.

    Parameters
    ----------
    n : int
        How many layers, of any type; a model may have fewer.
    types : dict of type to zennit Hook or None, or pairs of these
        As for `GlobalTypeMap`.
    """

    def __init__(self, n: int, types: TypeRules) -> None:
        if not is_integer(n, 1):
            raise CompositeError(f"n is how many layers, at least 1; got {n!r}")
        super().__init__(slice(int(n)), checked_pairs(types), str(n))


# ---------------------------------------------------------------------- several maps


class _Composed(RuleMap):
    """Several maps, of which later ones win. Made by `compose`."""

    def __init__(self, maps: Sequence[RuleMap], canonizers: Sequence[Any]) -> None:
        inner = [canonizer for rule_map in maps for canonizer in rule_map.canonizers]
        super().__init__(EVERYWHERE, (), canonizers=[*canonizers, *inner])
        self.maps = tuple(maps)

    def assigned(self, layers: Layers) -> dict[int, Hook | None]:
        rules: dict[int, Hook | None] = {}
        for rule_map in self.maps:
            rules.update(rule_map.assigned(layers))
        return rules

    def anywhere(self, module: nn.Module) -> tuple[Hook | None, ...]:
        return next((rule for rule_map in reversed(self.maps) if (rule := rule_map.anywhere(module))), ())

    def __repr__(self) -> str:
        return "compose(" + ",\n        ".join(map(repr, self.maps)) + ")"


def compose(*maps: RuleMap, canonizers: Sequence[Any] | None = None) -> RuleMap:
    """Return one composite of several maps; where several have a rule for a layer, the last of them wins.

    Parameters
    ----------
    *maps : RuleMap
    canonizers : sequence of zennit Canonizer, optional
        Applied, as for any composite, to a private copy of the model before it is recorded.

    Raises
    ------
    CompositeError
        If there are no maps, or something else is among them.
    """
    if not maps:
        raise CompositeError("compose takes rule maps, such as GlobalTypeMap({...}); got none")
    for rules in maps:
        if isinstance(rules, Hook):
            raise CompositeError(f"compose takes rule maps; for one rule everywhere say GlobalMap({short_rule(rules)})")
        if isinstance(rules, Composite) and not isinstance(rules, RuleMap):
            raise CompositeError(
                f"compose takes rule maps; got the composite {type(rules).__name__}: use "
                f"zennit.composites.MixedComposite([compose(...).bind(model, sample), {type(rules).__name__}()])"
            )
        if not isinstance(rules, RuleMap):
            raise CompositeError(f"compose takes rule maps, such as GlobalTypeMap({{...}}); got {rules!r}")
    return _Composed(maps, canonizers or ())
