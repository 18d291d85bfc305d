"""Whatever happens to a build, nothing is lost and the finished file has the same bits."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from atlas_case import build, same_bits
from processes import COMMAND, Running, limited, run_command, run_python

import crp_kit as crp
from crp_kit import files, interrupts
from crp_kit.atlas.build import dataset_pass, estimate
from crp_kit.atlas.build.batch_log import BatchLog, logged_batches
from crp_kit.atlas.build.build_folder import BuildFolder
from crp_kit.atlas.build.dataset_pass import _Pass
from crp_kit.atlas.build.distributed import shard_of_job_array
from crp_kit.atlas.build.pass_state import PassState
from crp_kit.atlas.build.scores import Collector
from crp_kit.atlas.file import hdf5_writer
from crp_kit.atlas.file.file_tree import Tree, array_spec
from crp_kit.data import ShapesDataset
from crp_kit.errors import AtlasError, InputError
from crp_kit.folders import WorkingFolder

ROOT = Path(__file__).parents[2]
COUNT = 96

SETUP = f"""
    import itertools, json, os, random, signal, sys, time
    import crp_kit as crp
    import crp_kit.atlas.build.dataset_pass
    from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    from studies import atlas_of

    def build(path, **options):
        chosen = dict(layers=["layer2.1.conv2", "layer3.0.conv1"], composite="epsilon_plus_flat", batch_size=4,
                      preprocess=demo_preprocess, verbose=False, matrix=True, checkpoint=0.0)
        attribution = crp.CondAttribution(demo_resnet())
        return atlas_of(attribution, ShapesDataset({COUNT}), path, **{{**chosen, **options}})
