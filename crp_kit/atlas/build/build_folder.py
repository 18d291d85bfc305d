"""Working folder of a build, ``NAME.partial`` beside its file: checkpoint, lock, and large arrays."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType

from ...errors import AtlasError
from ...files import FolderLock

__all__ = ["BuildFolder"]


class BuildFolder:
    """The folder ``NAME.partial`` beside the file NAME that is being built, of one process at a time.

    It goes away at the end, unless an error or a signal ended the build and there is a checkpoint to resume from.

    Parameters
    ----------
    target : Path
    resume, overwrite : bool
        Use the checkpoint that an interrupted build has left, or discard it. Without either it is an error.

    Raises
    ------
    AtlasError
        If the target exists, an interrupted build has left a checkpoint and neither is allowed, or another process
        builds the same file.
    """

    def __init__(self, target: Path, *, resume: bool, overwrite: bool) -> None:
        self.target, self.path = target, target.with_name(f"{target.name}.partial")
        self.checkpoint = self.path / "checkpoint.h5"
        if not target.parent.is_dir():
            raise AtlasError(f"cannot write {target}: there is no folder {target.parent}; make it first")
        if target.is_dir():
            raise AtlasError(f"cannot write {target}: it is a folder; name a file in it")
        if target.exists() and not (overwrite or resume):
            raise AtlasError(f"{target} exists; overwrite replaces it, or choose another name")
        if self.checkpoint.exists() and not (overwrite or resume):
            raise AtlasError(
                f"an interrupted build of {target} lies in {self.path}; resume continues it, overwrite starts again"
            )
        self._lock = FolderLock(self.path)
        self._fresh = overwrite and not resume

    def __enter__(self) -> BuildFolder:
        try:
            self._lock.acquire()
        except BlockingIOError as error:
            raise AtlasError(f"another process is building {self.target}") from error
        except OSError as error:
            raise AtlasError(f"cannot write into {self.target.parent}: {error.strerror or error}") from error
        if self._fresh:
            self.checkpoint.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not self.checkpoint.exists():
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
