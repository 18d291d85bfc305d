"""Marks of tests by what they cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_except(names: Iterable[str], quick: Collection[str]) -> list[Any]:
    """Parameters of a test of which only some belong to the quick tests."""
    names = list(names)
    unknown = set(quick) - set(names)
    assert not unknown, unknown
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
