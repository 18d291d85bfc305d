"""A program while it is drawn: its variables, their values and what they are for relevance."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .detached import Forms
from .program import NAMES, Program, Statement, randomise

SIGNAL, TAINTED, GATE, CONSTANT = "signal", "tainted", "gate", "constant"
"""Live; live behind a sigmoid, so that as a factor it might be a gate; a gate; no relevance at all."""
LIVE = (SIGNAL, TAINTED)
LARGEST, DEEPEST = 96, 5


class UnfitError(Exception):
    """No variable fits the operation."""


@dataclass
class Variable:
    """What is known of a variable beside its value.

    Parameters
    ----------
    name : str
    kind : str
    roots : set of str
        Variables of which it may be an element-wise function, itself included: two that share one are no two factors
        of a product, for which rules differ by how they are written.
    fresh : bool
        A constant with memory of its own, which becomes live if a signal is written into it.
    """

    name: str
    kind: str
    roots: set[str] = field(default_factory=set)
    fresh: bool = False


class Draft:
    """Variables of a program so far, by running it line for line.

    Parameters
    ----------
    seed : int
    shape : tuple of int
        Of the input, batch included.
    """

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self.random = random.Random(seed)
        self.start = Program(seed, shape, (), ("x",))
        self.statements: list[Statement] = []
        self.variables: dict[str, Variable] = {"x": Variable("x", SIGNAL, {"x"})}
        self._module = torch.nn.Module()
        self._names: dict[str, Any] = {**NAMES, "self": self._module, "x": self.start.data()}
        self._declared: list[tuple[str, str]] = []
        self._counts = dict.fromkeys("vmp", 0)
        self.reusable: list[tuple[str, str, str]] = []
        """Modules that may run again: name, plain and detached writing of a call of ``{h}``."""

    @property
    def batch(self) -> int:
        return self.start.shape[0]

    # ------------------------------------------------------------------ operands

    def value(self, name: str) -> torch.Tensor:
        """Current value of a variable."""
        return self._names[name]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._names[name].shape)

    def take(self, fits: Callable[[torch.Tensor], bool] = lambda value: True, *, kinds: Sequence[str] = LIVE) -> str:
        """A variable that fits, recent ones more likely."""
        names = [n for n, v in self.variables.items() if v.kind in kinds and fits(self.value(n))]
        if not names:
            raise UnfitError
        return self.random.choice(names[-3:] if self.random.random() < 0.7 else names)

    def factor_of(self, name: str, fits: Callable[[torch.Tensor], bool]) -> str:
        """A second live factor: none of which this one may be an element-wise function, or the other way round."""
        mine = self.variables[name]
        if mine.kind != SIGNAL:
            raise UnfitError
        names = [
            n
            for n, v in self.variables.items()
            if v.kind == SIGNAL and v.roots.isdisjoint(mine.roots) and fits(self.value(n))
        ]
        if not names:
            raise UnfitError
        return self.random.choice(names)

    def size(self) -> int:
        """A small size, often one that is there already."""
        sizes = [size for size in self.start.shape if size <= 4]
        return self.random.choice([*sizes, *sizes, 1, 2, 3, 4])

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    # ------------------------------------------------------------------ declarations

    def module(self, expression: str) -> str:
        """Name of a new module."""
        return self._declare("m", expression)

    def parameter(self, *shape: int) -> str:
        """Expression of a new parameter, or of a buffer."""
        if self.chance(0.7):
            return "self." + self._declare("p", f"nn.Parameter(torch.zeros({tuple(shape)}))")
        return "self." + self._declare("p", f"buffer(torch.zeros({tuple(shape)}))")

    def indices(self, size: int, length: int) -> str:
        """Expression of a new buffer of indices into an axis."""
        chosen = [self.random.randrange(size) for _ in range(length)]
        return "self." + self._declare("p", f"buffer(torch.tensor({chosen}))")

    def _declare(self, letter: str, expression: str) -> str:
        name = self._new(letter)
        self._declared.append((name, expression))
        if expression.startswith("buffer("):
            self._module.register_buffer(name, eval(expression[7:-1], dict(NAMES)))
        else:
            setattr(self._module, name, eval(expression, dict(NAMES)))
        randomise(self._module, self.start.seed)
        self._module.double().eval()
        return name

    def forget_declared(self) -> None:
        """Drop what an operation declared that then did not fit."""
        self._declared = []

    def _new(self, letter: str) -> str:
        self._counts[letter] += 1
        return f"{letter}{self._counts[letter]}"

    # ------------------------------------------------------------------ statements

    def add(
        self,
        plain: str,
        detached: str | None = None,
        *,
        reads: Sequence[str],
        kind: str | None = None,
        elementwise: bool = False,
        outs: int = 1,
        one_sample: bool = False,
        fresh: bool = False,
    ) -> tuple[str, ...]:
        """Append a statement that makes variables; ``{o}`` in its lines is their names.

        Parameters
        ----------
        plain, detached : str
            Lines; the oracle's are those of the model by default.
        reads : sequence of str
            Variables in the lines.
        kind : str, optional
            Of the result; by default that of the weakest operand that is live.
        elementwise : bool
            The result is an element-wise function of what it reads.
        outs : int
            Number of variables.
        one_sample : bool
            It mixes samples.
        fresh : bool
            The result is a constant with memory of its own.
        """
        names = tuple(self._new("v") for _ in range(outs))
        shown = ", ".join(names)
        lines = [text.replace("{o}", shown) for text in (plain, plain if detached is None else detached)]
        kind = kind or self._weakest(reads)
        marks = {"live": kind in LIVE, "elementwise": elementwise, "one_sample": one_sample}
        self._append(Statement(names, tuple(reads), *lines, **marks))
        for name in names:
            roots = set().union(*(self.variables[r].roots for r in reads)) if elementwise else set()
            self.variables[name] = Variable(name, kind, roots | {name}, fresh)
            self._forget_unusable(name)
        return names

    def overwrite(self, plain: str, detached: str | None = None, *, target: str, reads: Sequence[str] = ()) -> None:
        """Append a statement that writes into a variable, which changes all that share its memory."""
        others = [name for name in (target, *reads) if self.variables[name].kind != CONSTANT]
        self._append(Statement((), (target, *reads), plain, plain if detached is None else detached))
        kind = self._weakest(others) if others else CONSTANT
        roots = set().union(*(self.variables[name].roots for name in (target, *reads)))
        memory = self.value(target).untyped_storage().data_ptr()
        for name, variable in self.variables.items():
            if self.value(name).untyped_storage().data_ptr() == memory and (
                variable.kind != CONSTANT or variable.fresh
            ):
                variable.kind, variable.roots = kind, variable.roots | roots

    def _append(self, statement: Statement) -> None:
        declared, self._declared = tuple(self._declared), []
        self.statements.append(replace(statement, declared=declared, family=self.family))
        with torch.no_grad():
            exec(statement.plain, self._names)

    family = ""

    def _weakest(self, reads: Sequence[str]) -> str:
        kinds = {self.variables[name].kind for name in reads}
        return next(kind for kind in (GATE, TAINTED, SIGNAL, CONSTANT) if kind in kinds) if kinds else CONSTANT

    def _forget_unusable(self, name: str) -> None:
        """Later statements use no tensor that is large, empty, or has no axis beside that of the batch."""
        value = self.value(name)
        fits = 2 <= value.ndim <= DEEPEST and 0 < value[0].numel() <= LARGEST and value.shape[0] == self.batch
        if not fits:
            del self.variables[name]

    # ------------------------------------------------------------------ the end

    def finish(self) -> Program:
        """The program whose head sees the last live variable, and some before it."""
        live = [name for name, variable in self.variables.items() if variable.kind in LIVE and name != "x"]
        if not live:
            raise UnfitError
        read = {name for statement in self.statements for name in statement.uses}
        unread = [name for name in live[:-1] if name not in read]
        results = tuple(dict.fromkeys([*unread[-2:], live[-1]]))
        return Program(self.start.seed, self.start.shape, tuple(self.statements), results)

    def check(self, program: Program) -> Forms:
        """Run the oracle's lines once, and return what they saw."""
        model, forms = program.model().requires_grad_(False), Forms()
        program.run_detached(model, program.data().requires_grad_() * 1, forms)
        return forms
