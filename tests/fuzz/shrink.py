"""Smaller programs for which a comparison still fails in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from .compare import judge
from .program import Program

INVALID = (RuntimeError, NameError, IndexError, ValueError, TypeError, AttributeError, AssertionError)
"""What torch and Python raise for a program that lost a line it needs."""


def shrink(oracle: Callable[[Program], None], program: Program) -> Program:
    """The program with as few statements, results and samples as still fail."""
    wanted = _failure(oracle, program)
    assert wanted is not None
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(program):
            allowed = _size(candidate) < _size(program) and not _joins_relatives(candidate)
            if allowed and _failure(oracle, candidate) == wanted:
                program, smaller = candidate, True
                break
    return program


def _size(program: Program) -> tuple[int, ...]:
    return len(program.statements), len(program.results), program.shape[0]


def _failure(oracle: Callable[[Program], None], program: Program) -> str | None:
    """The kind of failure, or None for a program that is right, skipped or no program."""
    try:
        outcome = judge(oracle, program)
    except INVALID:
        return None
    kind = re.sub(r"\d|(: shape)", "", outcome.message.split("{")[0].split(":")[0])
    return kind if outcome.status == "wrong" else None


def _candidates(program: Program) -> Iterator[Program]:
    """Programs that are smaller by one step, the large steps first."""
    for index, statement in enumerate(program.statements):
        for name in statement.outs:
            yield _trimmed(replace(program, statements=program.statements[: index + 1], results=(name,)))
    for name in program.results if len(program.results) > 1 else ():
        yield _trimmed(replace(program, results=tuple(kept for kept in program.results if kept != name)))
    for index in reversed(range(len(program.statements))):
        statement = program.statements[index]
        if not statement.outs:
            yield program.without(index, {})
        for source in statement.uses if statement.live else ():  # a constant stays one
            yield _trimmed(program.without(index, dict.fromkeys(statement.outs, source)))
    if program.shape[0] > 1:
        yield replace(program, shape=(1, *program.shape[1:]))


def _joins_relatives(program: Program) -> bool:
    """Whether two factors share relevance, though one may be an element-wise function of the other."""
    roots: dict[str, set[str]] = {"x": {"x"}}
    for statement in program.statements:
        read = [roots.get(name, set()) for name in statement.uses]
        if "q.halves" in statement.detached and read[0] & read[-1]:
            return True
        for name in statement.outs or statement.uses[:1]:
            roots[name] = {name}.union(*read) if statement.elementwise else {name}
    return False


def _trimmed(program: Program) -> Program:
    """The program without statements that nothing reads."""
    read = set(program.results)
    kept = []
    for statement in reversed(program.statements):
        if read & set(statement.outs or statement.uses):
            kept.append(statement)
            read |= set(statement.uses)
    return replace(program, statements=tuple(reversed(kept)))
