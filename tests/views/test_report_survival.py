"""Whatever happens to a build of a report, an earlier report is whole, and what is left lying is cleared away."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import run_python
from report_case import contents, odd_report

import crp_kit as crp
from crp_kit.errors import InputError
from crp_kit.views.report.folder import Site, made_whole

PROCESSES = """
    import json, os, random, resource, shutil, signal, sys, time
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    import crp_kit as crp
    from crp_kit.views.report.folder import Site
    from report_case import contents, odd_report

    def build(path, overwrite=True):
        with crp.ConceptAtlas(sys.argv[1]) as opened:
            odd_report(opened, path, references=1, overwrite=overwrite)

    def forked(work, *arguments):
        # Do something in a process of its own.
        child = os.fork()
        if child == 0:
            try:
                work(*arguments)
            except crp.errors.InputError as error:
                os._exit(2)
            os._exit(0)
        return child

    def status(child):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def killed_at(path, owner, name, number, after):
        # Build, and be killed at one of the calls of a function.
        usual, calls = getattr(owner, name), []
        def counted(*arguments, **options):
            calls.append(1)
            if len(calls) == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            done = usual(*arguments, **options)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return done
        setattr(owner, name, counted)
        build(path)

    def steps(path):
        for owner, name, number, after in (
            (Site, "script", 1, False), (Site, "script", 4, False), (Site, "picture", 3, True),  # while it is made
            (Path, "rename", 1, False), (Path, "rename", 1, True),  # before and after the earlier one goes away
            (Path, "rename", 2, True), (shutil, "rmtree", 1, False),  # the new one is there, the earlier one not gone
        ):
            killed = status(forked(killed_at, path, owner, name, number, after))
            left = contents(path)
            yield killed, left, status(forked(build, path, False)), contents(path)

    def times(path):
        draw = random.Random(3)
        for _ in range(4):
            child = forked(build, path)
            time.sleep(draw.uniform(0.1, 0.7))
            os.kill(child, signal.SIGKILL)
            status(child)
            yield contents(path)

    def limited(path):
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        build(path)

    found = {}
    for work in (steps, times):
        path = Path(sys.argv[2]) / work.__name__ / "report"
        found[work.__name__] = list(work(path))
        assert status(forked(build, path)) == 0
    path = Path(sys.argv[2]) / "limited" / "report"
    found["limited"] = status(forked(limited, path))
    print(json.dumps(found))
"""
"""Builds that are killed at given steps, at random times, or cannot write: what was left of each."""
SIGKILLED = -9


@pytest.fixture(scope="module")
def atlas(odd_atlas_file: Path) -> Iterator[crp.ConceptAtlas]:
    with crp.ConceptAtlas(odd_atlas_file) as opened:
        yield opened


@pytest.fixture(scope="module")
def renewed(atlas: crp.ConceptAtlas, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str] | None:
    """What an undisturbed build makes."""
    return contents(odd_report(atlas, tmp_path_factory.mktemp("undisturbed") / "report", references=1).path)


class Disturbed:
    """What happened to builds over an earlier report, each in a folder of its own."""

    def __init__(self, atlas: crp.ConceptAtlas, folder: Path) -> None:
        self.folder = folder
        for name in ("steps", "times", "limited"):
            (folder / name).mkdir()
            made = odd_report(atlas, folder / name / "report", concept_ids=[0], references=1)
        self.old = contents(made.path)
        ran = run_python(PROCESSES, atlas.path, folder)
        assert ran.returncode == 0, ran.stderr
        self.found = json.loads(ran.stdout)

    def left(self, name: str) -> tuple[list[str], dict[str, str] | None]:
        """What lies in a folder now, and what its report holds."""
        return os.listdir(self.folder / name), contents(self.folder / name / "report")


@pytest.fixture(scope="module")
def disturbed(atlas: crp.ConceptAtlas, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    return Disturbed(atlas, tmp_path_factory.mktemp("disturbed"))


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_a_whole_report(disturbed: Disturbed, renewed: dict[str, str]) -> None:
    old, found = disturbed.old, disturbed.found["steps"]
    assert [killed for killed, *_ in found] == [SIGKILLED] * 7
    # Between the two renamings the place is empty, until the next build puts the earlier report back.
    assert [left for _, left, _, _ in found] == [old, old, old, old, None, renewed, renewed]
    assert [refused for _, _, refused, _ in found] == [2] * 7
    assert [then for *_, then in found] == [old, old, old, old, old, renewed, renewed]


@pytest.mark.slow
def test_kills_at_random_times_leave_the_old_or_the_new_report(disturbed: Disturbed, renewed: dict[str, str]) -> None:
    found = disturbed.found["times"]
    assert len(found) == 4
    assert all(one in (disturbed.old, renewed) for one in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["steps", "times"])
def test_the_next_build_clears_up(disturbed: Disturbed, renewed: dict[str, str], name: str) -> None:
    assert disturbed.left(name) == (["report"], renewed)


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_told_and_nothing_is_lost(disturbed: Disturbed) -> None:
    # A limit of the size of files ends a write as a full disk does, with an error of the system.
    assert disturbed.found["limited"] == 2
    assert disturbed.left("limited") == (["report"], disturbed.old)


def test_two_processes_do_not_make_one_report(tmp_path: Path) -> None:
    with made_whole(tmp_path / "report", overwrite=False) as made:
        (made / "index.html").write_text("first")
        with (
            pytest.raises(InputError, match="another process is making"),
            made_whole(tmp_path / "report", overwrite=True),
        ):
            pass
    assert (tmp_path / "report" / "index.html").read_text() == "first"
    assert os.listdir(tmp_path) == ["report"]


def test_what_others_keep_beside_a_report_stays(tmp_path: Path) -> None:
    beside = tmp_path / ".report.partial"
    beside.mkdir()
    (beside / "notes.txt").write_text("precious")
    with made_whole(tmp_path / "report", overwrite=False):
        pass
    assert contents(beside) == {"notes.txt": "precious"}


@pytest.mark.parametrize("name", ["pages/notes.txt", "pictures/mine/photo.png", "todo.md"])
def test_a_report_that_somebody_has_put_files_into_is_kept(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        with made_whole(tmp_path / "report", overwrite=True) as made:
            site = Site(made)
            site.write("pages/index.html", "ours")
            site.list_files()
    precious = tmp_path / "report" / name
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("precious")
    with (
        pytest.raises(InputError, match="holds files that are not of a report"),
        made_whole(tmp_path / "report", overwrite=True),
    ):
        pass
    assert precious.read_text() == "precious"
    assert os.listdir(tmp_path) == ["report"]


def test_a_file_put_into_a_report_while_the_next_is_made_is_kept(tmp_path: Path) -> None:
    with made_whole(tmp_path / "report", overwrite=True) as made:
        site = Site(made)
        site.write("index.html", "first")
        site.list_files()
    with (  # noqa: PT012
        pytest.raises(InputError, match="holds files that are not of a report"),
        made_whole(tmp_path / "report", overwrite=True) as made,
    ):
        (made / "index.html").write_text("second")
        (tmp_path / "report" / "notes.txt").write_text("precious")
    assert (tmp_path / "report" / "notes.txt").read_text() == "precious"
    assert (tmp_path / "report" / "index.html").read_text() == "first"


def test_the_folder_where_one_stands_is_used_if_it_is_empty(
    atlas: crp.ConceptAtlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    odd_report(atlas, Path(), concept_ids=[0], references=1)
    assert (tmp_path / "here" / "index.html").is_file()
    assert os.listdir(tmp_path) == ["here"]
