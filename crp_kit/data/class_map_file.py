"""Files that map the names of a dataset's classes to classes of a model: CSV or JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import InputError
from ..files import check_file

__all__ = ["ClassMap", "as_class_map", "read_class_map"]

ClassMap: TypeAlias = Mapping[str, int | str] | str | Path
"""The model's classes by the names of a dataset's, or a file with them."""

_HEAD = "class"
_FORM = 'a JSON object such as {"folder": 3, "other": "tabby"}, or a CSV file with a folder and a class in each row'


def as_class_map(classes: ClassMap) -> dict[str, int | str]:
    """Return a map itself, or that in a file.

    Raises
    ------
    InputError
        If it is neither, or the file has another form.
    """
    if isinstance(classes, (str, Path)):
        return read_class_map(classes)
    if not isinstance(classes, Mapping):
        raise InputError(f"a class map gives a class by each name, or is a file; got {type(classes).__name__}")
    return dict(classes)


def read_class_map(path: str | Path) -> dict[str, int | str]:
    """Return the classes in a file by the names of folders.

    Parameters
    ----------
    path : str or Path
        ``.json``: an object of numbers or names of classes by folder. ``.csv``: rows of a folder and a class, with
        commas, semicolons or tabs between them; a first row that ends in ``class`` is a heading.

    Raises
    ------
    InputError
        If it cannot be read, has another form, or gives a folder two classes.
    """
    path = Path(path)
    check_file(path, "class map")
    suffix = path.suffix.lower()
    if suffix not in (".json", ".csv"):
        raise InputError(f"the class map {str(path)!r} is {_FORM}: its name ends in .json or .csv")
    try:
        # Bytes that are no UTF-8 become what Python makes of such bytes in the names of folders.
        text = path.read_text("utf-8-sig", errors="surrogateescape")
        pairs = _json_pairs(text) if suffix == ".json" else _csv_pairs(text)
    except OSError as error:
        raise InputError(f"the class map {str(path)!r} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"the class map {str(path)!r} is {_FORM}; {error}") from error
    classes: dict[str, int | str] = {}
    for name, cls in pairs:
        if classes.setdefault(name, cls) != cls:
            raise InputError(f"the class map {str(path)!r} gives {name!r} two classes: {classes[name]!r} and {cls!r}")
    return classes


def _json_pairs(text: str) -> list[tuple[str, Any]]:
    pairs: Any = json.loads(text, object_pairs_hook=list)
    objects = isinstance(pairs, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs)
    if not objects or (not pairs and text.strip().startswith("[")):
        raise ValueError("this holds something else")
    return list(pairs)


def _csv_pairs(text: str) -> list[tuple[str, str]]:
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter, strict=True) if any(row)]
    wrong = next((row for row in rows if len(row) != 2), None)
    if wrong is not None:
        raise ValueError(f"a row has {len(wrong)} cells: {wrong!r:.80}")
    pairs = [(name.strip(), cls.strip()) for name, cls in rows]
    return pairs[1:] if pairs and pairs[0][1].casefold() == _HEAD else pairs
