"""Every bit of every dataset is checked: flipped on the disk, or in a value with HDF5's checksum renewed."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from atlas_case import datasets
from synthetic_pass import SyntheticPass

import crp_kit as crp
from crp_kit.atlas.file import digests
from crp_kit.atlas.file.expected_groups import expected_groups
from crp_kit.atlas.file.file_tree import array_spec, checksum, text_digest
from crp_kit.atlas.file.hdf5_reader import H5File
from crp_kit.errors import AtlasError

PASS = SyntheticPass((7, 3, 3, 9, -1, 7, 0, 3, 3), concepts=(3,), matrix=True)
FILES = ("atlas", "shard", "checkpoint")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sound")
    return {
        "atlas": PASS.write(folder / "atlas.h5"),
        "shard": PASS.write_part(folder / "shard.h5", 0, 3, 3, shards=2),
        "checkpoint": PASS.write_part(folder / "checkpoint.h5", 0, 4, PASS.n_batches),
    }


def problems(path: Path) -> tuple[str, ...]:
    """What verify finds, in the answer or as a refusal."""
    try:
        return crp.verify_atlas(path)
    except AtlasError as error:
        return (str(error),)


def renew(path: Path) -> None:
    """Make the checksum over attributes fit."""
    with H5File(path) as opened:
        renewed = checksum({group: opened.attributes(group) for group in expected_groups(opened)})
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file.attrs["checksum"] = renewed


def chunks(path: Path) -> list[tuple[str, int, int]]:
    """Dataset, offset and length of everything that is stored."""
    stored = []
    with h5py.File(path) as file:
        for name in datasets(path):
            array = file[name].id
            for number in range(array.get_num_chunks()):
                chunk = array.get_chunk_info(number)
                stored.append((name, chunk.byte_offset, chunk.size))
    return stored


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_a_bit_that_flips_on_the_disk_is_found_in_every_dataset(
    files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    data, path, draw = files[kind].read_bytes(), tmp_path / "a.h5", np.random.default_rng(0)
    assert problems(files[kind]) == ()
    stored = chunks(files[kind])
    names = {name for name, _, _ in stored}
    assert names == {name for name, values in datasets(files[kind]).items() if values.size}
    assert any("exact" in name for name in names) == (kind != "atlas")
    for name, offset, size in stored:
        place, bit = offset + int(draw.integers(size)), int(draw.integers(8))
        damaged = bytearray(data)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        assert problems(path), (name, place, bit)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_a_bit_that_flips_in_a_value_is_found_though_the_checksum_of_hdf5_is_right(
    files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    path, draw = Path(shutil.copy(files[kind], tmp_path / "a.h5")), np.random.default_rng(1)
    for name, values in datasets(path).items():
        raw = np.frombuffer(bytearray(values.tobytes()), "u1")
        if not len(raw):
            continue
        place, bit = int(draw.integers(len(raw))), int(draw.integers(8))
        raw[place] ^= 1 << bit
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            file[name][...] = np.frombuffer(raw.tobytes(), values.dtype).reshape(values.shape)
        assert problems(path), (name, place, bit)
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            file[name][...] = values
    assert problems(path) == ()


def test_a_block_that_was_never_written_is_found_by_name(files: dict[str, Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(files["shard"], tmp_path / "a.h5"))
    name = "layers/0/relevance/exact/sum_limbs"
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        array = file[name]
        del file[name]
        file.create_dataset(name, shape=array.shape, dtype=array.dtype, chunks=array.chunks, fletcher32=True)
    assert problems(path) == (f"{str(path)!r} is no sound atlas file: /{name}: its values were never written",)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(0, 0xFFFF), (0xFFFF, 0)], ids=["zeros to ones", "ones to zeros"])
def test_words_that_the_checksum_of_hdf5_takes_for_each_other_are_found(
    files: dict[str, Path], tmp_path: Path, before: int, after: int
) -> None:
    # Fletcher's checksum counts modulo 65535. In a file that is not compressed these words are stored as they are.
    data, path = files["checkpoint"].read_bytes(), tmp_path / "a.h5"
    for name, offset, size in chunks(files["checkpoint"]):
        block = data[offset : offset + size]
        place = next((at for at in range(0, size - 6, 2) if block[at : at + 2] == before.to_bytes(2, "little")), None)
        if place is None:
            continue
        at = offset + place
        path.write_bytes(data[:at] + after.to_bytes(2, "little") + data[at + 2 :])
        assert problems(path), name


def test_a_bit_that_flips_on_the_disk_is_found_in_files_without_digests_too(
    files: dict[str, Path], tmp_path: Path
) -> None:
    old, path = Path(shutil.copy(files["shard"], tmp_path / "old.h5")), tmp_path / "a.h5"
    with h5py.File(old, "r+", libver=("v110", "v110")) as file:
        del file["digests"]
    renew(old)
    assert problems(old) == ()
    data = old.read_bytes()
    for name, offset, size in chunks(old):
        path.write_bytes(
            data[: offset + size // 2] + bytes([data[offset + size // 2] ^ 16]) + data[offset + size // 2 + 1 :]
        )
        assert problems(path), name


def test_a_dataset_that_was_added_is_found(files: dict[str, Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(files["atlas"], tmp_path / "a.h5"))
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file["layers/0/more"] = 1.5
    assert problems(path) == ("/layers/0/more has no digest: it was added later",)


def test_digests_are_those_of_what_hashlib_gives(files: dict[str, Path]) -> None:
    for path in files.values():
        arrays = datasets(path)
        lines = [line.decode().split(" ", 2) for line in arrays.pop("digests/sha256").tolist()]
        assert sorted(name for _, _, name in lines) == sorted(f"/{name}" for name in arrays)
        for digest, dtype, name in lines:
            values = arrays[name[1:]]
            if values.dtype.kind in "SO":
                content = b"".join(value + b"\0" for value in values.tolist())
            else:
                assert values.dtype.str == dtype
                content = values.tobytes()
            assert digest == hashlib.sha256(content).hexdigest(), name


def test_digests_do_not_depend_on_how_an_array_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(2 * 3 * 50, dtype="f4").reshape(2, 3, 50)
    whole = {digests._digest(values, values.dtype)}
    spec = array_spec(values)
    assert [part for part, _ in spec.blocks()] == [slice(0, 2)]
    whole.add(spec.digest)
    for size in (4, 12, 100, 200, 601):
        monkeypatch.setattr(digests, "_BYTES_AT_ONCE", size)
        pieces = list(digests._pieces(values.shape, 4))
        assert np.concatenate([values[piece].ravel() for piece in pieces]).tolist() == values.ravel().tolist()
        assert all(values[piece].nbytes <= max(size, 4) for piece in pieces)
        whole.add(digests._digest(values, values.dtype))
    assert len(whole) == 1


def test_texts_that_are_changed_together_with_their_own_checksum_are_found(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(files["atlas"], tmp_path / "a.h5"))
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        names = file["samples/id"][()]
        names[3] = b"another"
        file["samples/id"][...] = names
        file["samples"].attrs["id_sha256"] = text_digest([name.decode() for name in names.tolist()])
    renew(path)
    assert problems(path) == ("the dataset /samples/id is not what was written: it has another SHA-256",)


@pytest.mark.parametrize(
    "line", [b"", b"x", b"0 <f4", b"0 nonsense /samples/index", b"0 <f4 samples/index", b"\xff \xfe"]
)
def test_digests_that_are_no_digests_are_found(files: dict[str, Path], tmp_path: Path, line: Any) -> None:
    path = Path(shutil.copy(files["atlas"], tmp_path / "a.h5"))
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        lines = file["digests/sha256"][()]
        lines[2] = line
        file["digests/sha256"][...] = lines
    assert problems(path)
