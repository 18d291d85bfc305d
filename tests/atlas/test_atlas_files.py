"""An atlas file that is damaged is told in a sentence, or answers as before; a sound one answers what NumPy gives."""

import html
import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import run_python
from studies import atlas_of

import crp_kit as crp
from crp_kit.atlas.file.file_tree import Tree, array_spec
from crp_kit.atlas.file.hdf5_reader import H5File
from crp_kit.atlas.file.hdf5_writer import write_tree
from crp_kit.atlas.file.reader import open_atlas
from crp_kit.atlas.query.rankings import ClassRanking, ConceptStatistics, SampleRanking
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError, ConceptRangeError, InputError, UnknownLayerError

LAYER = "layer2.1.conv2"
CONCEPTS, CLASSES, K, K_CLASS = 32, 8, 5, 2
MODES = ("relevance", "activation")
Array = npt.NDArray[Any]


def build(path: Path, **options: Any) -> None:
    chosen = {"k": K, "k_class": K_CLASS, "batch_size": 12, "matrix": False, "verbose": False, **options}
    atlas_of(
        crp.CondAttribution(demo_resnet()), ShapesDataset(24), path, layers=[LAYER], composite="epsilon_plus_flat",
        preprocess=demo_preprocess, **chosen,
    ).close()  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "atlas.h5"
    build(path)
    return path


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shard") / "shard.h5"
    build(path, shard=(0, 2), k=15)
    return path


@pytest.fixture(scope="module")
def expected(sound: Path) -> str:
    return answers(sound)


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "copy.h5"))


def answers(path: Path, *, incomplete: bool = False) -> str:
    """Everything that can be asked of an atlas, some of every array, as numbers whatever their type in the file."""
    with crp.ConceptAtlas(path, incomplete=incomplete) as atlas:
        found = [
            atlas.header, sorted((name, str(value)) for name, value in atlas.metadata.items()), atlas.complete,
            atlas.layers, atlas.samples.tolist(), atlas.targets.tolist(), atlas.predictions.tolist(),
            atlas.identifiers, atlas.classes, dict(atlas.skipped), repr(atlas).replace(str(path), ""),
        ]  # fmt: skip
        for layer in map(atlas.__getitem__, atlas):
            found.append(layer.info)
            for half in (layer.relevance, layer.activation):
                tables = [
                    half.top(0), half.top(CONCEPTS - 1, 3), half.class_top(1, 0), half.class_top(30, 7, 1),
                    half.classes(2), half.classes(2, by="top"), half.statistics(),
                ]  # fmt: skip
                found += [[column.tolist() for column in table.columns().values()] for table in tables]
                found += [values.tolist() for values in vars(half.moments).values()]
    return repr([found, crp.verify_atlas(path)])


def outcome(path: Path, expected: str, *, incomplete: bool = False) -> str:
    """Whether a file is refused as it should be, answers as the sound one does, or what else happened."""
    try:
        found = answers(path, incomplete=incomplete)
    except AtlasError as error:
        told = str(error)
        one_sentence = str(path) in told and len(told.splitlines()) == 1 and len(told) < 400 + len(str(path))
        return "refused" if one_sentence else f"the message is: {told}"
    except Exception as error:  # noqa: BLE001 - this is what must not happen
        return f"{type(error).__name__}: {error}"
    return "same" if found == expected else "other answers"


# ---------------------------------------------------------------------------------------------------- damaged bytes


