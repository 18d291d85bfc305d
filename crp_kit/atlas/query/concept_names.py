"""Names of concepts beside their numbers, in the tables that an atlas answers with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...errors import AtlasError
from ...printable import printable
from ...result_table import Column
from ..file.atlas_file import AtlasFile
from ..file.names import read_names

__all__ = ["known_names", "with_names"]


def known_names(file: AtlasFile, layer: str) -> Mapping[int, str]:
    """Return the names of a layer's concepts; of a file that cannot be used none, since a table always prints."""
    try:
        return read_names(file, layer)
    except AtlasError:
        return {}


def with_names(columns: dict[str, Column], names: Mapping[int, str]) -> dict[str, Column]:
    """Return the columns of a table with the names of its concepts behind their numbers, where names are known."""
    if not names or "name" in columns:
        return columns
    words = np.array([printable(names.get(concept, "")) for concept in columns["concept"].tolist()], object)
    behind = list(columns).index("concept") + 1
    items = list(columns.items())
    return dict([*items[:behind], ("name", words), *items[behind:]])
