"""Files that somebody made to hurt a reader: each is refused in a sentence, or harmless, in at most two seconds."""

import os
import shutil
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hostile
import numpy as np
import pytest
from command_line import invoke, refused

import crp_kit as crp
from crp_kit.atlas.file.hdf5_bytes import lookup3
from crp_kit.errors import AtlasError

SECONDS = 2.0
"""Of processor time, which other processes do not change."""
FILES: dict[str, Callable[[Path], Any]] = {}
HARMLESS: dict[str, Callable[[Path], Any]] = {}
BOMBS: dict[str, Callable[[Path], Any]] = {}
SCORE, SAMPLE, TOP, MATRIX = (f"/layers/0/relevance/{name}" for name in ("top/score", "top/sample", "top", "matrix"))
NAMES = "/classes/name"


def case(name: str, table: dict[str, Any] | None = None) -> Callable[[Any], Any]:
    def add(change: Any) -> Any:
        (FILES if table is None else table)[name] = change
        return change

    return add


def inside(change: Callable[[Any], Any], *, seal: bool = True) -> Callable[[Path], None]:
    """A change of what is in a file."""

    def run(path: Path) -> None:
        with hostile.edited(path, seal=seal) as file:
            change(file)

    return run


def attribute(group: str, name: str, value: Any) -> Callable[[Path], None]:
    def change(file: Any) -> None:
        file[group].attrs.pop(name, None)
        file[group].attrs[name] = value

    return inside(change)


# ------------------------------------------------------------------------------------------------------- groups, links


def nested(file: Any, where: str) -> None:
    group = file[where].create_group("deep")
    for _ in range(40):
        inner = group.create_group("l")
        group["r"] = inner
        group = inner


for place in ("/", "/layers/0", "/layers/0/relevance"):
    case(f"groups with two names in {place}, unsealed")(
        inside(lambda file, place=place: nested(file, place), seal=False)
    )
    case(f"groups with two names in {place}", HARMLESS)(inside(lambda file, place=place: nested(file, place)))
for place in ("/samples", "/classes", "/layers/0/relevance/top", "/layers/0/relevance/moments"):
    case(f"groups with two names in {place}", HARMLESS)(
        inside(lambda file, place=place: nested(file, place), seal=False)
    )


@case("an unknown group and dataset with everything that HDF5 has", HARMLESS)
def foreign(path: Path) -> None:
    with hostile.edited(path) as file:
        other = file.create_group("later")
        other.attrs["encoding-type"] = "crp-kit-atlas-later"
        other["scaled"] = h5py.SoftLink("/nowhere")
        other["out"] = h5py.ExternalLink("/etc/passwd", "/")
        file.create_dataset("later/text", data=["a"], dtype=h5py.string_dtype())
        file.create_dataset("layers/0/relevance/later", data=np.zeros((4, 4)), compression="lzf")
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")


def many(file: Any, where: str, count: int, *, same: bool = False) -> None:
    target = file["/samples"]
    for number in range(count):
        if same:
            file[where][str(number + 1)] = target
        else:
            file[where].create_group(str(number + 1))


for place in ("/", "/layers", "/layers/0", "/layers/0/relevance"):
    case(f"600 groups in {place}")(inside(lambda file, place=place: many(file, place, 600), seal=False))
    case(f"600 names of one group in {place}")(
        inside(lambda file, place=place: many(file, place, 600, same=True), seal=False)
    )
case("a root that is in itself")(inside(lambda file: file.__setitem__("again", file["/"])))
case("a layer that is in itself")(inside(lambda file: file.__setitem__("layers/0/again", file["layers/0"])))
case("of an unknown aggregate")(inside(lambda file: file.attrs.__setitem__("aggregate", "mean")))
case("one array by two names")(inside(lambda file: swap_for(file, SCORE, file["/layers/0/activation/top/score"])))
case("one group by two names")(inside(lambda file: swap_for(file, TOP, file["/layers/0/activation/top"])))


def swap_for(file: Any, path: str, other: Any) -> None:
    del file[path]
    file[path] = other


for path in ("/samples", "/samples/index", "/layers", "/layers/0", "/layers/0/relevance", TOP, SCORE, NAMES):

    def moved(file: Any, path: str = path) -> None:
        file.move(path, "/aside")
        file[path] = h5py.SoftLink("/aside")

    def outside(file: Any, path: str = path) -> None:
        file.move(path, "/aside")
        file[path] = h5py.ExternalLink(file.filename, "/aside")

    case(f"a soft link at {path}")(inside(moved, seal=False))
    case(f"an external link at {path}")(inside(outside, seal=False))

