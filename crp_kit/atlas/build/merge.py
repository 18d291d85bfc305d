"""Merge of shards into one atlas, which is the same, bit for bit, as if one process had built it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ...errors import AtlasError
from ...interrupts import Interrupts
from ...progress import Progress as ProgressShown
from ..file.attribute_columns import AttributeColumn, StoredAttributes, joined_attributes
from ..file.hdf5_reader import H5File
from ..file.header import Progress
from ..file.reader import (
    check_same,
    open_atlas,
    read_classes,
    read_header,
    read_layers,
    read_progress,
)
from ..query.concept_atlas import ConceptAtlas
from .array_storage import ArrayStorage
from .build_folder import BuildFolder
from .pass_state import PassState, most_classes
from .settings import OPTIONS, Origin, origin_attributes

__all__ = ["merge_atlases"]


def merge_atlases(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    max_memory: int = 2 << 30,
    command: str = "crp_kit.merge_atlases",
    verbose: bool = True,
) -> ConceptAtlas:
    """Join all shards of an atlas, in any order, into one file, and return it.

    Parameters
    ----------
    paths : sequence of str or Path
        Every shard, each once.
    out : str or Path
        The file to make.
    overwrite : bool, optional
        Replace what is there.
    max_memory : int, optional
        Bytes that rankings and moments may take in memory; larger ones are kept in files beside `out`.
    command : str, optional
        Words for the file.
    verbose : bool, optional
        Show progress on stderr.

    Raises
    ------
    AtlasError
        If a file is no finished shard, two shards overlap or one is missing, or they were made with different settings,
        of another model or another dataset; the message says which and what.
    """
    if not paths:
        raise AtlasError("nothing to merge: name every shard")
    workspace = BuildFolder(Path(out), resume=False, overwrite=overwrite)
    with ExitStack() as stack:
        files = [stack.enter_context(open_atlas(path, incomplete=True)) for path in paths]
        files = _in_order(files)
        header, layers = read_header(files[0]), read_layers(files[0])
        for file in files[1:]:
            check_same(file, header, layers, f"{file.path} and {files[0].path} are no shards of one atlas")
        index = np.concatenate([file.array("/samples/index")[:] for file in files])
        if len(index) != header.n_samples or (np.diff(index) <= 0).any():
            raise AtlasError(f"the shards hold {len(index)} samples, in part the same, instead of {header.n_samples}")
        with Interrupts() as interrupts, workspace, interrupts.leftover(workspace.abandon):
            batches = read_progress(files[0]).batches
            state = PassState(
                header,
                layers,
                Progress(0, 1, 0, batches, batches, batches),
                index,
                _identifiers(files),
                read_classes(files[0]),
                ArrayStorage(max_memory, workspace.path, most_classes(header)),
                attributes=_attributes(files),
            )
            # The last line comes when the file is there.
            with ProgressShown(len(files) * len(layers), "merge", unit="shard layer", verbose=verbose) as bar:

                def note() -> None:
                    bar.update()
                    interrupts.stop("interrupted; no atlas was written")

                for file in files:
                    with file.explained(), interrupts.hurried():
                        state.merge(file, note)
                kept = {name: value for name, value in files[0].attributes("/").items() if name == OPTIONS}
                attributes = {**origin_attributes(Origin(command=command)), **kept}
                workspace.write(state.tree(attributes, complete=True), bar.written, compress=True)
    return ConceptAtlas(workspace.target)


def _in_order(files: Sequence[H5File]) -> list[H5File]:
    """Return the shards by number.

    Raises
    ------
    AtlasError
        If they are not all the shards of one division, each finished and there once.
    """
    by_number: dict[int, H5File] = {}
    shards = read_progress(files[0]).shards
    for file in files:
        progress = read_progress(file)
        if "progress" not in file.names("/"):
            raise AtlasError(f"{file.path} is a complete atlas already, not a shard")
        if not progress.finished:
            raise AtlasError(
                f"{file.path} is not finished: {progress.done - progress.first} of {progress.end - progress.first} "
                f"batches; resume its build first"
            )
        if progress.shards != shards:
            raise AtlasError(f"{file.path} is one of {progress.shards} shards, {files[0].path} one of {shards}")
        if progress.shard in by_number:
            raise AtlasError(
                f"{file.path} and {by_number[progress.shard].path} are both shard {progress.shard}/{shards}"
            )
        by_number[progress.shard] = file
    missing = [f"{number}/{shards}" for number in range(shards) if number not in by_number]
    if missing:
        raise AtlasError(f"{len(missing)} of {shards} shards are missing: {', '.join(missing[:10])}")
    return [by_number[number] for number in range(shards)]


def _attributes(files: Sequence[H5File]) -> dict[str, AttributeColumn]:
    """Return the attributes of all samples.

    Raises
    ------
    AtlasError
        If two shards have different ones.
    """
    parts = []
    for file in files:
        with file.explained():
            parts.append(StoredAttributes(file).columns())
    kinds = [{name: column.kind for name, column in part.items()} for part in parts]
    for file, own in zip(files, kinds, strict=True):
        if own != kinds[0]:
            theirs, mine = (", ".join(map(str, kind)) or "none" for kind in (kinds[0], own))
            raise AtlasError(
                f"{files[0].path} and {file.path} hold different attributes of their samples ({theirs}; {mine}): build "
                f"them of the same data"
            )
    return joined_attributes(parts)


def _identifiers(files: Sequence[H5File]) -> tuple[str, ...] | None:
    if not all(file.has("/samples/id") for file in files):
        return None
    return tuple(name for file in files for name in file.strings("/samples/id"))
