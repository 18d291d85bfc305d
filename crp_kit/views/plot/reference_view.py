"""Reference samples as they are drawn: headings and captions of `crp_kit.atlas.query.references.References`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from ...atlas.query.references import References
from .sheets import ReferenceView

__all__ = ["reference_view"]

_CAPTION = 22
"""Characters in a line above a picture."""
_RANKED_BY: Mapping[str, str] = {"relevance": "RelMax", "activation": "ActMax"}


def reference_view(references: References) -> ReferenceView:
    """Return what is drawn of reference samples."""
    return ReferenceView(
        subject=f"{references.layer}, concept {references.concept}",
        ranking=f"{_RANKED_BY[references.mode]}; heatmaps {references.shown}",
        images=references.images,
        heatmaps=references.heatmaps,
        captions=[
            "\n".join([_shortened(name), *_wrapped(cls), f"{references.mode} {_digits(score)}"])
            for name, cls, score in zip(
                references.names, references.classes, references.table.score.tolist(), strict=True
            )
        ],
        boxes=references.boxes,
    )


def _digits(score: float) -> str:
    return f"{score:#.3g}".rstrip(".")


def _shortened(text: str) -> str:
    return text if len(text) <= _CAPTION else f"…{text[1 - _CAPTION :]}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _CAPTION, max_lines=2, placeholder=" …")