"""


def build_code(code: str) -> str:
    return textwrap.dedent(SETUP) + textwrap.dedent(code)


def run_build(code: str, *arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    return run_python(build_code(code), *arguments, **options)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))), **more}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "atlas.h5"
    ran = run_build("build(sys.argv[1]).close()", path)  # in a process of its own, as those that are killed
    assert ran.returncode == 0, ran.stderr
    return path


@pytest.mark.slow
def test_after_any_number_of_kills_it_goes_on_and_has_the_same_bits(tmp_path: Path, undisturbed: Path) -> None:
    # Each try is a fork of a process that has imported everything. It says when it has logged a new batch, and is
    # killed after some batches, or while it starts, after a random time: in a batch, in a checkpoint, or between. After
    # one batch more it waits for that, however fast it is.
    code = """
        draw = random.Random(7)
        path, kills = sys.argv[1], 0
        append = crp.atlas.build.batch_log.BatchLog.append
        while not os.path.exists(path):
            reading, writing = os.pipe()
            batches = draw.randrange(3)
            child = os.fork()
            if child == 0:
                logged = itertools.count(1)
                def announced(self, batch):
                    append(self, batch)
                    os.write(writing, b"x")
                    if next(logged) > batches:
                        signal.pause()
                crp.atlas.build.batch_log.BatchLog.append = announced
                build(path, resume=True).close()
                os._exit(0)
            os.close(writing)
            if batches:
                heard = b"x"
                while heard and batches:
                    heard = os.read(reading, 1)
                    batches -= 1
                time.sleep(draw.uniform(0.0, 0.1))
            else:
                time.sleep(draw.uniform(0.0, 0.6))
            os.kill(child, signal.SIGKILL)
            kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
            os.close(reading)
        print(json.dumps({"kills": kills}))
    """
    path = tmp_path / "atlas.h5"
    ran = run_build(code, path, seconds=300)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["kills"] >= 8
    assert same_bits(path, undisturbed)
    build(path, ShapesDataset(COUNT), batch_size=4, matrix=True, resume=True).close()
    assert crp.verify_atlas(path) == ()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"])
def test_a_signal_saves_and_stops(tmp_path: Path, undisturbed: Path, number: int, status: int) -> None:
    process = Running(COMMAND, *build_command("demo:shapes:2000"), "--workers", 2, "-o", tmp_path / "atlas.h5")
    folder = tmp_path / "atlas.h5.partial"
    log = folder / "batches.log"
    process.wait_for(lambda: log.exists() and (logged_batches(log) or 0) > 1)
    os.kill(process.pid, number)
    ended = process.ended(60)
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    if number == signal.SIGINT:
        assert "interrupted after" in ended.stderr
        assert "--resume continues from there" in ended.stderr
    assert not (tmp_path / "atlas.h5").exists()
    with crp.ConceptAtlas(folder / "checkpoint.h5", incomplete=True) as atlas:
        assert 0 < (atlas.predictions >= 0).sum() < 2000
    assert crp.verify_atlas(folder / "checkpoint.h5") == ()


SMALL: dict[str, Any] = {"layers": ["layer2.1.conv2"], "batch_size": 4, "matrix": True}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "atlas.h5"
    build(path, ShapesDataset(24), **SMALL).close()
    return path


@pytest.mark.examples
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, pytest.param(0.1, marks=pytest.mark.slow)])
def test_a_full_disk_is_said_and_loses_no_batch(tmp_path: Path, small: Path, share: float) -> None:
    path = tmp_path / "atlas.h5"
    with (
        limited(int(share * small.stat().st_size)),
        pytest.raises(crp.CrpKitError, match="the disk, or what you may use of it, is full; (what|the batches)"),
    ):
        build(path, ShapesDataset(24), **SMALL)
    assert not path.exists()
    assert [entry.name for entry in tmp_path.rglob("*writing*")] == []
    build(path, ShapesDataset(24), **SMALL, resume=True).close()
    assert same_bits(path, small)
    assert os.listdir(tmp_path) == ["atlas.h5"]


class Sends(ShapesDataset):
    """Sends a signal to this process when a sample is read."""

    number, at = signal.SIGINT, 12

    def __getitems__(self, indices: Any) -> Any:
        if self.at in indices:
            os.kill(os.getpid(), self.number)
        return super().__getitems__(indices)


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 12, 20])
def test_ctrl_c_in_a_batch_keeps_it(tmp_path: Path, small: Path, at: int) -> None:
    data = Sends(24)
    data.at = -1
    path = tmp_path / "atlas.h5"
    prepared = dataset_pass.prepare

    def armed(*arguments: Any) -> Any:
        try:
            return prepared(*arguments)
        finally:
            data.at = at

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt) as raised:  # noqa: PT012
        patched.setattr(dataset_pass, "prepare", armed)
        build(path, data, **SMALL)
    data.at = -1
    if at == 20:  # in the last batch: the file is written
        assert not raised.value.args
    else:
        assert f"interrupted after {at // 4 + 1} of 6 batches, which are kept; resume" in str(raised.value)
        with crp.ConceptAtlas(tmp_path / "atlas.h5.partial" / "checkpoint.h5", incomplete=True) as atlas:
            assert (atlas.predictions >= 0).sum() == at + 4
        build(path, data, **SMALL, resume=True).close()
    assert same_bits(path, small)
    assert os.listdir(tmp_path) == ["atlas.h5"]


def test_a_log_smaller_than_the_state_costs_no_tree(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To prepare one of a gigabyte takes seconds, which a build would pay each minute."""
    calls, tree = [], PassState.tree

    def counted(state: PassState, *arguments: Any, **named: Any) -> Tree:
        calls.append(named["complete"])
        return tree(state, *arguments, **named)

    monkeypatch.setattr(PassState, "tree", counted)
    monkeypatch.setattr(PassState, "nbytes", property(lambda _: 1 << 40))
    build(tmp_path / "atlas.h5", ShapesDataset(24), **SMALL, checkpoint=0.0).close()
    assert calls == [False, True]  # the first checkpoint, and the file
    assert same_bits(tmp_path / "atlas.h5", small)


