"""Opening of an atlas file: checks of its version, attributes, and the shapes and types of its arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import AtlasError
from ..statistics.table import statistics_in
from .array_checks import check_array, check_strings
from .attribute_columns import check_attributes, has_attributes
from .digests import DIGESTS, has_digests
from .expected_groups import expected_groups
from .file_tree import checksum
from .hdf5_reader import H5File
from .header import ENCODING, MODES, VERSION, Header, Integers, LayerInfo, Progress, layer_path, titles_path
from .plausible import check_header, check_layer_names, check_progress, layer_of
from .sample_arrays import sample_arrays

__all__ = [
    "check_same",
    "has_seen",
    "has_statistics",
    "open_atlas",
    "read_classes",
    "read_failures",
    "read_header",
    "read_layers",
    "read_progress",
    "read_seen",
]


def open_atlas(path: str | Path, *, incomplete: bool = False) -> H5File:
    """Open an atlas file and check its structure: attributes, and shapes and types of all arrays.

    Parameters
    ----------
    path : str or Path
    incomplete : bool, optional
        Accept a shard, or what an interrupted build has kept.

    Raises
    ------
    AtlasError
        If there is no such file, it is none of these or damaged, it is of a newer version, or it is not complete.
    """
    file = H5File(Path(path))
    try:
        with file.explained():
            _check(file, incomplete)
    except BaseException:
        file.close()
        raise
    return file


def _check(file: H5File, incomplete: bool) -> None:
    root = file.attributes("/")
    encoding, version = root.get("encoding-type"), root.get("encoding-version")
    if encoding != ENCODING:
        what = f"its encoding-type is {_quoted(encoding)}"
        raise AtlasError(f"{str(file.path)!r} is an HDF5 file but no crp-kit atlas: {what}")
    if version != VERSION:
        what = f"has format version {_quoted(version)}"
        raise AtlasError(f"{str(file.path)!r} {what}; this crp-kit reads version {VERSION!r}")
    groups = {path: file.attributes(path) for path in expected_groups(file)}
    if root.get("checksum") != checksum(groups):
        raise AtlasError("its attributes were changed or damaged: the checksum over them does not fit")
    _check_arrays(file, read_header(file), read_layers(file))
    progress = read_progress(file)
    if not isinstance(root.get("complete"), (bool, np.bool_)):
        raise AtlasError(f"its attribute 'complete' is no truth value: {root.get('complete')!r}")
    if not root["complete"] and not incomplete:
        seen = f"{progress.done - progress.first} of {progress.end - progress.first} batches"
        what = f"shard {progress.shard}/{progress.shards} of an atlas" if progress.shards > 1 else "an unfinished atlas"
        hint = "merge it with the others" if progress.finished and progress.shards > 1 else "resume its build"
        raise AtlasError(f"{str(file.path)!r} is {what} ({seen}); {hint}, or open it with incomplete=True")


def _quoted(value: Any) -> str:
    return repr(value[:40] if isinstance(value, str) else value)


def _check_arrays(file: H5File, header: Header, layers: tuple[LayerInfo, ...]) -> None:
    rows = next(iter(file.array("/samples/index").shape), 0)
    check_array(file, "/samples/index", (rows,), "i")
    for array in sample_arrays(header):
        if not array.optional or file.has(array.path):
            check_array(file, array.path, array.shape(header, rows), np.dtype(array.dtype).kind)
    seen = len(read_seen(file))
    for number, info in enumerate(layers):
        check_strings(file, titles_path(number), info.n_concepts)
    for number, info in enumerate(layers if has_statistics(file) else ()):
        for mode in MODES:
            base = layer_path(number, mode)
            for statistic in statistics_in(file.names(base), header, mode):
                for field in statistic.fields:
                    shape = field.shape(header, info.n_concepts, rows, seen)
                    check_array(file, f"{base}/{field.path}", shape, field.kind)
    check_strings(file, "/classes/name", header.n_classes)
    check_strings(file, "/samples/id", rows)
    if file.has("/skipped/sample"):
        count = next(iter(file.array("/skipped/sample").shape), 0)
        check_array(file, "/skipped/sample", (count,), "i")
        check_strings(file, "/skipped/reason", count)
    if has_attributes(file):
        check_attributes(file, rows)
    if has_digests(file):
        file.array(DIGESTS)
        check_strings(file, DIGESTS, file.attributes(DIGESTS.rpartition("/")[0]).get("datasets", 0))


def read_header(file: H5File) -> Header:
    """Return what a file was made from and how."""
    with file.explained():
        header = Header.of(file.attributes("/"))
        check_header(header)
        return header


def read_layers(file: H5File) -> tuple[LayerInfo, ...]:
    """Return the layers in the order of their numbers."""
    with file.explained():
        names = file.names("/layers")
        if sorted(names) != sorted(map(str, range(len(names)))):
            raise AtlasError("its layers are not numbered from 0 on")
        layers = tuple(_layer(file, number) for number in range(len(names)))
        check_layer_names(layers)
        return layers


def _layer(file: H5File, number: int) -> LayerInfo:
    path = titles_path(number)
    info = layer_of(file.attributes(layer_path(number)))
    return replace(info, titles=file.strings(path)) if file.has(path) else info


def read_progress(file: H5File) -> Progress:
    """Return which batches a part has seen; a complete file has seen all."""
    with file.explained():
        if "progress" not in file.names("/"):
            header = read_header(file)
            count = -(-header.n_samples // header.batch_size)
            return Progress(0, 1, 0, count, count, count)
        progress = Progress.of(file.attributes("/progress"))
        check_progress(progress)
        return progress


def has_statistics(file: H5File) -> bool:
    """Return whether a file holds statistics: a part that has seen no batch has none."""
    return "progress" not in file.names("/") or read_progress(file).done > read_progress(file).first


def read_failures(file: H5File) -> Mapping[int, str]:
    """Return the samples that were left out, and why."""
    if not file.has("/skipped/sample"):
        return {}
    samples: list[Any] = file.array("/skipped/sample")[:].tolist()
    return dict(zip(samples, file.strings("/skipped/reason"), strict=True))


def read_classes(file: H5File) -> tuple[str, ...]:
    """Return the names of the classes, empty where none are known."""
    return file.strings("/classes/name") if file.has("/classes/name") else ()


def has_seen(file: H5File) -> bool:
    """Return whether a file holds rankings and moments only of classes that have samples; older ones hold all."""
    return "seen" in file.names("/classes")


def read_seen(file: H5File) -> Integers:
    """Return the class of each row of rankings and moments by class, ascending: (class,)."""
    count = read_header(file).n_classes
    if not has_seen(file):
        return np.arange(count)
    with file.explained():
        array = file.array("/classes/seen")
        if len(array.shape) != 1 or array.shape[0] > count or array.dtype.kind != "i":
            raise AtlasError(f"its array /classes/seen should be at most {count} class numbers")
        seen: Integers = array[:]
        if len(seen) and ((np.diff(seen) <= 0).any() or seen[0] < 0 or seen[-1] >= count):
            raise AtlasError("its array /classes/seen should be class numbers, ascending")
        return seen


def check_same(file: H5File, header: Header, layers: Sequence[LayerInfo], what: str) -> None:
    """Make sure that a file comes from the same pass.

    Raises
    ------
    AtlasError
        If it does not; the message begins with `what` and names every difference.
    """
    found = read_header(file)
    differences = found.differences(header)
    theirs, mine = ([one.name for one in several] for several in (read_layers(file), layers))
    if theirs != mine:
        differences.append(f"layers are {', '.join(theirs)} there and {', '.join(mine)} here")
    elif read_layers(file) != tuple(layers):
        differences.append("the layers' concepts or shapes differ")
    if differences:
        raise AtlasError(f"{what}: {'; '.join(differences)}")
