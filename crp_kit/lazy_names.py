"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["lazy_name"]


def lazy_name(package: str, homes: Mapping[str, str], name: str) -> Any:
    """Return a name of a package from the module that has it.

    Parameters
    ----------
    package : str
    homes : dict
        By name its module, relative to the package.
    name : str

    Raises
    ------
    AttributeError
        If the package has no such name.
    """
    if name in homes:
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
