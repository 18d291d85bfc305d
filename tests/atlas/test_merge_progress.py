"""A merge says how far it is: a line at the start, at the end, and none where nobody asked for it or it is refused."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from processes import end_of_child
from synthetic_pass import SyntheticPass

import crp_kit as crp
from crp_kit.atlas.build.pass_state import PassState
from crp_kit.errors import AtlasError
from crp_kit.folders import WorkingFolder

JOB = SyntheticPass([3, 1, 4, 1, 5, 9], concepts=(3, 4, 2))


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return [*JOB.shards(tmp_path, 1)]


def test_it_begins_and_ends_with_a_line(shards: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crp.merge_atlases(shards, tmp_path / "all.h5").close()
    first, last = capsys.readouterr().err.splitlines()
    assert first == "merge: 0 of 6 shard layers"
    assert re.fullmatch(r"merge: 6 of 6 shard layers after 0:00:\d\d, \S+ shard layers/s", last)


def test_it_is_silent_where_it_is_asked_to_be(
    shards: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crp.merge_atlases(shards, tmp_path / "all.h5", verbose=False).close()
    assert capsys.readouterr().err == ""


def test_what_is_refused_shows_none(shards: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AtlasError, match="1 of 2 shards are missing"):
        crp.merge_atlases(shards[:1], tmp_path / "all.h5")
    assert capsys.readouterr().err == ""


def test_a_part_without_batches_counts_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crp.merge_atlases([*JOB.shards(tmp_path, JOB.n_batches)], tmp_path / "all.h5").close()
    assert capsys.readouterr().err.splitlines()[-1].startswith("merge: 6 of 6 shard layers after ")


def test_sigterm_ends_a_merge_and_leaves_nothing(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = PassState.merge

    def disturbed(*arguments: Any, **named: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        merge(*arguments, **named)

    monkeypatch.setattr(PassState, "merge", disturbed)
    with pytest.raises(SystemExit) as caught:
        crp.merge_atlases(shards, tmp_path / "all.h5", verbose=False)
    assert caught.value.code == 128 + signal.SIGTERM
    assert sorted(tmp_path.iterdir()) == sorted(shards)


def test_a_second_sigterm_ends_a_merge_at_once_and_leaves_nothing_either(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PassState, "merge", lambda *_: [signal.raise_signal(signal.SIGTERM) for _ in range(2)])
    status = end_of_child(lambda: crp.merge_atlases(shards, tmp_path / "all.h5", verbose=False))
    assert status == -signal.SIGTERM
    assert sorted(tmp_path.iterdir()) == sorted(shards)


def test_what_a_kill_has_left_beside_a_finished_file_goes_when_the_file_is_asked_for_again(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "all.h5"
    with monkeypatch.context() as patched:
        patched.setattr(WorkingFolder, "release", lambda folder, **_: folder.close())
        crp.merge_atlases(shards, path, verbose=False).close()
    folder = tmp_path / "all.h5.partial"
    kept = WorkingFolder(folder)
    kept.acquire()
    for there in (True, False):  # first while a process is at work
        with pytest.raises(AtlasError, match="exists"):
            crp.merge_atlases(shards, path)
        assert folder.exists() == there
        kept.close()


def test_while_the_file_is_written_there_is_a_line_each_minute(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("crp_kit.progress._PAUSE", 1e-6)
    crp.merge_atlases(shards, tmp_path / "all.h5").close()
    of_file = re.findall(
        r"merge: 6 of 6 shard layers, (\d+)% of the file written and read again", capsys.readouterr().err
    )
    assert [int(share) for share in of_file] == sorted(map(int, of_file))
    assert of_file[-1] == "100"
    assert len(of_file) > 10
