"""Resolve ``package.module:function`` and ``file.py:function`` specs of models and datasets, and call the function."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from .errors import InputError, ModelError

__all__ = ["call_factory", "factory_files", "load_factory_files", "suggestion"]

_SHOWN = 3
_MODULES, _VERSION = "crp_kit_factory_", "__crp_kit_version__"


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
        where = _line(error, getattr(module, "__file__", None))
        is_called_wrong = isinstance(error, TypeError) and not where
        hint = "; it is called without arguments: give each a default" if is_called_wrong else ""
        raise ModelError(f"{spec} failed{where}: {type(error).__name__}: {error}{hint}") from error


def _line(error: BaseException, file: str | None) -> str:
    """Return the line of a file in which an error arose, in words; nothing if it arose elsewhere."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" in line {lines[-1]}" if lines else ""


def _named_module(source: str, spec: str, known: tuple[str, Sequence[str]]) -> ModuleType:
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        if not source.startswith(error.name or "\0"):
            raise ModelError(f"importing {source} failed: it needs {error.name!r}, which is not installed") from error
        forms, schemes = known
        function = spec.rpartition(":")[2]
        if Path(f"{source}.py").is_file():
            raise InputError(f"no Python module named {source!r}; did you mean {source}.py:{function}?") from error
        matches = difflib.get_close_matches(source, schemes, n=1)
        hint = f"did you mean {matches[0]}:{function}?" if matches else forms
        raise InputError(f"no Python module named {source!r}; {hint}") from error
    except (Exception, SystemExit) as error:
        raise ModelError(f"importing {source} failed: {type(error).__name__}: {error}") from error


def _file_module(path: Path) -> ModuleType:
    """Return the module of a file: the one that has run already, unless the file has changed since."""
    if not path.is_file():
        near = suggestion(path.name, [one.name for one in path.parent.glob("*.py")], "name a file that exists")
        raise InputError(f"no file {str(path)!r}; {near}")
    state, absolute = path.stat(), path.resolve()
    # Copying or pickling an object looks its class up by the name of its module, which has to be one for each file.
    name = f"{_MODULES}{path.stem}_{hashlib.sha256(os.fsencode(absolute)).hexdigest()[:12]}"
    version = (state.st_mtime_ns, state.st_size)
    known = sys.modules.get(name)
    if known is not None and vars(known).get(_VERSION) == version:
        return known
    spec = importlib.util.spec_from_file_location(name, absolute)
    if spec is None or spec.loader is None:
        raise InputError(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    vars(module)[_VERSION] = version
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ModelError(
            f"running {path} failed{_line(error, str(absolute))}: {type(error).__name__}: {error}"
        ) from error
    return module


def factory_files() -> list[str]:
    """Return the files whose functions were called as factories, for processes that unpickle what these made."""
    return [str(module.__file__) for name, module in list(sys.modules.items()) if name.startswith(_MODULES)]


def load_factory_files(files: Iterable[str]) -> None:
    """Run the files of factories, so that objects of their classes can be unpickled.

    Raises
    ------
    InputError
        If one is not there any more.
    ModelError
        If one fails.
    """
    for file in files:
        _file_module(Path(file))
