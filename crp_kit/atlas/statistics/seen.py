"""Classes that have samples, and their rows in the arrays of statistics."""

from __future__ import annotations

import numpy as np

from ..file.header import Integers

__all__ = ["SeenClasses"]


class SeenClasses:
    """The classes that have samples so far. Each has a row in the arrays of statistics, in the order of appearance.

    That order never shows: files hold the rows in the order of class numbers.

    Parameters
    ----------
    n_classes : int
        Of the model.
    """

    def __init__(self, n_classes: int) -> None:
        self._row = np.full(n_classes, -1, "i8")
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def numbers(self) -> Integers:
        """Class numbers, ascending: (class,)."""
        return np.flatnonzero(self._row >= 0)

    @property
    def order(self) -> Integers:
        """The rows in the order of class numbers: (class,)."""
        return self._row[self.numbers]

    def rows(self, classes: Integers) -> Integers:
        """Return the row of each class, -1 for those without samples and for the class -1."""
        return np.where(classes >= 0, self._row[classes], -1) if len(self._row) else np.full(len(classes), -1)

    def unseen(self, classes: Integers) -> Integers:
        """Return those of some classes that have no row yet, ascending, each once; -1 is no class."""
        known = np.unique(classes[classes >= 0])
        return known[self._row[known] < 0]

    def append(self, classes: Integers) -> None:
        """Give rows to classes that have none."""
        self._row[classes] = np.arange(self._count, self._count + len(classes))
        self._count += len(classes)