ATTRIBUTES = "/attributes"
for name, values in {
    "truth": (np.zeros((12, 2), "i1"), np.zeros((11, 1), "i1"), np.zeros((12, 1))),
    "number": (np.zeros((12, 1), "i8"), np.zeros((1, 12)), np.zeros(12)),
    "text": (np.zeros((12, 1)), np.zeros((0, 1), "i4")),
    "kind": (np.zeros(2, "i1"), np.full(3, 3, "i1"), np.full(3, -1, "i1"), np.zeros(3), np.zeros(3, "i1")),
    "name": (np.zeros(3), np.array([b"a", b"b"]), np.zeros((3, 1), "S1")),
    "value": (np.array([b"a"] * 13), np.zeros(3)),
}.items():
    for number, value in enumerate(values):
        case(f"attributes with a {name} number {number}")(
            inside(lambda file, name=name, value=value: replace(file, f"{ATTRIBUTES}/{name}", data=value))
        )
    case(f"attributes without a {name}")(inside(lambda file, name=name: file.__delitem__(f"{ATTRIBUTES}/{name}")))
case("attributes that are an array")(inside(lambda file: replace(file, ATTRIBUTES, data=np.zeros(3)), seal=False))
case("more attributes than any file has")(
    inside(
        lambda file: replace(
            file, f"{ATTRIBUTES}/name", shape=(1 << 20,), dtype="S1", chunks=(1 << 16,), compression="gzip"
        )
    )
)
case("no samples")(inside(lambda file: file.__delitem__("samples"), seal=False))
case("no layers")(inside(lambda file: file.__delitem__("layers"), seal=False))
case("an array in place of layers")(inside(lambda file: replace(file, "/layers", data=np.zeros(3)), seal=False))
case("a layer that is not numbered")(inside(lambda file: file.move("layers/0", "layers/zero"), seal=False))


# ------------------------------------------------------------------------------------------------------------- storage


def replace(file: Any, path: str, **options: Any) -> None:
    if "data" not in options and "shape" not in options:
        options["data"] = file[path][()]
    del file[path]
    file.create_dataset(path, **options)


def low_level(file: Any, path: str, prepare: Callable[[Any], Any], chunks: tuple[int, ...] | None = None) -> None:
    """Replace an array by one with settings that h5py has no options for."""
    values = file[path][()]
    del file[path]
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk(chunks or values.shape)
    prepare(settings)
    space, kind = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
    made = h5py.h5d.create(file.id, path.encode(), kind, space, settings)
    h5py.Dataset(made)[...] = values


def filled(name: str, **options: Any) -> None:
    case(name)(inside(lambda file: replace(file, SAMPLE, **options)))


filled("packed by lzf", compression="lzf", chunks=(4, 3))
filled("packed by scale and offset", scaleoffset=8, chunks=(4, 3))
filled("of any length along an axis", maxshape=(None, 3), chunks=(4, 3))
filled("of any length along two axes", maxshape=(None, None), chunks=(4, 3))
filled("of a shape that no memory has", shape=(1 << 60, 3), dtype="i8", chunks=(1 << 20, 3))
filled("of a shape that no memory has, in one piece", shape=(1 << 56, 3), dtype="i8")
filled("of the right shape and never written", shape=(32, 3), dtype="i8", chunks=(32, 3), fillvalue=7)
filled("of the right shape and never written, in chunks", shape=(32, 3), dtype="i8", chunks=(4, 3), compression="gzip")
filled("never written, in one piece", shape=(32, 3), dtype="i8")
filled("with large chunks", shape=(1 << 30, 3), dtype="i8", chunks=(1 << 26, 3), compression="gzip")
filled("of truth values", shape=(32, 3), dtype=bool)
filled("of complex numbers", shape=(32, 3), dtype="c16")
filled("of long floats", shape=(32, 3), dtype=np.longdouble)
filled("of records", shape=(32, 3), dtype=[("a", "i8"), ("b", "S3")])
filled("of references", shape=(32, 3), dtype=h5py.ref_dtype)
filled("of references to regions", shape=(32, 3), dtype=h5py.regionref_dtype)
filled("of texts of any length", shape=(32, 3), dtype=h5py.string_dtype())
filled("of lists", shape=(32, 3), dtype=h5py.vlen_dtype("i4"))
filled("of raw bytes", shape=(32, 3), dtype="V8")
filled("of arrays", shape=(32,), dtype="(3,)i8")
filled("of an enumeration", shape=(32, 3), dtype=h5py.enum_dtype({"a": 0, "b": 1}))
filled("of nothing", data=h5py.Empty("i8"))
filled("in another file", shape=(32, 3), dtype="i8", external=[("/etc/passwd", 0, 768)])


