"""The reader of HDF5 gives what h5py gives, of everything that an atlas can have."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from crp_kit.atlas.file.file_tree import Tree, array_spec
from crp_kit.atlas.file.hdf5_bytes import lookup3
from crp_kit.atlas.file.hdf5_layout import _fletcher32
from crp_kit.atlas.file.hdf5_reader import H5File
from crp_kit.atlas.file.hdf5_writer import write_tree
from crp_kit.errors import AtlasError

ARCHIVE = Path(__file__).parents[1] / "data" / "atlas-format-1.h5"
PARTS: tuple[Any, ...] = (
    0, -1, slice(None), slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(5, 2), [2, 0], np.array([0, 0]),
    ..., (..., 0), (slice(1), slice(1)), (0, slice(None, 2)),
)  # fmt: skip


def same(file: H5File, group: Any, path: str = "/") -> int:
    """Compare a group and all that is below it, and return how many arrays that were."""
    expected = {name: value.decode() if isinstance(value, bytes) else value for name, value in group.attrs.items()}
    attributes = file.attributes(path)
    assert attributes.keys() == expected.keys()
    for name, value in expected.items():
        assert type(attributes[name]) is type(value)
        assert np.array_equal(attributes[name], value)
    assert sorted(file.names(path)) == sorted(group)
    count = 0
    for name, item in group.items():
        inner = f"{path.rstrip('/')}/{name}"
        if isinstance(item, h5py.Group):
            assert inner in file.groups(path)
            count += same(file, item, inner)
        else:
            count += 1
            array, values = file.array(inner), item[()]
            assert (array.shape, array.dtype) == (item.shape, item.dtype)
            assert array[()].tobytes() == values.tobytes()
            for part in PARTS if values.ndim > 1 and min(values.shape) > 2 else ():
                assert np.array_equal(array[part], values[part], equal_nan=values.dtype.kind == "f"), (inner, part)
    return count


def test_a_file_of_the_archive() -> None:
    with h5py.File(ARCHIVE) as group, H5File(ARCHIVE) as file:
        assert same(file, group) == 30


@pytest.mark.slow
@pytest.mark.parametrize("compress", [False, True])
def test_many_groups_and_attributes_and_every_kind_of_value(tmp_path: Path, compress: bool) -> None:
    chance, path = np.random.default_rng(0), tmp_path / "tree.h5"
    values: dict[str, Any] = {
        "text": "ünï'code\n" * 9000, "empty": "", "truth": True, "no": np.False_, "number": 3, "half": 0.5,
        "small": np.int8(-3), "shape": np.array([1, 2]), "single": np.float32(0.1), "big": np.uint64(2**63),
    }  # fmt: skip
    groups = {"/": {**values, **{f"more {number}": "x" * number for number in range(90)}}, "/layers": {"a": 1}}
    groups |= {f"/layers/{number}": {"name": f"layer {number}"} for number in range(220)}
    arrays = {
        "/wide": chance.random((300, 700), dtype="f4"),
        "/deep": chance.integers(-9, 9, (40, 30, 20)),
        "/small": chance.random((3, 4)).astype("f2"),
        "/none": np.zeros((0, 3), "f4"),
        "/line": np.arange(30_000, dtype=">i4"),
        "/text": np.array([b"a", "ü".encode(), b""]),
    }
    write_tree(path, Tree(groups, {name: array_spec(array) for name, array in arrays.items()}), compress=compress)
    with h5py.File(path) as group, H5File(path) as file:
        assert same(file, group) == len(arrays)


@pytest.mark.slow
def test_an_index_of_several_pages_is_read_and_its_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "pages.h5"
    options = {"chunks": (2, 3), "compression": "gzip", "shuffle": True, "fletcher32": True}
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.create_dataset("packed", data=np.arange(2300 * 6).reshape(4600, 3), **options)
        file.create_dataset("plain", data=np.arange(2300 * 6, dtype="f4").reshape(4600, 3), chunks=(2, 3))
    with h5py.File(path) as group, H5File(path) as file:
        assert same(file, group) == 2
    data = bytearray(path.read_bytes())
    start = data.index(b"FADB")
    for offset in (20, 2000, 20_000):
        damaged = bytearray(data)
        damaged[start + offset] ^= 4
        path.write_bytes(damaged)
        with H5File(path) as file, pytest.raises(AtlasError, match="is damaged: the checksum differs"):
            file.array("/packed")[4599], file.array("/plain")[4599]


FILTERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gzip": {"compression": "gzip"},
    "shuffled": {"compression": "gzip", "shuffle": True},
    "guarded": {"fletcher32": True},
    "all": {"compression": "gzip", "shuffle": True, "fletcher32": True},
}
SHAPES = (
    ((7,), (3,)), ((1,), (1,)), ((64, 65), (8, 13)), ((5, 4), (5, 4)), ((20, 30, 6), (3, 7, 5)),
    ((2, 3, 4, 5), (1, 2, 3, 4)), ((3000,), (2,)), ((0, 3), None),
)  # fmt: skip
"""Of arrays and their chunks: whole ones, cut ones, one, more than a node of their index has, a thousand, and none."""


@pytest.mark.parametrize("options", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("dtype", ["i1", "f4", ">f8", "S5"])
def test_arrays_with_the_settings_of_h5py_itself(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    path, chance = tmp_path / "default.h5", np.random.default_rng(3)
    with h5py.File(path, "w") as file:
        for number, (shape, chunks) in enumerate(SHAPES):
            data = chance.integers(-99, 99, shape).astype(dtype)
            file.create_dataset(f"{number}", data=data, chunks=chunks, **options)
    with h5py.File(path) as group, H5File(path) as file:
        assert path.read_bytes()[8] == 0
        assert same(file, group) == len(group)


@pytest.mark.parametrize("options", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("fill", [None, 0, 7, -1.5])
def test_chunks_that_were_never_written_hold_the_fill_value(
    tmp_path: Path, fill: float | None, options: dict[str, Any]
) -> None:
    path = tmp_path / "holes.h5"
    with h5py.File(path, "w") as file:
        for dtype in ("f4", ">i2"):
            array = file.create_dataset(dtype, (300, 41), dtype, chunks=(4, 7), fillvalue=fill, **options)
            array[5, 5], array[77:99, 20:], array[-1, -1] = 3, 4, 5
    with h5py.File(path) as group, H5File(path) as file:
        assert same(file, group) == 2


@pytest.mark.parametrize("never", [True, False])
def test_chunks_without_any_fill_value_are_refused(tmp_path: Path, never: bool) -> None:
    path = tmp_path / "holes.h5"
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((2,))
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER if never else h5py.h5d.FILL_TIME_IFSET)
    with h5py.File(path, "w") as file:
        h5py.Dataset(h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((6,)), settings))[
            :2
        ] = 1.0
    with H5File(path) as file:
        if never:
            with pytest.raises(AtlasError, match="was never written"):
                file.array("/a")[:]
        else:
            assert file.array("/a")[:].tolist() == [1, 1, 0, 0, 0, 0]


def test_many_groups_and_attributes_with_the_settings_of_h5py_itself(tmp_path: Path) -> None:
    path = tmp_path / "default.h5"
    with h5py.File(path, "w") as file:
        for number in range(200):
            file.create_group(f"layers/{number}").attrs["name"] = f"layer {number}"
        file.attrs.update({f"more {number}": "x" * number for number in range(90)})
        file.create_group("ünï")["numbers"] = np.arange(4)
    with h5py.File(path) as group, H5File(path) as file:
        assert same(file, group) == 1
    with h5py.File(tmp_path / "copy.h5", "w") as copy, h5py.File(ARCHIVE) as source:
        for name in source:  # groups and arrays of another version than the root above them
            source.copy(name, copy)
    with h5py.File(tmp_path / "copy.h5") as group, H5File(tmp_path / "copy.h5") as file:
        assert same(file, group) == 30


@pytest.mark.parametrize("size", [0, 1, 2, 7, 1000, 65_535, 65_536, 200_001])
@pytest.mark.parametrize("value", [0, 255, None])
def test_checksums_of_values_are_those_of_hdf5(tmp_path: Path, size: int, value: int | None) -> None:
    values = np.random.default_rng(size).integers(0, 256, size + 1, np.uint8)
    values[:] = values if value is None else value
    with h5py.File(tmp_path / "a.h5", "w") as file:
        array = file.create_dataset("a", data=values, chunks=values.shape, fletcher32=True)
        _, stored = array.id.read_direct_chunk((0,))
    assert _fletcher32(values.tobytes()) == int.from_bytes(stored[-4:], "little")


def test_checksums_of_metadata_are_those_of_its_author() -> None:
    # Examples at the end of lookup3.c.
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551
