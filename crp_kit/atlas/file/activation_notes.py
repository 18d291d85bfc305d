"""Notes on rankings by activation, of layers whose values are not those behind an activation function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .header import LayerInfo

__all__ = ["activation_note", "activation_notes"]

_SIGNED = "the highest activation need not be the most of a concept; rankings by relevance are not affected"


def activation_note(info: LayerInfo) -> str:
    """Return what to know of a layer's rankings by activation; empty if there is nothing."""
    if info.behind:
        return (
            f"{info.name!r} is ranked before its activation function; for values behind it build the atlas with "
            f"{info.behind!r}"
        )
    if info.signed:
        return f"{info.name!r} may have negative values, and no activation function follows: {_SIGNED}"
    return ""


def activation_notes(layers: Iterable[LayerInfo]) -> Iterator[str]:
    """Yield the notes on several layers: one for those before an activation function, one for those without."""
    infos = tuple(layers)
    before = [f"{info.name} (behind it: {info.behind})" for info in infos if info.behind]
    signed = [info.name for info in infos if info.signed]
    if before:
        yield f"ranked by activation before their activation function: {', '.join(before)}"
    if signed:
        yield f"may have negative values, and no activation function follows: {', '.join(signed)}; {_SIGNED}"
