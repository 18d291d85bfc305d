"""Random programs get from crp-kit what oracles get that share no code with it."""

from __future__ import annotations

import pytest

from .compare import judge
from .generator import make_program
from .oracles import ORACLES
from .shrink import shrink

SHARES = {"relevance": 1.0, "gradient": 1.0, "rows": 0.5, "paths": 0.5, "reuse": 0.3, "samples": 0.3}
"""Part of the programs that a comparison sees; the others see half."""
SHOWN = 5
"""Failing programs that are shrunk and shown."""
COMPARED = 0.5
"""Share of the programs that a comparison may not skip: paths skips those in which relevance reaches no layer."""


@pytest.mark.parametrize("name", ORACLES)
def test_random_programs_agree_with(name: str, programs: int) -> None:
    oracle, count = ORACLES[name], max(1, int(programs * SHARES.get(name, 0.5)))
    outcomes = {}
    for seed in range(count):
        program = make_program(seed)
        outcomes[seed] = judge(oracle, program)
    wrong = [seed for seed, outcome in outcomes.items() if outcome.status == "wrong"]
    skipped = sum(outcome.status == "skipped" for outcome in outcomes.values())
    assert not wrong, _report(name, wrong, count)
    assert skipped <= (1 - COMPARED) * count, f"{skipped} of {count} programs were skipped"


def _report(name: str, seeds: list[int], count: int) -> str:
    """The first failing programs, as small as they get."""
    parts = [f"{len(seeds)} of {count} programs are wrong: seeds {seeds}"]
    for seed in seeds[:SHOWN]:
        program = shrink(ORACLES[name], make_program(seed))
        outcome = judge(ORACLES[name], program)
        parts.append(f"seed {seed}, input {program.shape}\n{program.source}\n{outcome.message}")
    return "\n\n".join(parts)
