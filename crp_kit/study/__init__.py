"""The public face: a model with its data, and every analysis of them as a method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lazy_names import lazy_name

if TYPE_CHECKING:
    from .study import Study

__all__ = ["Study"]


def __getattr__(name: str) -> Any:
    """Import the study when it is first used: the command line reads its options without torch."""
    return lazy_name(__name__, {"Study": "study"}, name)
