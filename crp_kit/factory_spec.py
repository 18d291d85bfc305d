"""Things made by a function that a text names: ``package.module:factory`` or ``file.py:factory``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from .errors import InputError, ModelError

__all__ = ["make", "near"]

_SHOWN = 3


def near(name: str, known: Sequence[str], see: str) -> str:
    """Return the end of a sentence that says what would have been right."""
    found = difflib.get_close_matches(name, known, n=_SHOWN, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, found))}?" if found else see


def make(spec: str, *, forms: str, schemes: Sequence[str]) -> Any:
    """Return what the function returns that a text names, called without arguments.

    Parameters
    ----------
    spec : str
    forms : str
        The start of a sentence about the texts that would be right, such as ``"a model is named …"``.
    schemes : sequence of str
        What may stand before the colon instead of a module.

    Raises
    ------
    InputError
        If there is no such module, file or function.
    ModelError
        If the module cannot be imported or the function fails.
    """
    place, _, name = spec.rpartition(":")
    module = _file_module(Path(place)) if place.endswith(".py") else _named_module(place, spec, (forms, schemes))
    factory = getattr(module, name, None)
    if not callable(factory):
        functions = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        raise InputError(f"{place} has no function {name!r}; {near(name, functions, f'it needs a def {name}()')}")
    if isinstance(factory, torch.nn.Module):
        return factory
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise ModelError(f"{spec} failed: {type(error).__name__}: {error}") from error


def _named_module(place: str, spec: str, known: tuple[str, Sequence[str]]) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if not place.startswith(error.name or "\0"):
            raise ModelError(f"importing {place} failed: it needs {error.name!r}, which is not installed") from error
        forms, schemes = known
        found = difflib.get_close_matches(place, schemes, n=1)
        hint = f"did you mean {found[0]}:{spec.rpartition(':')[2]}?" if found else forms
        raise InputError(f"no Python module named {place!r}; {hint}") from error
    except (Exception, SystemExit) as error:
        raise ModelError(f"importing {place} failed: {type(error).__name__}: {error}") from error


def _file_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"no file {str(path)!r}")
    # A class of the file is found again by its module name, as when a model is copied or pickled.
    name = f"crp_kit_factory_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ModelError(f"running {path} failed: {type(error).__name__}: {error}") from error
    return module