def test_a_batch_that_takes_long_is_given_up_and_computed_again(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "atlas.h5", Collector.seen

    def endless(collector: Collector, batch: Any) -> Any:
        if 8 not in batch.samples:
            return seen(collector, batch)
        signal.raise_signal(signal.SIGINT)
        began = time.monotonic()
        while time.monotonic() < began + 60:
            sum(range(1000))
        pytest.fail("it went on")

    monkeypatch.setattr(interrupts, "_PATIENCE", 0.05)
    monkeypatch.setattr(Collector, "seen", endless)
    with pytest.raises(KeyboardInterrupt, match="interrupted after 2 of 6 batches, which are kept"):
        build(path, ShapesDataset(24), **SMALL)
    monkeypatch.undo()
    build(path, ShapesDataset(24), **SMALL, resume=True).close()
    assert same_bits(path, small)


class Interrupted:
    """Sends a signal to this process in the calls of a method that HDF5 makes, from one call on."""

    def __init__(
        self, patched: pytest.MonkeyPatch, method: str, call: int, *, times: int = 1, number: int = signal.SIGINT
    ) -> None:
        usual, self.calls = getattr(hdf5_writer._Sink, method), 0

        def sending(sink: Any, *arguments: Any) -> Any:
            if "file.writing" in str(sink._file.name):
                self.calls += 1
                if call <= self.calls < call + times:
                    os.kill(os.getpid(), number)
            return usual(sink, *arguments)

        patched.setattr(hdf5_writer._Sink, method, sending)


CALLS = [("write", 1), ("write", 40), ("seek", 3), ("truncate", 1)]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "call"), CALLS)
def test_ctrl_c_in_any_callback_of_the_final_write_lets_it_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Path, method: str, call: int
) -> None:
    sent = Interrupted(monkeypatch, method, call)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "atlas.h5", ShapesDataset(24), **SMALL)
    assert sent.calls >= call
    assert same_bits(tmp_path / "atlas.h5", small)
    assert os.listdir(tmp_path) == ["atlas.h5"]


@pytest.mark.slow
def test_sigterm_in_the_final_write_of_a_merge_leaves_the_atlas_alone(tmp_path: Path, small: Path) -> None:
    parts = [tmp_path / f"{number}.h5" for number in range(2)]
    for number, part in enumerate(parts):
        build(part, ShapesDataset(24), **SMALL, shard=(number, 2)).close()
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patched:
            Interrupted(patched, "write", 5, number=signal.SIGTERM)
            crp.merge_atlases(parts, tmp_path / "atlas.h5")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert same_bits(tmp_path / "atlas.h5", small)
    assert sorted(os.listdir(tmp_path)) == ["0.h5", "1.h5", "atlas.h5"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["write", "seek"])
def test_a_second_ctrl_c_gives_the_final_write_up_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Path, method: str
) -> None:
    path = tmp_path / "atlas.h5"
    with monkeypatch.context() as patched:
        Interrupted(patched, method, 5, times=2)
        with pytest.raises(KeyboardInterrupt, match="while .* was written; all batches are kept; resume continues"):
            build(path, ShapesDataset(24), **SMALL)
    assert not path.exists()
    assert [entry.name for entry in tmp_path.rglob("*writing*")] == []
    monkeypatch.setattr(Collector, "seen", None)  # no batch is computed again
    build(path, ShapesDataset(24), **SMALL, resume=True).close()
    assert same_bits(path, small)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, OSError, SystemExit])
