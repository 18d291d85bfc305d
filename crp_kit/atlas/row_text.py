"""Text of table rows, CSV or JSON, made in bulk from columns."""

from __future__ import annotations

import csv
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TextIO, TypeAlias

import numpy as np

from ..printable import printable

__all__ = ["FORMATS", "Columns", "RowWriter"]

Columns: TypeAlias = Mapping[str, Any]
"""Columns of some rows by name: an array of numbers, a tuple of strings, or one string for all rows."""

_ROWS = 1 << 16
"""Rows whose text is made at once."""


class RowWriter(ABC):
    """Writes rows into an open file, block by block.

    Parameters
    ----------
    file : file
        Open for text.
    columns : tuple of str
        Names, in their order.
    """

    between: ClassVar[str]
    """Stands between two rows."""
    tail: ClassVar[str]
    """Stands behind the last one."""

    def __init__(self, file: TextIO, columns: tuple[str, ...]) -> None:
        self.file, self.columns = file, columns
        self._before = "\n"
        file.write(self.start())

    def write(self, columns: Columns) -> None:
        """Write some rows."""
        length = next(len(column) for column in columns.values() if not isinstance(column, str))
        for start in range(0, length, _ROWS):
            self.file.write(self._before + self.between.join(self._rows(columns, slice(start, start + _ROWS))))
            self._before = self.between

    def finish(self) -> None:
        """Write what follows the rows."""
        self.file.write(self.tail)

    def _rows(self, columns: Columns, part: slice) -> Iterator[str]:
        """Return the text of each row. What all rows share is a part of the template, and is made once."""
        shared = {
            name: self.text(value).replace("%", "%%") for name, value in columns.items() if isinstance(value, str)
        }
        own = [self._printable(columns[name][part]) for name in self.columns if name not in shared]
        return map(
            self.template({name: shared.get(name, "%s") for name in self.columns}).__mod__, zip(*own, strict=True)
        )

    def _printable(self, column: Any) -> Sequence[Any]:
        """Return values whose `str` is what stands in the file."""
        if isinstance(column, tuple):
            return [self.text(value) for value in column]
        values: list[Any] = column.tolist()
        return values if column.dtype.kind != "f" or np.isfinite(column).all() else self.floats(values)

    @abstractmethod
    def start(self) -> str:
        """Return what stands before the rows."""

    @abstractmethod
    def template(self, values: Mapping[str, str]) -> str:
        """Return a row of values that are written out."""

    @abstractmethod
    def text(self, value: str) -> str:
        """Return a string as it stands in the file."""

    @abstractmethod
    def floats(self, values: list[float]) -> list[Any]:
        """Return floats, not all of them finite, such that their `str` is what stands in the file."""


class _Csv(RowWriter):
    """Comma-separated values, as the module csv writes them."""

    between = tail = "\n"

    def start(self) -> str:
        return ",".join(map(self.text, self.columns))

    def template(self, values: Mapping[str, str]) -> str:
        return ",".join(values.values())

    def text(self, value: str) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(
            [printable(value), ""]
        )  # alone in its line, an empty string is quoted
        return line.getvalue().removesuffix(",\n")

    def floats(self, values: list[float]) -> list[Any]:
        return values


class _Json(RowWriter):
    """A list of JSON objects, one on each line."""

    between, tail = ",\n", "\n]\n"

    def start(self) -> str:
        return "["

    def template(self, values: Mapping[str, str]) -> str:
        return "{" + ", ".join(f"{self.text(name)}: {value}" for name, value in values.items()) + "}"

    def text(self, value: str) -> str:
        return json.dumps(value)

    def floats(self, values: list[float]) -> list[Any]:
        """JSON has no not-a-number."""
        return [value if math.isfinite(value) else "null" for value in values]


FORMATS: Mapping[str, type[RowWriter]] = {".csv": _Csv, ".json": _Json}
"""By the ending of a file's name."""
