"""Export to ViRelAy: from an atlas to a project folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...atlas.file.header import Mode
from ...atlas.query.reference_maps import check_origin
from ...errors import InputError
from .embeddings import check_scikit_learn
from .files import PROJECT, check_folder, write_project
from .row_contents import RowSource
from .rows import choose_rows

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas
    from ...attribution.subject import Subject

__all__ = ["export_virelay"]

_CHANGED = " (each image scaled from its lowest value to its highest)"
"""Behind the name of a dataset, which ViRelAy shows, where values or channels are not those of pictures."""


def export_virelay(
    subject: Subject,
    atlas: ConceptAtlas,
    folder: str | Path,
    layer: str,
    *,
    concept_ids: Sequence[int] | None,
    top: int,
    k: int,
    mode: Mode,
    conditioned_on: Literal["class", "prediction"],
    name: str | None,
    batch_size: int,
    check: bool,
    overwrite: bool,
    verbose: bool,
) -> Path:
    """Write a project that ViRelAy opens, and return its ``project.yaml``; see `crp_kit.Study.export_virelay`."""
    target = Path(folder)
    check_scikit_learn()
    check_folder(target, overwrite=overwrite)
    if conditioned_on not in ("class", "prediction"):
        raise InputError(f"conditioned_on is 'class' or 'prediction'; got {conditioned_on!r}")
    if check:
        check_origin(atlas, subject)
    rows = choose_rows(atlas, layer, concept_ids, top=top, k=k, mode=mode, conditioned_on=conditioned_on)
    contents = RowSource(subject, atlas[layer].info).contents(rows, batch_size=batch_size, verbose=verbose)
    entries = {
        "name": name or f"{layer} of {atlas.header.model}",
        "model": atlas.header.model,
        "dataset": atlas.header.dataset + (_CHANGED if contents.changed else ""),
        "method": f"CRP at {layer}, {subject.rules_name}",
        "strategy": "true_label" if conditioned_on == "class" else "predicted_label",
    }
    write_project(target, rows, contents, classes=atlas.classes, entries=entries, overwrite=overwrite)
    return target / PROJECT
