"""Arrays of a pass are in memory up to a limit and in unnamed files beyond, and a full disk is a sentence."""

import errno
import gc
import os
from pathlib import Path

import numpy as np
import pytest

from crp_kit.atlas.build import array_storage
from crp_kit.atlas.build.array_storage import ArrayStorage
from crp_kit.atlas.statistics.group_array import GroupArray
from crp_kit.errors import AtlasError

WANTED = [((3, 4, 5), "f4", -np.inf), ((2, 0, 5), "i8", -1), ((7,), "i4", -1), ((2, 3), "f4", np.nan), ((9,), "i2", 0)]


def in_file(array: np.ndarray) -> bool:
    """Whether an array lies in a mapped file; those in memory are of NumPy or of anonymous pages."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(bound, 16) for bound in line.split()[0].split("-"))
        if start <= address < end:
            return "(deleted)" in line
    raise AssertionError("no such address")


@pytest.mark.parametrize("limit", [0, 1 << 30], ids=["files", "memory"])
def test_arrays_are_as_asked_for_and_leave_no_names(tmp_path: Path, limit: int) -> None:
    storage = ArrayStorage(limit, tmp_path)
    arrays = [storage(*wanted) for wanted in WANTED]
    for array, (shape, dtype, fill) in zip(arrays, WANTED, strict=True):
        assert array.dtype == np.dtype(dtype)
        assert np.array_equal(array, np.full(shape, fill, dtype), equal_nan=True)
        array[...] = 1
    for array, (shape, dtype, _) in zip(arrays, WANTED, strict=True):
        assert np.array_equal(array, np.ones(shape, dtype)), "no two arrays share bytes"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_what_does_not_fit_goes_to_files_and_what_was_freed_counts_no_more(tmp_path: Path) -> None:
    storage = ArrayStorage(5 << 20, tmp_path)
    first, second, third = (storage((1 << 21,), "u1", 0) for _ in range(3))
    assert [in_file(array) for array in (first, second, third)] == [False, False, True]
    view = first[5:]
    del first
    gc.collect()
    assert in_file(storage((1 << 21,), "u1", 0)), "a part of the first array is still in use"
    del view
    gc.collect()
    assert not in_file(storage((1 << 21,), "u1", 0))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_thousands_of_arrays_need_few_files(tmp_path: Path) -> None:
    storage, before = ArrayStorage(0, tmp_path), len(os.listdir("/proc/self/fd"))
    arrays = [storage((5000,), "f4", 1) for _ in range(3000)]
    assert len(os.listdir("/proc/self/fd")) - before < 20
    assert sum(int(array.sum()) for array in arrays) == 5000 * 3000


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="has no posix_fallocate")
def test_a_full_disk_is_a_sentence_and_later_writes_are_no_bus_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    storage = ArrayStorage(0, tmp_path)
    small = storage((8,), "i8", 7)
    monkeypatch.setattr(array_storage.os, "posix_fallocate", full)
    with pytest.raises(AtlasError, match=r"no room for 64 MiB more of rankings .* is full; free some, .* k_class"):
        storage((1 << 23,), "i8", 0)
    assert small.tolist() == [7] * 8


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_reserves_nothing_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, "not supported")

    monkeypatch.setattr(array_storage.os, "posix_fallocate", refuse, raising=False)
    with pytest.MonkeyPatch.context() as patch:
        blocks = []
        patch.setattr(array_storage.mmap, "mmap", lambda file, size: blocks.append(os.fstat(file)) or bytearray(size))
        patch.setattr(array_storage.weakref, "finalize", lambda *_: type("Finalizer", (), {}))
        array = ArrayStorage(0, tmp_path)((3 << 20,), "u1", 0)
    assert not array.any()
    assert blocks[0].st_size >= 3 << 20
    assert blocks[0].st_blocks * 512 >= 3 << 20, "blocks that are there, not a hole"


def test_memory_that_the_system_refuses_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(array_storage, "_pages", refuse)
    with pytest.raises(
        AtlasError, match="no memory for 8 MiB more of rankings and moments: a smaller max_memory keeps"
    ):
        ArrayStorage(1 << 30, tmp_path)((1 << 20,), "i8", 0)


@pytest.mark.parametrize("limit", [0, 1 << 10, 1 << 30], ids=["files", "some of both", "memory"])
def test_an_array_grows_by_groups_wherever_it_lies(tmp_path: Path, limit: int) -> None:
    array, expected = GroupArray((2, 3, 5), "f4", -1, ArrayStorage(limit, tmp_path)), np.full((2, 3, 5), -1, "f4")
    for groups in (2, 3, 3, 4, 9, 50, 51):
        array.grow(groups)
        expected = np.concatenate([expected, np.full((groups - len(expected), 3, 5), -1, "f4")])
        assert np.array_equal(array.values, expected)
        array.values[-1] = expected[-1] = groups
    array.grow(7)
    assert len(array.values) == 51, "it never gets smaller"


def test_an_array_in_a_file_has_room_to_grow_without_being_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = GroupArray((0, 100), "i8", -1, ArrayStorage(0, tmp_path, groups=100))
    array.grow(20)
    place = array.values.ctypes.data
    for groups in range(30, 101, 10):
        array.grow(groups)
        assert array.values.ctypes.data == place
    assert len(array._room) == 100, "no more than there can be"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    array = GroupArray((0, 1 << 14), "i8", -1, ArrayStorage(0, tmp_path, groups=1 << 20))
    reserve = array_storage.reserved_file
    monkeypatch.setattr(
        array_storage, "reserved_file", lambda folder, size: reserve(folder, size) if size < 4 << 20 else full()
    )
    array.grow(20)
    assert len(array._room) == 20, "no more than the disk has"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc")
def test_room_for_groups_that_never_come_takes_no_memory(tmp_path: Path) -> None:
    def resident() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))

    array = GroupArray((16, 1 << 18), "i8", -1, ArrayStorage(1 << 30, tmp_path))
    array.grow(17)  # has room for 24
    before = resident()
    array.grow(23)
    assert resident() - before > 11 << 20
    assert array._room.nbytes == 24 << 21
