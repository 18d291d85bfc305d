"""Where a build keeps what it has so far: a folder beside the file, one process at a time, gone when all is done."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

from ...errors import AtlasError

__all__ = ["Interrupts", "Workplace"]

try:
    import fcntl
except ImportError:  # not on Windows, where two builds of one file are not noticed
    fcntl = None  # type: ignore[assignment]


class Workplace:
    """The folder ``NAME.partial`` beside the file NAME that is being built.

    Parameters
    ----------
    target : Path
    resume, overwrite : bool
        Whether what an interrupted build left there is used, or thrown away; else it is an error.

    Raises
    ------
    AtlasError
        If the target exists, an interrupted build lies there and neither is allowed, or another process builds the
        same file.
    """

    def __init__(self, target: Path, *, resume: bool, overwrite: bool) -> None:
        self.target, self.folder = target, target.with_name(f"{target.name}.partial")
        self.checkpoint = self.folder / "checkpoint.h5"
        if not target.parent.is_dir():
            raise AtlasError(f"cannot write {target}: there is no folder {target.parent}; make it first")
        if target.is_dir():
            raise AtlasError(f"cannot write {target}: it is a folder; name a file in it")
        if target.exists() and not (overwrite or resume):
            raise AtlasError(f"{target} exists; overwrite replaces it, or choose another name")
        if self.checkpoint.exists() and not (overwrite or resume):
            raise AtlasError(
                f"an interrupted build of {target} lies in {self.folder}; resume continues it, overwrite starts again"
            )
        self._lock: IO[bytes] | None = None
        self._fresh = overwrite and not resume

    def __enter__(self) -> Workplace:
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = open(self.folder / "lock", "wb")
        except OSError as error:
            raise AtlasError(f"cannot write into {self.target.parent}: {error.strerror or error}") from error
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._lock.close()
                raise AtlasError(f"another process is building {self.target}") from error
        if self._fresh:
            self.checkpoint.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not self.checkpoint.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()


class Interrupts:
    """While it is open, Ctrl-C and SIGTERM are noted instead of ending the process; a second one ends it at once."""

    def __init__(self) -> None:
        self.noted: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted is not None:
            self._restore()
            os.kill(os.getpid(), number)
        self.noted = number

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def end(self, message: str) -> None:
        """Raise what the signal stands for.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C.
        SystemExit
            After SIGTERM, with the status that shells report.
        """
        if self.noted == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt(message)
