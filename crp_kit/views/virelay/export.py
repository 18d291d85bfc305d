"""Export to ViRelAy: from an atlas, or the strategies of a class, to a project folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...atlas.file.header import LayerInfo, Mode
from ...atlas.query.reference_maps import check_origin
from ...errors import InputError
from .embeddings import check_scikit_learn
from .files import PROJECT, check_folder, write_project
from .row_contents import RowSource
from .rows import ProjectRows, choose_rows, strategy_rows

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas
    from ...atlas.file.atlas_file import AtlasFile
    from ...atlas.questions.strategies import Strategies
    from ...attribution.subject import Subject

__all__ = ["ProjectOptions", "export_strategies", "export_virelay"]

_CHANGED = " (each image scaled from its lowest value to its highest)"
"""Behind the name of a dataset, which ViRelAy shows, where values or channels are not those of pictures."""


@dataclass(frozen=True)
class ProjectOptions:
    """Settings of a project, whatever is in it; see `crp_kit.Study.export_virelay`."""

    name: str | None
    batch_size: int
    check: bool
    overwrite: bool
    verbose: bool


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
    options: ProjectOptions,
) -> Path:
    """Write a project that ViRelAy opens, and return its ``project.yaml``; see `crp_kit.Study.export_virelay`."""
    _check_target(subject, atlas, Path(folder), options)
    if conditioned_on not in ("class", "prediction"):
        raise InputError(f"conditioned_on is 'class' or 'prediction'; got {conditioned_on!r}")
    rows = choose_rows(atlas, layer, concept_ids, top=top, k=k, mode=mode, conditioned_on=conditioned_on)
    return _write(subject, atlas, Path(folder), rows, info=atlas[layer].info, options=options)


def export_strategies(subject: Subject, strategies: Strategies, folder: str | Path, options: ProjectOptions) -> Path:
    """Write the strategies of a class as a project that ViRelAy opens; see `crp_kit.Study.export_strategies`."""
    scores = strategies.scores
    _check_target(subject, scores.file, Path(folder), options)
    return _write(subject, scores.file, Path(folder), strategy_rows(strategies), info=scores.info, options=options)


def _check_target(subject: Subject, atlas: AtlasFile, folder: Path, options: ProjectOptions) -> None:
    """Refuse what cannot be done before any work."""
    check_scikit_learn()
    check_folder(folder, overwrite=options.overwrite)
    if options.check:
        check_origin(atlas, subject)


def _write(
    subject: Subject, atlas: AtlasFile, folder: Path, rows: ProjectRows, *, info: LayerInfo, options: ProjectOptions
) -> Path:
    """Compute the contents of rows and write the project."""
    source = RowSource(subject, info)
    contents = source.contents(rows, batch_size=options.batch_size, verbose=options.verbose)
    entries = {
        "name": options.name or f"{info.name} of {atlas.header.model}",
        "model": atlas.header.model,
        "dataset": atlas.header.dataset + (_CHANGED if contents.changed else ""),
        "method": f"CRP at {info.name}, {subject.rules_name}",
        "strategy": "true_label" if rows.by_class else "predicted_label",
    }
    write_project(folder, rows, contents, classes=atlas.classes, entries=entries, overwrite=options.overwrite)
    return folder / PROJECT
