"""Atlas files as an attacker or a bad disk makes them, and what a reader answers to each."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from atlas_case import build

import crp_kit as crp
from crp_kit.atlas.file.file_tree import checksum
from crp_kit.atlas.file.hdf5_bytes import FileBytes, lookup3
from crp_kit.errors import AtlasError

LAYER = "layer2.1.conv2"
BYTES = (0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 254, 255)


def sound_atlas(path: Path, **options: Any) -> Path:
    """Build an atlas of a few samples, with everything that a file can have: names, identifiers, a matrix."""
    torch.manual_seed(0)
    build(path, _Named(12), layers=[LAYER], k=3, k_class=2, matrix=True, **options).close()
    return path


class _Named(torch.utils.data.Dataset[Any]):
    """Shapes that have names."""

    def __init__(self, count: int) -> None:
        from crp_kit.data import ShapesDataset

        self._shapes = ShapesDataset(count)
        self.classes = self._shapes.classes
        self.attributes = {
            "even": [number % 2 == 0 for number in range(count)], "age": [0.5 * number for number in range(count)],
            "who": [f"person {number % 3}" if number else "" for number in range(count)],
        }  # fmt: skip
        self.samples = [(f"shape-{number}.png", number) for number in range(count)]

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, number: int) -> Any:
        return self._shapes[number]


# --------------------------------------------------------------------------------------------------- what is answered


def stored(path: Path, *, incomplete: bool = False) -> dict[str, Any]:
    """Everything in a file that a reader can ask for: attributes, names and arrays as bytes."""
    with crp.ConceptAtlas(path, incomplete=incomplete) as atlas:
        answers: dict[str, Any] = {
            "header": atlas.header, "layers": [atlas[name].info for name in atlas.layers], "classes": atlas.classes,
            "skipped": dict(atlas.skipped), "identifiers": atlas.identifiers, "samples": atlas.samples.tobytes(),
            "targets": atlas.targets.tobytes(), "predictions": atlas.predictions.tobytes(),
            "labels": atlas.labels.tobytes(), "probabilities": [array.tobytes() for array in atlas.top_predictions],
            "columns": {name: values.tolist() for name, values in atlas.attributes.items()},
            "attributes": {name: str(value) for name, value in atlas.metadata.items() if name != "checksum"},
        }  # fmt: skip
        for layer in map(atlas.__getitem__, atlas.layers):
            for half in (layer.relevance, layer.activation):
                for statistic in ("top", "class_top", "moments", "matrix", "gram"):
                    for name, array in half.arrays(statistic).items():
                        values = np.asarray(array[:])
                        answers[f"{layer.name}/{half.mode}/{statistic}/{name}"] = (values.shape, values.tobytes())
                answers[f"{layer.name}/{half.mode}"] = [
                    column.tobytes() for column in half.statistics().columns().values()
                ]
        return answers


def outcome(path: Path, sound: dict[str, Any], *, incomplete: bool = False) -> str:
    """Return "refused", "same", "verified to be wrong", or what should not be: "other answers" and whole messages."""
    try:
        answers = stored(path, incomplete=incomplete)
        if answers == sound:
            return "same"
        return "verified to be wrong" if crp.verify_atlas(path) else "other answers"
    except AtlasError as error:
        return "refused" if is_a_sentence(str(error), path) else f"a message that is no sentence: {error}"


def is_a_sentence(message: str, path: Path) -> bool:
    return str(path) in message and message.isprintable() and len(message) < 400 + len(str(path))


# ------------------------------------------------------------------------------------------------------------ editing


@contextmanager
def edited(path: Path, *, seal: bool = True) -> Iterator[Any]:
    """Change a file by h5py, in the version of HDF5 that an atlas has, and make its checksum fit again."""
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        yield file
        if seal:
            file.attrs["checksum"] = checksum(_attributes(file))


def _attributes(file: Any) -> dict[str, dict[str, Any]]:
    """Attributes of the groups that a checksum is over, those that can be read."""
    paths = ["/", *(f"/{name}" for name in file if file.get(name, getlink=True).__class__ is h5py.HardLink)]
    for pattern in ("/layers", "/layers/0", "/layers/0/relevance", "/layers/0/activation"):
        if isinstance(group := _got(file, pattern), h5py.Group) and len(group) < 300:
            paths += [f"{pattern}/{name}" for name in group if isinstance(_got(group, name), h5py.Group)]
    groups = {path: _got(file, path) for path in dict.fromkeys(paths)}
    return {path: _plain(group) for path, group in groups.items() if isinstance(group, h5py.Group)}


def _got(group: Any, name: str) -> Any:
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError):
        return None


def _plain(group: Any) -> dict[str, Any]:
    values = {}
    for name in group.attrs:
        try:
            value = group.attrs[name]
            json.dumps(value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value)
            values[name] = value
        except (TypeError, OSError, ValueError):
            continue
    return values


def remade(path: Path, **options: Any) -> None:
    """Make a file again as a user of h5py does it, array by array, with h5py's own settings."""
    aside = path.with_name(f"{path.name}.before")
    path.rename(aside)
    with h5py.File(aside) as source, h5py.File(path, "w", **options) as target:

        def add(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                new: Any = target.require_group(name)
            else:
                packing = {key: getattr(item, key) for key in ("chunks", "compression", "shuffle", "fletcher32")}
                new = target.create_dataset(name, data=item[()], dtype=item.dtype, **packing)
            new.attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(add)
    aside.unlink()


def blocks(path: Path) -> list[tuple[int, int]]:
    """Where the blocks of metadata of a sound file are: begin and end, behind which a checksum stands."""
    return [(start, end - 4) for start, end in _read_by(path, "block")]


def _read_by(path: Path, method: str) -> list[tuple[int, int]]:
    """What a method of `FileBytes` reads of a file: begin and end."""
    seen: set[tuple[int, int]] = set()
    read = getattr(FileBytes, method)

    def noted(file: FileBytes, address: int, size: int, *rest: Any) -> Any:
        seen.add((address, address + size))
        return read(file, address, size, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileBytes, method, noted)
        stored(path, incomplete=True)
    return sorted(seen)


# ----------------------------------------------------------------------------------------------------------- mutations

Change = Callable[[bytearray, random.Random], None]


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 2, 8])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, chance: random.Random) -> None:
    start, size = chance.randrange(len(data)), chance.choice([1, 2, 4, 8, 64, 512, 4096])
    size = min(size, len(data) - start)
    data[start : start + size] = chance.choice([bytes(size), b"\xff" * size, chance.randbytes(size)])


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]
    data += chance.randbytes(chance.choice([0, 0, 3, 600]))


