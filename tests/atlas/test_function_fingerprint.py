"""Fingerprints of functions that choose targets: the same for the same work, another for another code or value."""

from __future__ import annotations

import functools
import json
import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import run_python

from crp_kit.atlas.build.function_code import code_text
from crp_kit.atlas.build.function_fingerprint import function_fingerprint
from crp_kit.factory_spec import call_factory

LIMIT = 3


def first(output: torch.Tensor, label: Any) -> list[int]:
    return [int(output.argmax())]


def renamed(output: torch.Tensor, label: tuple[int, ...] | None) -> list[int]:
    """A docstring, annotations, and a name of its own change nothing."""
    return [int(output.argmax())]  # nor does a comment


def last(output: torch.Tensor, label: Any) -> list[int]:
    return [int(output.argmin())]


def at_least(bound: Any) -> Callable[..., Any]:
    return lambda output, label: (output > bound).nonzero().flatten().tolist()


def with_default(bound: Any) -> Callable[..., Any]:
    def choose(output: Any, label: Any, bound: Any = bound) -> Any:
        return [bound]

    return choose


def global_limit(output: Any, label: Any) -> list[int]:
    return [LIMIT]


class Chosen:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, output: Any, label: Any) -> list[Any]:
        return [self.value]

    def method(self, output: Any, label: Any) -> list[Any]:
        return [self.value]


class Doubled(Chosen):
    def __call__(self, output: Any, label: Any) -> list[Any]:
        return [self.value * 2]


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, output: Any, label: Any) -> list[Any]:
        return [self.value]


def executed(source: str) -> Any:
    """A function without a source."""
    names: dict[str, Any] = {}
    exec(source, names)
    return names["f"]


DIFFERENT = {
    "code": (first, last),
    "a constant of a lambda": (lambda o, y: [0], lambda o, y: [1]),
    "lambdas in one line": (lambda o, y: [o[0]], lambda o, y: [o[1]]),
    "an operator": (lambda o, y: [y[0] + 1], lambda o, y: [y[0] - 1]),
    "a comparison": (lambda o, y: [1] if o[0] > 1 else [2], lambda o, y: [1] if o[0] < 1 else [2]),
    "a negation": (lambda o, y: [1] if o[0] else [2], lambda o, y: [1] if not o[0] else [2]),
    "an order": (lambda o, y: [o, y], lambda o, y: [y, o]),
    "a function inside": (lambda o, y: sorted(y, key=lambda z: z), lambda o, y: sorted(y, key=lambda z: -z)),
    "a number around it": (at_least(0.5), at_least(0.25)),
    "its last bit": (at_least(0.1), at_least(0.1 + 2**-56)),
    "a tensor around it": (at_least(torch.tensor(1.0)), at_least(torch.tensor(2.0))),
    "an array around it": (at_least(np.arange(3)), at_least(np.arange(3.0))),
    "a set around it": (at_least({1, 2}), at_least({1, 3})),
    "a dictionary around it": (at_least({"a": 1}), at_least({"b": 1})),
    "a function around it": (at_least(first), at_least(last)),
    "a path around it": (at_least(Path("a")), at_least(Path("b"))),
    "a default": (with_default(1), with_default(2)),
    "a type of number": (with_default(1), with_default(True)),
    "a keyword of a partial": (functools.partial(first, label=1), functools.partial(first, label=2)),
    "a function of a partial": (functools.partial(first), functools.partial(last)),
    "an attribute": (Chosen(1), Chosen(2)),
    "a slot": (Slotted(1), Slotted(2)),
    "a method": (Chosen(1), Doubled(1)),
    "which method": (Chosen(1).method, Chosen(1)),
    "the object of a method": (Chosen(1).method, Chosen(2).method),
    "weights": (at_least(torch.nn.Linear(1, 1)), at_least(torch.nn.Linear(1, 1))),
    "a function of torch": (torch.argmax, torch.argmin),
    "a constant without a source": tuple(executed(f"f = lambda o, y: [{n}]") for n in (0, 1)),
    "an operator without a source": tuple(executed(f"f = lambda o, y: [y[0] {sign} 1]") for sign in "+-"),
    "a name without a source": tuple(executed(f"f = lambda o, y: [o.{name}()]") for name in ("argmax", "argmin")),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_another_function_has_another_fingerprint(one: Any, other: Any) -> None:
    assert function_fingerprint(one) == function_fingerprint(one)
    assert function_fingerprint(one) != function_fingerprint(other)


SAME = {
    "names and docstrings": (first, renamed),
    "made twice": (at_least(0.5), at_least(0.5)),
    "equal tensors": (at_least(torch.ones(2)), at_least(torch.ones(2))),
    "equal objects": (Chosen(1), Chosen(1)),
    "a set in another order": (at_least({"b", "a"}), at_least({"a", "b"})),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_the_same_function_has_the_same_fingerprint(one: Any, other: Any) -> None:
    assert function_fingerprint(one) == function_fingerprint(other)


def test_a_global_value_that_a_function_reads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = function_fingerprint(global_limit)
    monkeypatch.setitem(global_limit.__globals__, "LIMIT", 4)
    assert function_fingerprint(global_limit) != before


def test_what_holds_itself_ends() -> None:
    chosen = Chosen(None)
    chosen.value = [chosen]
    assert function_fingerprint(chosen) == function_fingerprint(chosen)


def test_a_source_counts_by_its_syntax_and_what_was_compiled_from_it(tmp_path: Path) -> None:
    """Neither lines nor comments count; a file that was changed since is not taken for the function's source."""
    texts = [
        "def make():\n    return lambda o, y: [o.argmax(), 7]\n",
        "\n\n# a comment\ndef make():\n    return (lambda o, y:\n            [o.argmax(), 7])\n",
        "def make():\n    return lambda o, y: [o.argmax(), 8]\n",
    ]
    found = []
    for number, text in enumerate(texts):
        path = tmp_path / f"f{number}.py"
        path.write_text(text)
        found.append(call_factory(f"{path}:make", forms="", schemes=()))
    assert function_fingerprint(found[0]) == function_fingerprint(found[1]) != function_fingerprint(found[2])
    assert code_text(found[2]).startswith("Lambda ")
    (tmp_path / "f2.py").write_text(texts[0] + "# longer")
    linecache.checkcache()
    assert code_text(found[2]) == "o argmax 8"


def report() -> str:
    functions = [
        *[one for pair in SAME.values() for one in pair],
        *(DIFFERENT[name][0] for name in DIFFERENT if name != "weights"),
    ]
    return json.dumps([function_fingerprint(one) for one in functions])


@pytest.mark.slow
def test_fingerprints_are_the_same_in_another_process() -> None:
    folders = [str(Path(__file__).parents[level]) for level in (2, 1, 0)]
    code = f"""
        import sys
        sys.path[:0] = {folders}
        from test_function_fingerprint import report
        print(report())
    """
    ran = run_python(code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == report()
