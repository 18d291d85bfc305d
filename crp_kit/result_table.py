"""Answers as small tables: columns that print, show themselves in a notebook, and become arrays or data frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .checks import check_integer
from .errors import InputError
from .printable import printable
from .tables import data_frame, html_table, more_rows, text_table

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Column", "Framed", "Table", "column_named", "first_rows", "not_a_column"]

_SHOWN = 20

Column = npt.NDArray[Any]
not_a_column = {"column": False}
"""Metadata of a field that belongs to a table, but is none of its columns."""


def column_named(name: str) -> dict[str, Any]:
    """Return the metadata of a field whose column has a name that no field can have, such as ``class``."""
    return {"name": name}


def first_rows(k: int | None) -> int | None:
    """Return how many first rows are asked for; all for ``None``.

    Raises
    ------
    InputError
        If it is no whole number of at least 1.
    """
    return None if k is None else check_integer("k", k, low=1)


class Framed(ABC):
    """A result that becomes a data frame, whose rows its class describes."""

    @abstractmethod
    def _framed(self) -> Any:
        """Return columns by name, or a dictionary for each row."""

    def to_frame(self) -> Any:
        """Return a data frame.

        Raises
        ------
        CrpKitError
            If pandas is not installed.
        """
        return data_frame(self._framed())


@dataclass(frozen=True, eq=False, repr=False)
class Table(Framed):
    """Columns of one length. Subclasses are dataclasses whose fields are the columns, those of `not_a_column` apart."""

    @property
    def caption(self) -> str:
        """What the table is of, in one line above it; empty where its columns say it all."""
        return ""

    def columns(self) -> dict[str, Column]:
        """Return the columns by name."""
        return {name: getattr(self, field) for name, field in self._fields().items()}

    def _fields(self) -> dict[str, str]:
        """Return the field of each column by the column's name."""
        held = [field for field in fields(self) if field.metadata.get("column", True)]
        return {field.metadata.get("name", field.name): field.name for field in held}

    def __len__(self) -> int:
        return len(next(iter(self.columns().values())))

    def checked_row(self, row: int) -> int:
        """Return the number of a row.

        Raises
        ------
        InputError
            If there is no such row.
        """
        if not len(self):
            raise InputError("the table has no row")
        return check_integer("row", row, low=0, high=len(self) - 1)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each row with its names, as plain Python values."""
        plain = {name: column.tolist() for name, column in self.columns().items()}
        for number in range(len(self)):
            yield {name: values[number] for name, values in plain.items()}

    def shown_columns(self) -> dict[str, Column]:
        """Return the columns as they are printed, which may have words beside what the table holds."""
        return self.columns()

    def to_numpy(self) -> Column:
        """Return a structured array with a field for each column."""
        columns = self.columns()
        array = np.empty(len(self), [(name, column.dtype) for name, column in columns.items()])
        for name, column in columns.items():
            array[name] = column
        return array

    def _framed(self) -> dict[str, Column]:
        return self.columns()

    def sorted(self, by: str, k: int | None = None) -> Self:
        """Return the first `k` rows, those with the highest values of a column first, texts in reversed alphabet.

        Raises
        ------
        InputError
            If there is no such column, or `k` is not positive.
        """
        columns = self.columns()
        if by not in columns:
            raise InputError(f"no column {by!r}; there are {', '.join(columns)}")
        column = columns[by] if columns[by].dtype.kind in "if" else np.unique(columns[by], return_inverse=True)[1]
        order = np.argsort(-column, kind="stable")[: first_rows(k)]
        return self.taken(order)

    def taken(self, rows: Column | slice) -> Self:
        """Return some of the rows: their numbers, a mask, or a slice."""
        return replace(self, **{field: getattr(self, field)[rows] for field in self._fields().values()})

    def text(self, rows: int = _SHOWN) -> str:
        """Return the first rows as text, in aligned columns."""
        columns = self.shown_columns()
        return "\n".join(text_table([list(columns), *_cells(columns, rows)], left=0))

    def __repr__(self) -> str:
        below = more_rows(self._hidden) if self._hidden else ""
        return "\n".join(filter(None, [printable(self.caption), self.text(), below]))

    def _repr_html_(self) -> str:
        columns = self.shown_columns()
        text_columns = [name for name, column in columns.items() if column.dtype.kind not in "iuf"]
        return html_table(
            list(columns), _cells(columns, _SHOWN), text_columns=text_columns, caption=self.caption, hidden=self._hidden
        )

    @property
    def _hidden(self) -> int:
        """How many rows are not shown."""
        return max(len(self) - _SHOWN, 0)


def _cells(columns: dict[str, Column], rows: int) -> list[list[str]]:
    """Return the first rows as text."""
    lines = zip(*(column[:rows].tolist() for column in columns.values()), strict=True)
    return [list(map(_shown, line)) for line in lines]


def _shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
