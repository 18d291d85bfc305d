"""The parameters that a rule was made with. zennit keeps them in the functions that a rule consists of."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from zennit import rules as zennit_rules
from zennit.core import BasicHook, Hook

from .description import describe_hook
from .stabilizer import added_epsilon

__all__ = ["SavedRule", "portable", "rule_parameters", "short_rule"]

_INSIDE = {"epsilon": "stabilizer_fn", "stabilizer": "stabilizer_fn"}
"""What a parameter is called inside of a rule, where that is not its own name."""
_MINOR = ("stabilizer", "zero_params")
"""Parameters that are worth saying only if they are not the usual ones."""
_PARTS = ("input_modifiers", "param_modifiers", "output_modifiers", "gradient_mapper", "reducer")
"""Parameters of a `BasicHook`, which are functions."""


def rule_parameters(hook: Hook) -> dict[str, Any]:
    """Return the parameters that a rule was made with, as far as they can be found in it.

    Examples
    --------
    >>> from zennit.rules import AlphaBeta
    >>> rule_parameters(AlphaBeta(alpha=2, beta=1))
    {'alpha': 2, 'beta': 1, 'stabilizer': 1e-06, 'zero_params': None}
    """
    found = {name: _plain(value) for name, value in _kept(hook)}
    wanted = inspect.signature(type(hook)).parameters
    return {name: found[inner] for name in wanted if (inner := _INSIDE.get(name, name)) in found}


def short_rule(hook: Hook) -> str:
    """Return a rule with the parameters that matter, in a few words.

    Examples
    --------
    >>> from zennit.rules import Epsilon, Flat, Gamma, Pass
    >>> [short_rule(rule) for rule in (Epsilon(), Gamma(0.5), Gamma(stabilizer=0.1), Flat(), Pass())]
    ['Epsilon(epsilon=1e-06)', 'Gamma(gamma=0.5)', 'Gamma(gamma=0.25, stabilizer=0.1)', 'Flat', 'Pass']
    """
    parameters, usual = rule_parameters(hook), inspect.signature(type(hook)).parameters
    if type(hook) is zennit_rules.Norm:
        parameters = {"epsilon": parameters["stabilizer"]}
    said = [
        f"{name}={_short(value)}"
        for name, value in parameters.items()
        if name not in _PARTS and not (name in _MINOR and _is_usual(hook, value, usual[name].default))
    ]
    return f"{type(hook).__name__}({', '.join(said)})" if said else type(hook).__name__


def _is_usual(hook: Hook, value: Any, usual: Any) -> bool:
    """Return whether a parameter is the usual one; Flat sets the bias to zero in any case."""
    if type(hook) is zennit_rules.Flat and value == ["bias"]:
        return True
    return isinstance(value, (float, int, list, type(None))) and bool(value == usual)


def _kept(hook: Hook) -> Iterator[tuple[str, Any]]:
    """Yield everything that a rule and the functions that it consists of hold, by name."""
    yield from vars(hook).items()
    if not isinstance(hook, BasicHook):
        return
    for modifier in hook.param_modifiers:
        yield from _closure(getattr(modifier, "modifier", modifier))
    for function in (*hook.input_modifiers, hook.gradient_mapper, hook.reducer):
        yield from _closure(function)
    yield "zero_params", getattr(hook.param_modifiers[0], "zero_params", None)


def _closure(function: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(function, FunctionType):
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        yield from ((name, cell.cell_contents) for name, cell in cells)


def _plain(value: Any) -> Any:
    """Return the number that a stabilizer adds, if that is all it does."""
    epsilon = added_epsilon(value)
    return value if epsilon is None else epsilon


def _short(value: Any) -> str:
    if isinstance(value, torch.Tensor) and value.numel() <= 4:
        numbers = [f"{one:.3g}" for one in value.detach().flatten().tolist()]
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
