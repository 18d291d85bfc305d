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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT: Any = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(["crp_kit", "crp_kit.cli", "crp_kit.atlas", "crp_kit.data", "torchvision", "pytest"])

COMMAND = "from crp_kit.cli import main\nmain(prog_name='crp-kit')"


def run_python(
    code: str, *arguments: object, environment: Mapping[str, str] | None = None, seconds: float = 180
) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, as ``python -c`` does, with variables added to the environment."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [os.path.join(folder, name) for name in ("stdout", "stderr")]
        command = [*map(str, arguments)]
        process = CONTEXT.Process(
            target=_execute, args=(textwrap.dedent(code), command, dict(environment or {}), os.getcwd(), streams)
        )
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, seconds)
        output, error = (Path(stream).read_text(encoding="utf-8") for stream in streams)
        return subprocess.CompletedProcess(command, process.exitcode, output, error)


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