@pytest.mark.parametrize("method", ["write", "seek", "truncate"])
def test_an_exception_of_any_kind_in_a_callback_never_gives_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], method: str
) -> None:
    class Fails(io.FileIO):
        """Fails in one call, and works again after it, as an interrupted call does."""

    def fails(self: Fails, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 7 or method == "truncate":
            raise error
        return getattr(io.FileIO, method)(self, *arguments)

    calls: list[int] = []
    setattr(Fails, method, fails)
    monkeypatch.setattr("crp_kit.atlas.file.hdf5_writer.open", lambda path, *_, **__: Fails(path, "r+"), raising=False)
    expected = crp.CrpKitError if error is OSError else error
    tree = Tree({"/": {"a": 1}}, {"/values": array_spec(np.arange(200000.0))})
    with pytest.raises(expected):
        hdf5_writer.write_tree(tmp_path / "a.h5", tree, compress=False)
    assert calls
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("part", ["values", "text", "attribute", "shape"])
def test_a_file_that_does_not_hold_what_was_written_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    write_file = hdf5_writer._write_file

    def damaged(path: Path, *arguments: Any, **named: Any) -> None:
        write_file(path, *arguments, **named)
        with h5py.File(path, "a") as file:
            if part == "values":
                file["values"][1234] += 1
            elif part == "text":
                file["text"][1] = b"xx"
            elif part == "attribute":
                file["group"].attrs["n"] = 8
            else:
                del file["values"]
                file["values"] = np.zeros(3)

    monkeypatch.setattr(hdf5_writer, "_write_file", damaged)
    tree = Tree(
        {"/group": {"n": 7}}, {"/values": array_spec(np.arange(20000)), "/text": array_spec(np.array([b"a", b"bc"]))}
    )
    with pytest.raises(crp.CrpKitError, match="what was read again is not what was written"):
        hdf5_writer.write_tree(tmp_path / "a.h5", tree, compress=True)
    assert os.listdir(tmp_path) == []


def test_the_share_of_a_file_that_is_written_rises_to_one_and_takes_one_look_at_all_arrays(tmp_path: Path) -> None:
    class Watched(dict[str, Any]):
        looks = 0

        def values(self) -> Any:
            self.looks += 1
            return super().values()

    arrays = Watched({f"/{number}": array_spec(np.arange(100.0) + number) for number in range(50)})
    shares: list[float] = []
    hdf5_writer.write_tree(tmp_path / "a.h5", Tree({}, arrays), compress=False, note=shares.append)
    assert len(shares) >= 2 * len(arrays)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert arrays.looks == 1


@pytest.mark.slow
def test_a_build_writes_little_more_than_its_scores_and_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Path
) -> None:
    log_bytes, file_bytes = [], []
    clear, take_name = BatchLog.close, files._take_name
    monkeypatch.setattr(BatchLog, "close", lambda log: (log_bytes.append(log.size), clear(log)))

    def named(beside: Path, path: Path, **options: Any) -> None:
        file_bytes.append(beside.stat().st_size)
        take_name(beside, path, **options)

    monkeypatch.setattr(files, "_take_name", named)
    build(tmp_path / "atlas.h5", ShapesDataset(24), **SMALL, checkpoint=0.0).close()
    scores = 24 * 32 * 2 * (4 + 1)
    assert scores < log_bytes[0] < 1.5 * scores
    assert len(file_bytes) == 2, "an empty checkpoint and the file: the log has not outgrown the state"
    assert sum(file_bytes) + log_bytes[0] < 2 * small.stat().st_size


@pytest.mark.slow
def test_a_log_that_has_outgrown_the_state_becomes_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Path
) -> None:
    saved: list[int] = []
    save = BuildFolder.save
    monkeypatch.setattr(BuildFolder, "save", lambda *some, **options: (saved.append(1), save(*some, **options))[1])
    monkeypatch.setattr(Tree, "nbytes", 4000)  # two batches' worth of scores: this state is small
    monkeypatch.setattr(BuildFolder, "checkpoint_size", lambda _: 0)
    build(tmp_path / "a.h5", ShapesDataset(24), **SMALL, checkpoint=0.0).close()
    assert len(saved) == 1 + 2, "an empty one, and not one at every batch"
    assert same_bits(tmp_path / "a.h5", small)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["before", "after"])
def test_a_kill_around_the_step_from_log_to_checkpoint_counts_no_batch_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Path, step: str
) -> None:
    path = tmp_path / "atlas.h5"
    with monkeypatch.context() as patched:
        patched.setattr(BatchLog, "size", 1 << 40)  # at every batch
        patched.setattr(_Pass, "_keep", lambda *_: None)  # as after a kill
        saves = BuildFolder.save
        calls: list[int] = []

        def killed(*arguments: Any, **options: Any) -> None:
            calls.append(1)
            if step == "after" or len(calls) < 4:
                saves(*arguments, **options)
            if len(calls) == 4:
                raise RuntimeError("killed")

        patched.setattr(BuildFolder, "save", killed)
        with pytest.raises(RuntimeError):
            build(path, ShapesDataset(24), **SMALL, checkpoint=0.0)
    assert logged_batches(tmp_path / "atlas.h5.partial" / "batches.log") == 3
    build(path, ShapesDataset(24), **SMALL, resume=True).close()
    assert same_bits(path, small)


