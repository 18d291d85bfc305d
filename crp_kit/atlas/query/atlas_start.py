"""Targets that the relevance of a whole atlas started from, as its file says them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import AtlasError, CrpKitError
from ..file.atlas_file import AtlasFile

if TYPE_CHECKING:
    from ...targets import Target
    from ...targets.by_class import ByClass

__all__ = ["own_target", "start_words", "starts_by_class"]


def own_target(atlas: AtlasFile) -> Target | None:
    """Return the target that relevance of the whole atlas started from; None where it was classes of the samples.

    Raises
    ------
    AtlasError
        If the file does not say all of it: a function, a vector or a mask.
    """
    words = atlas.header.target
    if ":" not in words or words.startswith("top:") or starts_by_class(atlas):
        return None
    from ...targets import parse_target  # with torch, which classes do not need

    try:
        return parse_target(words)
    except CrpKitError as error:
        raise AtlasError(
            f"relevance of {atlas.path} starts from {words}, of which the file has the name alone; use "
            f"conditioned_on='prediction' or 'layer'"
        ) from error


def starts_by_class(atlas: AtlasFile) -> ByClass | None:
    """Return the target of each class, where relevance started from regions, boxes or signs, not classes themselves."""
    from ...targets import target_by_class

    words = atlas.header.target
    return None if words.startswith("binary:") and words != "binary:prediction" else target_by_class(words)


def start_words(atlas: AtlasFile) -> str:
    """Return what relevance of all samples started from, with the names of classes; empty for classes of the samples.

    Of a function, a vector or a mask the file has the name alone.
    """
    try:
        target = own_target(atlas)
    except AtlasError:
        from ...targets.text import target_words

        return target_words(atlas.header.target, atlas.classes)
    return "" if target is None else target.words(atlas.classes)
