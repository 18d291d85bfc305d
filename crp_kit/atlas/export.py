"""Export of an atlas as one flat table, CSV or JSON, written block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import atomic_file, error_reason
from ..interrupts import Interrupts
from ..progress import Progress
from .file.atlas_file import AtlasFile
from .file.header import MODES, MOMENTS, Mode
from .query.concept_atlas import ConceptAtlas
from .query.layer_atlas import ScoreAtlas
from .row_text import FORMATS, Columns

__all__ = ["Exported", "export_atlas"]

Exported = Literal["top", "class-top", "moments", "samples"]
Array = npt.NDArray[Any]
Block: TypeAlias = tuple[int, Columns]
"""How many stored values were looked at, and the rows that come from them."""

_VALUES = 1 << 20
"""Stored values of one column that are read at once."""
_SAMPLES = 1 << 16
"""Samples that are read at once."""
_CLASSES = 256
"""Classes whose moments are read at once; where an atlas is wide, its chunks hold as many."""


def export_atlas(
    atlas: ConceptAtlas,
    path: str | Path,
    *,
    what: Exported = "top",
    layers: Sequence[str] | None = None,
    modes: Sequence[Mode] = MODES,
    empty_classes: bool = False,
    overwrite: bool = False,
    verbose: bool = True,
) -> Path:
    """Write an atlas as one flat table, a row for each entry, and return its path.

    Rows are written as they are read: memory is bounded, whatever the size of the table.

    Parameters
    ----------
    atlas : ConceptAtlas
        The open atlas.
    path : str or Path
        The file to make: ``.csv``, or ``.json`` for a list with an object for each row. It has this name only when it
        is whole.
    what : {"top", "class-top", "moments", "samples"}, optional
        Rankings over all samples, rankings by class, moments by class, or the samples.
    layers : sequence of str, optional
        Names of layers, in the order of the table; all by default.
    modes : sequence of {"relevance", "activation"}, optional
        Which rankings and moments.
    empty_classes : bool, optional
        Write moments of classes without samples too: count 0, and not-a-number (in JSON ``null``).
    overwrite : bool, optional
        Replace a file.
    verbose : bool, optional
        Show progress on stderr.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the ending or `what` is another one, there is no such mode, the file exists, or it cannot be written.
    UnknownLayerError
        If the atlas has no such layer.
    AtlasError
        If the atlas has no rankings by class, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> import crp_kit as crp
    >>> from crp_kit.atlas import export_atlas
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(16), preprocess=demo_preprocess), tempfile.mkdtemp()
    >>> with study.build_atlas(f"{folder}/atlas.h5", layers="layer3.1.conv2", verbose=False) as atlas:
    ...     path = export_atlas(atlas, f"{folder}/top.csv", modes=["relevance"], verbose=False)
    >>> path.read_text().splitlines()[0]
    'layer,mode,concept,rank,sample,score,position,target'
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise InputError(f"the output {str(path)!r} needs the ending .csv or .json")
    if what not in get_args(Exported):
        raise InputError(f"what is exported is one of {', '.join(get_args(Exported))}; got {what!r}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; overwrite replaces it, or choose another name")
    if what == "samples":
        table = _Table(_SAMPLE_COLUMNS, len(atlas.samples), _samples(atlas))
    else:
        scores = [atlas[name].score(mode) for name in layers or atlas.layers for mode in modes]
        table = _table(what, scores, empty_classes=empty_classes)
    try:
        bar = Progress(table.values, "export", unit="value", verbose=verbose)
        with atomic_file(path, replace=overwrite) as beside, bar:
            _write(beside, table, bar)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error_reason(error)}") from error
    return path


@dataclass(frozen=True, eq=False)
class _Table:
    """Names of the columns, how many stored values the rows come from, and the rows."""

    columns: tuple[str, ...]
    values: int
    blocks: Iterator[Block]


def _write(path: Path, table: _Table, bar: Progress) -> None:
    """Write a table block by block."""
    with path.open("w", encoding="utf-8", newline="") as file, Interrupts() as interrupts:
        rows = FORMATS[path.suffix](file, table.columns)
        for values, columns in table.blocks:
            rows.write(columns)
            bar.update(values)
            interrupts.stop("interrupted; no table was written")
        rows.finish()


_KEY = ("layer", "mode", "concept")
_ENTRY = ("rank", "sample", "score", "position", "target")
_SAMPLE_COLUMNS = ("sample", "id", "target", "prediction")


