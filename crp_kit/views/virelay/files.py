"""The files of a ViRelAy project, in the form in which its reader takes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...atlas.file.file_tree import ArraySpec, Tree, array_spec
from ...atlas.file.hdf5_writer import write_tree
from ...errors import AtlasError, InputError
from ...files import atomic_file, error_reason
from ...statistics.spectral import clusters, spectral
from ...version import __version__
from .embeddings import cluster_counts, principal
from .row_contents import RowContents
from .rows import ProjectRows

__all__ = ["FILES", "METHOD", "PROJECT", "check_folder", "write_project"]

PROJECT, LABELS, DATASET, ATTRIBUTIONS, ANALYSES = (
    "project.yaml", "label-map.json", "dataset.h5", "attributions.h5", "analyses.h5"
)  # fmt: skip
FILES = (LABELS, DATASET, ATTRIBUTIONS, ANALYSES, PROJECT)
"""The files of a project, in the order of writing: the one that ViRelAy is started with comes last."""
METHOD = "Shares of relevance"
"""Name of the analysis; without underscores and hyphens, which ViRelAy takes for the same."""
ALL = "all"
_EMBEDDED = "shares of the concepts in the relevance of the layer"


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Make sure that a project can be written into a folder, before any computation.

    Raises
    ------
    InputError
        If it is a file, or holds a project that may not be overwritten.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, and a project of ViRelAy is a folder; choose another name")
    existing = [name for name in FILES if (folder / name).exists()]
    if existing and not overwrite:
        raise InputError(f"{folder / existing[0]} exists; overwrite replaces it, or choose another name")


def write_project(
    folder: Path,
    rows: ProjectRows,
    contents: RowContents,
    *,
    classes: Sequence[str],
    entries: Mapping[str, str],
    overwrite: bool,
) -> None:
    """Write all files beside, then rename them, so that a project under its name is whole.

    Files are replaced with `overwrite` alone; one that has appeared since `check_folder` is else kept, with an error.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            # The stack ends with what it began with: the project file is the last one to get its name.
            beside = {
                name: stack.enter_context(atomic_file(folder / name, replace=overwrite)) for name in reversed(FILES)
            }
            write_tree(beside[DATASET], _dataset(rows, contents), compress=True)
            write_tree(beside[ATTRIBUTIONS], _attributions(rows, contents), compress=True)
            write_tree(beside[ANALYSES], _analyses(rows, contents), compress=True)
            beside[LABELS].write_text(_label_map(classes), encoding="utf-8")
            beside[PROJECT].write_text(_project(entries, contents.images.shape[2:]), encoding="utf-8")
            if overwrite:
                (folder / PROJECT).unlink(missing_ok=True)
    except (OSError, AtlasError) as error:
        raise AtlasError(f"cannot write {folder}: {error_reason(error.__cause__ or error)}") from error
    finally:
        if new:
            with suppress(OSError):  # it is not empty, as it should be
                folder.rmdir()


def _dataset(rows: ProjectRows, contents: RowContents) -> Tree:
    """Return the images, and the samples and concepts or strategies of the rows, which other readers may use."""
    return Tree(
        {},
        {
            "/data": array_spec(contents.images),
            "/label": array_spec(rows.label, dtype="u2"),
            "/sample": array_spec(rows.sample, dtype="i8"),
            f"/{rows.group}": array_spec(rows.number, dtype="i8"),
            "/score": array_spec(rows.score, dtype="f4"),
        },
    )


def _attributions(rows: ProjectRows, contents: RowContents) -> Tree:
    return Tree(
        {},
        {
            "/index": array_spec(np.arange(len(rows)), dtype="u4"),
            "/attribution": array_spec(contents.relevance),
            "/prediction": array_spec(contents.prediction),
            "/label": array_spec(rows.label, dtype="u2"),
        },
    )


def _analyses(rows: ProjectRows, contents: RowContents) -> Tree:
    """Return a category for each concept or strategy, and one for all rows, with embeddings and clusters alike."""
    groups = {f"{rows.group}-{number}": np.flatnonzero(rows.number == number) for number in rows.groups}
    counts = cluster_counts([len(index) for index in groups.values()] or [len(rows)])
    tree = Tree()
    for category, index in {ALL: np.arange(len(rows)), **groups}.items():
        shares = contents.shares[index]
        tree.arrays[f"/{category}/index"] = array_spec(index, dtype="u4")
        vectors, eigenvalues = spectral(shares)
        embedding = f"/{category}/embedding"
        tree.arrays[f"{embedding}/pca"] = _with_attributes(principal(shares), "f4")
        tree.arrays[f"{embedding}/spectral"] = _with_attributes(vectors, "f4", eigenvalue=eigenvalues)
        if rows.coordinates is not None:
            tree.arrays[f"{embedding}/strategies"] = _with_attributes(rows.coordinates[index], "f4")
        clusterings = {"class": rows.label[index], rows.group: rows.number[index]}
        clusterings |= {f"kmeans-{count}": clusters(shares, count) for count in counts}
        for name, labels in clusterings.items():
            tree.arrays[f"/{category}/cluster/{name}"] = _with_attributes(labels, "i4", k=len(set(labels.tolist())))
    return tree


def _with_attributes(values: Any, dtype: str, **attributes: Any) -> ArraySpec:
    """Return a dataset with attributes, one of which says what was embedded."""
    return replace(array_spec(values, dtype=dtype), attributes={"embedding": _EMBEDDED, **attributes})


def _label_map(classes: Sequence[str]) -> str:
    """Return the classes as ViRelAy reads them; names such as n02099601 are WordNet's."""
    labels = [
        {"index": number, "word_net_id": name if re.fullmatch(r"n\d{8}", name) else "", "name": name}
        for number, name in enumerate(classes)
    ]
    return json.dumps(labels, indent=1, ensure_ascii=False) + "\n"


def _project(entries: Mapping[str, str], size: tuple[int, ...]) -> str:
    """Return the project file. Its strings are written as JSON writes them, which YAML reads too."""
    quoted = {name: json.dumps("".join(letter if letter.isprintable() else "?" for letter in text), ensure_ascii=False)
              for name, text in entries.items()}  # fmt: skip
    return f"""# Made by crp-kit {__version__}. Open it with: virelay {PROJECT}
project:
  name: {quoted["name"]}
  model: {quoted["model"]}
  label_map: {LABELS}
  dataset:
    name: {quoted["dataset"]}
    type: hdf5
    path: {DATASET}
    input_width: {size[1]}
    input_height: {size[0]}
    up_sampling_method: none
    down_sampling_method: none
  attributions:
    attribution_method: {quoted["method"]}
    attribution_strategy: {entries["strategy"]}
    sources:
      - {ATTRIBUTIONS}
  analyses:
    - analysis_method: {METHOD}
      sources:
        - {ANALYSES}
"""
