"""Whatever happens to a build, nothing is lost and the finished file has the same bits."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from atlas_case import build, same_bits
from processes import run_command, run_python

import crp_kit as crp
from crp_kit.data import ShapesDataset

ROOT = Path(__file__).parents[2]
COUNT = 96

SETUP = f"""
    import json, os, random, signal, sys, time
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
    build(path, ShapesDataset(COUNT), batch_size=4, matrix=True).close()
    return path


@pytest.mark.slow
def test_after_any_number_of_kills_it_goes_on_and_has_the_same_bits(tmp_path: Path, undisturbed: Path) -> None:
    # Each try is a fork of a process that has imported everything. It says when it has taken in a batch, and is killed
    # some batches later, or while it starts, after a random time: in a batch, in a checkpoint, or between.
    code = """
        draw = random.Random(7)
        path, kills = sys.argv[1], 0
        add = crp.atlas.build.pass_state.PassState.add
        while not os.path.exists(path):
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                def told(self, batch):
                    add(self, batch)
                    os.write(writing, b"x")
                crp.atlas.build.pass_state.PassState.add = told
                build(path, resume=True).close()
                os._exit(0)
            os.close(writing)
            batches = draw.randrange(4)
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
    command = [
        *(sys.executable, "-m", "crp_kit", "atlas", "build", "--model", "demo:resnet", "--data", "demo:shapes:2000"),
        *("--layers", "layer2.1.conv2", "--batch-size", "4", "--workers", "2", "-o", str(tmp_path / "atlas.h5")),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    folder = tmp_path / "atlas.h5.partial"
    wait_for(lambda: folder.exists(), process)
    time.sleep(1.5)
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "Traceback" not in said
    if number == signal.SIGINT:
        assert "interrupted after" in said
        assert "--resume continues from there" in said
    assert not (tmp_path / "atlas.h5").exists()
    with crp.ConceptAtlas(folder / "checkpoint.h5", incomplete=True) as atlas:
        assert 0 < (atlas.predictions >= 0).sum() < 2000
    assert crp.verify_atlas(folder / "checkpoint.h5") == ()


def wait_for(condition: Any, process: "subprocess.Popen[str]") -> None:
    for _ in range(600):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("it never began")


def test_a_full_disk_is_said_and_keeps_the_last_checkpoint(tmp_path: Path, undisturbed: Path) -> None:
    # A limit on the size of files makes the system refuse to write more, as a full disk does.
    code = """
        import resource
        limit = [None]
        original = crp.atlas.file.hdf5_writer.write_tree
        def limited(path, tree, *, compress):
            if limit[0] is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit[0], resource.RLIM_INFINITY))
            original(path, tree, compress=compress)
            limit[0] = os.path.getsize(path) // 2 if tree.groups["/progress"]["done"] >= 9 else None
        crp.atlas.build.dataset_pass.write_tree = limited
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            build(sys.argv[1])
        except crp.CrpKitError as error:
            print(error)
    """
    path = tmp_path / "atlas.h5"
    ran = run_build(code, path)
    assert ran.returncode == 0, ran.stderr
    assert "checkpoint.h5: the disk, or what you may use of it, is full" in ran.stdout
    assert "what was there before is kept" in ran.stdout
    assert [one.name for one in (tmp_path / "atlas.h5.partial").iterdir() if "writing" in one.name] == []
    build(path, ShapesDataset(COUNT), batch_size=4, matrix=True, resume=True).close()
    assert same_bits(path, undisturbed)


def test_errors_of_the_disk_are_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crp_kit.files.os.replace", full)
    with pytest.raises(
        crp.CrpKitError,
        match="cannot write .*a.h5: the disk, or what you may use of it, is full; what was there before is kept",
    ):
        build(tmp_path / "a.h5", ShapesDataset(4))
    assert list(tmp_path.iterdir()) == [], "there was nothing to keep"


class Removes(ShapesDataset):
    """Removes a folder in the middle."""

    folder: Path

    def __getitems__(self, indices: Any) -> Any:
        if 8 in indices and self.folder.exists():
            self.folder.rename(self.folder.with_name("moved"))
        return super().__getitems__(indices)


def test_a_vanished_folder_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    data = Removes(13)
    data.folder = folder
    with pytest.raises(crp.CrpKitError, match=r"cannot write .*: the folder .* is gone"):
        build(folder / "a.h5", data, batch_size=4, subset=range(1, 13), checkpoint=0.0)
    assert crp.verify_atlas(tmp_path / "moved" / "a.h5.partial" / "checkpoint.h5") == ()


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
        build(sys.argv[1] + ".small", limit=12, layers=["layer1.0.conv1"], concepts=crp.NeuronConcept(), k=1, k_class=1)
        before, most = anonymous(), [0]
        original = crp.atlas.build.pass_state.PassState.add
        def watched(self, batch):
            original(self, batch)
            most[0] = max(most[0], anonymous())
        crp.atlas.build.pass_state.PassState.add = watched
        job = dict(layers=["layer1.0.conv1"], concepts=crp.NeuronConcept(), matrix=False, limit=12, checkpoint=60.0)
        build(sys.argv[1], max_memory=int(sys.argv[2]), **job).close()
        print(most[0] - before)
    """
    grown = {}
    for limit in (0, 1 << 32):
        path = tmp_path / f"{limit}.h5"
        ran = subprocess.run(
            [sys.executable, "-c", build_code(code), str(path), str(limit)],
            capture_output=True, text=True, check=True, env=environment(),
        )  # fmt: skip
        grown[limit] = int(ran.stdout)
    neurons, classes = 16 * 32 * 32, 8
    state = 2 * neurons * (40 * 20 + classes * (8 * 16 + 2 * 4 + 6 * 8))
    assert grown[1 << 32] > 0.6 * state  # some of it lies where freed memory was
    assert grown[0] < 0.3 * state, grown


