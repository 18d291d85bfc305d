"""Files with h5py's own settings, whose trees and names have no checksums, damaged by hand: each refused in a sentence,
or read as before, in at most two seconds.
"""

import shutil
import struct
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hostile
import numpy as np
import pytest

import crp_kit as crp
from crp_kit.errors import AtlasError

SECONDS = 2.0
"""Of processor time, which other processes do not change."""
MATRIX = "/layers/0/relevance/matrix"
ALL_ONES = (1 << 64) - 1
Change = Callable[["Old"], None]
FILES: dict[str, Change] = {}
HARMLESS: dict[str, Change] = {}


class Old:
    """The bytes of a file, and where its trees are.

    Attributes
    ----------
    top, leaf : int
        Root of the index of the matrix, which has a level of nodes below it, and the first of those.
    names, listed, heap : int
        The tree of the names of ``/layers``, its list of names, and its heap.
    """

    def __init__(self, path: Path) -> None:
        self.data = bytearray(path.read_bytes())
        self.top = next(start for start in self.starts(b"TREE\x01\x01"))
        self.leaf = self.number(self.top + 24 + 32)
        with h5py.File(path) as file:
            header = h5py.h5o.get_info(file["layers"].id).addr
        table = self.data.index(b"\x11\x00\x10\x00", header) + 8
        self.names, self.heap = self.number(table), self.number(table + 8)
        self.listed = self.number(self.names + 32)

    def starts(self, signature: bytes) -> list[int]:
        return [place for place in range(len(self.data)) if self.data.startswith(signature, place)]

    def number(self, place: int) -> int:
        return int.from_bytes(self.data[place : place + 8], "little")

    def put(self, place: int, number: int, size: int = 8) -> None:
        self.data[place : place + size] = number.to_bytes(size, "little")


def case(name: str, table: dict[str, Change] = FILES) -> Callable[[Change], Change]:
    def add(change: Change) -> Change:
        table[name] = change
        return change

    return add


KEY, ENTRY = 32, 40
"""Bytes of a key of the index of an array of two axes, and of a key with the address behind it."""
FIRST = 24
"""Where the first key of a node begins: size, filters left out, and three offsets."""

