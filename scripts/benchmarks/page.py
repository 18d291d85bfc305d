"""Short tables of what was measured for tutorials/performance.md, each between two comments of the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .report import (
    NONE,
    SIDES,
    TO_FLOOR,
    TO_PEER,
    TO_SALIENCY,
    Column,
    about,
    images,
    in_the_loop,
    of_side,
    seconds,
    size,
    table,
)

Record = Mapping[str, Any]
PARTS = {"atlas": ("atlas",), "saliency": ("saliency",), "speed": ("heatmaps", "graph", "tracing", "query")}
"""The tables by the name in their comments, and the parts of the benchmark that each has."""


def filled(text: str, report: Mapping[str, Any]) -> str:
    """Return a text with its tables made anew.

    Raises
    ------
    ValueError
        If there is no place for one of them.
    """
    for name, parts in PARTS.items():
        records = [record for record in report["cases"] if record["part"] in parts]
        gap = re.search(rf"(?s)(?<=<!-- benchmark: {name} -->\n)(?:(?!<!-- benchmark).)*?(?=<!-- end -->)", text)
        if gap is None:
            raise ValueError(f"there is no place for a table between <!-- benchmark: {name} --> and <!-- end -->")
        if records:
            block = f"\n{table(records, COLUMNS[name])}\n\n{about(report)}\n\n"
            text = text[: gap.start()] + block + text[gap.end() :]
    return text


def _time(side: str) -> Callable[[Record], str]:
    """Return seconds, and the memory that they took."""

    def cell(record: Record) -> str:
        used = f", {size(record['memory'][side])}" if side in record["memory"] else ""
        return seconds(record["median"][side]) + used

    return of_side(side, cell)


def _files(record: Record) -> str:
    noted = (record["sides"].get(side, {}) for side in ("ours", "peer"))
    return ", ".join(f"{one['files']} ({size(one['bytes'])})" for one in noted if "files" in one) or NONE


def _beside(shown: Callable[[str], Callable[[Record], str]], sides: Iterable[str]) -> tuple[Column, ...]:
    return tuple((SIDES[side], shown(side)) for side in sides)


COLUMNS: dict[str, tuple[Column, ...]] = {
    "atlas": (
        ("images/s of", lambda record: record["name"]),
        *_beside(images, ("ours", "peer", "floor")),
        TO_PEER,
        TO_FLOOR,
        ("in the loop", in_the_loop),
        ("files, crp-kit and zennit-crp", _files),
    ),
    "saliency": (
        ("work", lambda record: record["name"]),
        *_beside(_time, ("ours", "saliency", "gradient", "captum", "lxt", "lxt_explicit")),
        *TO_SALIENCY,
    ),
    "speed": (
        ("work", lambda record: record["name"]),
        *_beside(_time, ("ours", "peer", "gradient", "floor")),
        TO_PEER,
        TO_FLOOR,
    ),
}