def swap(data: bytearray, chance: random.Random) -> None:
    size = chance.choice([8, 64, 512, 2048])
    first, second = (chance.randrange(len(data) // size) * size for _ in range(2))
    data[first : first + size], data[second : second + size] = (
        data[second : second + size], data[first : first + size],
    )  # fmt: skip


def move(data: bytearray, chance: random.Random) -> None:
    start, size = chance.randrange(len(data)), chance.choice([1, 2, 8, 100])
    data[start : start + chance.choice([0, size])] = bytes(chance.choice([0, size]))


class Meddle:
    """Changes metadata that have no checksums, as those of h5py's own settings."""

    def __init__(self, path: Path) -> None:
        self._parts = [part for part in _read_by(path, "metadata") if part[0] < part[1]]

    def __call__(self, data: bytearray, chance: random.Random) -> None:
        for start, end in {chance.choice(self._parts) for _ in range(chance.choice([1, 1, 2]))}:
            place = chance.randrange(start, end)
            size = min(chance.choice([1, 1, 2, 4, 8]), end - place)
            values = (chance.choice(BYTES), 256**size - 1, 256**size // 2, start, len(data), chance.randrange(256))
            data[place : place + size] = (chance.choice(values) % 256**size).to_bytes(size, "little")


class Forge:
    """Changes metadata and makes their checksums fit, as no disk does, but an attacker."""

    def __init__(self, path: Path) -> None:
        self.blocks = blocks(path)

    def __call__(self, data: bytearray, chance: random.Random) -> None:
        for start, end in {chance.choice(self.blocks) for _ in range(chance.choice([1, 1, 1, 2, 3]))}:
            place = chance.randrange(start + 4, end)
            size = min(chance.choice([1, 1, 1, 2, 4, 8]), end - place)
            values = (chance.choice(BYTES), 256**size - 1, 256**size // 2, start, len(data), chance.randrange(256))
            data[place : place + size] = (chance.choice(values) % 256**size).to_bytes(size, "little")
            data[end : end + 4] = lookup3(bytes(data[start:end])).to_bytes(4, "little")


DAMAGES: tuple[Change, ...] = (flip, overwrite, truncate, swap, move)


def mutated(data: bytes, seed: int, changes: tuple[Change, ...]) -> bytes:
    """Return the bytes of a file with a change that the seed decides."""
    chance, copy = random.Random(seed), bytearray(data)
    chance.choice(changes)(copy, chance)
    return bytes(copy)
