"""Constructor arguments of rules, for tables and pickles. zennit keeps them in functions that a rule consists of."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from zennit import rules as zennit_rules
from zennit.core import BasicHook, Hook

from .description import closure_of, describe_hook
from .stabilizer import added_epsilon

__all__ = ["SavedRule", "portable", "rule_parameters", "short_rule"]

_INSIDE = {"epsilon": "stabilizer_fn", "stabilizer": "stabilizer_fn"}
"""Names of parameters inside of a rule, where these are not the constructor's."""
_MINOR = ("stabilizer", "zero_params")
"""Parameters that are left out of a short description if they have their default value."""
_PARTS = ("input_modifiers", "param_modifiers", "output_modifiers", "gradient_mapper", "reducer")
"""Parameters of a `BasicHook`, which are functions."""


def rule_parameters(hook: Hook) -> dict[str, Any]:
    """Return the arguments that a rule was made with, as far as it still holds them.

    Examples
    --------
    >>> from zennit.rules import AlphaBeta
    >>> rule_parameters(AlphaBeta(alpha=2, beta=1))
    {'alpha': 2, 'beta': 1, 'stabilizer': 1e-06, 'zero_params': None}
    """
    held = {name: _plain(value) for name, value in _held(hook)}
    names = inspect.signature(type(hook)).parameters
    return {name: held[inner] for name in names if (inner := _INSIDE.get(name, name)) in held}


def short_rule(hook: Hook) -> str:
    """Return a rule with its parameters that matter, as one would call it.

    Examples
    --------
    >>> from zennit.rules import Epsilon, Flat, Gamma, Pass
    >>> [short_rule(rule) for rule in (Epsilon(), Gamma(0.5), Gamma(stabilizer=0.1), Flat(), Pass())]
    ['Epsilon(epsilon=1e-06)', 'Gamma(gamma=0.5)', 'Gamma(gamma=0.25, stabilizer=0.1)', 'Flat', 'Pass']
    """
    parameters, signature = rule_parameters(hook), inspect.signature(type(hook)).parameters
    if type(hook) is zennit_rules.Norm:
        parameters = {"epsilon": parameters["stabilizer"]}
    arguments = [
        f"{name}={_short(value)}"
        for name, value in parameters.items()
        if name not in _PARTS and not (name in _MINOR and _is_default(hook, value, signature[name].default))
    ]
    return f"{type(hook).__name__}({', '.join(arguments)})" if arguments else type(hook).__name__


def _is_default(hook: Hook, value: Any, default: Any) -> bool:
    """Return whether an argument is the default; Flat sets the bias to zero in any case."""
    if type(hook) is zennit_rules.Flat and value == ["bias"]:
        return True
    return isinstance(value, (float, int, list, type(None))) and bool(value == default)


def _held(hook: Hook) -> Iterator[tuple[str, Any]]:
    """Yield everything that a rule and the functions that it consists of hold, by name."""
    yield from vars(hook).items()
    if not isinstance(hook, BasicHook):
        return
    modifiers = [getattr(modifier, "modifier", modifier) for modifier in hook.param_modifiers]
    for function in (*modifiers, *hook.input_modifiers, hook.gradient_mapper, hook.reducer):
        if isinstance(function, FunctionType):
            yield from closure_of(function)
    yield "zero_params", getattr(hook.param_modifiers[0], "zero_params", None)


def _plain(value: Any) -> Any:
    """Return the number that a stabilizer adds, if that is all it does."""
    epsilon = added_epsilon(value)
    return value if epsilon is None else epsilon


def _short(value: Any) -> str:
    """Return an argument as short text."""
    if isinstance(value, torch.Tensor) and value.numel() <= 4:
        numbers = [f"{number:.3g}" for number in value.detach().flatten().tolist()]
        return numbers[0] if len(numbers) == 1 else f"[{', '.join(numbers)}]"
    if isinstance(value, torch.Tensor):
        return f"tensor({'x'.join(map(str, value.shape))})"
    if isinstance(value, (int, float)):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(str, value)) + "]"
    return getattr(value, "__name__", type(value).__name__)


# ---------------------------------------------------------------------- rules that can be pickled


_OURS = (zennit_rules.__name__, "crp_kit.")


@dataclass(frozen=True)
class SavedRule:
    """A rule of zennit's or crp-kit's as its class and parameters; many such rules themselves cannot be pickled."""

    kind: type[Hook]
    parameters: Mapping[str, Any]

    def rule(self) -> Hook:
        """Return the rule."""
        return self.kind(**self.parameters)


def portable(hook: Hook | None) -> Hook | SavedRule | None:
    """Return a rule in a form that can be pickled, if there is one; otherwise the rule itself."""
    if not isinstance(hook, BasicHook) or not type(hook).__module__.startswith(_OURS):
        return hook
    saved = SavedRule(type(hook), rule_parameters(hook))
    return saved if describe_hook(saved.rule()) == describe_hook(hook) else hook
