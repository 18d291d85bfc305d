"""Checks of the arguments of rule maps: rules, types, choices and ranges of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from zennit.core import Hook
from zennit.types import SubclassMeta

from ...checks import is_integer
from ...errors import CompositeError
from .layer_index import Types, type_text

Choice = int | str | type | Sequence[Any]
Span = range | slice | tuple[int, int]
TypeRules = Mapping[Types, Hook | None] | Iterable[tuple[Types, Hook | None]]


def checked_rule(rule: Any) -> Hook | None:
    """Return a rule, or raise an error that says what is wrong with it."""
    if rule is None or isinstance(rule, Hook):
        return rule
    if isinstance(rule, type) and issubclass(rule, Hook):
        raise CompositeError(f"a rule is given as the class {rule.__name__}; give an instance: {rule.__name__}(...)")
    raise CompositeError(f"a rule is a zennit Hook, such as zennit.rules.Epsilon(), or None; got {rule!r}")


def checked_pairs(types: Any) -> list[tuple[Types, Hook | None]]:
    """Return rules by type as pairs."""
    items = types.items() if isinstance(types, Mapping) else types
    try:
        pairs = [(key, rule) for key, rule in items]
    except (TypeError, ValueError) as error:
        raise CompositeError(
            f"rules by type are a dictionary, such as {{torch.nn.Linear: Epsilon()}}, or pairs; got {types!r}"
        ) from error
    if not pairs:
        raise CompositeError("rules by type are empty; name one type at least, such as {torch.nn.Linear: Epsilon()}")
    return [(checked_types(key), checked_rule(rule)) for key, rule in pairs]


def checked_types(types: Any) -> Types:
    """Return a type of modules or a tuple of them."""
    members = types if isinstance(types, tuple) else (types,)
    for member in members:
        if not isinstance(member, SubclassMeta) and not (isinstance(member, type) and issubclass(member, nn.Module)):
            raise CompositeError(
                f"a type is a class of modules, such as torch.nn.Linear, a type of zennit.types, or a tuple of these; "
                f"got {member!r}"
            )
    if not members:
        raise CompositeError("a tuple of types is empty; name one at least")
    return types  # type: ignore[no-any-return]


def checked_choice(choice: Any) -> Any:
    """Return a choice of layers: an index, a name, a pattern, a type, or a tuple of these."""
    if isinstance(choice, (list, tuple)):
        if not choice:
            raise CompositeError("a list of layers is empty; name one at least")
        return tuple(map(checked_choice, choice))
    if is_integer(choice):
        return int(choice)
    if isinstance(choice, str):
        if not choice:
            raise CompositeError("a layer's name is empty; patterns for all layers are '*' or GlobalMap(rule)")
        return choice
    if isinstance(choice, type):
        return checked_types(choice)
    raise CompositeError(
        f"a layer is chosen by an index, a name, a pattern, a type of modules, or a list of these; got {choice!r}"
    )


def choice_text(choice: Any) -> str:
    """Return a choice of layers as text."""
    if isinstance(choice, tuple):
        return "[" + ", ".join(map(choice_text, choice)) + "]"
    return type_text(choice) if isinstance(choice, type) else repr(choice)


def checked_span(indices: Any) -> range | slice:
    """Return a range of layers, or raise an error that says what is wrong with it."""
    if isinstance(indices, slice):
        bounds = (indices.start, indices.stop, indices.step)
        if all(bound is None or is_integer(bound) for bound in bounds) and indices.step != 0:
            return indices
    if isinstance(indices, tuple) and len(indices) == 2 and all(map(is_integer, indices)):
        indices = range(*indices)
    if not isinstance(indices, range):
        raise CompositeError(f"a range of layers is a range, a slice, or a pair (start, stop); got {indices!r}")
    if not indices:
        raise CompositeError(f"{indices!r} has no index in it; the stop is not included")
    return indices
