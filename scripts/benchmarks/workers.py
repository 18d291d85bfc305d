"""The processes of the sides, as the one that asks them sees them."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from .cases import PEERS

SCRIPTS = Path(__file__).resolve().parents[1]


class WorkerError(Exception):
    """What a side's process said when its work failed."""

    @property
    def last_line(self) -> str:
        return str(self).strip().splitlines()[-1]


class Worker:
    """One side's process; see `worker`."""

    def __init__(self, side: str, python: str, device: str) -> None:
        self.side = side
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 `close` closes it
        # A library path of this environment must not reach into the other one.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" or side not in PEERS}
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", side, device],
            cwd=SCRIPTS,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer.

        Raises
        ------
        WorkerError
            If the work failed, or the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            self._said.seek(0)
            raise WorkerError(f"{self._said.read()[-4000:]}\nits process ended with {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        content: dict[str, Any] = answer["answer"]
        return content

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                with suppress(BrokenPipeError):  # what was asked last may not have been read
                    stream.close()


class Workers:
    """One long-lived process for each side, started when it is first needed."""

    def __init__(self, pythons: Mapping[str, str], device: str) -> None:
        self._pythons, self._device = pythons, device
        self._workers: dict[str, Worker] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            worker.close()

    def __getitem__(self, side: str) -> Worker:
        worker = self._workers.get(side)
        if worker is None or not worker.alive:
            if worker is not None:
                worker.close()
            worker = self._workers[side] = self.fresh(side)
        return worker

    def start(self, sides: Iterable[str]) -> None:
        """Start processes that will be needed, all at once."""
        for side in sides:
            self._workers[side] = self.fresh(side)

    def fresh(self, side: str) -> Worker:
        """Return a process that has done nothing yet; whoever asks for it closes it."""
        return Worker(side, self._pythons[side], self._device)