@pytest.mark.slow
def test_a_damaged_log_is_said_and_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, small: Path
) -> None:
    path, log = tmp_path / "atlas.h5", tmp_path / "atlas.h5.partial" / "batches.log"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_Pass, "finish", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError):
            build(path, ShapesDataset(24), **SMALL)
    damaged = bytearray(log.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    log.write_bytes(damaged)
    build(path, ShapesDataset(24), **SMALL, resume=True).close()
    assert "batches.log is damaged: 4 batches in it are computed again" in caplog.text
    assert same_bits(path, small)


def test_resuming_from_what_is_no_checkpoint_leaves_the_folder_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "atlas.h5.partial" / "checkpoint.h5"
    theirs.parent.mkdir()
    theirs.write_text("theirs")
    with pytest.raises(crp.CrpKitError, match=r"checkpoint.h5' is no atlas file"):
        build(tmp_path / "atlas.h5", ShapesDataset(4), resume=True)
    assert os.listdir(theirs.parent) == ["checkpoint.h5"], "no mark that it is crp-kit's, which would let it be removed"


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "fifo"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_but_a_file_is_overwritten(tmp_path: Path, kind: str, overwrite: bool) -> None:
    path, precious = tmp_path / "atlas.h5", tmp_path / "precious"
    precious.write_text("theirs")
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(precious if kind == "link" else tmp_path / "away")
    with pytest.raises(crp.CrpKitError, match="atlas.h5.*(it is a|exists)"):
        build(path, ShapesDataset(4), overwrite=overwrite)
    assert precious.read_text() == "theirs"
    assert sorted(os.listdir(tmp_path)) == ["atlas.h5", "precious"]


@pytest.mark.parametrize("length", [252, 300])
def test_a_name_that_is_too_long_is_refused_in_words(tmp_path: Path, length: int) -> None:
    path = tmp_path / f"{'a' * (length - 3)}.h5"
    with pytest.raises(AtlasError, match=r"cannot write .*: File name too long$"):
        build(path, ShapesDataset(4))
    with pytest.raises(AtlasError, match="cannot be read: File name too long|no file"):
        crp.ConceptAtlas(path)
    assert os.listdir(tmp_path) == []


class Appears(ShapesDataset):
    """Somebody else writes a file of the atlas's name meanwhile."""

    path: Path

    def __getitems__(self, indices: Any) -> Any:
        if 20 in indices and len(indices) == 4:
            self.path.write_text("theirs")
        return super().__getitems__(indices)


@pytest.mark.slow
def test_a_file_that_appears_meanwhile_is_kept_and_no_batch_is_lost(tmp_path: Path, small: Path) -> None:
    data, path = Appears(24), tmp_path / "atlas.h5"
    data.path = path
    with pytest.raises(crp.CrpKitError, match="a file of this name has appeared meanwhile; what was there before is"):
        build(path, data, **SMALL)
    assert path.read_text() == "theirs"
    path.rename(tmp_path / "theirs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Collector, "seen", None)  # no batch is computed again
        build(path, ShapesDataset(24), **SMALL, resume=True).close()
    assert same_bits(path, small)


@pytest.mark.slow
def test_overwriting_starts_again_without_the_batches_before(tmp_path: Path, small: Path) -> None:
    path = tmp_path / "atlas.h5"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_Pass, "finish", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError):
            build(path, ShapesDataset(24), **SMALL)
    passed: list[int] = []
    seen = Collector.seen
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Collector, "seen", lambda *some: (passed.append(1), seen(*some))[1])
        build(path, ShapesDataset(24), **SMALL, overwrite=True).close()
    assert len(passed) == 6
    assert same_bits(path, small)


