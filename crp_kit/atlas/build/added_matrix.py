"""Matrix of scores added to a finished atlas by one more pass over its samples; all else in the file stays."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ...attribution.subject import Subject
from ...data.batches import Batch, batches
from ...errors import AtlasError, CrpKitError, InputError
from ...progress import Progress
from ...targets import Target, parse_target
from ..file.copied_tree import check_rewritable, rewrite
from ..file.file_tree import Tree
from ..file.header import MODES, Mode, layer_path
from ..file.reader import open_atlas, read_layers
from ..query.concept_atlas import ConceptAtlas
from ..query.reference_maps import check_origin
from ..statistics.matrix import Matrix
from .array_storage import ArrayStorage
from .matrix_choice import MatrixChoice
from .preparation import PreparedPass, prepare
from .seen import batch_scores
from .settings import BuildOptions, Origin, Settings
from .target_policy import TargetRule

__all__ = ["add_matrix"]

_MEMORY = 2 << 30
Matrices: TypeAlias = Mapping[tuple[str, Mode], Matrix]


def add_matrix(
    subject: Subject,
    atlas: ConceptAtlas,
    origin: Origin,
    *,
    matrix: MatrixChoice,
    target: Target | TargetRule | None,
    num_workers: int,
    verbose: bool,
) -> ConceptAtlas:
    """Add the scores of every sample to an atlas, and return it; see `crp_kit.Study.add_matrix`."""
    if atlas.header.matrix:
        raise InputError(f"{atlas.path} has a matrix already")
    with open_atlas(atlas.path) as file:
        check_rewritable(file)
        check_origin(atlas, subject)
        settings = _settings(atlas, origin, matrix=matrix, target=target, num_workers=num_workers)
        prepared = _prepared(subject, atlas, settings)
        if not prepared.header.matrix:
            raise InputError(
                f"{atlas.path} is without a matrix, which would be too large; matrix=True adds it in any case"
            )
        with Progress(len(atlas.samples), "matrix", unit="image", verbose=verbose) as bar:
            matrices = _filled(prepared, atlas, bar, num_workers)
            rewrite(file, lambda tree: _add(tree, prepared, matrices), bar.written)
    return ConceptAtlas(atlas.path)


def _settings(
    atlas: ConceptAtlas, origin: Origin, *, matrix: MatrixChoice, target: Target | TargetRule | None, num_workers: int
) -> Settings:
    """Return the settings of the build of an atlas, but for the matrix.

    Raises
    ------
    InputError
        If its targets come from a function that is not given.
    """
    header = atlas.header
    if header.target_sha256 and target is None:
        try:
            target = parse_target(header.target)
        except CrpKitError as error:
            what = f"the file has only the name of what relevance started from, {header.target}"
            raise InputError(f"{what}: give the function or target as target") from error
    rare = BuildOptions(
        aggregate="max" if header.aggregate == "max" else "sum",
        abs_norm=header.abs_norm,
        subset=atlas.samples.tolist(),
    )
    return Settings(
        layers=list(atlas.layers),
        target=target or header.target,
        k=header.k,
        k_class=header.k_class,
        batch_size=header.batch_size,
        num_workers=num_workers,
        matrix=matrix,
        shard=None,
        resume=False,
        origin=origin,
        **vars(rare),
    )


def _prepared(subject: Subject, atlas: ConceptAtlas, settings: Settings) -> PreparedPass:
    """Return the pass that gives the scores of an atlas again.

    Raises
    ------
    AtlasError
        If something differs from what the atlas was made with; the message says what.
    """
    header = atlas.header
    prepared = prepare(subject, settings)
    alike = replace(prepared.header, subset=header.subset, matrix=False, matrix_dtype="")
    differences = header.differences(alike)
    if prepared.layers != read_layers(atlas.hdf5):
        differences.append("the layers' concepts or shapes differ")
    if differences:
        raise AtlasError(f"the scores of {atlas.path} cannot be computed again: {'; '.join(differences)}")
    return prepared


def _filled(prepared: PreparedPass, atlas: ConceptAtlas, bar: Progress, num_workers: int) -> Matrices:
    """Return the matrices of all layers, of samples that the atlas has left out too, which are not-a-number."""
    allocate, header, index = ArrayStorage(_MEMORY, atlas.path.parent), prepared.header, prepared.index
    matrices: Matrices = {
        (layer.name, mode): Matrix(header, layer.n_concepts, len(index), allocate)
        for layer in prepared.layers
        for mode in MODES
    }
    with closing(batches(prepared.samples, prepared.batches_from(0), workers=num_workers)) as source:
        for batch in source:
            _check_failures(batch, atlas)
            if batch.images is not None:
                seen = batch_scores(prepared.collector.seen(batch))
                rows = np.searchsorted(index, seen.sample)
                known = atlas.predictions[rows] >= 0
                if (seen.target != atlas.targets[rows])[known].any():
                    raise AtlasError(
                        f"the scores of {atlas.path} cannot be computed again: the targets of samples "
                        f"{seen.sample[0]} to {seen.sample[-1]} are others now"
                    )
                for (name, mode), matrix in matrices.items():
                    matrix.add(seen.layers[name][mode], index)
            bar.update(len(batch.samples) + len(batch.failures))
    for matrix in matrices.values():
        matrix.matrix[atlas.predictions < 0] = np.nan
    return matrices


def _check_failures(batch: Batch, atlas: ConceptAtlas) -> None:
    for failure in batch.failures:
        if failure.sample not in atlas.skipped:
            raise InputError(f"sample {failure.sample} cannot be used any more: {failure.reason}")


def _add(tree: Tree, prepared: PreparedPass, matrices: Matrices) -> None:
    header = prepared.header
    tree.groups["/"] |= {name: value for name, value in header.attributes().items() if name.startswith("matrix")}
    for number, layer in enumerate(prepared.layers):
        for mode in MODES:
            (spec,) = matrices[layer.name, mode].arrays().values()
            tree.arrays[f"{layer_path(number, mode)}/matrix"] = spec