@case("from a named type")
def named(path: Path) -> None:
    with hostile.edited(path) as file:
        file["T"] = np.dtype("i8")
        replace(file, SAMPLE, shape=(32, 3), dtype=file["T"])


@case("put together from another file")
def virtual(path: Path) -> None:
    with hostile.edited(path) as file:
        layout = h5py.VirtualLayout((32, 3), "i8")
        layout[...] = h5py.VirtualSource("/etc/passwd", "a", (32, 3), "i8")
        del file[SAMPLE]
        file.create_virtual_dataset(SAMPLE, layout)


case("packed twice")(inside(lambda file: low_level(file, SAMPLE, lambda one: (one.set_deflate(1), one.set_deflate(1)))))
case("packed by an unknown filter")(
    inside(lambda file: low_level(file, SAMPLE, lambda one: one.set_filter(32123, h5py.h5z.FLAG_OPTIONAL, (1,))))
)
case("allocated early, without an index")(
    inside(lambda file: low_level(file, SAMPLE, lambda one: one.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY), (4, 3)))
)
case("in chunks of another shape", HARMLESS)(
    inside(lambda file: replace(file, MATRIX, chunks=(5, 7), compression="gzip", shuffle=True, fletcher32=True))
)
case("in chunks that are not packed", HARMLESS)(inside(lambda file: replace(file, MATRIX, chunks=(3, 32))))
case("in one piece", HARMLESS)(inside(lambda file: replace(file, MATRIX)))
case("in one piece in the header", HARMLESS)(
    inside(
        lambda file: low_level(file, "/layers/0/relevance/moments/count", lambda one: one.set_layout(h5py.h5d.COMPACT))
    )
)


def zipped(size: int, value: bytes = b"\0") -> bytes:
    """Return many equal bytes, packed."""
    packing, block = zlib.compressobj(9), value * (1 << 20)
    return b"".join([*(packing.compress(block) for _ in range(size >> 20)), packing.flush()])


def direct(content: bytes | Callable[[], bytes], left_out: int = 0, path: str = SAMPLE) -> Callable[[Path], None]:
    """Replace the only chunk of an array by other bytes, or by those that a function makes when they are needed."""

    def change(file: Any) -> None:
        values = file[path][()]
        replace(file, path, data=values, chunks=values.shape, compression="gzip")
        packed = content if isinstance(content, bytes) else content()
        file[path].id.write_direct_chunk((0,) * values.ndim, packed, filter_mask=left_out)

    return inside(change)


case("a chunk of 512 MB in 512 KB", BOMBS)(direct(lambda: zipped(1 << 29)))
case("a chunk with a byte too many", BOMBS)(direct(zlib.compress(bytes(32 * 3 * 8 + 1))))
case("a chunk with a byte too few", BOMBS)(direct(zlib.compress(bytes(32 * 3 * 8 - 1))))
case("a chunk of next to nothing", BOMBS)(direct(b"x"))
case("a chunk that is not packed and too long", BOMBS)(direct(bytes(1 << 22), left_out=1))
case("a chunk that goes on behind its end", BOMBS)(direct(zlib.compress(bytes(32 * 3 * 8))[:-5]))


@case("texts of 60 MB each", BOMBS)
def long_texts(path: Path) -> None:
    size = 60 << 20
    with hostile.edited(path, seal=False) as file:
        del file["samples/id"]
        made = file.create_dataset("samples/id", (12,), f"S{size}", chunks=(1,), compression="gzip")
        content = zipped(size, b" ")
        for number in range(12):
            made.id.write_direct_chunk((number,), content)


@case("chunks that are all the same one", BOMBS)
def overlapping(path: Path) -> None:
    with hostile.edited(path) as file:
        replace(file, MATRIX, chunks=(3, 32), compression="gzip")
    data = bytearray(path.read_bytes())
    start, entry = data.index(b"FADB") + 14, data[data.index(b"FAHD") + 6]
    end = start + 4 * entry
    assert lookup3(bytes(data[start - 14 : end])).to_bytes(4, "little") == data[end : end + 4]
    data[start:end] = bytes(data[start : start + entry]) * 4
    data[end : end + 4] = lookup3(bytes(data[start - 14 : end])).to_bytes(4, "little")
    path.write_bytes(data)