@pytest.mark.slow
def test_a_finished_atlas_clears_up_what_a_kill_has_left(tmp_path: Path, small: Path) -> None:
    path = tmp_path / "atlas.h5"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(WorkingFolder, "release", lambda folder, **_: folder.close())
        build(path, ShapesDataset(24), **SMALL).close()
    assert (tmp_path / "atlas.h5.partial").exists()
    build(path, ShapesDataset(24), **SMALL, resume=True).close()
    assert os.listdir(tmp_path) == ["atlas.h5"]


@pytest.mark.slow
def test_a_large_build_says_what_it_takes_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path / "a.h5", ShapesDataset(4), **SMALL).close()
    assert "this build takes" not in caplog.text
    monkeypatch.setattr(estimate, "_LARGE", 1000)
    build(tmp_path / "b.h5", ShapesDataset(4), **SMALL).close()
    assert "this build takes at most about 0.0 GB in memory" in caplog.text
    assert "less with fewer or smaller layers, k, k_class, matrix" in caplog.text


def test_a_large_file_is_announced_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dataset_pass, "_SMALL", 0)
    build(tmp_path / "a.h5", ShapesDataset(4), verbose=True).close()
    line = capsys.readouterr().err.splitlines()[-2]
    assert re.fullmatch(r"atlas: 4 of 4 images, writing .*a\.h5 \(0\.0 GB before compression\)", line)


def test_errors_of_the_disk_are_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crp_kit.files.os.link", full)  # the last step of the file
    with pytest.raises(
        crp.CrpKitError,
        match="cannot write .*a.h5: the disk, or what you may use of it, is full; what was there before is kept",
    ):
        build(tmp_path / "a.h5", ShapesDataset(4))
    assert os.listdir(tmp_path) == ["a.h5.partial"], "what batches gave is kept"


class Removes(ShapesDataset):
    """Removes a folder in the middle."""

    folder: Path

    def __getitems__(self, indices: Any) -> Any:
        if 8 in indices and self.folder.exists():
            self.folder.rename(self.folder.with_name("moved"))
        return super().__getitems__(indices)


@pytest.mark.slow
def test_a_vanished_folder_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    data = Removes(13)
    data.folder = folder
    with pytest.raises(crp.CrpKitError, match=r"cannot write .*: there is no folder .*out\b"):
        build(folder / "a.h5", data, batch_size=4, subset=range(1, 13), checkpoint=0.0)
    assert crp.verify_atlas(tmp_path / "moved" / "a.h5.partial" / "checkpoint.h5") == ()
    assert logged_batches(tmp_path / "moved" / "a.h5.partial" / "batches.log") == 2


@pytest.mark.slow
def test_two_processes_do_not_build_one_file(tmp_path: Path) -> None:
    class Nested(ShapesDataset):
        def __getitems__(self, indices: Any) -> Any:
            with pytest.raises(crp.CrpKitError, match="another process is building .*a.h5"):
                build(tmp_path / "a.h5", ShapesDataset(4), resume=True)
            return super().__getitems__(indices)

    build(tmp_path / "a.h5", Nested(5)).close()
    assert crp.verify_atlas(tmp_path / "a.h5") == ()


