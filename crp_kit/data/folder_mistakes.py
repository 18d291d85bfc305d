"""Sentences on what is named as data and is no folder of samples: what it is, and what to do."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from ..factory_spec import suggestion
from ..files import is_address

__all__ = ["as_folder", "content_words", "no_folder", "other_images"]

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_OTHER_IMAGES = frozenset({".avif", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jxl", ".svg"})
"""Endings of images that are not taken from folders: animations, drawings, and what Pillow may not read."""
_SHOWN, _LISTED = 5, 1000
"""Endings that are named; names of a folder among which a missing one is looked for."""


def no_folder(root: str, scheme: str) -> str:
    """Return why there is no folder of this name, and what to do."""
    path = Path(root).expanduser()
    if is_address(root):
        return f"the data is an address, {root!r}: fetch it by other means and name the folder, {scheme}:DIR"
    if path.name.lower().endswith(_ARCHIVES) and path.is_file():
        return f"{root!r} is an archive: unpack it and name the folder, {scheme}:DIR"
    if path.exists():
        return f"no folder {root!r}: it is a file; name the folder that it is in, {scheme}:{path.parent}"
    try:
        beside = [one.name for one in islice(path.parent.iterdir(), _LISTED) if one.is_dir()]
    except OSError:
        beside = []
    hint = suggestion(path.name, beside, "")
    return f"no folder {root!r}" + (f"; {hint}" if hint else "")


def as_folder(spec: str) -> str | None:
    """Return what to do where a path or an address stands without a scheme; None where there is nothing of the name."""
    path = Path(spec).expanduser()
    if path.is_dir():
        return f"data of a folder is named imagefolder:{spec}, or npyfolder:{spec} for arrays; got {spec!r}"
    return no_folder(spec, "imagefolder") if is_address(spec) or path.is_file() else None


def content_words(paths: Iterable[str]) -> str:
    """Return what is in a folder that has no samples, in words: its files by their endings."""
    endings = Counter(_ending(path) or "no ending" for path in paths)
    if not endings:
        return "it has no files"
    listed = ", ".join(f"{count} with {ending}" for ending, count in endings.most_common(_SHOWN))
    return f"of its files {listed}" + (", …" if len(endings) > _SHOWN else "")


def other_images(paths: Iterable[str]) -> str:
    """Return which files are images of a kind that is not taken from folders, in words; empty where there are none."""
    found = Counter(ending for ending in map(_ending, paths) if ending in _OTHER_IMAGES)
    return f"{found.total()} images ({', '.join(sorted(found))}; convert them to .png or .jpg)" if found else ""


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()
