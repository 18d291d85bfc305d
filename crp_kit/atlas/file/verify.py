"""Verification of an atlas file: every value is read, every order and range checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..statistics.base import Block, Statistic
from ..statistics.table import statistics_in
from .attribute_columns import StoredAttributes
from .digests import digest_problems
from .hdf5_reader import H5File
from .header import MODES, Floats, Header, Integers, LayerInfo, layer_path
from .reader import has_seen, has_statistics, open_atlas, read_header, read_layers, read_seen
from .sample_arrays import sample_arrays
from .stored_mode import StoredMode

__all__ = ["verify_atlas"]

_CONCEPTS_AT_ONCE = 64
_ROUNDING = 1e-5


def verify_atlas(path: str | Path) -> tuple[str, ...]:
    """Return what is wrong with an atlas file, a shard, or what an interrupted build has kept; nothing if it is sound.

    Parameters
    ----------
    path : str or Path
        The file to check.

    Returns
    -------
    tuple of str
        A sentence for each problem; empty for a sound file.

    Raises
    ------
    AtlasError
        If it is no atlas file, or is damaged so that it cannot be read.
    """
    with open_atlas(path, incomplete=True) as file, file.explained():
        header, layers = read_header(file), read_layers(file)
        problems = list(_sample_problems(file, header))
        if has_statistics(file):
            problems += _statistic_problems(file, header, layers)
        problems += digest_problems(file)
    return tuple(problems)


def _statistic_problems(file: H5File, header: Header, layers: Sequence[LayerInfo]) -> Iterator[str]:
    """Yield what is wrong with the statistics of all layers, and where they contradict the samples."""
    bases = [layer_path(number, mode) for number in range(len(layers)) for mode in MODES]
    if len({tuple(file.array(f"{base}/moments/count")[:].tolist()) for base in bases}) > 1:
        yield "its moments count different numbers of samples"
    seen = read_seen(file)
    if has_seen(file):
        yield from _class_problems(file, header, seen)
    samples, target, prediction = (file.array(f"/samples/{name}")[:] for name in ("index", "target", "prediction"))
    for number, info in enumerate(layers):
        for mode in MODES:
            base = layer_path(number, mode)
            read = StoredMode(file, base, seen)
            block = Block(header, info, mode, samples, target, prediction, slice(0), read)
            statistics = list(statistics_in(file.names(base), header, mode))
            yield from (f"{mode} of {info.name!r}: {problem}" for problem in _layer_problems(block, statistics))


def _layer_problems(block: Block, statistics: Sequence[type[Statistic]]) -> Iterator[str]:
    """Yield what is wrong with the statistics of one layer and mode, by blocks of concepts."""
    for start in range(0, block.layer.n_concepts, _CONCEPTS_AT_ONCE):
        part = replace(block, part=slice(start, start + _CONCEPTS_AT_ONCE))
        for statistic in statistics:
            yield from statistic.check(part)


def _sample_problems(file: H5File, header: Header) -> Iterator[str]:
    for path in ("/samples/id", "/classes/name", "/skipped/reason"):
        if file.has(path):
            file.strings(path)
    StoredAttributes(file).columns()
    index = file.array("/samples/index")[:]
    if (np.diff(index) <= 0).any() or (len(index) and index[0] < 0):
        yield "the sample numbers do not ascend"
    if len(index) != header.n_samples and "progress" not in file.names("/"):
        yield f"it has {len(index)} samples and says that it has {header.n_samples}"
    held = {array.name: file.array(array.path)[:] for array in sample_arrays(header) if file.has(array.path)}
    for name, values in held.items():
        if values.dtype.kind == "i" and ((values < -1) | (values >= header.n_classes)).any():
            yield f"a {name.replace('_', ' ')} of its samples is no class"
    logsumexp, left_out = held.get("logsumexp", np.empty(0)), held["prediction"] < 0
    if np.isinf(logsumexp).any() or not np.isnan(logsumexp[left_out[: len(logsumexp)]]).all():
        yield "the logsumexp of a sample is infinite, or known of one that was left out"
    if "top_class" in held and "top_probability" in held:
        yield from _ranking_problems(held["prediction"], held["top_class"], held["top_probability"])
    elif "top_class" in held or "top_probability" in held:
        yield "its samples have most probable classes without probabilities, or the reverse"


def _ranking_problems(prediction: Integers, top_class: Integers, probability: Floats) -> Iterator[str]:
    """Yield what contradicts that each sample has distinct classes, the most probable first."""
    seen = prediction >= 0
    classes, shares = top_class[seen], probability[seen]
    if (top_class[~seen] != -1).any() or not np.isnan(probability[~seen]).all():
        yield "a sample that was left out has most probable classes"
    if (classes < 0).any() or (np.diff(np.sort(classes, axis=1), axis=1) == 0).any():
        yield "the most probable classes of a sample are missing, or one is there twice"
    if (classes[:, 0] != prediction[seen]).any():
        yield "the most probable class of a sample is not the predicted one"
    if not (((shares >= 0) & (shares <= 1 + _ROUNDING)).all() and (np.diff(shares, axis=1) <= _ROUNDING).all()):
        yield "the probabilities of a sample are no probabilities, or do not fall"
    elif (shares.sum(1, dtype="f8") > 1 + _ROUNDING).any():
        yield "the probabilities of a sample exceed 1 in sum"


def _class_problems(file: H5File, header: Header, seen: Integers) -> Iterator[str]:
    """Yield what contradicts that the classes with rows are those that have samples."""
    target = file.array("/samples/target")[:]
    if not np.isin(target[target >= 0], seen).all():
        yield "a sample has a class as its target that is listed as one without samples"
    count = file.array(f"{layer_path(0, MODES[0])}/moments/count")[:]
    if header.model_sha256 and (count == 0).any():  # what zennit-crp has collected has no moments
        yield "a class is listed as one that has samples, and has none"
