"""Atlas files with bytes changed: each is refused in a sentence or answers as the sound one, quickly and in little
memory. ``--nightly`` tries more.
"""

import random
import resource
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import hostile
import numpy as np
import pytest

SECONDS = 5.0  # the machine may be busy; most take 10 ms
MEGABYTES = 60
MUTATIONS = [pytest.param(240, id="standard"), pytest.param(6000, id="nightly", marks=pytest.mark.nightly)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile.sound_atlas(tmp_path_factory.mktemp("sound") / "atlas.h5")


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile.sound_atlas(tmp_path_factory.mktemp("shard") / "shard.h5", shard=(0, 2), batch_size=4)


def tried(source: Path, scratch: Path, seeds: range, changes: tuple[hostile.Change, ...], **how: Any) -> Counter[str]:
    """Count what becomes of mutations of a file."""
    data, sound, seen = source.read_bytes(), hostile.stored(source, **how), Counter[str]()
    for seed in seeds:
        scratch.write_bytes(hostile.mutated(data, seed, changes))
        begin = time.process_time()
        seen[found := hostile.outcome(scratch, sound, **how)] += 1
        assert time.process_time() - begin < SECONDS, seed
        assert found in ("refused", "same", "verified to be wrong") or isinstance(changes[0], hostile.Forge), (
            seed,
            found,
        )
        assert not found.startswith("a message"), (seed, found)
    return seen


@pytest.mark.parametrize("mutations", MUTATIONS)
@pytest.mark.slow
def test_a_damaged_file_is_refused_or_answers_as_before(sound: Path, tmp_path: Path, mutations: int) -> None:
    seen = tried(sound, tmp_path / "damaged.h5", range(mutations // 2), hostile.DAMAGES)
    assert seen["refused"] > seen["same"] > 0, seen


@pytest.mark.parametrize("mutations", MUTATIONS)
@pytest.mark.slow
def test_a_damaged_shard_is_refused_or_answers_as_before(shard: Path, tmp_path: Path, mutations: int) -> None:
    seen = tried(shard, tmp_path / "damaged.h5", range(mutations // 6), hostile.DAMAGES, incomplete=True)
    assert seen["refused"] > 0, seen
    assert seen["same"] > 0, seen


@pytest.mark.parametrize("mutations", MUTATIONS)
@pytest.mark.slow
def test_forged_metadata_never_end_the_process_and_are_refused_in_a_sentence(
    sound: Path, tmp_path: Path, mutations: int
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = tried(sound, tmp_path / "forged.h5", range(mutations // 3), (hostile.Forge(sound),))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES << 10
    assert seen["refused"] > mutations // 12, seen


VALUES: tuple[Any, ...] = (
    -1, 0, 2**31, 2**60, np.float64("nan"), 1e300, np.arange(3), np.zeros((2, 2)), "seven", "x" * 3000,
    h5py.Empty("f4"), np.zeros((), [("a", "i4"), ("b", "S3")]), 1j, True, np.bytes_(b"\xff\xfe"), np.int8(-3),
    np.array([2**40]), "\x1b[31m\n",
)  # fmt: skip


def edit_attribute(path: Path, chance: random.Random) -> None:
    """Give an attribute another value, or take it away, and make the checksum fit."""
    with hostile.edited(path) as file:
        groups = ["/"]
        file.visititems(lambda name, item: groups.append(name) if isinstance(item, h5py.Group) else None)
        group = file[chance.choice(groups)]
        name = chance.choice(sorted(group.attrs) or ["more"])
        value = chance.choice(VALUES)
        group.attrs.pop(name, None)
        if chance.random() < 0.9:
            group.attrs[name] = value


@pytest.mark.parametrize("mutations", MUTATIONS)
def test_attributes_of_any_value_are_refused_or_change_nothing_else(
    sound: Path, tmp_path: Path, mutations: int
) -> None:
    answers, seen = hostile.stored(sound), Counter[str]()
    for seed in range(mutations // 30):
        path = Path(shutil.copy(sound, tmp_path / "edited.h5"))
        edit_attribute(path, random.Random(seed))
        seen[found := hostile.outcome(path, answers)] += 1
        assert not found.startswith("a message"), (seed, found)
    assert seen["refused"] > 0, seen
