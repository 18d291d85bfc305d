"""Attributes of samples: truth values, numbers or text by name, as a file keeps and a reader gets them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np

from ...errors import AtlasError, InputError
from ...escapes import escaped
from .array_checks import check_array, check_strings
from .file_tree import Tree, array_spec, encoded, text_digest
from .hdf5_reader import H5File
from .header import ENCODING, VERSION, Array

__all__ = [
    "ATTRIBUTES",
    "AttributeColumn",
    "StoredAttributes",
    "add_attributes",
    "attribute_column",
    "check_attributes",
    "has_attributes",
    "joined_attributes",
]

ATTRIBUTES = "/attributes"
_NAME, _KIND, _VALUE = (f"{ATTRIBUTES}/{name}" for name in ("name", "kind", "value"))
AttributeKind = Literal["truth", "number", "text"]
_TYPES: dict[AttributeKind, str] = {"truth": "i1", "number": "f8", "text": "i4"}
"""Type of the array (sample, attribute of this kind) in a file; a kind is the number of its row here."""
_MOST, _LONGEST = 1 << 16, 4096
"""Attributes, and bytes of a name or text: all of them take as much room in a file as the longest."""
_MISSING = {"NAType", "NaTType", "NoneType"}
"""Classes of values that stand for none, those of pandas included."""


@dataclass(frozen=True, eq=False)
class AttributeColumn:
    """One attribute of samples.

    Parameters
    ----------
    kind : {"truth", "number", "text"}
    values : numpy.ndarray
        (sample,): 1, 0 and -1 for none; float64, not-a-number for none; or strings, empty for none.
    """

    kind: AttributeKind
    values: Array

    def taken(self, rows: Any) -> AttributeColumn:
        """Return the attribute of some of the samples."""
        return AttributeColumn(self.kind, self.values[rows])

    def public(self) -> Array:
        """Return booleans, of which some are missing as floats 1, 0 and not-a-number; floats; or strings."""
        if self.kind != "truth":
            return self.values
        missing = self.values < 0
        return np.where(missing, np.nan, self.values) if missing.any() else self.values.astype(bool)


def attribute_column(name: str, values: Iterable[Any]) -> AttributeColumn:
    """Return an attribute with one value for each sample, of a kind that fits all of them.

    Booleans are truth values, and so are numbers of which each is 0 or 1. ``None``, not-a-number, and pandas' own
    values for nothing are missing.

    Raises
    ------
    InputError
        If values are of other types, of several kinds, infinite or too long, or the name is empty or too long.
    """
    if not 0 < len(name.encode()) <= _LONGEST:
        raise InputError(f"the name of an attribute has 1 to {_LONGEST} bytes; got {name[:60]!r}")
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    plain = [_plain(name, value) for value in listed]
    held = [value for value in plain if value is not None]
    texts = sum(isinstance(value, str) for value in held)
    if texts not in (0, len(held)):
        raise InputError(
            f"the attribute {name!r} has text for some samples and numbers for others; make it text for all"
        )
    if texts:
        return AttributeColumn("text", np.array(["" if value is None else value for value in plain], object))
    if held and all(value in (0, 1) for value in held):
        return AttributeColumn("truth", np.array([-1 if value is None else value for value in plain], "i1"))
    return AttributeColumn("number", np.array([np.nan if value is None else value for value in plain], "f8"))


def _plain(name: str, value: Any) -> str | float | None:
    """Return a value as text or number, ``None`` for a missing one."""
    if isinstance(value, str):
        text = escaped(value)
        if len(text.encode()) > _LONGEST:
            raise InputError(f"a value of the attribute {name!r} has {len(text)} characters; at most {_LONGEST} bytes")
        return text or None
    if type(value).__name__ in _MISSING:
        return None
    if not isinstance(value, (Real, np.bool_)):
        raise InputError(
            f"the attribute {name!r} has values of the type {type(value).__name__}; they are truth values, numbers or "
            f"text"
        )
    number = float(value)
    if math.isinf(number):
        raise InputError(f"the attribute {name!r} has infinite values; leave them empty")
    return None if math.isnan(number) else number


def add_attributes(tree: Tree, attributes: Mapping[str, AttributeColumn]) -> None:
    """Let a file have attributes, in this order.

    Text is kept as numbers of its distinct values, in the order of these, so that parts of a dataset can be joined.

    Raises
    ------
    InputError
        If there are too many.
    """
    if not attributes:
        return
    if len(attributes) > _MOST:
        raise InputError(f"there are {len(attributes)} attributes; a file holds {_MOST}")
    kinds = list(_TYPES)
    order = [kinds.index(column.kind) for column in attributes.values()]
    texts = [column.values for column in attributes.values() if column.kind == "text"]
    values = tuple(sorted({value for text in texts for value in text.tolist()} - {""}))
    number_of = {"": -1, **{value: number for number, value in enumerate(values)}}
    strings = {_NAME: tuple(attributes), **({_VALUE: values} if texts else {})}
    tree.groups[ATTRIBUTES] = {"encoding-type": f"{ENCODING}-attributes", "encoding-version": VERSION}
    for path, several in strings.items():
        tree.arrays[path] = array_spec(encoded(several))
        tree.groups[ATTRIBUTES][f"{path.rpartition('/')[2]}_sha256"] = text_digest(several)
    tree.arrays[_KIND] = array_spec(np.array(order, "i1"))
    for kind, dtype in _TYPES.items():
        columns = [column.values for column in attributes.values() if column.kind == kind]
        if kind == "text":
            columns = [np.array([number_of[value] for value in column.tolist()], dtype) for column in columns]
        if columns:
            tree.arrays[f"{ATTRIBUTES}/{kind}"] = array_spec(np.stack(columns, 1).astype(dtype))


def has_attributes(file: H5File) -> bool:
    """Return whether a file has attributes; those of older versions have none."""
    return file.has(_NAME)


def check_attributes(file: H5File, samples: int) -> None:
    """Make sure that the arrays of attributes have shapes and types that fit each other and the samples.

    Raises
    ------
    AtlasError
        If they do not.
    """
    count = next(iter(file.array(_NAME).shape), 0)
    if count > _MOST:
        raise AtlasError(f"it says that it has {count:,} attributes; a file holds {_MOST:,}")
    check_strings(file, _NAME, count)
    check_array(file, _KIND, (count,), "i")
    order = file.array(_KIND)[:]
    if ((order < 0) | (order >= len(_TYPES))).any():
        raise AtlasError(f"its array {_KIND} has numbers that are no kind of attribute")
    for number, (kind, dtype) in enumerate(_TYPES.items()):
        columns = int((order == number).sum())
        if columns:
            check_array(file, f"{ATTRIBUTES}/{kind}", (samples, columns), np.dtype(dtype).kind)
        if columns and kind == "text":
            most = samples * columns
            values = next(iter(file.array(_VALUE).shape), 0)
            if values > most:
                raise AtlasError(f"its array {_VALUE} has {values:,} values for at most {most:,} entries")
            check_strings(file, _VALUE, values)


class StoredAttributes(Mapping[str, Array]):
    """Attributes of an open file by name: (sample,) each, read when it is asked for.

    Raises
    ------
    AtlasError
        If two have one name.
    """

    def __init__(self, file: H5File) -> None:
        self._file = file
        names = file.strings(_NAME) if has_attributes(file) else ()
        if len(set(names)) != len(names):
            raise AtlasError("two of its attributes have one name")
        self._places: dict[str, tuple[AttributeKind, int]] = {}
        """Kind of each attribute, and its number among those of this kind."""
        kinds, counts = list(_TYPES), dict.fromkeys(_TYPES, 0)
        for name, number in zip(names, file.array(_KIND)[:].tolist() if names else (), strict=True):
            self._places[name] = kinds[number], counts[kinds[number]]
            counts[kinds[number]] += 1
        self._tables: dict[str, Array] = {}
        self._public: dict[str, Array] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, name: str) -> Array:
        if name not in self._public:
            self._public[name] = self.column(name).public()
        return self._public[name]

    def columns(self) -> dict[str, AttributeColumn]:
        """Return all of them as they are kept."""
        return {name: self.column(name) for name in self._places}

    def column(self, name: str) -> AttributeColumn:
        """Return one of them as it is kept.

        Raises
        ------
        AtlasError
            If its values are none that an attribute has.
        """
        kind, number = self._places[name]
        values = self._table(kind)[:, number]
        if kind == "number":
            return AttributeColumn(kind, values.astype("f8"))
        if kind == "truth":
            return AttributeColumn(kind, values.astype("i1"))
        return AttributeColumn(kind, self._table("value")[values])

    def _table(self, name: str) -> Array:
        """Return an array with the columns of a kind, or the values of text, the last of which is empty."""
        if name not in self._tables:
            if name == "value":
                table = np.array([*self._file.strings(_VALUE), ""], object)
            else:
                table = self._file.array(f"{ATTRIBUTES}/{name}")[:]
                with self._file.explained():
                    self._check(name, table)
            self._tables[name] = table
        return self._tables[name]

    def _check(self, kind: str, table: Array) -> None:
        if kind == "number":
            wrong = bool(np.isinf(table).any())
        else:
            most = 2 if kind == "truth" else len(self._table("value")) - 1
            wrong = bool(((table < -1) | (table >= most)).any())
        if wrong:
            raise AtlasError(f"its array {ATTRIBUTES}/{kind} has values that no attribute has")


def joined_attributes(parts: Sequence[Mapping[str, AttributeColumn]]) -> dict[str, AttributeColumn]:
    """Return the attributes of consecutive parts, which have the same names and kinds."""
    return {
        name: AttributeColumn(column.kind, np.concatenate([part[name].values for part in parts]))
        for name, column in parts[0].items()
    }
