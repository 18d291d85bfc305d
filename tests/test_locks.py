"""Locks on files: one holder at a time, until its process ends, and a question that never keeps a holder away."""

import fcntl
import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crp_kit.locks import is_locked, lock

HOLD = """
import sys, time
from pathlib import Path
from crp_kit.locks import lock
file = open(sys.argv[1], "r+b", 0)
lock(file)
print("held", flush=True)
time.sleep(60)
"""
OLD = [name for name in ("F_OFD_SETLK", "F_OFD_GETLK") if hasattr(fcntl, name)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "lock").touch()
    return tmp_path / "lock"


def test_a_second_holder_is_refused_in_this_process_too(path: Path) -> None:
    with open(path, "r+b") as first, open(path, "r+b") as second:
        lock(first)
        with pytest.raises(BlockingIOError):
            lock(second)
        lock(first)  # it has it already
        first.close()
        lock(second)


def test_a_lock_outlives_other_handles_of_the_same_file(path: Path) -> None:
    with open(path, "r+b") as holder:
        lock(holder)
        path.read_bytes()
        with open(path, "r+b") as other, pytest.raises(BlockingIOError):
            lock(other)


def test_a_lock_of_another_process_is_seen_and_goes_with_it(path: Path) -> None:
    assert is_locked(path) is False
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert is_locked(path) is True
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert is_locked(path) is False


def ask(path: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        is_locked(path)


def test_a_question_never_keeps_anybody_from_locking(path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=ask, args=(path, 0.5))
    process.start()
    count = 0
    while process.is_alive():
        with open(path, "r+b") as file:
            lock(file)  # raises where a question holds a lock for an instant
        count += 1
    process.join()
    assert count > 100


def test_where_a_system_has_no_such_locks_there_is_still_one_holder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in OLD:
        monkeypatch.delattr(fcntl, name)
    test_a_second_holder_is_refused_in_this_process_too(path)
    assert is_locked(path) is None


def test_where_a_file_system_has_no_such_locks_there_is_still_one_holder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> bytes:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refused)
    test_a_second_holder_is_refused_in_this_process_too(path)
    assert is_locked(path) is None


def test_there_is_no_answer_about_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        is_locked(tmp_path / "lock")