# ---------------------------------------------------------------------------------------------------------- attributes

for group, name, values in (
    ("/layers/0", "n_concepts", (2**60, 0, -1, np.nan, 32.0, np.arange(32), "32", h5py.Empty("i8"), True)),
    ("/layers/0", "output_shape", (-np.ones(3, "i8"), np.full(9, 2**40), np.ones(3), "x", np.ones(100, "i8"))),
    ("/layers/0", "name", (5, np.array(["a", "b"], object))),
    ("/", "n_classes", (2**40, -8, np.nan, np.array([8]))),
    ("/", "n_samples", (-1, 2**63 - 1, "many")),
    ("/", "k", (-3, 2**60, 0)),
    ("/", "batch_size", (0, -12)),
    ("/", "composite", ("{" * 50, '{"a":' * 100_000, '{"a": 3}', '{"a": [3]}', np.float64(1))),
    ("/", "model", ("x" * (17 << 20), np.zeros(3), np.array(1j))),
    ("/", "encoding-type", ("\x1b]0;owned\x07" * 1000, 3)),
    ("/", "complete", (3, "yes")),
):
    for number, value in enumerate(values):
        case(f"{name} of {group} number {number}")(attribute(group, name, value))


def more_attributes(file: Any, group: str, value: Any, count: int) -> None:
    for number in range(count):
        file[group].attrs[f"more {number}"] = value


for group in ("/", "/layers/0", "/samples"):
    case(f"thousand attributes of {group}")(
        inside(lambda file, group=group: more_attributes(file, group, 1, 1000), seal=False)
    )
for name, value in {
    "a record": np.zeros((), [("a", "i4"), ("b", "S3")]),
    "a long list": np.zeros(100_000),
    "raw bytes": np.void(b"abc"),
    "a list of texts": np.array(["a", "b"], object),
}.items():
    case(f"an attribute that is {name}")(inside(lambda file, value=value: more_attributes(file, "/samples", value, 1)))


@case("attributes that are references")
def references(path: Path) -> None:
    with hostile.edited(path) as file:
        file.attrs["object"] = file["samples"].ref
        file["samples"].attrs["region"] = file["samples/index"].regionref[:3]


@case("two layers of one name")
def same_names(path: Path) -> None:
    with hostile.edited(path) as file:
        file.copy("layers/0", "layers/1")


@case("shards without end")
def shards(path: Path) -> None:
    with hostile.edited(path) as file:
        group = file.create_group("progress")
        numbers = {"shard": 0, "shards": 2**60, "first": 0, "done": 1, "end": 1, "batches": 1}
        for name, value in numbers.items():
            group.attrs[name] = value
        file.attrs["complete"] = False


# --------------------------------------------------------------------------------------------------------- whole files


def written(path: Path, **options: Any) -> None:
    """Write the same content as another kind of HDF5 file."""
    aside = path.with_name("aside.h5")
    path.rename(aside)
    with h5py.File(aside) as source, h5py.File(path, "w", **options) as target:
        for name in source:
            source.copy(name, target)
        for name, value in source.attrs.items():
            target.attrs[name] = value


def patched(*changes: tuple[int, bytes]) -> Callable[[Path], None]:
    """Change the superblock, and make its checksum fit."""

    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        for start, content in changes:
            data[start : start + len(content)] = content
        data[44:48] = lookup3(bytes(data[:44])).to_bytes(4, "little")
        path.write_bytes(data)

    return change


@case("with a header that goes on in itself")
def looped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start, end in hostile.blocks(path):
        if data[start : start + 4] == b"OCHK" and end - start >= 36:
            again = bytes([16, 16, 0, 0]) + start.to_bytes(8, "little") + (end + 4 - start).to_bytes(8, "little")
            filler = end - start - 4 - len(again) - 4
            data[start + 4 : end] = again + bytes([0, filler & 255, filler >> 8, 0]) + bytes(filler)
            data[end : end + 4] = lookup3(bytes(data[start:end])).to_bytes(4, "little")
    path.write_bytes(data)


