"""Command: ``python -m fuzz ORACLE SEED...`` in ``tests`` prints what fails, shrunk."""

import sys

from .compare import judge
from .generator import make_program
from .oracles import ORACLES
from .shrink import shrink

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