@pytest.mark.slow
def test_the_memory_of_the_process_stays_small_when_the_state_is_on_disk(tmp_path: Path) -> None:
    code = """
        def anonymous():
            lines = open("/proc/self/status").read().splitlines()
            return max(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) << 10
        build(sys.argv[1], limit=24, layers=["layer1.0.conv1"], concepts=crp.NeuronConcept(), k=1, k_class=1)
        before, most = anonymous(), [0]
        original = crp.atlas.build.pass_state.PassState.add
        def watched(self, batch):
            original(self, batch)
            most[0] = max(most[0], anonymous())
        crp.atlas.build.pass_state.PassState.add = watched
        job = dict(layers=["layer1.0.conv1"], concepts=crp.NeuronConcept(), matrix=False, limit=24, checkpoint=60.0)
        for limit in (0, 1 << 32):  # each in a fork, which begins with the same memory
            if not os.fork():
                build(f"{sys.argv[1]}.{limit}", max_memory=limit, k_class=24, **job).close()
                print(limit, most[0] - before, flush=True)
                os._exit(0)
            assert os.wait()[1] == 0
    """
    ran = subprocess.run(
        [sys.executable, "-c", build_code(code), str(tmp_path / "a.h5")],
        capture_output=True, text=True, check=True, env=environment(),
    )  # fmt: skip
    grown = {int(limit): int(size) for limit, size in map(str.split, ran.stdout.splitlines())}
    neurons, classes = 16 * 32 * 32, 8
    state = 2 * neurons * (24 * 20 + classes * (24 * 16 + 2 * 4 + 6 * 8))
    assert grown[1 << 32] > 0.6 * state  # some of it lies where freed memory was
    assert grown[0] < 0.3 * state, grown


def build_command(data: str) -> tuple[str, ...]:
    model = ("--model", "demo:resnet", "--layers", "layer2.1.conv2", "--batch-size", "4")
    return ("atlas", "build", *model, "--data", data)


def torchrun(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run crp-kit in two processes of torchrun, which runs in a process of its own."""
    code = "from torch.distributed.run import main; main()"
    return run_python(code, "--standalone", "--nproc-per-node=2", *arguments, environment=environment(), seconds=300)


@pytest.mark.slow
def test_torchrun_gives_the_same_bits(tmp_path: Path) -> None:
    arguments = (*build_command("demo:shapes:44"), "--workers", "0", "-o")  # an odd number of batches
    alone = run_command(*arguments, tmp_path / "one.h5")
    assert alone.returncode == 0, alone.stderr
    together = torchrun("-m", "crp_kit", *arguments, tmp_path / "many.h5")
    assert together.returncode == 0, together.stderr
    assert same_bits(tmp_path / "one.h5", tmp_path / "many.h5")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["many.h5", "one.h5"]


@pytest.mark.slow
def test_a_process_of_torchrun_that_dies_is_started_again_and_resumes(tmp_path: Path) -> None:
    factory = tmp_path / "data.py"
    factory.write_text(
        textwrap.dedent(f"""
            import os, signal
            from pathlib import Path
            from crp_kit.data import ShapesDataset

            class Deadly(ShapesDataset):
                def __getitems__(self, indices):
                    died = Path({str(tmp_path)!r}) / "died"
                    if 40 in indices and not died.exists():
                        died.write_text("once")
                        os.kill(os.getpid(), signal.SIGKILL)
                    return super().__getitems__(indices)

            def data():
                return Deadly(48, split="test")
        """)
    )
    options = ("--workers", 0, "--checkpoint", 0, "-o", tmp_path / "many.h5")
    ran = torchrun("--max-restarts=3", "-m", "crp_kit", *build_command(f"{factory}:data"), *options)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "died").exists()
    alone = run_command(*build_command("demo:shapes:48"), "--workers", "0", "-o", tmp_path / "one.h5")
    assert alone.returncode == 0, alone.stderr
    assert same_bits(tmp_path / "one.h5", tmp_path / "many.h5")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal is of Linux")
def test_a_process_whose_torchrun_is_killed_does_not_wait_for_the_others(tmp_path: Path) -> None:
    member = """
        import sys
        from pathlib import Path
        from crp_kit.atlas.build.distributed import build_in_processes
        print("meets", flush=True)
        build_in_processes(None, Path(sys.argv[1]), resume=False, overwrite=False, verbose=False)
    """
    starter = """
        import subprocess, sys
        process = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]])
        print(process.pid, flush=True)
        process.wait()
    """
    alone = environment(RANK="1", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="9")  # nobody listens there
    command = [sys.executable, "-c", textwrap.dedent(starter), textwrap.dedent(member), str(tmp_path / "atlas.h5")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=alone) as torchrun:
        assert torchrun.stdout is not None
        pid = int(torchrun.stdout.readline())
        assert torchrun.stdout.readline() == "meets\n"
        time.sleep(0.5)
        assert runs(pid)
        torchrun.kill()
    end = time.monotonic() + 10
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not runs(pid)


def runs(pid: int) -> bool:
    """Whether a process runs, which one that nobody has waited for does not."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def job(**variables: object) -> dict[str, str]:
    """The variables of a task of a job array."""
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in variables.items()}