case("of the oldest version", HARMLESS)(lambda path: written(path, libver="earliest"))
case("made again with h5py's own settings", HARMLESS)(hostile.remade)
case("made again by any version", HARMLESS)(lambda path: hostile.remade(path, libver="v108"))
case("behind a user block")(lambda path: written(path, libver=("v110", "v110"), userblock_size=512))
case("made again behind a user block")(lambda path: hostile.remade(path, userblock_size=512))
case("made again and split in two")(lambda path: (hostile.remade(path), split(path, libver="earliest")))
case("with pages of its own")(lambda path: written(path, libver=("v110", "v110"), fs_strategy="page"))
case("written anew", HARMLESS)(lambda path: written(path, libver=("v110", "v110")))
case("split in two")(lambda path: (written(path, libver="v110"), split(path)))


def split(path: Path, libver: Any = ("v110", "v110")) -> None:
    with h5py.File(path.with_name("half"), "w", driver="split", libver=libver) as file:
        file.attrs["encoding-type"] = "crp-kit-atlas"
    path.with_name("half-m.h5").replace(path)


for name, changes in {
    "still open for writing": [(11, b"\5")],
    "of superblock version 4": [(8, b"\4")],
    "with addresses of 4 bytes": [(9, b"\4")],
    "with a base address": [(12, b"\1")],
    "with an extension of the superblock": [(20, bytes(8))],
    "said to be longer": [(28, (1 << 40).to_bytes(8, "little"))],
    "with a root at its beginning": [(36, bytes(8))],
    "with a root behind its end": [(36, (1 << 50).to_bytes(8, "little"))],
    "with a root nowhere": [(36, b"\xff" * 8)],
}.items():
    case(name)(patched(*changes))
case("of zeros, a terabyte long")(lambda path: (path.write_bytes(b""), os.truncate(path, 1 << 40)))
case("of a signature and zeros, a terabyte long")(
    lambda path: (path.write_bytes(path.read_bytes()[:8] + b"\3"), os.truncate(path, 1 << 40))
)
case("followed by a terabyte of zeros", HARMLESS)(lambda path: os.truncate(path, 1 << 40))
for part in (0.01, 0.1, 0.3, 0.5, 0.9, 0.999):
    case(f"cut off at {part}")(lambda path, part=part: os.truncate(path, int(path.stat().st_size * part)))


# --------------------------------------------------------------------------------------------------------------- tests


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile.sound_atlas(tmp_path_factory.mktemp("sound") / "atlas.h5")


@pytest.fixture(scope="module")
def answers(sound: Path) -> dict[str, Any]:
    return hostile.stored(sound)


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "copy.h5"))


def test_there_are_a_hundred_files() -> None:
    assert len(FILES) + len(HARMLESS) + len(BOMBS) >= 100


@pytest.mark.parametrize("change", FILES.values(), ids=FILES)
def test_a_hostile_file_is_refused_in_a_sentence(copy: Path, change: Callable[[Path], Any]) -> None:
    change(copy)
    begin = time.process_time()
    for ask in (hostile.stored, crp.verify_atlas, lambda path: crp.merge_atlases([path], path.with_name("merged.h5"))):
        with pytest.raises(AtlasError) as caught:
            ask(copy)
        assert hostile.is_a_sentence(str(caught.value), copy)
    assert str(copy) in refused("atlas", "info", copy)
    assert time.process_time() - begin < SECONDS
    assert not copy.with_name("merged.h5").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("truth", np.full((12, 1), 2, "i1")),
        ("number", np.full((12, 1), np.inf)),
        ("text", np.full((12, 1), 9, "i4")),
        ("text", np.full((12, 1), -2, "i4")),
        ("name", np.array([b"a", b"a", b"b"])),
        ("value", np.array([b"x", b"y", b"z"])),
    ],
)
def test_attributes_with_values_that_none_has_are_refused_when_they_are_read(copy: Path, name: str, value: Any) -> None:
    inside(lambda file: replace(file, f"{ATTRIBUTES}/{name}", data=value))(copy)
    for ask in (hostile.stored, crp.verify_atlas, lambda path: crp.annotate_atlas(path, {"new": [1] * 12})):
        with pytest.raises(AtlasError) as caught:
            ask(copy)
        assert hostile.is_a_sentence(str(caught.value), copy)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_beside_an_atlas_or_stored_in_another_way_changes_no_answer(
    copy: Path, answers: dict[str, Any], name: str
) -> None:
    HARMLESS[name](copy)
    begin = time.process_time()
    assert hostile.outcome(copy, answers) == "same"
    problems = crp.verify_atlas(copy)
    if "group" in name:
        assert problems
        assert all(problem.endswith("was added later") for problem in problems)
    else:
        assert problems == ()
    assert time.process_time() - begin < SECONDS


