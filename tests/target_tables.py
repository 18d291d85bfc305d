"""Tables of errors of targets and directions as Markdown, for the page on coverage."""

from __future__ import annotations

from collections.abc import Iterator

from direction_check import KINDS, errors_in
from target_check import CASES, error_of

__all__ = ["tables"]

LIMIT = 1e-6
_KINDS = ("directions", "heatmaps in a CNN", "sum of shares", "heatmaps in a ViT", "sum of shares")


def tables() -> Iterator[str]:
    """Yield lines of all tables, as they are measured.

    Raises
    ------
    ValueError
        Behind the last line, if an error is not below the limit.
    """
    wrong = 0
    for task in dict.fromkeys(case.task for case in CASES):
        own = [case for case in CASES if case.task == task]
        targets = list(dict.fromkeys(case.target for case in own))
        yield from (f"### targets: {task}", "", *_head(("model", *targets)))
        for model in dict.fromkeys(case.model for case in own):
            errors = [error_of(case) for case in own if case.model == model]
            wrong += sum(not error < LIMIT for error in errors)
            yield _line(model, errors)
        yield ""
    yield from ("### directions", "", *_head(_KINDS))
    for kind in KINDS:
        errors = [error for network in ("cnn", "vit") for error in errors_in(network, kind)]
        wrong += sum(not error < LIMIT for error in errors)
        yield _line(kind, errors)
    if wrong:
        raise ValueError(f"{wrong} errors are not below {LIMIT}")


def _head(names: tuple[str, ...]) -> list[str]:
    return [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]


def _line(name: str, errors: list[float]) -> str:
    return f"| {' | '.join([name, *(f'{error:.1e}' for error in errors)])} |"
