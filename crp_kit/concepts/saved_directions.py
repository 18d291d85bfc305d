"""Concepts from files of directions."""

from __future__ import annotations

from pathlib import Path

from ..errors import CrpKitError, InputError
from .codebooks import CODEBOOKS
from .dictionaries import DictionaryConcept
from .direction_file import StoredDirections, read_directions
from .directions import DirectionConcept

__all__ = ["load_directions"]


def load_directions(path: str | Path) -> DirectionConcept | DictionaryConcept:
    """Return the concept that a file of directions holds.

    Parameters
    ----------
    path : str or Path
        As `DirectionConcept.save` writes it, or `DictionaryConcept.save`.

    Returns
    -------
    DirectionConcept or DictionaryConcept
        With its `provenance`.

    Raises
    ------
    InputError
        If it is no such file.

    Examples
    --------
    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/pair.h5"
    >>> DirectionConcept([[1.0, 0.0], [0.0, 1.0]]).save(path)
    >>> load_directions(path).directions.shape
    torch.Size([2, 2])
    """
    stored = read_directions(path)
    try:
        concept = _concept(stored)
    except (CrpKitError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no file of directions: {error}") from error
    concept.provenance = stored.provenance
    return concept


def _concept(stored: StoredDirections) -> DirectionConcept | DictionaryConcept:
    settings, arrays = stored.settings, stored.arrays
    if settings["made"] == "directions":
        return DirectionConcept(
            arrays["directions"],
            mean=arrays["mean"],
            encoder=arrays["encoder"],
            names=settings["names"] or None,
            axis=settings["axis"],
        )
    module = CODEBOOKS[settings["made"]](arrays["entries"])
    return DictionaryConcept(module, settings["split"], axis=settings["axis"])