@pytest.mark.parametrize("change", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_in_little_memory(copy: Path, change: Callable[[Path], Any]) -> None:
    change(copy)
    tracemalloc.start()
    try:
        with pytest.raises(AtlasError) as caught:
            hostile.stored(copy)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert hostile.is_a_sentence(str(caught.value), copy)


MODEL = ("--model", "demo:resnet", "--data", "demo:shapes")
COMMANDS = {
    "info": ("atlas", "info", "copy.h5", "--json"),
    "verify": ("atlas", "verify", "copy.h5"),
    "stats": ("atlas", "stats", "copy.h5", "--layer", hostile.LAYER),
    "references": (
        "atlas",
        "references",
        "copy.h5",
        *MODEL,
        "--layer",
        hostile.LAYER,
        "--concept",
        "3",
        "-o",
        "out.png",
    ),
    "export": ("atlas", "export", "copy.h5", "-o", "out.csv"),
    "merge": ("atlas", "merge", "copy.h5", "-o", "out.h5"),
    "report": ("report", "copy.h5", *MODEL, "-o", "out"),
    "virelay": ("export", "virelay", "copy.h5", *MODEL, "--layer", hostile.LAYER, "-o", "out"),
    "resume": ("atlas", "build", *MODEL, "--layers", hostile.LAYER, "--limit", "12", "--resume", "-o", "out.h5"),
}
SOME = ("groups with two names in /, unsealed", "600 names of one group in /layers", f"an external link at {SCORE}",
        "of a shape that no memory has", "n_concepts of /layers/0 number 0", "of zeros, a terabyte long")  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_refuses_hostile_files_in_a_line(
    copy: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(copy.parent)
    data = copy.read_bytes()
    for name in SOME if "build" not in command else SOME[:2]:
        copy.write_bytes(data)
        FILES[name](copy)
        if "build" in command:
            Path("out.h5.partial").mkdir(exist_ok=True)
            copy.replace("out.h5.partial/checkpoint.h5")
        result = invoke(*command)
        assert result.exit_code == 2, (name, result.output)
        assert len(result.stderr.splitlines()) == 1, (name, result.output)
        assert len(result.stdout.splitlines()) == ("verify" in command), (name, result.output)
        assert not Path("out.h5").exists()


def test_commands_refuse_files_before_they_take_time_and_memory_for_torch(tmp_path: Path) -> None:
    h5py.File(tmp_path / "copy.h5", "w").close()
    commands = [command for name, command in COMMANDS.items() if name != "resume"]
    code = f"""
import sys
from click.testing import CliRunner
from crp_kit.cli import main
print([CliRunner().invoke(main, command).exit_code for command in {commands}], "torch" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.strip() == f"{[2] * len(commands)} False"


CLASS_NUMBERS = {"target": 8, "prediction": -2, "label": np.iinfo("i4").max}


def test_values_that_no_atlas_has_are_said_where_they_are_used(copy: Path) -> None:
    with hostile.edited(copy) as file:
        file["layers/0/relevance/matrix"][0, 0] = np.inf
        file["layers/0/relevance/top/sample"][0, 0] = 99
        for name, number in CLASS_NUMBERS.items():
            file[f"samples/{name}"][1] = number
    with crp.ConceptAtlas(copy) as atlas:
        scores = atlas[hostile.LAYER].relevance
        with pytest.raises(AtlasError, match="the matrix of .* by relevance in .* has infinite scores"):
            scores.matrix[:]
        with pytest.raises(AtlasError, match="has no sample 99: crp-kit atlas verify says whether it is damaged"):
            atlas.places(scores.top(0).sample)
        for name in CLASS_NUMBERS:
            with pytest.raises(AtlasError, match=f"is damaged: a {name} of its samples is no class"):
                getattr(atlas, f"{name}s")


def test_a_file_that_changes_while_it_is_read_is_refused(copy: Path) -> None:
    data = copy.read_bytes()
    for change in (lambda: os.truncate(copy, 100), lambda: copy.write_bytes(bytes(len(data)))):
        copy.write_bytes(data)
        with crp.ConceptAtlas(copy) as atlas:
            change()
            with pytest.raises(AtlasError) as caught:
                atlas[hostile.LAYER].relevance.top(3)
            assert hostile.is_a_sentence(str(caught.value), copy)
