"""Folder of a report: written beside its name and renamed when it is whole; only a report is ever replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files import error_reason
from ...folders import atomic_folder

__all__ = ["Site", "check_folder", "made_whole"]

MANIFEST = "report.json"
_ENCODING = {"encoding-type": "crp-kit-report", "encoding-version": "1"}
_FOLDERS = ("data", "pages", "pictures")


class Site:
    """The files of a report that is being written.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in _FOLDERS:
            (folder / name).mkdir()
        self.write(MANIFEST, json.dumps(_ENCODING) + "\n")

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def script(self, name: str, data: Any) -> None:
        """Write data as a script that hands it to the page: a page from disk may load scripts, but fetch nothing."""
        text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        (self.folder / "data" / f"{name}.js").write_text(f'crpKit.put("{name}",{text});\n', encoding="ascii")

    def picture(self, name: str) -> Path:
        """Return the path for a picture."""
        return self.folder / "pictures" / f"{name}.webp"

    def list_files(self) -> None:
        """Write which files and folders are the report's: others may put files of their own into it, which are kept."""
        manifest = {**_ENCODING, "files": sorted(_entries(self.folder))}
        self.write(MANIFEST, json.dumps(manifest, indent=0) + "\n")

    def measure(self) -> tuple[int, int]:
        """Return how many files there are, and their bytes."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return len(files), sum(path.stat().st_size for path in files)


def check_folder(path: Path, *, overwrite: bool) -> None:
    """Refuse a folder that could not be written at the end, before any work is done.

    Raises
    ------
    InputError
        If there is no folder to write into, or the path exists and may not be replaced, or is not an earlier report
        and nothing but it.
    """
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}: no permission to write into {path.parent}")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InputError(f"cannot write {path}: a report is a folder, and this is a file; choose another name")
    if not path.exists() or not any(path.iterdir()):
        return
    if not overwrite:
        raise InputError(f"{path} exists; overwrite replaces it, or choose another name")
    if not _is_report(path):
        raise InputError(f"{path} is no report of crp-kit and is not replaced; choose another name")
    foreign = sorted(set(_entries(path)) - set(_listed(path)))
    if foreign:
        raise InputError(
            f"{path} holds files that are not of a report ({', '.join(foreign[:3])}) and is not replaced; move them, "
            f"or choose another name"
        )


def _is_report(path: Path) -> bool:
    return _manifest(path).get("encoding-type") == _ENCODING["encoding-type"]


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _listed(path: Path) -> list[str]:
    """Return the files and folders that a report says are its own."""
    files = _manifest(path).get("files")
    return [MANIFEST, *map(str, files)] if isinstance(files, list) else [MANIFEST]


def _entries(path: Path) -> Iterator[str]:
    """Yield the names of all files and folders in a folder, those of folders in it included; links are not followed."""
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            yield Path(folder, name).relative_to(path).as_posix()


@contextmanager
def made_whole(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give an empty folder beside `path` that takes its name at the end, or is gone after an error.

    Raises
    ------
    InputError
        As for `check_folder`, or if a file cannot be written, or another process makes the same report.
    """
    try:
        with atomic_folder(path, lambda folder: check_folder(folder, overwrite=overwrite)) as folder:
            yield folder
    except BlockingIOError as error:
        raise InputError(f"another process is making {os.path.abspath(path)}") from error
    except OSError as error:
        raise InputError(f"cannot write {path}: {error_reason(error)}") from error
