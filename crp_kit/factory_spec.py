"""Resolve ``package.module:function`` and ``file.py:function`` specs of models and datasets, and call the function."""

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

__all__ = ["call_factory", "suggestion"]

_SHOWN = 3


def suggestion(name: str, known: Sequence[str], otherwise: str) -> str:
    """Return the end of an error message: the nearest known names, or something else where none is near."""
    matches = difflib.get_close_matches(name, known, n=_SHOWN, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, matches))}?" if matches else otherwise


def call_factory(spec: str, *, forms: str, schemes: Sequence[str]) -> Any:
    """Return the result of the function of a spec, called without arguments; a module object is returned itself.

    Parameters
    ----------
    spec : str
        ``package.module:function`` or ``file.py:function``.
    forms : str
        The valid forms of a spec, for the error message, such as ``"a model is named …"``.
    schemes : sequence of str
        Words that may stand before the colon instead of a module, for suggestions.

    Raises
    ------
    InputError
        If there is no such module, file or function.
    ModelError
        If the module cannot be imported or the function fails.
    """
    source, _, name = spec.rpartition(":")
    module = _file_module(Path(source)) if source.endswith(".py") else _named_module(source, spec, (forms, schemes))
    factory = getattr(module, name, None)
    if not callable(factory):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        hint = suggestion(name, functions, f"it needs a def {name}()")
        raise InputError(f"{source} has no function {name!r}; {hint}")
    if isinstance(factory, torch.nn.Module):
        return factory
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise ModelError(f"{spec} failed: {type(error).__name__}: {error}") from error


def _named_module(source: str, spec: str, known: tuple[str, Sequence[str]]) -> ModuleType:
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        if not source.startswith(error.name or "\0"):
            raise ModelError(f"importing {source} failed: it needs {error.name!r}, which is not installed") from error
        forms, schemes = known
        matches = difflib.get_close_matches(source, schemes, n=1)
        hint = f"did you mean {matches[0]}:{spec.rpartition(':')[2]}?" if matches else forms
        raise InputError(f"no Python module named {source!r}; {hint}") from error
    except (Exception, SystemExit) as error:
        raise ModelError(f"importing {source} failed: {type(error).__name__}: {error}") from error


def _file_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"no file {str(path)!r}")
    # Copying or pickling a model looks its classes up by the name of their module.
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
