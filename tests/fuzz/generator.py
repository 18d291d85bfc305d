"""Random programs from seeds."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

from . import idioms, inplace, linear, nonlinear, products, structure
from .draft import Draft, UnfitError
from .program import Program

OPERATIONS: dict[Callable[[Draft], object], int] = {
    **linear.OPERATIONS, **products.OPERATIONS, **structure.OPERATIONS,
    **idioms.OPERATIONS, **nonlinear.OPERATIONS, **inplace.OPERATIONS,
}  # fmt: skip
FIRST = (linear.linear, linear.convolution, linear.convolution_and_norm, linear.matrix)


def make_program(seed: int, *, without: Collection[str] = ()) -> Program:
    """A program from a seed, of any operations but those named."""
    chosen = random.Random(seed)
    draft = Draft(seed, _input_shape(chosen))
    operations = {drawn: weight for drawn, weight in OPERATIONS.items() if drawn.__name__ not in without}
    length = chosen.randint(4, 12)
    while len(draft.statements) < length:
        if not draft.statements:
            operation = chosen.choice(FIRST)
        else:
            operation = chosen.choices(list(operations), list(operations.values()))[0]
        draft.family = operation.__name__
        try:
            operation(draft)
        except UnfitError:
            draft.forget_declared()
    return draft.finish()


def _input_shape(chosen: random.Random) -> tuple[int, ...]:
    """Batch, channels, and up to two axes more; sizes often equal, or one."""
    ndim = chosen.choice((2, 3, 3, 4, 4))
    size = chosen.choice((1, 2, 3, 3, 4))
    if chosen.random() < 0.35:
        return (min(size, 3), *(size,) * (ndim - 1))
    return (chosen.randint(1, 3), *(chosen.choice((1, 2, 3, 4, size)) for _ in range(ndim - 1)))