def heap_places(data: bytes) -> list[int]:
    """Where lengths and numbers stand in the heaps in which HDF5 keeps texts, over which it has no checksum."""
    found = []
    for heap in re.finditer(rb"GCOL\x01\0{3}", data):
        found += [heap.start(), heap.start() + 4, heap.start() + 8, heap.start() + 9]
        place, end = heap.start() + 16, heap.start() + int.from_bytes(data[heap.end() : heap.end() + 8], "little")
        while place < end:
            found += [place, place + 8, place + 9, place + 15]
            index, size = (int.from_bytes(data[place + one : place + two], "little") for one, two in ((0, 2), (8, 16)))
            place = place + 16 + -(-size // 8) * 8 if index else end
    return found


def check_bytes(path: Path, scratch: Path, *, incomplete: bool, examples: int, stride: int) -> Counter[str]:
    """Damage a file in many ways and count what happens; runs where a crash takes nobody along."""
    warnings.simplefilter("error")
    data, expected, seen = path.read_bytes(), answers(path, incomplete=incomplete), Counter[str]()
    expected = expected.replace(str(path), str(scratch))

    def check(damaged: bytes) -> None:
        scratch.write_bytes(damaged)
        signal.alarm(20)  # ends a search without end
        found = outcome(scratch, expected, incomplete=incomplete)
        assert found in ("refused", "same"), found
        seen[found] += 1

    def changed(where: Any, values: Any) -> bytes:
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[where] = values
        return damaged.tobytes()

    place = st.integers(0, len(data) - 1)
    quick = settings(max_examples=examples, derandomize=True, deadline=None, database=None)

    @quick
    @given(some=st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=6))
    def several_bytes(some: list[tuple[int, int]]) -> None:
        check(changed([one for one, _ in some], [value for _, value in some]))

    @quick
    @given(start=place, length=st.sampled_from([2, 8, 64, 512, 4096]), value=st.sampled_from([0, 255]))
    def a_stretch(start: int, length: int, value: int) -> None:
        check(changed(slice(start, start + length), value))

    @settings(quick, max_examples=max(1, examples // 2))
    @given(length=st.integers(0, len(data) - 1), more=st.binary(max_size=9))
    def cut_off(length: int, more: bytes) -> None:
        check(data[:length] + more)

    @settings(quick, max_examples=max(1, examples // 2))
    @given(start=place, length=st.sampled_from([1, 2, 8, 100]), insert=st.booleans())
    def moved(start: int, length: int, insert: bool) -> None:
        check(data[:start] + (bytes(length) + data[start:] if insert else data[start + length :]))

    for test in (several_bytes, a_stretch, cut_off, moved):
        test()
    for number, one in enumerate([*range(0, len(data), stride), *heap_places(data)[:: max(1, stride // 150)]]):
        check(changed(one, data[one] ^ (1 << number % 8)))
        check(changed(one, 255 - data[one]))
    signal.alarm(0)
    return seen


def in_a_process_of_its_own(code: str, *arguments: str, seconds: float = 120) -> str:
    lines = ["import faulthandler, sys", "faulthandler.enable()"]
    lines += ["from pathlib import Path", "import test_atlas_files as files", *code.splitlines()]
    ran = run_python("\n".join(line.strip() for line in lines), *arguments, seconds=seconds)
    assert ran.returncode == 0, f"{ran.stderr[-4000:]}\nstatus {ran.returncode}"
    return ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("examples", "stride"), [(20, 1601), pytest.param(50, 401, marks=pytest.mark.nightly)], ids=["standard", "nightly"]
)
def test_damaged_bytes_are_told_or_change_no_answer_and_never_end_the_process(
    sound: Path, shard: Path, tmp_path: Path, examples: int, stride: int
) -> None:
    code = """
        import json
        scratch = Path(sys.argv[3])
        examples, stride = map(int, sys.argv[4:])
        whole = files.check_bytes(Path(sys.argv[1]), scratch, incomplete=False, examples=examples, stride=stride)
        part = files.check_bytes(Path(sys.argv[2]), scratch, incomplete=True, examples=20, stride=3001)
        print(json.dumps([whole, part]))
    """
    arguments = map(str, (sound, shard, tmp_path / "damaged.h5", examples, stride))
    counts = json.loads(in_a_process_of_its_own(code, *arguments))
    assert all(sum(one.values()) >= 100 and one["refused"] > one["same"] for one in counts), counts


@settings(max_examples=60, derandomize=True, deadline=None)
@given(content=st.binary(max_size=300), signed=st.booleans())
def test_random_bytes_are_no_atlas(tmp_path_factory: pytest.TempPathFactory, content: bytes, signed: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "random.h5"
    path.write_bytes((b"\x89HDF\r\n\x1a\n" if signed else b"") + content)
    assert outcome(path, "") == "refused"


# ------------------------------------------------------------------------------------------------- damaged contents


@contextmanager
def changing(path: Path) -> Iterator[h5py.File]:
    with h5py.File(path, "r+") as file:
        yield file


def array_paths(path: Path) -> list[str]:
    found: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def attribute_paths(path: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = [("/", name) for name in h5py.File(path).attrs]
    with h5py.File(path) as file:
        file.visititems(lambda group, item: found.extend((group, name) for name in item.attrs))
    return found


def another(value: Any) -> Any:
    """A value of the same type that differs a little."""
    if isinstance(value, str):
        return f"{value[:-1]}{'y' if value.endswith('x') else 'x'}"
    return ~value if isinstance(value, np.bool_) else value + 1


ATTRIBUTE_CHANGES: dict[str, Callable[[Any], Any]] = {
    "removed": lambda value: None,
    "another value": another,
    "empty": lambda value: h5py.Empty("f4"),
    "not a number": lambda value: np.nan,
    "text for number": lambda value: 7 if isinstance(value, (str, bytes)) else "seven",
    "no text": lambda value: np.bytes_(b"\xff\xfe\x00\xff"),
    "several": lambda value: np.arange(3),
    "none": lambda value: np.zeros(0),
    "a record": lambda value: np.zeros((), [("a", "i4"), ("b", "S3")]),
    "complex": lambda value: 1j,
}


@pytest.mark.parametrize("change", ATTRIBUTE_CHANGES.values(), ids=ATTRIBUTE_CHANGES)
def test_an_attribute_that_was_changed_is_told(copy: Path, expected: str, change: Callable[[Any], Any]) -> None:
    for group, name in attribute_paths(copy):
        with changing(copy) as file:
            attributes = file[group].attrs
            before = attributes[name]
            value = change(before)
            del attributes[name]
            if value is not None:
                attributes[name] = value
        assert outcome(copy, expected) == "refused", (group, name)
        with changing(copy) as file:
            file[group].attrs[name] = before
    assert outcome(copy, expected) == "same"


def test_an_attribute_or_group_too_many_is_told(copy: Path, expected: str) -> None:
    for group, make in (("layers/0", "attribute"), ("samples", "attribute"), ("/", "group"), ("layers", "group")):
        with changing(copy) as file:
            if make == "attribute":
                file[group].attrs["more"] = 1
            else:
                file[group].create_group("more")
        assert outcome(copy, expected) == "refused"
        with changing(copy) as file:
            if make == "attribute":
                del file[group].attrs["more"]
            else:
                del file[group]["more"]
    assert outcome(copy, expected) == "same"


def test_attributes_stored_in_another_way_say_the_same(copy: Path, expected: str) -> None:
    with changing(copy) as file:
        for name, value in file.attrs.items():
            if isinstance(value, str):
                file.attrs[name] = np.array(value.encode(), dtype=h5py.string_dtype("utf-8", len(value.encode()) or 1))
            elif isinstance(value, np.int64):
                file.attrs[name] = np.int32(value)
    assert outcome(copy, expected) == "same"


def numbers(values: Array) -> Array:
    return np.zeros(values.shape) if values.dtype.kind in "SO" else values


ARRAY_CHANGES: dict[str, Callable[[Array], Any]] = {
    "removed": lambda values: None,
    "other texts": lambda values: np.full(values.shape, b"other"),
    "no texts": lambda values: np.full(values.shape, b"\xff\xfe"),
    "unsigned": lambda values: np.abs(np.nan_to_num(numbers(values))).astype("u8"),
    "truth values": lambda values: np.zeros(values.shape, bool),
    "integers for floats and floats for integers": lambda values: (
        numbers(values).astype("f4" if numbers(values).dtype.kind == "i" else "i4", casting="unsafe")
        if not np.isnan(numbers(values)).any()
        else np.zeros(values.shape, "i4")
    ),
    "complex": lambda values: numbers(values).astype("c8"),
    "records": lambda values: np.zeros(values.shape, [("a", "i4"), ("b", "f4")]),
    "flat": lambda values: np.append(values.reshape(-1), values.reshape(-1)[:1]),
    "an axis in front": lambda values: values[None],
    "an axis behind": lambda values: values[..., None],
    "one row less": lambda values: values[:-1],
    "one row more": lambda values: np.concatenate([values, values[:1]]),
    "no rows": lambda values: values[:0],
    "a single value": lambda values: values.reshape(-1)[0],
    "nothing": lambda values: h5py.Empty(values.dtype),
    "axes changed": lambda values: np.swapaxes(values, 0, 1).copy() if values.ndim > 1 else values[None],
}


def replaced(file: h5py.File, name: str, value: Any) -> None:
    if name in file:
        del file[name]
    if value is not None:
        file[name] = value


@pytest.mark.parametrize("change", ARRAY_CHANGES.values(), ids=ARRAY_CHANGES)
def test_an_array_of_another_type_or_shape_is_told(copy: Path, expected: str, change: Callable[[Array], Any]) -> None:
    names = array_paths(copy)
    assert len(names) == 48
    for name in names:
        with changing(copy) as file:
            before = file[name][()]
            replaced(file, name, change(before))
        found = outcome(copy, expected)
        if name == "digests/sha256" and found == "other answers":
            assert crp.verify_atlas(copy), "verify finds other texts there"
        elif name.endswith("gram/gram") and found == "same":
            assert np.array_equal(change(before), before), "it is symmetric"
        else:
            assert found == "refused", name
        with changing(copy) as file:
            replaced(file, name, before)
    assert outcome(copy, expected) == "same"


def test_an_array_of_a_size_that_no_memory_has_is_told(copy: Path, expected: str) -> None:
    for name in array_paths(copy):
        with changing(copy) as file:
            before = file[name][()]
            del file[name]
            shape = (1 << 50, *before.shape[1:])
            file.create_dataset(name, shape=shape, dtype=before.dtype, chunks=(64, *before.shape[1:]))
        assert outcome(copy, expected) == "refused", name
        with changing(copy) as file:
            replaced(file, name, before)


def test_an_array_of_more_bits_or_another_byte_order_gives_the_same_numbers(copy: Path, expected: str) -> None:
    with changing(copy) as file:
        for name in array_paths(copy):
            values = file[name][()]
            if values.dtype.kind in "fi":
                replaced(file, name, values.astype(">f8" if values.dtype.kind == "f" else ">i8"))
    assert outcome(copy, expected) == "same"


@pytest.mark.slow
def test_a_group_in_place_of_an_array_and_links_to_nowhere_are_told(copy: Path, expected: str) -> None:
    for name in array_paths(copy):
        for make in ("group", "link", "link to itself", "file"):
            with changing(copy) as file:
                before = file[name][()]
                del file[name]
                if make == "group":
                    file.create_group(name)
                elif make == "file":
                    file[name] = h5py.ExternalLink("elsewhere.h5", "/")
                else:
                    file[name] = h5py.SoftLink("/nowhere" if make == "link" else f"/{name}")
            assert outcome(copy, expected) == "refused", (name, make)
            with changing(copy) as file:
                replaced(file, name, before)


def test_groups_in_a_circle_are_told(copy: Path, expected: str) -> None:
    with changing(copy) as file:
        file["layers/0/again"] = file["layers"]
    assert outcome(copy, expected) == "refused"


# ---------------------------------------------------------------------------------------------------- wrong values


def put(name: str, place: Any, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        values = file[name][()]
        values[place] = value(values) if callable(value) else value
        file[name][...] = values

    return change


def swap_ranks(half: str, name: str) -> Callable[[h5py.File], None]:
    """Exchange the first two entries of some rankings, all that belongs to them included."""

    def change(file: h5py.File) -> None:
        for array in file[f"layers/0/{half}/{name}"].values():
            values = array[()]
            values[3, ..., :2] = values[3, ..., :2][..., ::-1].copy()
            array[...] = values

    return change


def tie(descending: bool, name: str = "top") -> Callable[[h5py.File], None]:
    """Make the best two of a ranking as good as each other, the later or the earlier sample first."""

    def change(file: h5py.File) -> None:
        ranking = file[f"layers/0/activation/{name}"]
        place = (0,) if name == "top" else (0, 0)
        score, sample = ranking["score"][()], ranking["sample"][()]
        score[(*place, 1)] = score[(*place, 0)]
        sample[place][:2] = sorted(sample[place][:2], reverse=descending)
        ranking["score"][...], ranking["sample"][...] = score, sample

    return change


def repeated(file: h5py.File) -> None:
    put("layers/0/relevance/top/sample", (0, 1), lambda values: values[0, 0])(file)


def emptied(half: str, name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        ranking = file[f"layers/0/{half}/{name}"]
        for one, value in (("sample", -1), ("score", np.nan)):
            values = ranking[one][()]
            values[..., 0] = value
            ranking[one][...] = values

    return change


R, A = "layers/0/relevance", "layers/0/activation"

WRONG_VALUES: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "ranks exchanged": (swap_ranks("relevance", "top"), "relevance of '.*': top is not in order"),
    "ranks of a class exchanged": (swap_ranks("activation", "class_top"), "activation of .*: class_top is not in"),
    "ties the wrong way": (tie(descending=True), "activation of .*: top is not in order"),
    "ties of a class the wrong way": (tie(descending=True, name="class_top"), "class_top is not in order"),
    "an unknown sample": (put(f"{R}/top/sample", (4, 2), 24), "relevance .*: top names samples that were not looked"),
    "an unknown sample of a class": (put(f"{A}/class_top/sample", (4, 2, 1), 99), "class_top names samples that were"),
    "a position beyond": (put(f"{R}/top/position", (7, 4), 32 * 16 * 16), "top has positions outside of the layer"),
    "a position before": (put(f"{A}/class_top/position", (7, 4, 0), -1), "class_top has positions outside of the"),
    "a target that is no class": (put(f"{R}/top/target", (2, 2), 8), "relevance .*: top has targets that are no class"),
    "a gap": (emptied("relevance", "top"), "relevance of .*: top has a gap before an entry"),
    "a gap of a class": (emptied("activation", "class_top"), "class_top has a gap before an entry"),
    "a score without sample": (put(f"{R}/top/sample", (1, 4), -1), "top has scores without samples"),
    "a sample without score": (put(f"{R}/class_top/score", (1, 4, 1), np.nan), "class_top has scores without samples"),
    "an infinite score": (put(f"{A}/top/score", (1, 0), np.inf), "top has scores .*, or infinite scores"),
    "a better score": (put(f"{R}/top/score", (1, 0), 3.0), "the best of top is not the maximum over the classes"),
    "a better score of a class": (put(f"{A}/class_top/score", (1, 0, 0), 1e6), "the best of class_top is not the max"),
    "a mean above": (put(f"{R}/moments/mean", (2, 2), 2.0), "a mean lies outside of minimum and maximum"),
    "a mean below": (put(f"{A}/moments/mean", (2, 31), -1e6), "activation .*: a mean lies outside of minimum and"),
    "a minimum above": (put(f"{R}/moments/min", (2, 2), 2.0), "a mean lies outside of minimum and maximum"),
    "another maximum": (put(f"{R}/moments/max", (5, 5), 2.0), "the best of class_top is not the maximum"),
    "a negative spread": (put(f"{R}/moments/std", (0, 31), -1e-3), "a standard deviation is negative or larger than"),
    "a wide spread": (put(f"{A}/moments/std", (0, 0), 1e6), "a standard deviation is negative or larger than half"),
    "a moment that is missing": (put(f"{A}/moments/std", (3, 0), np.nan), "std is missing for a class that has"),
    "an infinite moment": (put(f"{A}/moments/min", (3, 0), -np.inf), "min is missing for a class that has samples"),
    "all moments missing": (put(f"{R}/moments/max", ..., np.nan), "max is missing for a class that has samples"),
    "a negative count": (put(f"{R}/moments/count", 1, -3), "relevance of .*: a count is negative"),
    "no counts": (put(f"{R}/moments/count", ..., 0), "class_top has entries, but no class has samples"),
    "a count of nothing": (put(f"{A}/moments/count", 1, 0), "mean is missing for a class .* or there for one that"),
    "a small count": (put(f"{A}/moments/count", 1, 1), "class_top has more or fewer entries than the class has"),
    "samples backwards": (put("samples/index", ..., lambda values: values[::-1]), "the sample numbers do not ascend"),
    "a sample twice": (put("samples/index", 1, 0), "the sample numbers do not ascend"),
    "a negative sample": (put("samples/index", 0, -1), "the sample numbers do not ascend"),
    "a label that is no class": (put("samples/target", 5, 8), "a target of its samples is no class"),
    "a prediction that is no class": (put("samples/prediction", 5, -2), "a prediction of its samples is no class"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_verify_finds(copy: Path, change: Callable[[h5py.File], None], message: str) -> None:
    with changing(copy) as file:
        change(file)
    found = crp.verify_atlas(copy)
    assert any(re.search(message, one) for one in found), found


def test_verify_finds_nothing_in_a_sound_file_or_shard(sound: Path, shard: Path, copy: Path) -> None:
    assert crp.verify_atlas(sound) == ()
    assert crp.verify_atlas(str(shard)) == ()
    with changing(copy) as file:
        tie(descending=False)(file)
    assert [one.partition(" is not")[0] for one in crp.verify_atlas(copy)] == [
        f"the dataset /{A}/top/{column}" for column in ("score", "sample")
    ], "only the digests find it: a tie in the order of samples is right"


@pytest.mark.parametrize(
    "change",
    [
        repeated,
        put(f"{A}/moments/count", 1, 4),
        put(f"{R}/top/position", (7, 4), 16 * 16),
        put(f"{A}/top/score", (1, 0), 1e6),
        put(f"{A}/top/target", (0, 0), lambda values: (values[0, 0] + 1) % CLASSES),
    ],
    ids=["a sample twice in a ranking", "counts of the two halves", "a position beyond the concept's own map",
         "the best activation", "the target of an activation"],
)  # fmt: skip
def test_verify_finds_what_contradicts_something_else(copy: Path, change: Callable[[h5py.File], None]) -> None:
    with changing(copy) as file:
        change(file)
    assert crp.verify_atlas(copy) != ()


# ------------------------------------------------------------------------------------------------- what is refused


def foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["layers/0/relevance/top/score"] = np.zeros((3, 4))
        file.attrs["title"] = "another"


def relabelled(name: str, value: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file.attrs[name] = value

    return change


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: path.unlink(), "no file '{path}'"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "'{path}' is a folder, not an atlas file"),
    "empty": (lambda path: path.write_bytes(b""), "'{path}' is no atlas file, or it is damaged: "),
    "text": (lambda path: path.write_text("k,v\n1,2\n" * 99), "'{path}' is no atlas file, or it is damaged: "),
    "another HDF5 file": (foreign, "'{path}' is an HDF5 file but no crp-kit atlas: its encoding-type is None"),
    "another encoding": (
        relabelled("encoding-type", "anndata"),
        "'{path}' is an HDF5 file but no crp-kit atlas: its encoding-type is 'anndata'",
    ),
    "a newer version": (
        relabelled("encoding-version", "2"),
        "'{path}' has format version '2'; this crp-kit reads version '1'",
    ),
    "no version": (relabelled("encoding-version", ""), "'{path}' has format version ''; this crp-kit reads version"),
    "another name of a layer": (
        relabelled("model", "another"),
        "'{path}' is no sound atlas file: its attributes were changed or damaged: the checksum over them does not fit",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("opened", [crp.ConceptAtlas, crp.verify_atlas, open_atlas])
def test_what_is_no_atlas_of_this_format_is_refused(
    copy: Path, opened: Callable[[Path], Any], change: Callable[[Path], Any], message: str
) -> None:
    change(copy)
    with pytest.raises(AtlasError, match=f"^{re.escape(message.format(path=copy))}") as caught:
        opened(copy)
    assert len(str(caught.value).splitlines()) == 1


def test_an_incomplete_file_is_refused_unless_asked_for(shard: Path) -> None:
    with pytest.raises(
        AtlasError,
        match=r"shard.h5' is shard 0/2 of an atlas \(1 of 1 batches\); merge it with the others, or open it with "
        r"incomplete=True$",
    ):
        crp.ConceptAtlas(shard)
    with crp.ConceptAtlas(shard, incomplete=True) as atlas:
        assert not atlas.complete
        assert "(batches 0 to 1 of 2)" in repr(atlas)
        assert atlas.samples.tolist() == list(range(12))
        assert len(atlas[LAYER].relevance.top(0)) == 12


def test_a_refused_file_is_not_kept_open(copy: Path) -> None:
    relabelled("model", "another")(copy)
    for _ in range(3):
        with pytest.raises(AtlasError):
            crp.ConceptAtlas(copy)
    with h5py.File(copy, "r+"):  # which HDF5 would refuse
        pass


# --------------------------------------------------------------------------------------------------------- answers


@pytest.fixture(scope="module")
def atlas(sound: Path) -> Iterator[crp.ConceptAtlas]:
    with crp.ConceptAtlas(sound) as opened:
        yield opened


@pytest.fixture(scope="module")
def stored(sound: Path) -> dict[str, Array]:
    """The arrays of the file, read with h5py alone."""
    with h5py.File(sound) as file:
        return {name: file[name][()] for name in array_paths(sound)}


@pytest.mark.parametrize("kind", MODES)
def test_rankings_are_those_of_the_file(atlas: crp.ConceptAtlas, stored: dict[str, Array], kind: Any) -> None:
    half, base = atlas[LAYER].score(kind), f"layers/0/{kind}"
    for concept in range(CONCEPTS):
        for k in (None, 1, 3, K):
            table = half.top(concept, k)
            for name, column in table.columns().items():
                assert column.tolist() == stored[f"{base}/top/{name}"][concept, :k].tolist()
        for cls in range(CLASSES):
            for k in (None, 1):
                table = half.class_top(concept, cls, k)
                for name in ("sample", "score", "position"):
                    row = stored[f"{base}/class_top/{name}"][concept, cls, :k]
                    assert table.columns()[name].tolist() == row.tolist()
                assert table.target.tolist() == [cls] * len(table)
    by_name = half.class_top(3, ShapesDataset.classes[2]).to_numpy()
    assert by_name.tolist() == half.class_top(3, 2).to_numpy().tolist()
    assert half.top(np.int64(3)).sample.tolist() == half.top(3).sample.tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", MODES)
def test_classes_and_concepts_are_sorted_by_mean(atlas: crp.ConceptAtlas, stored: dict[str, Array], kind: Any) -> None:
    half, base = atlas[LAYER].score(kind), f"layers/0/{kind}"
    moments = {name: stored[f"{base}/moments/{name}"] for name in ("count", "mean", "std", "min", "max")}
    for concept in range(CONCEPTS):
        best = [np.nanmean(one) for one in stored[f"{base}/class_top/score"][concept].astype("f8")]
        for by, means in (("mean", moments["mean"][:, concept]), ("top", np.array(best, "f4"))):
            order = sorted(range(CLASSES), key=lambda one, means=means: (-means[one], one))  # type: ignore[misc]
            for k in (None, 1, 3, 100):
                table = half.classes(concept, k, by=by)  # type: ignore[arg-type]
                assert table.cls.tolist() == order[:k]
                assert table.name.tolist() == [ShapesDataset.classes[one] for one in order[:k]]
                np.testing.assert_allclose(table.mean, means[order[:k]], rtol=1e-6)
                assert table.count.tolist() == moments["count"][order[:k]].tolist() == [3] * len(table)
    for cls in range(CLASSES):
        means = moments["mean"][cls]
        order = sorted(range(CONCEPTS), key=lambda one, means=means: (-means[one], one))  # type: ignore[misc]
        for k in (None, 4):
            found = half.concepts(cls, k)
            assert found.concept.tolist() == order[:k]
            assert found.mean.tolist() == means[order[:k]].tolist()
            assert found.std.tolist() == moments["std"][cls, order[:k]].tolist()


def test_a_layer_answers_by_relevance(atlas: crp.ConceptAtlas) -> None:
    layer = atlas[LAYER]
    for one, two in (
        (layer.classes(3, 2, by="top"), layer.relevance.classes(3, 2, by="top")),
        (layer.concepts(3, 2), layer.relevance.concepts(3, 2)),
    ):
        assert repr(one) == repr(two)
    assert repr(layer) == f"LayerAtlas '{LAYER}': 32 concepts (ChannelConcept(axis=1))"
    assert (layer.name, layer.n_concepts) == (LAYER, CONCEPTS)
    assert repr(layer.activation).startswith(f"ScoreAtlas activation of '{LAYER}': top, class_top, ")


@pytest.mark.parametrize("kind", MODES)
def test_moments_and_statistics(atlas: crp.ConceptAtlas, stored: dict[str, Array], kind: Any) -> None:
    half = atlas[LAYER].score(kind)
    moments = {name: stored[f"layers/0/{kind}/moments/{name}"] for name in ("count", "mean", "std", "min", "max")}
    for name, values in moments.items():
        assert getattr(half.moments, name).tolist() == values.tolist()
    for cls in range(CLASSES):
        table = half.statistics(cls)
        assert table.concept.tolist() == list(range(CONCEPTS))
        for name in ("mean", "std", "min", "max"):
            assert table.columns()[name].tolist() == moments[name][cls].tolist()
    # Of all samples together: the law of total variance, in float64.
    count = moments["count"].astype("f8")[:, None]
    mean = (count * moments["mean"]).sum(0) / count.sum()
    square = (count * (moments["std"].astype("f8") ** 2 + moments["mean"].astype("f8") ** 2)).sum(0) / count.sum()
    whole = half.statistics()
    np.testing.assert_allclose(whole.mean, mean, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(whole.std, np.sqrt(square - mean**2), rtol=1e-4)
    assert whole.min.tolist() == moments["min"].min(0).tolist()
    assert whole.max.tolist() == moments["max"].max(0).tolist()


def test_samples_targets_predictions_and_places(atlas: crp.ConceptAtlas, stored: dict[str, Array]) -> None:
    assert atlas.samples.tolist() == stored["samples/index"].tolist() == list(range(24))
    assert atlas.targets.tolist() == stored["samples/target"].tolist() == ShapesDataset(24).targets.tolist()
    assert atlas.predictions.tolist() == stored["samples/prediction"].tolist()
    assert atlas.places(np.array([5, 0, 23])).tolist() == [5, 0, 23]
    assert atlas.classes == ShapesDataset.classes
    assert atlas.identifiers is None
    assert atlas.skipped == {}
    assert (list(atlas), len(atlas), atlas.layers) == ([LAYER], 1, (LAYER,))


def test_the_matrix_is_read_when_it_is_cut(tmp_path: Path) -> None:
    build(tmp_path / "a.h5", matrix=True)
    with crp.ConceptAtlas(tmp_path / "a.h5") as atlas, h5py.File(tmp_path / "a.h5") as file:
        for kind in MODES:
            matrix, expected = atlas[LAYER].score(kind).matrix, file[f"layers/0/{kind}/matrix"][()]  # type: ignore[arg-type]
            assert matrix.shape == (24, CONCEPTS)
            assert matrix[3:5, 7].tolist() == expected[3:5, 7].tolist()
            assert np.asarray(matrix).tolist() == expected.tolist()
            assert np.asarray(matrix, dtype="f8").dtype == np.float64
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda half: half.top(32), ConceptRangeError, f"concept 32 of '{LAYER}' is out of range: it has 32 of them"),
        (lambda half: half.top(-1), ConceptRangeError, "concept -1 of"),
        (lambda half: half.top(1.5), InputError, r"a concept is a whole number; got 1\.5"),
        (lambda half: half.top("3"), InputError, "a concept is a whole number; got '3'"),
        (lambda half: half.top(True), InputError, "a concept is a whole number; got True"),
        (lambda half: half.classes(32), ConceptRangeError, "concept 32 of"),
        (lambda half: half.class_top(99, 0), ConceptRangeError, "concept 99 of"),
        (lambda half: half.class_top(0, 8), ConceptRangeError, "class 8 of 'y' is out of range: it has 8 of them"),
        (lambda half: half.class_top(0, -1), ConceptRangeError, "class -1 of 'y'"),
        (lambda half: half.class_top(0, 1.0), InputError, r"a class is a name or a whole number; got 1\.0"),
        (lambda half: half.class_top(0, "cat"), InputError, "no class is named 'cat'; the first ones are red circle"),
        (lambda half: half.concepts("cat"), InputError, "no class is named 'cat'"),
        (lambda half: half.concepts(8), ConceptRangeError, "class 8 of 'y'"),
        (lambda half: half.statistics("cat"), InputError, "no class is named 'cat'"),
        (lambda half: half.top(0, 6), InputError, "the atlas holds 5 per ranking; k is 1 to 5, got 6"),
        (lambda half: half.top(0, 0), InputError, "k is 1 to 5, got 0"),
        (lambda half: half.top(0, -1), InputError, "k is 1 to 5, got -1"),
        (lambda half: half.top(0, 1.5), InputError, r"k is a whole number; got 1\.5"),
        (lambda half: half.class_top(0, 0, 3), InputError, "the atlas holds 2 per ranking; k is 1 to 2, got 3"),
        (lambda half: half.classes(0, 0), InputError, "k is at least 1; got 0"),
        (lambda half: half.concepts(0, -1), InputError, "k is at least 1; got -1"),
        (lambda half: half.classes(0, by="median"), InputError, "by is 'mean' or 'top'; got 'median'"),
        (lambda half: half.matrix, AtlasError, "atlas.h5 has no matrix; Study.add_matrix adds it"),
    ],
)
def test_a_question_without_an_answer_is_told(
    atlas: crp.ConceptAtlas, ask: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(atlas[LAYER].relevance)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("layer2.1.conv1", f"atlas.h5 has no layer 'layer2.1.conv1'; did you mean '{LAYER}'"),
        ("zzz", f"atlas.h5 has no layer 'zzz'; its layers are {LAYER}"),
    ],
)
def test_a_layer_that_the_atlas_has_not_is_named(atlas: crp.ConceptAtlas, layer: str, message: str) -> None:
    with pytest.raises(UnknownLayerError, match=message):
        atlas[layer]


class Unlabelled(ShapesDataset):
    """No sample belongs to any class, and two classes have the same name."""

    classes = ("crane", "crane", *ShapesDataset.classes[2:])

    def __getitems__(self, indices: Any) -> list[Any]:
        return [(image, []) for image, _ in super().__getitems__(indices)]

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index)[0], []


def test_an_atlas_in_which_no_class_has_samples_still_answers(tmp_path: Path) -> None:
    atlas_of(
        crp.CondAttribution(demo_resnet()), Unlabelled(4), tmp_path / "a.h5", layers=LAYER, composite=None,
        preprocess=demo_preprocess, verbose=False,
    ).close()  # fmt: skip
    assert crp.verify_atlas(tmp_path / "a.h5") == ()
    with crp.ConceptAtlas(tmp_path / "a.h5") as atlas:
        half = atlas[LAYER].relevance
        assert len(half.top(0)) == len(half.class_top(0, 0)) == len(half.classes(0)) == 0
        assert len(half.classes(0, by="top")) == 0
        assert len(atlas[LAYER].activation.top(0)) == 4
        for table in (half.statistics(), half.statistics(2)):
            assert all(np.isnan(table.columns()[name]).all() for name in ("mean", "std", "min", "max"))
        with pytest.raises(AtlasError, match="the atlas has no sample of the class"):
            half.concepts(2)
        with pytest.raises(InputError, match="several classes are named 'crane': give a number, 0 or 1"):
            half.class_top(0, "crane")


# ---------------------------------------------------------------------------------------------------------- tables

TABLE = ClassRanking(
    np.array([3, 1, 2]),
    np.array(["<b>cat & 'dog'</b>", "b", "c"]),
    np.array([0.5, np.nan, 123456.789], "f4"),
    np.arange(3),
)


def test_a_table_prints_in_aligned_columns() -> None:
    assert repr(TABLE).splitlines() == [
        "cls                name        mean  count",
        "  3  <b>cat & 'dog'</b>         0.5      0",
        "  1                   b         nan      1",
        "  2                   c  1.2346e+05      2",
    ]
    numbered = np.arange(25)
    long = SampleRanking(numbered, numbered / 10, numbered, numbered)
    assert repr(long).splitlines()[-1] == "… 5 more rows"
    assert len(repr(long).splitlines()) == 22
    assert len(long.text(rows=3).splitlines()) == 4
    assert len(long) == 25


def test_a_table_shows_itself_in_a_notebook_and_texts_are_no_markup() -> None:
    shown = TABLE._repr_html_()
    assert shown.count("<tr>") == 4
    assert shown.count("<td>") == 12
    assert html.escape("<b>cat & 'dog'</b>") in shown
    assert "<b>" not in shown
    numbered = np.arange(25)
    assert "<p>… 5 more rows</p>" in SampleRanking(numbered, numbered, numbered, numbered)._repr_html_()


def test_a_table_as_array_as_rows_and_sorted() -> None:
    array = TABLE.to_numpy()
    assert array.dtype.names == ("cls", "name", "mean", "count")
    assert array["cls"].tolist() == [3, 1, 2]
    assert array["mean"].dtype == np.float32
    assert [row["cls"] for row in TABLE.rows()] == [3, 1, 2]
    assert type(next(TABLE.rows())["cls"]) is int
    by_mean = TABLE.sorted("mean")
    assert isinstance(by_mean, ClassRanking)
    assert by_mean.cls.tolist() == [2, 3, 1], "what is not a number comes last"
    assert by_mean.name.tolist() == ["c", "<b>cat & 'dog'</b>", "b"]
    assert TABLE.sorted("count", 2).cls.tolist() == [2, 1]
    assert TABLE.sorted("name").cls.tolist() == [2, 1, 3]
    with pytest.raises(InputError, match="no column 'size'; there are cls, name, mean, count"):
        TABLE.sorted("size")


def test_a_mode_that_does_not_exist_is_named(sound: Path) -> None:
    with (
        crp.ConceptAtlas(sound) as atlas,
        pytest.raises(InputError, match="mode is 'relevance' or 'activation'; got 'x'"),
    ):
        atlas[LAYER].score("x")  # type: ignore[arg-type]


def test_an_empty_table_prints_its_head() -> None:
    nothing = np.zeros(0)
    table = ConceptStatistics(nothing, nothing, nothing, nothing, nothing)
    assert repr(table) == "concept  mean  std  min  max"
    assert table._repr_html_().count("<tr>") == 1
    assert len(table.to_numpy()) == len(table) == len(list(table.rows())) == len(table.sorted("mean")) == 0


def test_a_table_as_a_data_frame() -> None:
    pytest.importorskip("pandas")
    frame = TABLE.to_frame()
    assert list(frame.columns) == ["cls", "name", "mean", "count"]
    assert frame["cls"].tolist() == [3, 1, 2]


def test_without_pandas_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(crp.CrpKitError, match=r"pip install 'crp-kit\[statistics\]'"):
        TABLE.to_frame()


# --------------------------------------------------------------------------------------------------------- readers


def test_a_closed_atlas_keeps_what_was_read_and_says_that_it_is_closed(sound: Path) -> None:
    with crp.ConceptAtlas(sound) as atlas:
        samples, layer = atlas.samples, atlas[LAYER]
    assert atlas.samples is samples
    assert atlas.layers == (LAYER,)
    with pytest.raises(AtlasError, match=re.escape(str(sound))):
        layer.relevance.top(0)
    atlas.close()


def test_an_error_inside_is_passed_on_and_closes_the_file(copy: Path) -> None:
    with pytest.raises(ZeroDivisionError), crp.ConceptAtlas(copy):
        raise ZeroDivisionError
    with h5py.File(copy, "r+"):  # which HDF5 would refuse
        pass


def test_an_atlas_can_be_pickled(sound: Path, shard: Path) -> None:
    with crp.ConceptAtlas(sound) as atlas, pickle.loads(pickle.dumps(atlas)) as again:
        assert again.header == atlas.header
        assert repr(again[LAYER].relevance.top(3)) == repr(atlas[LAYER].relevance.top(3))
    with crp.ConceptAtlas(shard, incomplete=True) as part, pickle.loads(pickle.dumps(part)) as again:
        assert not again.complete


def asked(atlas: crp.ConceptAtlas, concept: int) -> str:
    """Some of what a reader may ask for at the same time as others."""
    halves = [atlas[LAYER].score(kind) for kind in MODES]  # type: ignore[arg-type]
    return repr([[half.top(concept), half.class_top(concept, concept % 8), half.classes(concept)] for half in halves])


def asked_in_a_process(atlas: crp.ConceptAtlas) -> list[str]:
    with atlas:
        return [asked(atlas, concept) for concept in range(CONCEPTS)]


@pytest.mark.slow
def test_many_threads_read_one_atlas_or_each_its_own(sound: Path) -> None:
    with crp.ConceptAtlas(sound) as atlas:
        expected = [asked(atlas, concept) for concept in range(CONCEPTS)]

        def own(concept: int) -> str:
            with crp.ConceptAtlas(sound) as other:
                return asked(other, concept)

        with ThreadPoolExecutor(8) as pool:
            for found in (
                pool.map(lambda concept: asked(atlas, concept), list(range(CONCEPTS)) * 3),
                pool.map(own, range(CONCEPTS)),
            ):
                assert [*found][-CONCEPTS:] == expected


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes start slowly here")
def test_many_processes_read_one_atlas(sound: Path) -> None:
    with crp.ConceptAtlas(sound) as atlas, multiprocessing.get_context("fork").Pool(3) as pool:
        expected = [asked(atlas, concept) for concept in range(CONCEPTS)]
        assert pool.map(asked_in_a_process, [atlas] * 6) == [expected] * 6


# ---------------------------------------------------------------------------------------------------------- writing


def test_a_tree_is_read_as_it_was_written(tmp_path: Path) -> None:
    long = "ünï'code\n" * 30000  # more than what HDF5 keeps beside a group
    arrays = {
        "/a/float": np.array([[1.5, np.nan], [-np.inf, -0.0]], "f4"),
        "/a/long": np.arange(12, dtype="i8").reshape(3, 2, 2) - 5,
        "/none": np.zeros((0, 3), "f4"),
        "/text": np.array([b"a", "ü".encode()]),
        "/wide": np.arange(300 * 900, dtype="f4").reshape(300, 900),
    }
    attributes = {"text": long, "empty": "", "number": 3, "truth": True, "half": 0.5, "shape": np.array([1, 2])}
    for compress in (True, False):
        path = tmp_path / f"{compress}.h5"
        tree = Tree({"/": attributes, "/a": {}}, {name: array_spec(values) for name, values in arrays.items()})
        write_tree(path, tree, compress=compress)
        with H5File(path) as file:
            found = file.attributes("/")
            assert found.pop("shape").tolist() == [1, 2]
            assert found == {name: value for name, value in attributes.items() if name != "shape"}
            assert sorted(file.groups()) == ["/", "/a"]
            for name, values in arrays.items():
                array = file.array(name)
                assert array.shape == values.shape
                assert np.asarray(array).tobytes() == values.tobytes()
            assert not file.has("/a/nothing")
            assert not file.has("/nowhere/at all")
            for wrong in ("/a", "/nothing"):
                with pytest.raises(
                    AtlasError, match=rf"{path.name}' is no sound atlas file: it has no dataset '{wrong}'"
                ):
                    file.array(wrong)
            with pytest.raises(AtlasError, match=r"it has no group '/text'"):
                file.attributes("/text")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["False.h5", "True.h5"]


def test_an_axis_order_of_its_own_is_written_block_by_block(tmp_path: Path) -> None:
    values = np.arange(7 * 500 * 40, dtype="i8").reshape(7, 500, 40)
    write_tree(tmp_path / "a.h5", Tree({"/": {}}, {"/a": array_spec(values, swap=True)}), compress=True)
    with H5File(tmp_path / "a.h5") as file:
        assert np.array_equal(np.asarray(file.array("/a")), values.swapaxes(0, 1))


@pytest.mark.slow
def test_a_page_of_zeros_in_a_file_that_is_not_compressed_is_told(shard: Path, tmp_path: Path) -> None:
    # Zeros are their own checksum in HDF5; a disk that loses a page gives zeros.
    data, path, spans = shard.read_bytes(), tmp_path / "damaged.h5", []
    with h5py.File(shard) as file:
        for name in array_paths(shard):
            for number in range(file[name].id.get_num_chunks() if file[name].chunks else 0):
                chunk = file[name].id.get_chunk_info(number)
                spans.append((chunk.byte_offset, chunk.byte_offset + chunk.size))
    assert len(spans) > 30
    expected = answers(shard, incomplete=True)
    for start, end in spans:
        for value in (b"\0", b"\xff"):
            path.write_bytes(data[:start] + value * (end - start) + data[end:])
            assert outcome(path, expected, incomplete=True) in ("refused", "same")


def test_a_name_with_odd_characters_is_data_and_no_path(tmp_path: Path) -> None:
    path = tmp_path / "ünï 'code'\n.h5" if os.name == "posix" else tmp_path / "ünï 'code'.h5"
    build(path, origin=crp.atlas.Origin(model="../../x/%s\t'", dataset="a/b\nc", command="\u2028"))
    with crp.ConceptAtlas(path) as atlas:
        assert (atlas.header.model, atlas.metadata["command"]) == ("../../x/%s\t'", "\u2028")
