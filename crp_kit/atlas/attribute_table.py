"""Tables of attributes: CSV files, frames and mappings, joined to the samples of an atlas by name or number."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..escapes import escaped, one_line
from ..files import check_file
from .file.attribute_columns import AttributeColumn, attribute_column
from .file.header import Integers

__all__ = ["SampleNames", "joined_columns"]

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_EMPTY = {"", "nan"}
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class SampleNames:
    """By what the samples of an atlas are known.

    Parameters
    ----------
    numbers : numpy.ndarray
        (sample,), in the dataset.
    names : sequence of str
        Such as paths, empty where there are none.
    """

    numbers: Integers
    names: Sequence[str]

    def rows(self, ids: Sequence[Any], what: str) -> list[int]:
        """Return the place of the sample of each id: its name as it is kept, the name of its file, or its number.

        Raises
        ------
        InputError
            If an id is of no sample, of several, or two ids are of one sample; the first three are named.
        """
        texts = [identifier.as_posix() if isinstance(identifier, Path) else str(identifier) for identifier in ids]
        table = self._table(texts)
        keys = [text if text in table else escaped(text) for text in texts]
        reached = [table.get(key, ()) for key in keys]
        for reason, wrong in (
            ("of no sample of the atlas", [not rows for rows in reached]),
            ("the file name of several samples: give paths", [len(rows) > 1 for rows in reached]),
            ("there twice, or of a sample that another is of too", _again(reached)),
        ):
            self._refuse(reason, [text for text, bad in zip(texts, wrong, strict=True) if bad], what)
        return [row for rows in reached for row in rows]

    def _table(self, texts: Sequence[str]) -> Mapping[str, Sequence[int]]:
        """Return the places of the samples that ids may be of. They are numbers only where none is a name."""
        table: dict[str, list[int]] = {}
        for row, name in enumerate(self.names):
            table.setdefault(name.rpartition("/")[2], []).append(row)
        table.update({name: [row] for row, name in enumerate(self.names)})
        if not any(text in table for text in texts) and all(re.fullmatch("[0-9]{1,18}", text) for text in texts):
            return {str(number): [row] for row, number in enumerate(self.numbers.tolist())}
        return table

    @staticmethod
    def _refuse(reason: str, ids: Sequence[str], what: str) -> None:
        if ids:
            shown = ", ".join(f"{identifier!r:.80}" for identifier in ids[:_SHOWN])
            first = f"{shown}, …" if len(ids) > _SHOWN else shown
            raise InputError(f"{what} has {len(ids)} ids that are {reason}: {first}")

    def check_all(self, rows: Sequence[int], what: str) -> None:
        """Make sure that there is a row for each sample.

        Raises
        ------
        InputError
            If samples are left; the first three are named.
        """
        left = sorted(set(range(len(self.numbers))) - set(rows))
        if left:
            names = self.names or [f"number {number}" for number in self.numbers.tolist()]
            shown = ", ".join(f"{names[row]!r:.80}" for row in left[:_SHOWN])
            raise InputError(
                f"{what} has no row for {len(left)} of {len(self.numbers)} samples of the atlas, such as {shown}; "
                f"the cells of a row may be empty"
            )


def _again(reached: Sequence[Sequence[int]]) -> list[bool]:
    """Return which samples were reached before."""
    seen: set[int] = set()
    again = []
    for rows in reached:
        again.append(not seen.isdisjoint(rows))
        seen.update(rows)
    return again


def joined_columns(source: Any, samples: SampleNames, id_column: str | None) -> dict[str, AttributeColumn]:
    """Return the attributes of a source with one value for each sample of an atlas; see `crp_kit.annotate_atlas`.

    Raises
    ------
    InputError
        If the source is something else, or does not fit the samples.
    """
    if isinstance(source, (str, Path)):
        ids, columns = _of_csv(Path(source), id_column)
        return _placed(ids, columns, samples, f"{source}")
    if hasattr(source, "iloc") and hasattr(source, "columns"):
        ids, columns = _of_frame(source, id_column)
        return _placed(ids, columns, samples, "the frame")
    if not isinstance(source, Mapping):
        raise InputError(f"attributes are a CSV file, a frame, or values by name; got {type(source).__name__}")
    if id_column is not None:
        raise InputError("id_column is for a CSV file or a frame; in a mapping each attribute may be values by id")
    return {escaped(str(name)): _of_values(str(name), values, samples) for name, values in source.items()}


def _placed(
    ids: Sequence[Any], columns: Mapping[str, Sequence[Any]], samples: SampleNames, what: str
) -> dict[str, AttributeColumn]:
    """Return columns in the order of the samples."""
    if not columns:
        raise InputError(f"{what} has no column beside the ids of samples")
    rows = samples.rows(ids, what)
    samples.check_all(rows, what)
    order = np.argsort(np.array(rows, "i8"))
    return {escaped(name): attribute_column(name, [values[row] for row in order]) for name, values in columns.items()}


def _of_values(name: str, values: Any, samples: SampleNames) -> AttributeColumn:
    """Return an attribute from a value for each sample, or from values by id, of which some may be missing."""
    count = len(samples.numbers)
    if isinstance(values, Mapping):
        known: list[Any] = [None] * count
        for row, value in zip(samples.rows(list(values), f"the attribute {name!r}"), values.values(), strict=True):
            known[row] = value
        return attribute_column(name, known)
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise InputError(
            f"the attribute {name!r} is a value for each sample, or values by id; got {type(values).__name__}"
        )
    if len(values) != count:
        raise InputError(
            f"the attribute {name!r} has {len(values)} values, and the atlas {count} samples, in the order of "
            f"ConceptAtlas.samples; give values by id if only some are known"
        )
    return attribute_column(name, values.tolist() if hasattr(values, "tolist") else values)


def _of_frame(frame: Any, id_column: str | None) -> tuple[list[Any], dict[str, list[Any]]]:
    """Return ids, from a column or the index, and the other columns of a frame of pandas."""
    names = [str(name) for name in frame.columns]
    _check_names(names, "the frame", id_column)
    columns = {name: frame.iloc[:, number].tolist() for number, name in enumerate(names)}
    ids = frame.index.tolist() if id_column is None else columns.pop(id_column)
    return ids, columns


def _of_csv(path: Path, id_column: str | None) -> tuple[list[str], dict[str, list[Any]]]:
    """Return ids, from the first column by default, and the other columns of a CSV file."""
    check_file(path, "CSV")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head, *rows = _rows(path, file)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"{path} cannot be read as CSV in UTF-8: {one_line(str(error))}") from error
    key = head[0] if id_column is None else id_column
    _check_names(head, str(path), key)
    columns = {name: [row[number] for row in rows] for number, name in enumerate(head)}
    ids = columns.pop(key)
    return ids, {name: _parsed(cells) for name, cells in columns.items()}


def _rows(path: Path, file: Iterable[str]) -> Iterator[list[str]]:
    """Yield the rows of a CSV file, which are all as long as the first."""
    reader, count = csv.reader(file, strict=True), None
    for row in reader:
        if not row:
            continue
        if count is not None and len(row) != count:
            raise InputError(f"{path}, line {reader.line_num}: it has {len(row)} cells, and the first line {count}")
        count = len(row)
        yield row
    if count is None:
        raise InputError(f"{path} is empty: it has a line with the names of columns, and one for each sample")


def _check_names(names: Sequence[str], what: str, id_column: str | None) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{what} has two columns that are named {twice!r}")
    if id_column is not None and id_column not in names:
        raise InputError(f"{what} has no column {id_column!r} for the ids of samples; there are {', '.join(names)}")


def _parsed(cells: Sequence[str]) -> list[Any]:
    """Return cells as truth values or numbers, if all that are not empty are, else as text."""
    plain = [cell.strip() for cell in cells]
    held = [cell for cell in plain if cell.lower() not in _EMPTY]
    if all(cell.lower() in _TRUTH for cell in held):
        return [_TRUTH.get(cell.lower()) for cell in plain]
    if all(_NUMBER.fullmatch(cell) for cell in held):
        return [float(cell) if cell.lower() not in _EMPTY else None for cell in plain]
    return [cell or None for cell in plain]
