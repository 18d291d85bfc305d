"""Random programs get from crp-kit what oracles get that share no code with it."""

from __future__ import annotations

import pytest
import torch

from .compare import Detached, judge
from .generator import make_program
from .oracles import ORACLES
from .shrink import shrink

SHARES = {
    "relevance": 1.0, "gradient": 1.0, "paths": 0.4, "additivity": 0.4, "single_precision": 0.3, "rows": 0.25,
    "samples": 0.15, "reuse": 0.15,
}  # fmt: skip
"""Part of the programs that each comparison sees: what asks crp-kit often sees few."""
SEEDS = [
    pytest.param(range(12), id="first"),
    pytest.param(range(12, 72), id="standard", marks=pytest.mark.slow),
    pytest.param(range(72, 5000), id="nightly", marks=pytest.mark.nightly),
]
CHECKED = 120
"""Programs for which the oracle itself is checked, at most."""
SHOWN = 3
"""Failing programs that are shrunk and shown."""
COMPARED = 0.5
"""Share of the programs that a comparison may not skip: paths skips those in which relevance reaches no layer."""


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("name", ORACLES)
def test_random_programs_agree_with_the_oracle(name: str, seeds: range) -> None:
    oracle, count = ORACLES[name], max(1, int(len(seeds) * SHARES[name]))
    outcomes = {}
    for seed in seeds[:count]:
        program = make_program(seed)
        outcomes[seed] = judge(oracle, program)
    wrong = [seed for seed, outcome in outcomes.items() if outcome.status == "wrong"]
    skipped = sum(outcome.status == "skipped" for outcome in outcomes.values())
    assert not wrong, _report(name, wrong, count)
    assert skipped <= (1 - COMPARED) * count, f"{skipped} of {count} programs were skipped"


@pytest.mark.parametrize("seeds", SEEDS)
def test_the_plain_form_of_the_oracle_is_the_gradient_of_the_models_own_lines(seeds: range) -> None:
    """Torch refuses to differentiate some writes in place, which the oracle writes otherwise."""
    agreed, count = 0, min(CHECKED, len(seeds))
    for seed in seeds[:count]:
        program = make_program(seed)
        leaf = program.data().requires_grad_()
        try:
            right = torch.autograd.grad(program.model()(leaf * 1)[:, 0].sum(), leaf)[0]
        except RuntimeError as error:
            if "inplace" not in str(error):
                raise
            continue
        if bool(right.isfinite().all()):
            got = Detached(program, gradient=True).relevance(0)
            assert torch.allclose(got, right, rtol=1e-9, atol=1e-9 * float(right.abs().max())), seed
            agreed += 1
    assert agreed > count / 2


def _report(name: str, seeds: list[int], count: int) -> str:
    """The first failing programs, as small as they get."""
    parts = [f"{len(seeds)} of {count} programs are wrong: seeds {seeds}"]
    for seed in seeds[:SHOWN]:
        program = shrink(ORACLES[name], make_program(seed))
        outcome = judge(ORACLES[name], program)
        parts.append(f"seed {seed}, input {program.shape}\n{program.source}\n{outcome.message}")
    return "\n\n".join(parts)
