"""Command: ``python -m fuzz ORACLE SEED...`` in ``tests`` prints what fails, shrunk."""

import sys

from crp_kit.compare import judge
from crp_kit.generator import make_program
from crp_kit.oracles import ORACLES
from crp_kit.shrink import shrink

oracle = ORACLES[sys.argv[1]]
for seed in map(int, sys.argv[2:]):
    program = make_program(seed)
    outcome = judge(oracle, program)
    if outcome.status == "wrong":
        program = shrink(oracle, program)
        outcome = judge(oracle, program)
        sys.stdout.write(f"\n# seed {seed}, input {program.shape}\n{program.source}\n# {outcome.message}\n")
    else:
        sys.stdout.write(f"\n# seed {seed}: {outcome.status} {outcome.message}\n")
