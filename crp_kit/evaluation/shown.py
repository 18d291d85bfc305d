"""Base of results of evaluations: how they print, and what a notebook shows of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..drawing import png_of
from ..result_table import Framed, Table

if TYPE_CHECKING:
    from ..drawing import Figure

__all__ = ["ShownResult"]


class ShownResult(Framed):
    """A result with settings in words, a table and a figure: the text has the first two, a notebook shows the third.

    Its data frame is the table.
    """

    settings: Mapping[str, str]

    @property
    @abstractmethod
    def heading(self) -> str:
        """What the result is of, in one line."""

    @property
    @abstractmethod
    def table(self) -> Table:
        """What was measured, with intervals over the samples."""

    @property
    def summary(self) -> Table:
        """The table that the text shows."""
        return self.table

    @abstractmethod
    def plot(self) -> Figure:
        """Return a figure."""

    def _framed(self) -> Any:
        return self.table.columns()

    def __repr__(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.heading}; {settings}\n{self.summary!r}"

    def _repr_png_(self) -> bytes:
        """Show the figure in a notebook."""
        return png_of(self.plot())
