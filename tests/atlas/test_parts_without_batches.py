"""A checkpoint or shard that has seen no batch has no statistics; all that reads parts takes it for what it is."""

from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from atlas_case import same_bits
from synthetic_pass import SyntheticPass

import crp_kit as crp
from crp_kit.atlas.file.file_tree import checksum
from crp_kit.atlas.file.hdf5_writer import write_tree
from crp_kit.atlas.file.reader import open_atlas
from crp_kit.errors import AtlasError

JOB = SyntheticPass([3, 1, 4, 1, 5, 9, -1, 6], concepts=(3, 4, 2))


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The checkpoint that a build begins with."""
    return JOB.write_part(tmp_path / "first.h5", 0, 0, JOB.n_batches)


def test_it_is_sound_and_says_what_it_is(first: Path) -> None:
    assert crp.verify_atlas(first) == ()
    with crp.ConceptAtlas(first, incomplete=True) as atlas:
        assert atlas.layers == tuple(info.name for info in JOB.layers)
        assert [atlas[name].info for name in atlas.layers] == list(JOB.layers)
        with pytest.raises(AtlasError, match="has no top yet: no batch has been counted; resume its build"):
            atlas["layer0"].relevance.top(0)
    with pytest.raises(AtlasError, match="an unfinished atlas \\(0 of 4 batches\\); resume its build"):
        crp.ConceptAtlas(first)


def datasets(path: Path) -> int:
    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return len(names)


def test_its_size_does_not_depend_on_what_layers_have(first: Path, tmp_path: Path) -> None:
    wider = replace(JOB, concepts=(30, 4, 2, 7))
    begun = wider.write_part(tmp_path / "wider.h5", 0, 0, wider.n_batches)
    assert datasets(first) == datasets(begun) < datasets(JOB.write_part(tmp_path / "later.h5", 0, 1, JOB.n_batches))


def test_a_build_goes_on_from_it(first: Path, tmp_path: Path) -> None:
    state = JOB.empty()
    with open_atlas(first, incomplete=True) as file:
        state.merge(file)
    whole = tmp_path / "whole.h5"
    write_tree(whole, JOB.add(state, 0, JOB.n_batches).tree({}, complete=True), compress=True)
    assert same_bits(whole, JOB.write(tmp_path / "direct.h5"))


def test_a_shard_without_batches_is_merged(tmp_path: Path) -> None:
    parts = [JOB.write_part(tmp_path / "all.h5", 0, JOB.n_batches, JOB.n_batches, shards=2)]
    none = JOB.empty(JOB.n_batches, JOB.n_batches, shards=2)
    parts.append(tmp_path / "none.h5")
    write_tree(parts[1], none.tree({}, complete=False), compress=False)
    merged = crp.merge_atlases(parts, tmp_path / "merged.h5")
    merged.close()
    assert same_bits(merged.path, JOB.write(tmp_path / "direct.h5"))


def test_a_part_that_says_that_it_has_seen_batches_needs_their_statistics(tmp_path: Path) -> None:
    state = JOB.empty()
    tree = state.tree({}, complete=False)
    state.progress = replace(state.progress, done=1)
    tree.groups["/progress"] = state.tree({}, complete=False).groups["/progress"]
    tree.groups["/"]["checksum"] = checksum(tree.groups)
    write_tree(tmp_path / "forged.h5", tree, compress=False)
    with pytest.raises(AtlasError, match="it has no group"):
        crp.ConceptAtlas(tmp_path / "forged.h5", incomplete=True)


def test_equal_content_makes_equal_files(tmp_path: Path) -> None:
    one, other = (JOB.write(tmp_path / name).read_bytes() for name in ("one.h5", "other.h5"))
    assert one == other