def _table(what: Exported, scores: Sequence[ScoreAtlas], *, empty_classes: bool) -> _Table:
    """Return the rows of several layers and modes, one after the other."""
    if what == "moments":
        values = sum(len(score.arrays("moments")["count"][:]) * score.n_concepts for score in scores)
        blocks = (block for score in scores for block in _moments(score, empty_classes=empty_classes))
        return _Table((*_KEY, "class", "count", *MOMENTS), values, blocks)
    read, columns = (_top, _ENTRY) if what == "top" else (_class_top, ("class", *_ENTRY))
    statistic = what.replace("-", "_")
    values = sum(math.prod(score.arrays(statistic)["sample"].shape) for score in scores)
    return _Table((*_KEY, *columns), values, (block for score in scores for block in read(score)))


def _key(scores: ScoreAtlas) -> dict[str, Any]:
    return {"layer": scores.layer, "mode": scores.mode}


def _parts(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def _classes(file: AtlasFile, numbers: Array) -> Array:
    """Return classes as tables have them: -1 for all, where relevance does not start from classes."""
    return numbers if file.has_classes else np.full_like(numbers, -1)


def _top(scores: ScoreAtlas) -> Iterator[Block]:
    """Yield the entries of rankings (concept, k)."""
    arrays = scores.arrays("top")
    count, k = arrays["sample"].shape
    for part in _parts(count, max(1, _VALUES // max(k, 1))):
        stored = {name: arrays[name][part] for name in _ENTRY[1:]}
        concept, rank = np.nonzero(stored["sample"] >= 0)
        entries = {name: values[concept, rank] for name, values in stored.items()}
        entries["target"] = _classes(scores.file, entries["target"])
        yield stored["sample"].size, {**_key(scores), "concept": concept + part.start, "rank": rank, **entries}


def _class_top(scores: ScoreAtlas) -> Iterator[Block]:
    """Yield the entries of rankings (concept, class, k), whose target is their class."""
    arrays, classes = scores.arrays("class_top"), scores.file.seen
    count, *row = arrays["sample"].shape
    for part in _parts(count, max(1, _VALUES // max(math.prod(row), 1))):
        stored = {name: arrays[name][part] for name in _ENTRY[1:-1]}
        concept, group, rank = np.nonzero(stored["sample"] >= 0)
        cls = _classes(scores.file, classes[group])
        entries = {name: values[concept, group, rank] for name, values in stored.items()}
        cell = {**_key(scores), "concept": concept + part.start, "class": cls, "rank": rank}
        yield stored["sample"].size, {**cell, **entries, "target": cls}


def _moments(scores: ScoreAtlas, *, empty_classes: bool) -> Iterator[Block]:
    """Yield the moments (class, concept) of the classes that have samples, or of all."""
    arrays, classes, concepts = scores.arrays("moments"), scores.file.seen, scores.n_concepts
    counts = arrays["count"][:]
    for part in _parts(scores.file.header.n_classes, max(1, min(_CLASSES, (4 * _VALUES) // concepts))):
        rows = slice(*np.searchsorted(classes, [part.start, part.stop]).tolist())
        stored, count = classes[rows], counts[rows]
        values = {name: arrays[name][rows] for name in MOMENTS}
        kept = np.flatnonzero(count > 0)
        cls, count, values = stored[kept], count[kept], {name: array[kept] for name, array in values.items()}
        if empty_classes:
            count, values = _with_empty(part, cls, count, values)
            cls = np.arange(part.start, part.stop)
        yield (
            len(stored) * concepts,
            {
                **_key(scores),
                "concept": np.tile(np.arange(concepts), len(cls)),
                "class": _classes(scores.file, cls).repeat(concepts),
                "count": count.repeat(concepts),
                **{name: array.reshape(-1) for name, array in values.items()},
            },
        )


def _with_empty(part: slice, cls: Array, count: Array, values: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
    """Return counts and moments of all classes of a part, of which `cls` have samples."""
    whole = np.zeros(part.stop - part.start, count.dtype)
    whole[cls - part.start] = count
    blank = {name: np.full((len(whole), array.shape[1]), np.nan, array.dtype) for name, array in values.items()}
    for name, array in values.items():
        blank[name][cls - part.start] = array
    return whole, blank


def _samples(atlas: ConceptAtlas) -> Iterator[Block]:
    names = atlas.identifiers
    for part in _parts(len(atlas.samples), _SAMPLES):
        numbers, target, prediction = (column[part] for column in (atlas.samples, atlas.targets, atlas.predictions))
        target = _classes(atlas, target)
        yield (
            len(numbers),
            dict(
                zip(_SAMPLE_COLUMNS, (numbers, "" if names is None else names[part], target, prediction), strict=True)
            ),
        )
