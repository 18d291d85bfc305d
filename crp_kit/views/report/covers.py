"""Covers: one small picture of each concept of a layer, for tables and links."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .folder import Site
from .samples import ReferenceSample
from .sprite_sheets import SpriteSheet, thumbnail

__all__ = ["COVER", "Covers"]

COVER = 64
"""Pixels of the longer side of a cover."""
_CELLS = 256
"""Covers on one sheet, as report.js has it."""


@dataclass(eq=False)
class Covers:
    """Covers of the concepts of one layer.

    Parameters
    ----------
    site : Site
    number : int
        The layer's number in the report.
    cells : list of int
        Cell of each concept: the number of its sheet times 256, plus the cell on that sheet; -1 for none.
    sheets : list of list
        File, columns and rows of each sheet.
    """

    site: Site
    number: int
    cells: list[int] = field(default_factory=list)
    sheets: list[list[Any]] = field(default_factory=list)
    _sheet: SpriteSheet = field(default_factory=lambda: SpriteSheet(COVER))

    def add(self, sample: ReferenceSample | None) -> None:
        """Add the cover of the next concept: what it sees of its best sample, the rest dark, or else that sample."""
        if sample is None:
            self.cells.append(-1)
            return
        picture = sample.image if sample.masked is None else sample.masked
        key = len(self.cells)
        self.cells.append(len(self.sheets) * _CELLS + self._sheet.cell(key, thumbnail(picture, COVER)))
        if len(self._sheet) == _CELLS:
            self.close()

    def close(self) -> None:
        """Write the last sheet."""
        if len(self._sheet):
            file = f"covers-{self.number}-{len(self.sheets)}"
            self._sheet.save(self.site.picture(file))
            self.sheets.append([f"{file}.webp", *self._sheet.geometry])
            self._sheet = SpriteSheet(COVER)