for name, change in {
    "an index that is in itself": lambda old: old.put(old.top + FIRST + KEY, old.top),
    "an index whose leaves lead to its root": lambda old: (
        old.put(old.leaf + 5, 1, 1), old.put(old.leaf + FIRST + KEY, old.top)
    ),
    "an index of too high a level": lambda old: old.put(old.top + 5, 255, 1),
    "an index that skips a level": lambda old: old.put(old.top + 5, 2, 1),
    "an index that says that it is a leaf": lambda old: old.put(old.top + 5, 0, 1),
    "a leaf that says that it has leaves": lambda old: old.put(old.leaf + 5, 1, 1),
    "an index of names in place of one of chunks": lambda old: old.put(old.top + 4, 0, 1),
    "an index of an unknown kind": lambda old: old.put(old.leaf + 4, 2, 1),
    "a leaf without a signature": lambda old: old.put(old.leaf, 0),
    "a leaf of 65,535 chunks": lambda old: old.put(old.leaf + 6, 65_535, 2),
    "a leaf of more chunks than it has": lambda old: old.put(old.leaf + 6, 64, 2),
    "a leaf of no chunks": lambda old: old.put(old.leaf + 6, 0, 2),
    "a root of 65,535 nodes": lambda old: old.put(old.top + 6, 65_535, 2),
    "a node behind the end": lambda old: old.put(old.top + FIRST + KEY, 1 << 40),
    "a node nowhere": lambda old: old.put(old.top + FIRST + KEY, ALL_ONES),
    "a node twice": lambda old: old.put(old.top + FIRST + KEY + ENTRY, old.leaf),
    "a chunk behind the end": lambda old: old.put(old.leaf + FIRST + KEY, 1 << 40),
    "a chunk that is nowhere": lambda old: old.put(old.leaf + FIRST + KEY, ALL_ONES),
    "a chunk at the end": lambda old: old.put(old.leaf + FIRST + KEY, len(old.data) - 3),
    "a chunk in another's place": lambda old: old.put(
        old.leaf + FIRST + KEY, old.number(old.leaf + FIRST + KEY + ENTRY)
    ),
    "a chunk twice": lambda old: old.put(old.leaf + FIRST + ENTRY + 16, 0),
    "chunks in another order": lambda old: old.put(old.leaf + FIRST + 16, 8),
    "a chunk between two": lambda old: old.put(old.leaf + FIRST + 16, 1),
    "a chunk outside of the array": lambda old: old.put(old.leaf + FIRST + 8, 1 << 20),
    "a chunk at a huge offset": lambda old: old.put(old.leaf + FIRST + 8, ALL_ONES),
    "a chunk within a value": lambda old: old.put(old.leaf + FIRST + 24, 1),
    "a chunk of 4 GB": lambda old: old.put(old.leaf + FIRST, 0xFFFFFFFF, 4),
    "a chunk of no bytes": lambda old: old.put(old.leaf + FIRST, 0, 4),
    "a chunk whose filters are left out": lambda old: old.put(old.leaf + FIRST + 4, 7, 4),
    "a tree of names that is in itself": lambda old: (
        old.put(old.names + 5, 1, 1), old.put(old.names + 32, old.names)
    ),
    "a tree of names of chunks": lambda old: old.put(old.names + 4, 1, 1),
    "a tree of 65,535 lists of names": lambda old: old.put(old.names + 6, 65_535, 2),
    "a list of names nowhere": lambda old: old.put(old.names + 32, ALL_ONES),
    "a list of names that is none": lambda old: old.put(old.names + 32, old.heap),
    "a list of 65,535 names": lambda old: old.put(old.listed + 6, 65_535, 2),
    "a list of names with one twice": lambda old: (
        old.put(old.listed + 6, 2, 2), old.put(old.listed + 48, old.number(old.listed + 8))
    ),
    "a list of names of another version": lambda old: old.put(old.listed + 4, 2, 1),
    "a name outside of its heap": lambda old: old.put(old.listed + 8, 1 << 30),
    "a name at a huge offset": lambda old: old.put(old.listed + 8, ALL_ONES),
    "a name that leads to another": lambda old: old.put(old.listed + 16, ALL_ONES),
    "a name of the root": lambda old: old.put(old.listed + 16, old.number(64)),
    "a heap of names nowhere": lambda old: old.put(old.heap + 24, 1 << 50),
    "a heap of names of 4 GB": lambda old: old.put(old.heap + 8, 1 << 32),
    "a heap of names of 17 MB": lambda old: old.put(old.heap + 8, 17 << 20),
    "a heap of names without bytes": lambda old: old.put(old.heap + 8, 0),
    "a heap of names without a signature": lambda old: old.put(old.heap, 0),
    "a root behind the end": lambda old: old.put(64, 1 << 50),
    "a root at the beginning": lambda old: old.put(64, 0),
    "a base address": lambda old: old.put(24, 512),
    "addresses of 4 bytes": lambda old: old.put(13, 4, 1),
    "a driver": lambda old: old.put(48, 96),
    "another length": lambda old: old.put(40, 1 << 40),
    "groups of another version": lambda old: old.put(10, 1, 1),
    "a state of writing": lambda old: old.put(20, 1, 1),
}.items():  # fmt: skip
    case(name)(change)
for name, change in {
    "neighbours that are nowhere": lambda old: (old.put(old.leaf + 8, 1 << 50), old.put(old.top + 16, old.top)),
    "keys above the leaves that are wrong": lambda old: old.put(old.top + FIRST + ENTRY + 8, 5),
    "free space in the heap of names that is nowhere": lambda old: old.put(old.heap + 16, 1 << 50),
}.items():
    case(name, HARMLESS)(change)