@pytest.mark.parametrize(
    ("variables", "shard"),
    [
        (job(ID=0, COUNT=3, MIN=0, MAX=2, STEP=1), (0, 3)),
        (job(ID=20, COUNT=3, MIN=10, MAX=30, STEP=10), (1, 3)),
        (job(ID=30, COUNT=3, MIN=10, MAX=30, STEP=10), (2, 3)),
        (job(ID=5, COUNT=1, MIN=5, MAX=5, STEP=1), None),
        (job(ID=5), None),
        ({}, None),
    ],
)
def test_a_task_of_a_job_array_has_the_shard_of_its_place(
    variables: dict[str, str], shard: tuple[int, int] | None
) -> None:
    assert shard_of_job_array(variables) == shard


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (job(ID=3, COUNT=3, MIN=1, MAX=7, STEP=1), "are no series with equal steps: number them 0-2, or"),  # 1,3,7
        (job(ID=7, COUNT=3, MIN=1, STEP=1), "no series"),
        (job(ID=15, COUNT=3, MIN=10, MAX=30, STEP=10), "no series"),
        (job(ID=1, COUNT=3, STEP=0), "no numbers of tasks"),
        (job(ID=1, COUNT=0), "no numbers of tasks"),
        (job(ID="x", COUNT=3), "no numbers of tasks"),
    ],
)
def test_a_job_array_that_is_no_series_is_refused(variables: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        shard_of_job_array(variables)


@pytest.mark.slow
def test_job_arrays_build_their_shards_beside_the_output(tmp_path: Path) -> None:
    for task in (1, 2):
        array = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1"}
        output = ("--workers", "0", "-o", tmp_path / "atlas.h5", "--quiet")
        built = run_command(*build_command("demo:shapes:24"), *output, environment=array)
        assert built.returncode == 0, built.stderr
    shards = sorted(str(one) for one in tmp_path.iterdir())
    assert [Path(one).name for one in shards] == ["atlas.shard-0-of-2.h5", "atlas.shard-1-of-2.h5"]
    merged = run_command("atlas", "merge", *shards[::-1], "-o", tmp_path / "atlas.h5")
    assert merged.returncode == 0, merged.stderr
    alone = run_command(*build_command("demo:shapes:24"), "--workers", "0", "-o", tmp_path / "one.h5")
    assert alone.returncode == 0, alone.stderr
    assert same_bits(tmp_path / "atlas.h5", tmp_path / "one.h5")


@pytest.mark.slow
def test_a_batch_that_is_half_taken_in_is_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[int] = []
    add = crp.atlas.build.pass_state._ModeState.add

    def fails(self: Any, *arguments: Any) -> None:
        kinds.append(1)
        if len(kinds) == 11:  # two layers of two kinds: in the third batch
            raise MemoryError
        add(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(crp.atlas.build.pass_state._ModeState, "add", fails)
        with pytest.raises(MemoryError):
            build(tmp_path / "a.h5", ShapesDataset(20), batch_size=4, checkpoint=0.0)
    with crp.ConceptAtlas(tmp_path / "a.h5.partial" / "checkpoint.h5", incomplete=True) as atlas:
        assert len(atlas.samples) == 0
    # What the third batch gave is known: it is added whole when the build is resumed.
    assert logged_batches(tmp_path / "a.h5.partial" / "batches.log") == 3
    build(tmp_path / "a.h5", ShapesDataset(20), batch_size=4, resume=True).close()
    build(tmp_path / "b.h5", ShapesDataset(20), batch_size=4).close()
    assert same_bits(tmp_path / "a.h5", tmp_path / "b.h5")
