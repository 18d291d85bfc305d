"""The files of a ViRelAy project, in the form in which its reader takes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...atlas.file.hdf5 import write_tree
from ...atlas.file.schema import ArraySpec, Tree, array_spec
from ...errors import AtlasError, InputError
from ...files import atomic_file
from ...version import __version__
from .embeddings import cluster_counts, clusters, principal, spectral
from .rows import Rows, Shown

__all__ = ["FILES", "METHOD", "PROJECT", "check_folder", "write_project"]

PROJECT, LABELS, DATASET, ATTRIBUTIONS, ANALYSES = (
    "project.yaml", "label-map.json", "dataset.h5", "attributions.h5", "analyses.h5"
)  # fmt: skip
FILES = (LABELS, DATASET, ATTRIBUTIONS, ANALYSES, PROJECT)
"""What is written, the file that ViRelAy is started with last."""
METHOD = "Shares of relevance"
"""Name of the analysis. ViRelAy takes an underscore and a hyphen in it for the same."""
ALL = "all"
_MADE_OF = "shares of the concepts in the relevance of the layer"


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Make sure that a project can be written into a folder, before any work is done.

    Raises
    ------
    InputError
        If it is a file, or holds a project that may not be overwritten.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, and a project of ViRelAy is a folder; choose another name")
    held = [one for one in FILES if (folder / one).exists()]
    if held and not overwrite:
        raise InputError(f"{folder / held[0]} exists; overwrite replaces it, or choose another name")


def write_project(folder: Path, rows: Rows, shown: Shown, *, classes: Sequence[str], words: Mapping[str, str]) -> None:
    """Write all files beside, then move them, so that a project under its name is whole."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            # The stack ends with what it began with: the project file is the last one to get its name.
            beside = {name: stack.enter_context(atomic_file(folder / name)) for name in reversed(FILES)}
            write_tree(beside[DATASET], _dataset(rows, shown), compress=True)
            write_tree(beside[ATTRIBUTIONS], _attributions(rows, shown), compress=True)
            write_tree(beside[ANALYSES], _analyses(rows, shown), compress=True)
            beside[LABELS].write_text(_label_map(classes), encoding="utf-8")
            beside[PROJECT].write_text(_project(words, shown.images.shape[2:]), encoding="utf-8")
            (folder / PROJECT).unlink(missing_ok=True)
    except OSError as error:
        raise AtlasError(f"cannot write {folder}: {error.strerror or error}") from error


def _dataset(rows: Rows, shown: Shown) -> Tree:
    """Return the images; which row is what stands beside them, for other readers."""
    return Tree(
        {},
        {
            "/data": array_spec(shown.images),
            "/label": array_spec(rows.label, dtype="u2"),
            "/sample": array_spec(rows.sample, dtype="i8"),
            "/concept": array_spec(rows.concept, dtype="i8"),
            "/score": array_spec(rows.score, dtype="f4"),
        },
    )


def _attributions(rows: Rows, shown: Shown) -> Tree:
    return Tree(
        {},
        {
            "/index": array_spec(np.arange(len(rows)), dtype="u4"),
            "/attribution": array_spec(shown.relevance),
            "/prediction": array_spec(shown.prediction),
            "/label": array_spec(rows.label, dtype="u2"),
        },
    )


def _analyses(rows: Rows, shown: Shown) -> Tree:
    """Return a category for each concept, and one for all rows; all have embeddings and clusters of the same names."""
    concepts = list(dict.fromkeys(rows.concept.tolist()))
    counts = cluster_counts([int((rows.concept == concept).sum()) for concept in concepts])
    categories = {ALL: np.arange(len(rows))}
    categories |= {f"concept-{concept}": np.flatnonzero(rows.concept == concept) for concept in concepts}
    tree = Tree()
    for name, place in categories.items():
        shares = shown.shares[place]
        tree.arrays[f"/{name}/index"] = array_spec(place, dtype="u4")
        vectors, eigenvalues = spectral(shares)
        for embedding, values, more in (
            ("pca", principal(shares), {}),
            ("spectral", vectors, {"eigenvalue": eigenvalues}),
        ):
            tree.arrays[f"/{name}/embedding/{embedding}"] = _noted(values, "f4", **more)
        parted = {"class": rows.label[place], "concept": rows.concept[place]}
        parted |= {f"kmeans-{count}": clusters(shares, count) for count in counts}
        for cluster, numbers in parted.items():
            tree.arrays[f"/{name}/cluster/{cluster}"] = _noted(numbers, "i4", k=len(set(numbers.tolist())))
    return tree


def _noted(values: Any, dtype: str, **attributes: Any) -> ArraySpec:
    """Return a dataset that says what it was made of."""
    return replace(array_spec(values, dtype=dtype), attributes={"embedding": _MADE_OF, **attributes})


def _label_map(classes: Sequence[str]) -> str:
    """Return the classes as ViRelAy reads them; names such as n02099601 are WordNet's."""
    labels = [
        {"index": number, "word_net_id": name if re.fullmatch(r"n\d{8}", name) else "", "name": name}
        for number, name in enumerate(classes)
    ]
    return json.dumps(labels, indent=1, ensure_ascii=False) + "\n"


def _project(words: Mapping[str, str], size: tuple[int, ...]) -> str:
    """Return the project file. Texts in it are written as JSON writes them, which YAML reads too."""
    said = {name: json.dumps("".join(one if one.isprintable() else "?" for one in text), ensure_ascii=False)
            for name, text in words.items()}  # fmt: skip
    return f"""# Made by crp-kit {__version__}. Open it with: virelay {PROJECT}
project:
  name: {said["name"]}
  model: {said["model"]}
  label_map: {LABELS}
  dataset:
    name: {said["dataset"]}
    type: hdf5
    path: {DATASET}
    input_width: {size[1]}
    input_height: {size[0]}
    up_sampling_method: none
    down_sampling_method: none
  attributions:
    attribution_method: {said["method"]}
    attribution_strategy: {words["strategy"]}
    sources:
      - {ATTRIBUTIONS}
  analyses:
    - analysis_method: {METHOD}
      sources:
        - {ANALYSES}
"""