@case("an index of eight levels with 60 ways from each to the next")
def fan(old: Old, chunks: int = 1) -> None:
    """Make a tree with 60**8 ways to its leaf."""
    begin = len(old.data)
    size = 24 + 60 * ENTRY + KEY
    for level in range(8, 0, -1):
        node = bytearray(b"TREE\x01" + bytes([level]) + struct.pack("<HQQ", 60, ALL_ONES, ALL_ONES))
        for _ in range(60):
            node += bytes(KEY) + struct.pack("<Q", begin + (9 - level) * size)
        old.data += node + bytes(KEY)
    old.data += b"TREE\x01\x00" + struct.pack("<HQQ", chunks, ALL_ONES, ALL_ONES) + bytes(KEY + ENTRY)
    for place in old.starts(struct.pack("<Q", old.top)):
        old.put(place, begin)
    old.put(40, len(old.data))


case("an index of eight levels with 60 ways from each to the next, and without chunks")(lambda old: fan(old, 0))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = hostile.sound_atlas(tmp_path_factory.mktemp("sound") / "atlas.h5")
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        values = file[MATRIX][()]
        del file[MATRIX]
        file.create_dataset(MATRIX, data=values, chunks=(1, 4), compression="gzip", fletcher32=True)
    hostile.remade(path)
    return path


@pytest.fixture(scope="module")
def answers(sound: Path) -> dict[str, Any]:
    return hostile.stored(sound)


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "copy.h5"))


def changed(path: Path, change: Change) -> None:
    old = Old(path)
    change(old)
    path.write_bytes(old.data)


@pytest.mark.parametrize("change", FILES.values(), ids=FILES)
def test_a_damaged_tree_is_refused_in_a_sentence(copy: Path, change: Change) -> None:
    changed(copy, change)
    begin = time.process_time()
    for ask in (hostile.stored, crp.verify_atlas):
        with pytest.raises(AtlasError) as caught:
            ask(copy)
        assert hostile.is_a_sentence(str(caught.value), copy)
    assert time.process_time() - begin < SECONDS


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_no_reader_needs_changes_no_answer(copy: Path, answers: dict[str, Any], change: Change) -> None:
    changed(copy, change)
    assert hostile.outcome(copy, answers) == "same"
    assert crp.verify_atlas(copy) == ()


def test_a_chunk_that_is_missing_is_found_by_verify(copy: Path) -> None:
    old = Old(copy)
    used = int.from_bytes(old.data[old.leaf + 6 : old.leaf + 8], "little")
    old.put(old.leaf + 6, used - 1, 2)
    copy.write_bytes(old.data)
    problems = crp.verify_atlas(copy)
    assert any(MATRIX in problem and "SHA-256" in problem for problem in problems)


@pytest.mark.slow
@pytest.mark.parametrize("mutations", [60, pytest.param(1500, marks=pytest.mark.nightly)])
def test_changed_metadata_are_refused_or_answer_as_before(
    sound: Path, answers: dict[str, Any], tmp_path: Path, mutations: int
) -> None:
    data, scratch, seen = sound.read_bytes(), tmp_path / "damaged.h5", Counter[str]()
    changes = (hostile.Meddle(sound), *hostile.DAMAGES)
    for seed in range(mutations):
        scratch.write_bytes(hostile.mutated(data, seed, changes[: 1 if seed % 3 else None]))
        begin = time.process_time()
        seen[hostile.outcome(scratch, answers)] += 1
        assert time.process_time() - begin < SECONDS, seed
    assert seen.keys() <= {"refused", "same", "verified to be wrong"}
    assert seen["refused"] > 0, seen
    assert seen["same"] > 0, seen


def test_the_matrix_has_more_chunks_than_a_node(sound: Path) -> None:
    with h5py.File(sound) as file:
        assert np.prod(-(-np.array(file[MATRIX].shape) // file[MATRIX].chunks)) > 64
