"""Log of a build: what each batch gave, appended as soon as it is counted; a kill loses the batch in work alone.

The file is a header (magic line, digest of the pass) and records. A record is a prefix (marker, lengths, CRC-32), a
description in JSON, and the bytes of the arrays; integers are stored in the smallest type that holds them.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ...errors import AtlasError
from ...files import error_reason, sync
from ..file.header import Array, Header, LayerInfo, Progress
from ..statistics.scores import SampleFacts
from .seen import Seen

__all__ = ["BatchLog", "LoggedBatch", "logged_batches", "pass_digest"]

_MAGIC = b"crp-kit batch log 1\n"
_DIGEST = 16
_HEAD = len(_MAGIC) + _DIGEST
_PREFIX = struct.Struct("<8s16sQQQI")
"""Marker, digest of the pass, number of the batch, length of the description, length of the arrays, CRC-32."""
_MARKER = b"\x89batch\r\n"


@dataclass(frozen=True, eq=False)
class LoggedBatch:
    """What one batch of the grid gave.

    Parameters
    ----------
    number : int
        Of the batch in the grid.
    seen : Seen or None
        ``None`` if no sample could be used.
    failures : dict
        Reasons by the numbers of the samples that could not be used.
    """

    number: int
    seen: Seen | None
    failures: Mapping[int, str] = field(default_factory=dict)

    @property
    def samples(self) -> list[int]:
        """Numbers of all samples of the batch, ascending."""
        return sorted([*self.failures, *([] if self.seen is None else self.seen.sample.tolist())])


def pass_digest(header: Header, layers: Sequence[LayerInfo], progress: Progress) -> bytes:
    """Return a digest of what decides what the batches of a pass give, and of its shard, and lasts through resumes.

    That model and data are the same is checked with the checkpoint that the log belongs to: data may be named in
    another way, and a sample be mended.
    """
    shard = [progress.shard, progress.shards, progress.first, progress.end, progress.batches]
    infos = [[info.name, info.concept, info.n_concepts, list(info.output_shape)] for info in layers]
    text = json.dumps([header.lasting(), infos, shard], sort_keys=True)
    return hashlib.sha256(text.encode()).digest()[:_DIGEST]


class BatchLog:
    """An append-only file with a record for each batch, of one process at a time.

    Parameters
    ----------
    path : Path
        Made if it is not there.
    digest : bytes
        Of the pass, from `pass_digest`; records of another pass are never read.
    layers : tuple of LayerInfo

    Raises
    ------
    AtlasError
        If it cannot be written, or is no log.
    """

    def __init__(self, path: Path, digest: bytes, layers: Sequence[LayerInfo]) -> None:
        self.path, self._digest = path, digest
        self._layers = [(info.name, info.n_concepts) for info in layers]
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            self._file = open(path, "r+b", 0, opener=lambda name, _: os.open(name, flags, 0o666))  # noqa: SIM115
        except OSError as error:
            raise self._failed(error) from error
        self.damage: int | None = None
        """Batches that the replay could not read, if the log is damaged."""
        self._size = os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> BatchLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def size(self) -> int:
        """Bytes of its records."""
        return max(0, self._size - _HEAD)

    def replay(self, done: int, grid: Sequence[Sequence[int]]) -> Iterator[LoggedBatch]:
        """Yield the batches from `done` on, which follow each other; what comes after a damaged record is cut off.

        A record that its process was killed in is no damage. Afterwards `damage` says how many batches were lost.

        Parameters
        ----------
        done : int
            Batches that a checkpoint holds; their records are passed over.
        grid : sequence of sequence of int
            Sample numbers of each batch that is left.

        Raises
        ------
        AtlasError
            If it is no log.
        """
        self._file.seek(0)
        head = self._file.read(_HEAD)
        if head and not head.startswith(_MAGIC[: len(head)]):
            raise AtlasError(f"{self.path} is no log of a build, and is kept; move it away")
        if head != _MAGIC + self._digest:
            self.damage = max(self._markers(0, digest) for digest in (self._digest, head[len(_MAGIC) :])) or None
            self._cut(0)
            return
        end, following = _HEAD, done
        while (step := self._record(end)) is not None:
            record, end_of_record = step
            if record.number >= done:
                ahead = following - done
                if record.number != following or ahead >= len(grid) or record.samples != list(grid[ahead]):
                    break
                yield record
                following += 1
            end = end_of_record
        self.damage = self._lost(end)
        self._cut(end)

    def _record(self, start: int) -> tuple[LoggedBatch, int] | None:
        """Return the record at an offset and the offset behind it, or ``None`` if there is no sound one."""
        self._file.seek(start)
        prefix = self._file.read(_PREFIX.size)
        if len(prefix) < _PREFIX.size:
            return None
        marker, digest, number, words, size, crc = _PREFIX.unpack(prefix)
        end = start + len(prefix) + words + size
        if marker != _MARKER or digest != self._digest or end > self._size:
            return None
        content = self._file.read(words + size)
        if zlib.crc32(content, zlib.crc32(prefix[:-4])) != crc:
            return None
        try:
            return self._decoded(number, memoryview(content), words), end
        except (ValueError, KeyError, TypeError):
            return None

    def _decoded(self, number: int, content: memoryview, words: int) -> LoggedBatch:
        described = json.loads(bytes(content[:words]))
        failures = {int(sample): str(reason) for sample, reason in described["failures"]}
        if not described["arrays"]:
            return LoggedBatch(number, None, failures)
        arrays, offset = [], words
        for dtype, stored, shape in described["arrays"]:
            count = int(np.prod(shape))
            values = np.frombuffer(content, stored, count, offset).reshape(shape)
            arrays.append(values.astype(dtype))
            offset += values.nbytes
        return LoggedBatch(number, _seen_of(arrays, self._layers), failures)

    def _lost(self, end: int) -> int | None:
        """Return how many batches are in the log behind its last sound record, not counting one that was cut short."""
        lost = self._markers(end, self._digest)
        self._file.seek(end)
        prefix = self._file.read(_PREFIX.size)
        if lost == 1 and prefix.startswith(_MARKER):
            short = len(prefix) < _PREFIX.size
            if short or end + _PREFIX.size + sum(_PREFIX.unpack(prefix)[3:5]) > self._size:
                return None
        return lost or None

    def _markers(self, start: int, digest: bytes) -> int:
        """Return how many records of a pass seem to begin behind an offset."""
        marker, total, kept = _MARKER + digest, 0, b""
        self._file.seek(start)
        while block := self._file.read(1 << 24):
            kept += block
            total += kept.count(marker)
            kept = kept[-(len(marker) - 1) :]
        return total

    def append(self, batch: LoggedBatch) -> None:
        """Add a batch. After an error the log is as it was.

        Raises
        ------
        AtlasError
            If the disk is full, or it cannot be written.
        """
        arrays = [] if batch.seen is None else _arrays_of(batch.seen, [name for name, _ in self._layers])
        packed = [_packed(values) for values in arrays]
        described = {
            "failures": list(batch.failures.items()),
            "arrays": [
                (values.dtype.str, stored.dtype.str, stored.shape)
                for values, stored in zip(arrays, packed, strict=True)
            ],
        }
        words = json.dumps(described).encode()
        head = _PREFIX.pack(_MARKER, self._digest, batch.number, len(words), sum(one.nbytes for one in packed), 0)[:-4]
        crc = zlib.crc32(words, zlib.crc32(head))
        for values in packed:
            crc = zlib.crc32(values.reshape(-1).view("u1").data, crc)
        try:
            self._begin()
            for part in (
                head + struct.pack("<I", crc) + words,
                *(values.reshape(-1).view("u1").data for values in packed),
            ):
                self._write(part)
        except OSError as error:
            self._cut(self._size)
            raise self._failed(error) from error
        self._size = self._file.tell()

    def _begin(self) -> None:
        """Go to the end, behind a header."""
        if self._size < _HEAD:
            self._file.truncate(0)
            self._file.seek(0)
            self._write(_MAGIC + self._digest)
            self._size = _HEAD
        self._file.seek(self._size)

    def _write(self, data: Any) -> None:
        view = memoryview(data)
        while len(view) > 0:
            view = view[self._file.write(view) or 0 :]

    def _cut(self, size: int) -> None:
        self._file.truncate(size)
        self._size = size

    def clear(self) -> None:
        """Remove all records, when a checkpoint holds them."""
        self._cut(min(self._size, _HEAD))

    def sync(self) -> None:
        """Make sure that what was appended survives a loss of power.

        Raises
        ------
        AtlasError
            If it cannot be written.
        """
        try:
            sync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> AtlasError:
        return AtlasError(f"cannot write {self.path}: {error_reason(error)}; the batches before are kept")


def _arrays_of(seen: Seen, layers: Sequence[str]) -> list[Array]:
    arrays: list[Array] = [seen.sample, seen.slots, *seen.facts.arrays().values()]
    for name in layers:
        arrays += [*seen.activations[name], *seen.relevances[name]]
    return arrays


def _seen_of(arrays: Sequence[Array], layers: Sequence[tuple[str, int]]) -> Seen:
    """Return what `_arrays_of` took apart.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    sample, slots, label, prediction, top_class, top_probability, logsumexp, *values = arrays
    facts, samples = SampleFacts(label, prediction, top_class, top_probability, logsumexp), len(sample)
    activations, relevances = {}, {}
    shapes = {name: values.shape for name, values in facts.arrays().items()}
    ranked = (samples, *top_class.shape[1:2])
    expected = dict.fromkeys(shapes, (samples,)) | {"top_class": ranked, "top_probability": ranked}
    if slots.shape[1:] != (samples,) or shapes != expected:
        raise ValueError("targets, labels or predictions of another shape")
    for (name, concepts), *parts in zip(layers, *(values[start::4] for start in range(4)), strict=True):
        of_layer = [(slots_of, samples, concepts) for slots_of in (1, 1, len(slots), len(slots))]
        if [part.shape for part in parts] != of_layer:
            raise ValueError(f"scores of {name} of another shape")
        activations[name], relevances[name] = (parts[0], parts[1]), (parts[2], parts[3])
    return Seen(sample, slots, facts, activations, relevances)


def _packed(values: Array) -> Array:
    """Return integers in the smallest type that holds them, and other numbers as they are; little-endian."""
    if values.dtype.kind in "iu" and values.size:
        smallest = np.result_type(np.min_scalar_type(int(values.min())), np.min_scalar_type(int(values.max())))
        values = values.astype(smallest if smallest.kind in "iu" else values.dtype)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))


def logged_batches(path: Path) -> int | None:
    """Return the number behind the last batch of a log, from the prefixes alone, or ``None`` if it has no batch."""
    done = None
    with open(path, "rb") as file:
        size, start = os.fstat(file.fileno()).st_size, _HEAD
        while len(prefix := (file.seek(start), file.read(_PREFIX.size))[1]) == _PREFIX.size:
            marker, _, number, words, arrays, _ = _PREFIX.unpack(prefix)
            start += len(prefix) + words + arrays
            if marker != _MARKER or start > size:
                break
            done = number + 1
    return done
