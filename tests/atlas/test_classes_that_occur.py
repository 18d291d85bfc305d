"""Rankings and moments by class are held for classes that have samples, and every question is answered as for all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from atlas_case import datasets, same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_pass import SyntheticPass

import crp_kit as crp
from crp_kit.atlas.build.array_storage import ArrayStorage
from crp_kit.atlas.build.pass_state import state_bytes
from crp_kit.atlas.file.expected_groups import expected_groups
from crp_kit.atlas.file.file_tree import checksum
from crp_kit.atlas.file.hdf5_reader import H5File
from crp_kit.atlas.file.hdf5_writer import write_tree
from crp_kit.atlas.file.reader import open_atlas
from crp_kit.atlas.statistics import ArrayField, Statistic, array_spec, register_statistic, unregister_statistic
from crp_kit.errors import AtlasError, InputError

LABELS = (7, 3, 3, 9, -1, 7, 0, 3, 3)
"""Of nine samples; the classes do not appear in their order, the shards have different ones, one sample has none."""
SEEN = [0, 3, 7, 9]
PASS = SyntheticPass(LABELS)
BLANK = {"f": np.nan, "i": -1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return PASS.write(tmp_path_factory.mktemp("whole") / "whole.h5")


@contextmanager
def signed(path: Path) -> Iterator[h5py.File]:
    """Change a file as somebody who renews the checksum over its attributes."""
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        yield file
    with H5File(path) as file:
        found = checksum({group: file.attributes(group) for group in expected_groups(file)})
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file.attrs["checksum"] = found


def older(path: Path, out: Path, *, n_classes: int = PASS.n_classes) -> Path:
    """Write a file as earlier versions did: every class has a row, and there are no digests."""
    shutil.copy(path, out)
    with signed(out) as file:
        seen = file["classes/seen"][()]
        del file["classes/seen"], file["digests"]
        for half in (
            file[f"layers/{layer}/{mode}"] for layer in file["layers"] for mode in ("relevance", "activation")
        ):
            arrays = {f"{group}/{name}": values for group in half for name, values in half[group].items()}
            for name, axis in [(name, axis_of_classes(name)) for name in arrays]:
                if axis is None:
                    continue
                values = arrays[name][()]
                shape = (*values.shape[:axis], n_classes, *values.shape[axis + 1 :])
                wide = np.full(shape, blank(name, values.dtype), values.dtype)
                wide[(slice(None),) * axis + (seen,)] = values
                del half[name]
                half.create_dataset(name, data=wide, chunks=True, fletcher32=True)
    return out


def axis_of_classes(name: str) -> int | None:
    group, _, array = name.partition("/")
    if group in ("gram", "exact_gram") and not array.startswith(("count", "sum")):
        return None
    if group == "class_top" or (group in ("exact", "exact_gram") and array.endswith("limbs")):
        return 1
    return 0 if group in ("moments", "exact", "gram", "exact_gram") else None


def blank(name: str, dtype: np.dtype[Any]) -> float:
    group, _, array = name.partition("/")
    if group == "gram":
        return 0
    if group in ("exact", "exact_gram"):
        return {"count": 0, "low": np.inf, "high": -np.inf}.get(array, 0 if array.endswith("limbs") else -(1 << 14))
    return 0 if array == "count" else BLANK[dtype.kind]


def answers(path: Path) -> str:
    """Everything that can be asked of an atlas by class, over all classes."""
    found: list[Any] = []
    with crp.ConceptAtlas(path, incomplete=True) as atlas:
        for half in (atlas[name].score(mode) for name in atlas for mode in ("relevance", "activation")):
            found += [values.tolist() for values in vars(half.moments).values()]
            tables = [half.statistics(), *(half.statistics(cls) for cls in range(PASS.n_classes))]
            for concept in range(half.n_concepts):
                tables += [half.top(concept), half.classes(concept), half.classes(concept, 2, by="top")]
                tables += [half.class_top(concept, cls) for cls in range(PASS.n_classes)]
            found += [[(column.dtype, column.tolist()) for column in table.columns().values()] for table in tables]
            for cls in range(PASS.n_classes):
                try:
                    found.append([column.tolist() for column in half.concepts(cls).columns().values()])
                except AtlasError as error:
                    found.append(str(error).replace(str(path), ""))
    return repr(found)


# ------------------------------------------------------------------------------------------------------- what is held


def test_only_classes_that_have_samples_have_rows(whole: Path, tmp_path: Path) -> None:
    parts = [whole, PASS.write_part(tmp_path / "part.h5", 0, 3, 5)]
    for path, seen in zip(parts, (SEEN, [3, 7, 9]), strict=True):
        arrays = datasets(path)
        assert arrays["classes/seen"].tolist() == seen
        assert arrays["classes/seen"].dtype == np.int64
        assert len(arrays["classes/name"]) == PASS.n_classes
        for name, values in arrays.items():
            axis = axis_of_classes(name.split("/", 3)[-1]) if name.startswith("layers") else None
            assert axis is None or values.shape[axis] == len(seen), name
        assert crp.verify_atlas(path) == ()
        with crp.ConceptAtlas(path, incomplete=True) as atlas:
            assert atlas.seen.tolist() == seen
            half = atlas["layer0"].relevance
            assert half.arrays("class_top")["score"].shape == (3, len(seen), 2)
            assert half.arrays("moments")["mean"].shape == (len(seen), 3)


def test_the_answers_are_those_of_a_file_in_which_every_class_has_a_row(whole: Path, tmp_path: Path) -> None:
    dense = older(whole, tmp_path / "older.h5")
    assert crp.verify_atlas(dense) == ()
    assert answers(whole) == answers(dense)
    with crp.ConceptAtlas(dense) as atlas:
        assert atlas.seen.tolist() == list(range(PASS.n_classes))


def test_a_class_without_samples_has_no_entries_and_no_moments(whole: Path) -> None:
    with crp.ConceptAtlas(whole) as atlas:
        half = atlas["layer1"].activation
        table = half.class_top(2, "class 5")
        assert [(len(column), column.dtype.str) for column in table.columns().values()] == [
            (0, "<i8"), (0, "<f4"), (0, "<i4"), (0, "<i8"),
        ]  # fmt: skip
        assert half.moments.count.tolist() == [1, 0, 0, 4, 0, 0, 0, 2, 0, 1]
        assert half.moments.mean.shape == (PASS.n_classes, 4)
        assert np.isnan(half.moments.mean).all(1).tolist() == [count == 0 for count in half.moments.count]
        assert np.isnan(half.statistics(4).mean).all()
        assert set(half.classes(0).cls.tolist()) == set(SEEN)
        assert half.classes(0).name.tolist() == [f"class {cls}" for cls in half.classes(0).cls]
        with pytest.raises(AtlasError, match=r"the atlas has no sample of the class 'class 8' \(8\)"):
            half.concepts(8)


@pytest.mark.slow
def test_a_dataset_without_any_label_has_no_class(tmp_path: Path) -> None:
    job = SyntheticPass((-1,) * 5)
    path = job.write(tmp_path / "a.h5")
    assert crp.verify_atlas(path) == ()
    with crp.ConceptAtlas(path) as atlas:
        assert atlas.seen.tolist() == []
        half = atlas["layer0"].activation
        assert half.arrays("class_top")["sample"].shape == (3, 0, 2)
        assert len(half.top(0)) == 4
        assert len(half.class_top(0, 3)) == len(half.classes(0)) == len(half.classes(0, by="top")) == 0
        assert half.moments.count.tolist() == [0] * 10
        assert np.isnan(half.statistics(2).max).all()
    shards = list(job.shards(tmp_path, 2))
    crp.merge_atlases(shards, tmp_path / "merged.h5").close()
    assert same_bits(tmp_path / "merged.h5", path)


# --------------------------------------------------------------------------------------------------------- divisions


@pytest.mark.slow
@settings(max_examples=6, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(st.integers(-1, 9), min_size=4, max_size=12), data=st.data())
def test_the_bits_do_not_depend_on_shards_and_checkpoints_nor_on_the_order_of_appearance(
    tmp_path: Path, labels: list[int], data: st.DataObject
) -> None:
    job = SyntheticPass(labels, concepts=(2,))
    cut = data.draw(st.integers(1, job.n_batches - 1), "shards are divided behind this batch")
    pause = data.draw(st.integers(0, cut), "the first one was interrupted behind this batch")
    shards = list(job.shards(tmp_path, cut))
    state = job.empty(0, cut, shards=2, allocate=ArrayStorage(data.draw(st.sampled_from([0, 1 << 30])), tmp_path))
    with open_atlas(job.write_part(tmp_path / "checkpoint.h5", 0, pause, cut, shards=2), incomplete=True) as file:
        state.merge(file)
    write_tree(tmp_path / "resumed.h5", job.add(state, pause, cut).tree({}, complete=False), compress=False)
    assert same_bits(tmp_path / "resumed.h5", shards[0])
    order = data.draw(st.permutations([tmp_path / "resumed.h5", shards[1]]))
    crp.merge_atlases(order, tmp_path / "merged.h5", overwrite=True).close()
    assert same_bits(tmp_path / "merged.h5", job.write(tmp_path / "whole.h5"))
    assert crp.verify_atlas(tmp_path / "merged.h5") == crp.verify_atlas(tmp_path / "resumed.h5") == ()


@pytest.mark.slow
@pytest.mark.parametrize("both", [True, False], ids=["both older", "one older"])
def test_shards_of_an_older_version_merge_to_the_same_bits(whole: Path, tmp_path: Path, both: bool) -> None:
    first, second = PASS.shards(tmp_path, 2)
    first = older(first, tmp_path / "first.h5")
    second = older(second, tmp_path / "second.h5") if both else second
    assert crp.verify_atlas(first) == ()
    crp.merge_atlases([second, first], tmp_path / "merged.h5").close()
    assert same_bits(tmp_path / "merged.h5", whole)


def test_an_older_checkpoint_is_resumed(whole: Path, tmp_path: Path) -> None:
    part = older(PASS.write_part(tmp_path / "part.h5", 0, 2, PASS.n_batches), tmp_path / "older.h5")
    state = PASS.empty()
    with open_atlas(part, incomplete=True) as file:
        state.merge(file)
    write_tree(tmp_path / "a.h5", PASS.add(state, 2, PASS.n_batches).tree({}, complete=True), compress=True)
    assert same_bits(tmp_path / "a.h5", whole)


def test_where_arrays_lie_changes_no_bit(whole: Path, tmp_path: Path) -> None:
    for limit in (0, 3000):
        path = PASS.write(tmp_path / f"{limit}.h5", allocate=ArrayStorage(limit, tmp_path))
        assert same_bits(path, whole)


def test_the_archive_of_format_1_is_its_own_merge(tmp_path: Path) -> None:
    archive = Path(__file__).parents[1] / "data" / "atlas-format-1.h5"
    with crp.ConceptAtlas(archive) as atlas:
        assert atlas.seen.tolist() == list(range(8))
        stored = datasets(archive)
        for mode in ("relevance", "activation"):
            half = atlas["layer2.1.conv2"].score(mode)
            for name, values in vars(half.moments).items():
                assert values.tobytes() == stored[f"layers/0/{mode}/moments/{name}"].tobytes()
            score = stored[f"layers/0/{mode}/class_top/score"]
            assert half.class_top(3, 5).score.tobytes() == score[3, 5].tobytes()


# ------------------------------------------------------------------------------------------------------------ memory


def test_a_state_takes_what_its_seen_classes_take() -> None:
    job = replace(PASS, n_classes=1000)
    needed = [state_bytes(job.header, job.layers, len(LABELS), classes) for classes in (0, 4, 1000)]
    taken = []
    job.add(job.empty(allocate=counting(taken)), 0, job.n_batches)
    assert needed[1] <= sum(taken) < needed[1] + 3 * (needed[1] - needed[0]), "with what grew before"
    by_class = 2 * sum(job.concepts) * (job.k_class * 16 + 2 * 4 + 3 * 26)
    assert needed[2] - needed[0] == 1000 * (by_class + 2 * len(job.layers) * 2 * 8)


def counting(taken: list[int]) -> Any:
    def allocate(shape: tuple[int, ...], dtype: str, fill: float) -> np.ndarray:
        array = np.full(shape, fill, dtype)
        taken.append(array.nbytes)
        return array

    return allocate


@pytest.mark.parametrize("fails", range(0, 40, 7))
def test_a_batch_for_whose_classes_there_is_no_room_changes_nothing_and_may_come_again(
    whole: Path, tmp_path: Path, fails: int
) -> None:
    left = [1 << 30]

    def allocate(shape: tuple[int, ...], dtype: str, fill: float) -> np.ndarray:
        left[0] -= 1
        if not left[0]:
            raise AtlasError("the disk is full")
        return np.full(shape, fill, dtype)

    state = PASS.add(PASS.empty(allocate=allocate), 0, 1)
    before = PASS.write_part(tmp_path / "before.h5", 0, 1, PASS.n_batches)
    left[0] = fails + 1
    with pytest.raises(AtlasError, match="the disk is full"):
        state.add(PASS.scores(1))
    write_tree(tmp_path / "after.h5", state.tree({}, complete=False), compress=False)
    assert same_bits(tmp_path / "after.h5", before)
    write_tree(tmp_path / "a.h5", PASS.add(state, 1, PASS.n_batches).tree({}, complete=True), compress=True)
    assert same_bits(tmp_path / "a.h5", whole)


# --------------------------------------------------------------------------------------- without rankings by class


@pytest.mark.slow
def test_an_atlas_without_rankings_by_class_answers_everything_else(whole: Path, tmp_path: Path) -> None:
    job = replace(PASS, k_class=0)
    path = job.write(tmp_path / "a.h5")
    assert crp.verify_atlas(path) == ()
    kept = {
        name: values for name, values in datasets(whole).items() if "class_top" not in name and "digests" not in name
    }
    assert {name: values.tobytes() for name, values in datasets(path).items() if "digests" not in name} == {
        name: values.tobytes() for name, values in kept.items()
    }
    with crp.ConceptAtlas(path) as atlas, crp.ConceptAtlas(whole) as full:
        half, other = atlas["layer0"].relevance, full["layer0"].relevance
        assert repr(half.classes(1)) == repr(other.classes(1))
        assert repr(half.concepts(3)) == repr(other.concepts(3))
        assert repr(half.top(1)) == repr(other.top(1))
        for ask in (lambda: half.class_top(0, 3), lambda: half.class_top(0, 5), lambda: half.classes(0, by="top")):
            with pytest.raises(AtlasError, match=r"a.h5 has no class_top by relevance; build it with a k_class of 1"):
                ask()
        assert "k = 4, 0 by class" in repr(atlas)
    shards = list(job.shards(tmp_path, 3))
    crp.merge_atlases(shards, tmp_path / "merged.h5").close()
    assert same_bits(tmp_path / "merged.h5", path)


# ------------------------------------------------------------------------------------- statistics from outside


class _Positive(Statistic):
    """How many samples have a positive score, by class and concept."""

    name, encoding = "positive", "positive"

    def merge(self, read: Any, start: int) -> None:
        stored = read("positive/count")[:]
        if self.fields[0].axes[0] == "class":
            self.count += stored
        else:
            np.add.at(self.count, self.seen.rows(read.classes), stored)


class ByClass(_Positive):
    """With a row for every class of the model."""

    fields = (ArrayField("positive/count", ("class", "concept"), "i"),)

    def __init__(self, header: Any, concepts: int, samples: int, allocate: Any) -> None:
        self.count = allocate((header.n_classes, concepts), "i8", 0)

    def add(self, scores: Any, index: Any) -> None:
        np.add.at(self.count, scores.by_class.target, scores.by_class.score > 0)

    def arrays(self) -> Any:
        return {"positive/count": array_spec(self.count)}


class BySeenClass(_Positive):
    """With a row for every class that has samples."""

    fields = (ArrayField("positive/count", ("seen", "concept"), "i"),)

    def __init__(self, header: Any, concepts: int, samples: int, allocate: Any) -> None:
        self.count = np.zeros((0, concepts), "i8")

    def make_room(self, rows: int) -> None:
        self.count = np.pad(self.count, ((0, rows - len(self.count)), (0, 0)))

    def add(self, scores: Any, index: Any) -> None:
        np.add.at(self.count, self.seen.rows(scores.by_class.target), scores.by_class.score > 0)

    def arrays(self) -> Any:
        return {"positive/count": array_spec(self.count, rows=self.seen.order)}


@pytest.mark.slow
@pytest.mark.parametrize("statistic", [ByClass, BySeenClass])
def test_a_statistic_from_outside_may_be_of_all_classes_or_of_those_that_occur(
    tmp_path: Path, statistic: type[Statistic]
) -> None:
    register_statistic(statistic)
    try:
        path = PASS.write(tmp_path / "a.h5")
        crp.merge_atlases(list(PASS.shards(tmp_path, 2)), tmp_path / "merged.h5").close()
        assert same_bits(path, tmp_path / "merged.h5")
        assert crp.verify_atlas(path) == ()
        with crp.ConceptAtlas(path) as atlas:
            count = np.asarray(atlas["layer0"].relevance.arrays("positive")["count"])
            if statistic is ByClass:
                assert count.shape == (PASS.n_classes, 3)
                count = count[atlas.seen]
            expected = np.zeros((len(SEEN), 3), int)
            for batch in map(PASS.scores, range(PASS.n_batches)):
                rows = batch.layers["layer0"]["relevance"].by_class
                np.add.at(expected, np.searchsorted(SEEN, rows.target), rows.score > 0)
            assert count.tolist() == expected.tolist()
    finally:
        unregister_statistic("positive")


# ---------------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize(
    "seen",
    [[0, 3, 7], [0, 3, 9, 7], [0, 3, 3, 9], [-1, 3, 7, 9], [0, 3, 7, 10], [[0, 3, 7, 9]], [0.0, 3.0, 7.0, 9.0], []],
    ids=str,
)
def test_class_numbers_that_cannot_be_are_refused(whole: Path, tmp_path: Path, seen: list[Any]) -> None:
    path = Path(shutil.copy(whole, tmp_path / "a.h5"))
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        del file["classes/seen"]
        file["classes/seen"] = np.array(seen, None if seen else "i8")
    for ask in (crp.ConceptAtlas, crp.verify_atlas):
        with pytest.raises(AtlasError, match=r"a.h5' is no sound atlas file: its array /(classes/seen|layers/0)"):
            ask(path)


def test_wrong_classes_are_found_without_digests_too(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(whole, tmp_path / "a.h5"))
    with signed(path) as file:
        del file["digests"]
        file["classes/seen"][...] = [1, 3, 7, 9]
    assert crp.verify_atlas(path) == ("a sample has a class as its target that is listed as one without samples",)
    with signed(path) as file:
        file["classes/seen"][...] = SEEN
        for mode in ("relevance", "activation"):
            for layer in ("0", "1"):
                file[f"layers/{layer}/{mode}/moments/count"][0] = 0
    assert "a class is listed as one that has samples, and has none" in crp.verify_atlas(path)


def test_a_number_of_k_that_the_header_does_not_have_is_refused(whole: Path) -> None:
    with crp.ConceptAtlas(whole) as atlas, pytest.raises(InputError, match="the atlas holds 2 per ranking"):
        atlas["layer0"].relevance.class_top(0, 3, 3)
