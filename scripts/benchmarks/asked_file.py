"""A synthetic atlas file, as large as that of a real dataset, written by crp-kit's own writer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.lib.stride_tricks import as_strided

from crp_kit.atlas.build.pass_state import PassState
from crp_kit.atlas.file.file_tree import ArraySpec
from crp_kit.atlas.file.hdf5_writer import write_tree
from crp_kit.atlas.file.header import Header, LayerInfo, Progress, layer_path

from .cases import BATCH, K_CLASS, Case, K

SAMPLES = 1_281_167
"""As many as ImageNet has for training."""


def asked_file(case: Case, folder: Path, layer: str) -> Path:
    """Return the file, made once."""
    path = folder / f"asked-{case.count}-{case.classes}.h5"
    if not path.exists():
        state = PassState(_header(case), (LayerInfo(layer, "channel", case.count, (case.count, 7, 7)),),
                          Progress(0, 1, 0, 1, 1, 1), np.arange(SAMPLES), allocate=_constant)  # fmt: skip
        state.see(np.arange(case.classes))
        tree = state.tree({}, complete=True)
        filled = {name: _filled(name, spec) for name, spec in tree.arrays.items() if name.startswith("/layers")}
        tree.arrays.update(filled)
        write_tree(path, tree, compress=True)
    return path


def expected(case: Case, concept: int, cls: int | None) -> np.ndarray:
    """Return what is written as the relevances of a concept, over all samples or for a class."""
    base = layer_path(0, "relevance")
    if cls is None:
        return _values(f"{base}/top/score", (case.count, K), slice(concept, concept + 1))[0]
    shape = case.count, case.classes, K_CLASS
    return _values(f"{base}/class_top/score", shape, slice(concept, concept + 1))[0, cls]


def _header(case: Case) -> Header:
    return Header(
        model="synthetic",
        model_sha256="",
        composite="{}",
        dataset="synthetic",
        dataset_sha256="",
        subset="",
        n_samples=SAMPLES,
        n_classes=case.classes,
        k=K,
        k_class=K_CLASS,
        batch_size=BATCH,
        target="label",
        abs_norm=True,
        aggregate="sum",
        matrix=False,
        dtype="float32",
    )


def _constant(shape: tuple[int, ...], dtype: str, fill: float) -> np.ndarray:
    """Return an array that takes no memory: its values are one."""
    return as_strided(np.full(1, fill, dtype), shape, (0,) * len(shape))


def _filled(name: str, spec: ArraySpec) -> ArraySpec:
    """Return an array with other values: random ones, which compress worst."""
    return replace(spec, read=lambda part: _values(name, spec.shape, part).astype(spec.dtype))


def _values(name: str, shape: tuple[int, ...], part: slice) -> np.ndarray:
    """Return random values for some rows, always the same ones: scores are below 1, and fall along the last axis."""
    rest = int(np.prod(shape[1:]))
    place = np.arange(part.start * rest, part.stop * rest, dtype="u8").reshape(-1, *shape[1:])
    mixed = (place + np.uint64(crc32(name.encode()))) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    uniform = (mixed >> np.uint64(11)).astype("f8") / 2**53
    match name.rsplit("/", maxsplit=1)[-1]:
        case "score":
            return ((shape[-1] - np.arange(shape[-1]) - uniform) / shape[-1]).astype("f4")
        case "sample" | "count":
            return (uniform * SAMPLES).astype("i8")
        case "position" | "target":
            return (uniform * 49).astype("i4")
    return uniform.astype("f4")
