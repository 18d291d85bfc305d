"""Working folders: marked, locked by one process, and emptied of crp-kit's own files alone."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from processes import end_of_child

from crp_kit import folders
from crp_kit.errors import InputError
from crp_kit.folders import WorkingFolder

NAMES = ("checkpoint.h5", "new")


def working(path: Path) -> WorkingFolder:
    return WorkingFolder(path, NAMES[:1], NAMES[1:])


def test_a_folder_goes_with_its_own_files(tmp_path: Path) -> None:
    folder = working(tmp_path / "work")
    folder.acquire()
    (folder.path / "checkpoint.h5").write_text("ours")
    (folder.path / "new").mkdir()
    (folder.path / "new" / "page").write_text("ours")
    folder.release(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_what_others_put_into_it_stays(tmp_path: Path) -> None:
    folder = working(tmp_path / "work")
    folder.acquire()
    (folder.path / "thesis.txt").write_text("three years")
    folder.release(remove=True)
    assert os.listdir(folder.path) == ["thesis.txt"]


@pytest.mark.parametrize("files", [(), ("thesis.txt",)], ids=["empty", "with a file"])
def test_a_folder_that_was_there_stays(tmp_path: Path, files: tuple[str, ...]) -> None:
    folder = working(tmp_path / "work")
    folder.path.mkdir()
    for name in files:
        (folder.path / name).write_text("theirs")
    for _ in range(2):  # and is free again
        folder.acquire()
        folder.release(remove=True)
    assert os.listdir(folder.path) == [*files]


def test_it_stays_also_when_the_first_process_was_killed(tmp_path: Path) -> None:
    folder = working(tmp_path / "work")
    folder.path.mkdir()
    folder.acquire()
    folder.close()  # as the system does when a process ends
    again = working(tmp_path / "work")
    again.acquire()
    again.release(remove=True)
    assert os.listdir(folder.path) == []


@pytest.mark.parametrize("name", ["checkpoint.h5", "new", "lock"])
def test_files_of_others_under_our_names_are_never_taken_for_ours(tmp_path: Path, name: str) -> None:
    path = tmp_path / "work"
    path.mkdir()
    (path / name).write_text("theirs")
    with pytest.raises(InputError, match=rf"work was not made by crp-kit \(it holds {name}\) and is kept"):
        working(path).acquire()
    assert {entry.name: entry.read_text() for entry in path.iterdir()} == {name: "theirs"}


@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "dangling link"])
def test_a_lock_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path, precious = tmp_path / "work", tmp_path / "precious"
    path.mkdir()
    precious.write_text("theirs")
    lock = path / "lock"
    if kind == "fifo":
        os.mkfifo(lock)
    elif kind == "folder":
        lock.mkdir()
    else:
        lock.symlink_to(precious if kind == "link" else tmp_path / "away")
    with pytest.raises(InputError, match="was not made by crp-kit"):
        working(path).acquire()
    assert precious.read_text() == "theirs"
    assert not (tmp_path / "away").exists()


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_something_else_of_its_name_is_refused(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "work", tmp_path / "target"
    if kind == "file":
        path.write_text("theirs")
    else:
        path.symlink_to(target)
        if kind == "link":
            target.mkdir()
    with pytest.raises(InputError, match="work is in the way"):
        working(path).acquire()
    assert path.is_symlink() or path.read_text() == "theirs"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["link", "other", "fifo"])
def test_something_else_under_our_names_is_refused_and_kept(tmp_path: Path, name: str, kind: str) -> None:
    folder = working(tmp_path / "work")
    folder.acquire()
    folder.close()
    theirs, precious = folder.path / name, tmp_path / "precious"
    precious.write_text("theirs")
    if kind == "link":
        theirs.symlink_to(precious)
    elif kind == "fifo":
        os.mkfifo(theirs)
    elif name == "new":
        theirs.write_text("theirs")
    else:
        theirs.mkdir()
        (theirs / "thesis.txt").write_text("three years")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=f"{name} is something that crp-kit did not make, and is kept; move it"):
        working(folder.path).acquire()
    assert sorted(tmp_path.rglob("*")) == before
    assert precious.read_text() == "theirs"


def test_a_folder_that_appears_under_the_name_of_our_file_is_kept(tmp_path: Path) -> None:
    folder = working(tmp_path / "work")
    folder.acquire()
    (folder.path / "checkpoint.h5").mkdir()
    (folder.path / "checkpoint.h5" / "thesis.txt").write_text("three years")
    folder.release(remove=True)
    assert (folder.path / "checkpoint.h5" / "thesis.txt").read_text() == "three years"


def test_a_process_that_was_killed_before_the_mark_keeps_nobody_away(tmp_path: Path) -> None:
    folder = working(tmp_path / "work")
    folder.path.mkdir()
    (folder.path / "lock").touch()
    folder.acquire()
    folder.release(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_two_do_not_have_it_at_once(tmp_path: Path) -> None:
    first = working(tmp_path / "work")
    first.acquire()
    with pytest.raises(BlockingIOError):
        working(tmp_path / "work").acquire()
    assert (tmp_path / "work" / "lock").exists(), "the refusal takes nothing away"
    first.release(remove=True)


def test_a_child_process_that_lives_on_keeps_nobody_away(tmp_path: Path) -> None:
    first = working(tmp_path / "work")
    first.acquire()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"x")
        signal.pause()
        os._exit(0)
    try:
        os.read(reading, 1)
        first.close()  # as the system does after a kill -9
        second = working(tmp_path / "work")
        second.acquire()
        second.release(remove=True)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_lock_of_a_folder_that_is_gone_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, late = working(tmp_path / "new"), working(tmp_path / "new")
    first.acquire()
    usual = folders._lock

    def removed_before(file: Any) -> None:  # after it was opened, and before it is locked
        shutil.rmtree(tmp_path / "new")
        first.close()
        usual(file)

    monkeypatch.setattr(folders, "_lock", removed_before)
    with pytest.raises(BlockingIOError, match="another process has just removed it"):
        late.acquire()


@pytest.mark.parametrize("there", [True, False], ids=["an earlier folder", "none"])
def test_a_second_sigterm_leaves_the_earlier_folder_and_nothing_beside(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "report"
    if there:
        path.mkdir()
        (path / "index.html").write_text("before")

    def work() -> None:
        with folders.atomic_folder(path, lambda _: None) as new:
            (new / "index.html").write_text("half")
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)

    assert end_of_child(work) == -signal.SIGTERM
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"] * there
    assert not there or (path / "index.html").read_text() == "before"
