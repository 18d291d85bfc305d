"""``crp-kit atlas info`` says how far a build is, while it runs and after it was interrupted, and writes nothing."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from atlas_case import Labelled, build
from command_line import invoke, refused

import crp_kit as crp
from crp_kit.atlas.build.build_progress import build_progress
from crp_kit.errors import AtlasError
from crp_kit.locks import lock


class Breaks(Labelled):
    at = 9

    def __getitem__(self, number: int) -> object:
        if number == self.at:
            raise OSError("the network drive is away")
        return super().__getitem__(number)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of 4 batches of 4 samples that failed in the third one."""
    path = tmp_path_factory.mktemp("interrupted") / "a.h5"
    with pytest.raises(crp.CrpKitError, match="sample 9 cannot be used"):
        build(path, Breaks(16), batch_size=4)
    return path


@contextmanager
def at_work(path: Path) -> Iterator[None]:
    """Hold the lock of a build, as its process does."""
    with open(path.with_name(f"{path.name}.partial") / "lock", "ab") as file:
        lock(file)
        yield


def state_of(path: Path) -> dict[str, tuple[int, bytes]]:
    return {str(one): (one.stat().st_mtime_ns, one.read_bytes()) for one in path.parent.rglob("*") if one.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.h5", "a.h5.partial"], ids=["its file", "its folder"])
def test_an_interrupted_build_says_how_far_it_came_and_how_to_go_on(interrupted: Path, name: str) -> None:
    before = state_of(interrupted)
    result = invoke("atlas", "info", interrupted.with_name(name))
    assert (result.exit_code, result.stderr) == (0, "")
    first, second, *_ = result.stdout.splitlines()
    assert first.startswith(f"{interrupted} was interrupted: 2 of 4 batches (50.0%) are kept, the last of 20")
    assert first.endswith(" ago); the same command with --resume goes on")
    assert second.startswith("ConceptAtlas ")
    assert state_of(interrupted) == before


def test_a_build_at_work_is_not_called_interrupted_and_not_disturbed(interrupted: Path) -> None:
    with at_work(interrupted):
        first = invoke("atlas", "info", interrupted).stdout.splitlines()[0]
    assert first.startswith(f"{interrupted} is being built: 2 of 4 batches (50.0%) are kept, the last of ")
    assert "resume" not in first
    with at_work(interrupted):  # the lock is free again, not held by whoever asked
        pass


def test_json_has_the_build_beside_what_the_checkpoint_says(interrupted: Path) -> None:
    known = json.loads(invoke("atlas", "info", interrupted, "--json").stdout)
    progress = known.pop("build")
    assert (progress["batches_done"], progress["batches"], progress["shard"], progress["shards"]) == (2, 4, 0, 1)
    assert (progress["target"], progress["running"]) == (str(interrupted), False)
    assert dt.datetime.fromisoformat(progress["saved"]).tzinfo is not None
    assert known["complete"] is False
    assert known["n_samples"] == 16


def test_batches_of_the_log_count_beside_those_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crp_kit.atlas.build.dataset_pass._SMALL", 0)  # the state stays in the log
    with pytest.raises(crp.CrpKitError, match="sample 9 cannot be used"):
        build(tmp_path / "a.h5", Breaks(16), batch_size=4)
    progress = build_progress(tmp_path / "a.h5")
    assert progress is not None
    assert progress.checkpoint is not None
    with crp.ConceptAtlas(progress.checkpoint, incomplete=True) as atlas:
        assert len(atlas.samples) == 0
    assert (progress.done, progress.batches) == (2, 4)


def test_the_age_of_the_checkpoint_is_that_of_its_file(interrupted: Path) -> None:
    progress = build_progress(interrupted)
    assert progress is not None
    assert progress.saved is not None
    said = progress.sentence(progress.saved + dt.timedelta(hours=2, seconds=5))
    assert "(2:00:05 ago)" in said
    assert "(0:00:00 ago)" in progress.sentence(progress.saved - dt.timedelta(minutes=1))  # clocks differ


@pytest.mark.parametrize("time", [-1e18, 1e12, 1e17])
def test_a_time_that_no_calendar_has_is_no_error(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch, time: float
) -> None:
    monkeypatch.setattr(Path, "stat", lambda path, **_: SimpleNamespace(st_mtime=time, st_mode=os.stat(path).st_mode))
    progress = build_progress(interrupted)
    assert progress is not None
    assert " are kept, the last of " in progress.sentence(dt.datetime.now().astimezone())


def test_a_shard_is_named(tmp_path: Path) -> None:
    data = Breaks(16)
    data.at = 13
    with pytest.raises(crp.CrpKitError, match="sample 13 cannot be used"):
        build(tmp_path / "s.h5", data, batch_size=4, shard="1/2")
    said = invoke("atlas", "info", tmp_path / "s.h5").stdout
    assert said.startswith(f"{tmp_path / 's.h5'}, shard 1/2, was interrupted: 1 of 2 batches (50.0%) are")


def test_a_build_before_its_first_checkpoint_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.h5.partial").mkdir()
    with at_work(tmp_path / "a.h5"):
        assert invoke("atlas", "info", tmp_path / "a.h5").stdout == (
            f"{tmp_path / 'a.h5'} is being built: no checkpoint yet\n"
        )
        known = json.loads(invoke("atlas", "info", tmp_path / "a.h5.partial", "--json").stdout)
    assert known["build"]["checkpoint"] is None
    assert known["build"]["running"] is True


@pytest.mark.slow
def test_a_finished_file_is_said_whatever_is_beside_it(interrupted: Path, tmp_path: Path) -> None:
    build(tmp_path / "a.h5", Labelled(16), batch_size=4).close()
    (tmp_path / "a.h5.partial").mkdir()
    (tmp_path / "a.h5.partial" / "lock").touch()
    said = invoke("atlas", "info", tmp_path / "a.h5").stdout
    assert said.startswith("ConceptAtlas ")


@pytest.mark.slow
def test_a_file_that_is_built_anew_is_said_with_how_far_that_is(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    build(path, Labelled(16), batch_size=4).close()
    with pytest.raises(crp.CrpKitError, match="sample 9 cannot be used"):
        build(path, Breaks(16), batch_size=4, overwrite=True)
    first, second, *_ = invoke("atlas", "info", path).stdout.splitlines()
    assert first.startswith(f"{path} was interrupted: 2 of 4 batches (50.0%) are kept")
    assert second.startswith("ConceptAtlas ")
    known = json.loads(invoke("atlas", "info", path, "--json").stdout)
    assert (known["complete"], known["build"]["batches_done"]) == (True, 2)
    (tmp_path / "a.h5.partial" / "checkpoint.h5").write_bytes(b"damaged")
    assert invoke("atlas", "info", path).stdout.startswith("ConceptAtlas ")


def test_neither_a_file_nor_a_build_is_one_sentence(tmp_path: Path) -> None:
    assert f"no file '{tmp_path / 'b.h5'}'" in refused("atlas", "info", tmp_path / "b.h5")
    (tmp_path / "b.h5.partial").mkdir()  # of somebody else
    (tmp_path / "b.h5.partial" / "notes.txt").touch()
    assert f"no file '{tmp_path / 'b.h5'}'" in refused("atlas", "info", tmp_path / "b.h5")


def test_a_damaged_checkpoint_is_an_error_and_one_that_goes_away_meanwhile_is_none(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a.h5.partial"
    folder.mkdir()
    (folder / "checkpoint.h5").write_bytes(b"no HDF5 file")
    with pytest.raises(AtlasError, match="checkpoint.h5"):
        build_progress(tmp_path / "a.h5")

    def gone(path: Path, **_: object) -> None:
        os.unlink(path)
        raise AtlasError("no file")

    monkeypatch.setattr("crp_kit.atlas.build.build_progress.open_atlas", gone)
    progress = build_progress(tmp_path / "a.h5")
    assert progress is not None
    assert progress.checkpoint is None
