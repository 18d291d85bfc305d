"""Python processes of their own for tests, forked from one that has imported crp-kit already.

Importing torch and crp-kit takes seconds. What is settled when an interpreter starts (hash seeds, settings of the C
library, what an import loads, memory) needs ``subprocess`` instead.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

PRELOADED = [
    *("crp_kit", "crp_kit.cli", "crp_kit.atlas", "crp_kit.data", "crp_kit.evaluation", "crp_kit.views.report"),
    *("torchvision", "pytest", "scipy.stats", "sklearn.decomposition", "IPython", "nbformat"),
]
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT: Any = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(PRELOADED)

COMMAND = "from crp_kit.cli import main\nmain(prog_name='crp-kit')"


def end_of_child(work: Callable[[], object]) -> int:
    """Do something in a forked process and return its exit status, 3 after an exception; negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the status says so
            os._exit(3)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Running:
    """Code that runs in a process of its own, as ``python -c`` runs it, with variables added to the environment."""

    def __init__(self, code: str, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [os.path.join(self._folder.name, name) for name in ("stdout", "stderr")]
        self._command = [*map(str, arguments)]
        options = (textwrap.dedent(code), self._command, dict(environment or {}), os.getcwd(), self._streams)
        self._process = CONTEXT.Process(target=_execute, args=options)
        self._process.start()
        self.pid = self._process.pid

    def wait_for(self, condition: Callable[[], object], seconds: float = 180) -> None:
        """Return when something has happened that the process does.

        Raises
        ------
        AssertionError
            If the process ends before, or it takes too long.
        """
        end = time.monotonic() + seconds
        while not condition():
            if not self._process.is_alive() or time.monotonic() > end:
                self._process.kill()
                raise AssertionError(f"it never happened: {self.ended()}")
            time.sleep(0.01)

    def ended(self, seconds: float = 180) -> subprocess.CompletedProcess[str]:
        """Return the exit code, which is negative after a signal, and what it has printed, once the process has ended.

        Raises
        ------
        subprocess.TimeoutExpired
            If that takes too long; the process is killed.
        """
        with self._folder:
            self._process.join(seconds)
            if self._process.exitcode is None:
                self._process.kill()
                self._process.join()
                raise subprocess.TimeoutExpired(self._command, seconds)
            output, error = (Path(stream).read_text(encoding="utf-8") for stream in self._streams)
            return subprocess.CompletedProcess(self._command, self._process.exitcode, output, error)


def run_python(code: str, *arguments: object, seconds: float = 180, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, as ``python -c`` does, with variables added to the environment."""
    return Running(code, *arguments, **options).ended(seconds)


def run_script(path: Path, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    code = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    return run_python(code, path, *arguments, **options)


def run_command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run crp-kit on the command line of a process of its own."""
    return run_python(COMMAND, *arguments, **options)


def _execute(code: str, arguments: list[str], environment: dict[str, str], folder: str, streams: list[str]) -> None:
    """Become the process that runs the code."""
    for number, stream in enumerate(streams, start=1):
        file = os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def ended_seconds() -> float:
    """Return the CPU seconds of the processes that were forked and have ended, as Linux counts them; elsewhere 0."""
    path = Path(f"/proc/{getattr(forkserver._forkserver, '_forkserver_pid', None)}/stat")
    if not path.exists():
        return 0.0
    numbers = path.read_text(encoding="ascii").rpartition(")")[2].split()  # from the third field on
    return sum(map(int, numbers[13:15])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Have the system refuse files that are larger, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
