"""Files that take their name when they are whole: signals, links, and files that appear meanwhile."""

import errno
import os
import signal
import stat
from pathlib import Path

import pytest
from processes import limited

from crp_kit import files
from crp_kit.errors import InputError
from crp_kit.files import atomic_file, check_file, reserved_file


def test_a_signal_takes_its_effect_when_the_file_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as beside:  # noqa: PT012
        beside.write_text("half")
        signal.raise_signal(signal.SIGINT)
        beside.write_text("whole")
    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_second_signal_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a.txt") as beside:  # noqa: PT012
        beside.write_text("half")
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("there", [True, False], ids=["link", "dangling link"])
def test_a_link_is_never_replaced_or_followed(tmp_path: Path, there: bool, replace: bool) -> None:
    precious = tmp_path / "precious"
    if there:
        precious.write_text("theirs")
    (tmp_path / "a.txt").symlink_to(precious)
    with (
        pytest.raises(FileExistsError, match="symbolic link; name the file that it leads to"),
        atomic_file(tmp_path / "a.txt", replace=replace) as beside,
    ):
        beside.write_text("ours")
    assert (tmp_path / "a.txt").is_symlink()
    assert not there or precious.read_text() == "theirs"


@pytest.mark.parametrize("kind", ["file", "link", "folder", "fifo"])
@pytest.mark.parametrize("linking", [True, False], ids=["", "a file system without links"])
def test_what_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, linking: bool
) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not linking:
        monkeypatch.setattr(files.os, "link", no_link)
    path = tmp_path / "a.txt"
    with pytest.raises(FileExistsError), atomic_file(path, replace=False) as beside:  # noqa: PT012
        beside.write_text("ours")
        if kind == "file":
            path.write_text("theirs")
        elif kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to(tmp_path / "away")
    assert kind != "file" or path.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_gets_its_name_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", no_link)
    with atomic_file(tmp_path / "a.txt", replace=False) as beside:
        beside.write_text("ours")
    assert (tmp_path / "a.txt").read_text() == "ours"


def test_a_second_name_of_a_finished_file_is_not_written_through(tmp_path: Path) -> None:
    # A kill between the two steps of the naming leaves both names.
    finished, beside = tmp_path / "a.txt", tmp_path / "a.txt.writing"
    finished.write_text("whole")
    os.link(finished, beside)
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "b.txt", beside=beside) as new:  # noqa: PT012
        new.write_text("half")
        raise RuntimeError
    assert finished.read_text() == "whole"


@pytest.mark.parametrize("call", [True, False], ids=["posix_fallocate", "zeros"])
def test_space_is_taken_at_once_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: bool) -> None:
    if not call:
        monkeypatch.delattr(files.os, "posix_fallocate")
    with reserved_file(tmp_path, 3 << 20) as file:
        assert os.fstat(file.fileno()).st_size == 3 << 20
        assert os.fstat(file.fileno()).st_blocks * 512 >= 3 << 20
        assert not any(file.read(3 << 20))
    with limited(1 << 20), pytest.raises(OSError, match="File too large"):
        reserved_file(tmp_path, 3 << 20)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EIO])
def test_a_file_system_that_cannot_say_what_reached_the_disk_is_used_and_a_failing_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_sync(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    def write() -> None:
        with atomic_file(tmp_path / "a") as beside:
            beside.write_text("new")

    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(files.os, "fsync", no_sync)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"):
            write()
    else:
        write()
    assert (tmp_path / "a").read_text() == ("old" if number == errno.EIO else "new")
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_whose_names_do_not_reach_the_disk_has_the_file_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_sync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", no_sync)
    with atomic_file(tmp_path / "a") as beside:
        beside.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    assert "may not survive a loss of power: Input/output error" in caplog.text


@pytest.mark.parametrize("how", ["edited", "replaced", "gone"])
def test_a_file_is_replaced_in_the_state_in_which_it_was_read_alone(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("read")
    path.chmod(0o640)
    state = path.stat()
    with atomic_file(path, instead_of=state) as beside:
        beside.write_text("ours")
    assert path.read_text() == "ours"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    state = path.stat()
    if how == "gone":
        path.unlink()
        with atomic_file(path, instead_of=state) as beside:
            beside.write_text("ours again")
        assert path.read_text() == "ours again"
        return
    with pytest.raises(FileExistsError, match="meanwhile"), atomic_file(path, instead_of=state) as beside:  # noqa: PT012
        beside.write_text("ours")
        other = path if how == "edited" else tmp_path / "b.txt"
        other.write_text("theirs")
        os.replace(other, path)
    assert path.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_missing_file_is_answered_with_the_names_that_are_near(tmp_path: Path) -> None:
    (tmp_path / "chelsea 0.jpg").touch()
    (tmp_path / "no.jpg").touch()
    near = r"; did you mean '.*/chelsea 0\.jpg'\?$"
    for name, said in (("chelsea0.jpg", near), ("chelsea0.png", near), ("x", "/x'$"), ("cat.jpg", r"/cat\.jpg'$")):
        with pytest.raises(InputError, match=said):
            check_file(tmp_path / name, "image")
