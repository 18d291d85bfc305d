"""Working folder of a build, ``NAME.partial`` beside its file: checkpoint, log of batches, lock, and large arrays."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ...errors import AtlasError, InputError
from ...files import check_free, error_reason
from ...folders import WorkingFolder, is_working_folder
from ...interrupts import Interrupts
from ..file.file_tree import Tree
from ..file.hdf5_writer import Note, write_tree
from ..file.reader import open_atlas

__all__ = ["CHECKPOINT", "LOG", "SUFFIX", "BuildFolder"]

SUFFIX, CHECKPOINT, LOG = ".partial", "checkpoint.h5", "batches.log"
_NEW_CHECKPOINT, _NEW_FILE = "checkpoint.h5.writing", "file.writing"


class BuildFolder:
    """The folder ``NAME.partial`` beside the file NAME that is being built, of one process at a time.

    It goes away at the end, unless an error or a signal ended the build and there is a checkpoint to resume from. What
    somebody else has put into it stays, and a folder that crp-kit did not make is refused if it holds files of the
    names that a build uses.

    Parameters
    ----------
    target : Path
    resume, overwrite : bool
        Use the checkpoint that an interrupted build has left, or discard it. Without either it is an error.

    Raises
    ------
    AtlasError
        If the target exists or is no ordinary file, an interrupted build has left a checkpoint and neither is allowed,
        the folder is somebody else's, or another process builds the same file.
    """

    def __init__(self, target: Path, *, resume: bool, overwrite: bool) -> None:
        self.target, self.path = target, target.with_name(f"{target.name}{SUFFIX}")
        self.checkpoint, self.log = self.path / CHECKPOINT, self.path / LOG
        self._resume, self._overwrite = resume, overwrite
        self._folder = WorkingFolder(self.path, (CHECKPOINT, LOG, _NEW_CHECKPOINT, _NEW_FILE))
        try:
            self._check_names()
        except OSError as error:
            raise AtlasError(f"cannot write {target}: {error_reason(error)}") from error

    def _check_names(self) -> None:
        """Look at the file's name and that of the checkpoint, which the system may refuse too, as one too long."""
        target = self.target
        if not target.parent.is_dir():
            raise AtlasError(f"cannot write {target}: there is no folder {target.parent}; make it first")
        if target.exists() and self._resume and not self._overwrite:
            if not target.is_file():
                raise AtlasError(f"cannot write {target}: it is no ordinary file; choose another name")
        else:
            self._check_target()
        if self.checkpoint.exists() and not (self._overwrite or self._resume):
            raise AtlasError(
                f"an interrupted build of {target} lies in {self.path}; resume continues it, overwrite starts again"
            )

    def _check_target(self) -> None:
        if self.target.is_file() and not self.target.is_symlink() and not self._overwrite:
            self._clear_rest()
            raise AtlasError(f"{self.target} exists; overwrite replaces it, or choose another name")
        check_free(self.target, replace=self._overwrite)

    def _clear_rest(self) -> None:
        """Clear away what a process has left that was killed when its file was finished."""
        if is_working_folder(self.path) and not self.checkpoint.exists():
            with suppress(OSError, InputError):  # in use, or somebody else's
                self._folder.acquire()
                self._folder.release(remove=True)

    def __enter__(self) -> BuildFolder:
        adopt = self._resume and self.checkpoint.is_file()
        if adopt and not is_working_folder(self.path):  # copied without its mark, or somebody else's
            open_atlas(self.checkpoint, incomplete=True).close()
        try:
            self._folder.acquire(adopt=adopt)
        except BlockingIOError as error:
            raise AtlasError(f"another process is building {self.target}") from error
        except InputError as error:
            raise AtlasError(f"cannot build {self.target}: {error}") from error
        except OSError as error:
            raise AtlasError(f"cannot write into {self.target.parent}: {error_reason(error)}") from error
        if self._overwrite and not self._resume:
            self.discard()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.release(remove=kind is None or not self.checkpoint.exists())

    def abandon(self) -> None:
        """Let go of the folder, and clear it away if there is nothing in it to resume from."""
        self._folder.release(remove=not self.checkpoint.exists())

    def discard(self) -> None:
        """Remove what an earlier build has left: the log first, which is nothing without its checkpoint."""
        self.log.unlink(missing_ok=True)
        self._folder.clear()

    def save(self, tree: Tree, note: Note = lambda _: None, *, compress: bool = False) -> None:
        """Write a checkpoint; see `write_tree`.

        Raises
        ------
        AtlasError
            If it cannot be written; the one before is kept.
        """
        write_tree(self.checkpoint, tree, compress=compress, beside=self.path / _NEW_CHECKPOINT, note=note)

    def write(self, tree: Tree, note: Note, *, compress: bool) -> None:
        """Write the file under its final name and clear the folder away, before a signal takes its effect.

        See `write_tree`.

        Raises
        ------
        AtlasError
            If it cannot be written, or a file of this name has appeared meanwhile and may not be replaced.
        """
        beside = self.path / _NEW_FILE
        with Interrupts() as interrupts:
            write_tree(self.target, tree, compress=compress, beside=beside, replace=self._overwrite, note=note)
            with interrupts.careful():  # a second signal does not leave the folder behind either
                self._folder.release(remove=True)

    def checkpoint_size(self) -> int:
        """Return the bytes of the checkpoint.

        Raises
        ------
        AtlasError
            If it is gone.
        """
        try:
            return self.checkpoint.stat().st_size
        except OSError as error:
            raise AtlasError(f"cannot write {self.checkpoint}: {error_reason(error)}") from error