def build_command(data: str) -> tuple[str, ...]:
    model = ("--model", "demo:resnet", "--layers", "layer2.1.conv2", "--batch-size", "4")
    return ("atlas", "build", *model, "--data", data)


@pytest.mark.slow
def test_torchrun_gives_the_same_bits(tmp_path: Path) -> None:
    arguments = (*build_command("demo:shapes:48"), "--workers", "0", "-o")
    alone = run_command(*arguments, tmp_path / "one.h5")
    assert alone.returncode == 0, alone.stderr
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "-m"]
    together = subprocess.run(
        [*run, "crp_kit", *arguments, str(tmp_path / "many.h5")],
        capture_output=True, text=True, env=environment(), timeout=180, check=False,
    )  # fmt: skip
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
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=3", "--standalone"),
        *("-m", "crp_kit", *build_command(f"{factory}:data"), "--workers", "0", "--checkpoint", "0"),
        *("-o", str(tmp_path / "many.h5")),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=180, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "died").exists()
    layers = ["layer2.1.conv2"]
    build(tmp_path / "one.h5", ShapesDataset(48, split="test"), layers=layers, batch_size=4).close()
    assert same_bits(tmp_path / "one.h5", tmp_path / "many.h5")


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
    data = ShapesDataset(24, split="test")
    build(tmp_path / "one.h5", data, layers=["layer2.1.conv2"], batch_size=4).close()
    assert same_bits(tmp_path / "atlas.h5", tmp_path / "one.h5")


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
        assert atlas["layer2.1.conv2"].relevance.moments.count.sum() == 8
    build(tmp_path / "a.h5", ShapesDataset(20), batch_size=4, resume=True).close()
    build(tmp_path / "b.h5", ShapesDataset(20), batch_size=4).close()
    assert same_bits(tmp_path / "a.h5", tmp_path / "b.h5")
