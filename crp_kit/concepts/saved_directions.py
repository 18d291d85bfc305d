"""Concepts from files of directions."""

from __future__ import annotations

from pathlib import Path

from ..errors import CrpKitError, InputError
from .codebooks import CODEBOOKS
from .dictionaries import DictionaryConcept
from .direction_file import StoredDirections, read_directions
from .directions import DirectionConcept

__all__ = ["load_directions"]

_ARRAYS = {"directions": ("directions", "mean", "encoder")} | dict.fromkeys(CODEBOOKS, ("entries",))
"""The arrays that a file has, by what it says they make."""


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
    except CrpKitError as error:
        raise InputError(f"{path} is no file of directions: {error}") from error
    concept.provenance = stored.provenance
    return concept


def _concept(stored: StoredDirections) -> DirectionConcept | DictionaryConcept:
    settings, arrays = stored.settings, stored.arrays
    form, layer = settings.get("made"), stored.provenance.get("layer")
    needed = _ARRAYS.get(form) if isinstance(form, str) else None
    if not isinstance(form, str) or needed is None:
        raise InputError(f"it holds {form!r}, and this crp-kit knows {', '.join(_ARRAYS)}")
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise InputError(f"it has no array {missing[0]!r}, which {form} need")
    if layer is not None and not isinstance(layer, str):
        raise InputError(f"the layer that it is for is a name; it has {layer!r}")
    axis = settings.get("axis")
    if form == "directions":
        names = settings.get("names") or None
        mean, encoder = arrays["mean"], arrays["encoder"]
        return DirectionConcept(arrays["directions"], mean=mean, encoder=encoder, names=names, axis=axis)
    return DictionaryConcept(CODEBOOKS[form](arrays["entries"]), settings.get("split", ""), axis=axis)
