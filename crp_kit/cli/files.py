"""Files that commands write: checked before the work starts, written beside and then renamed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..files import atomic_file, error_reason

if TYPE_CHECKING:
    from ..drawing import Figure

__all__ = ["FIGURE_ENDINGS", "check_figure", "check_figure_and_array", "check_outputs", "write_figure", "write_file"]


FIGURE_ENDINGS = (".png", ".pdf", ".svg", ".jpg")


def check_figure(path: Path) -> None:
    """Refuse a figure's file name whose ending says no kind of picture."""
    if path.suffix.lower() not in FIGURE_ENDINGS:
        raise InputError(f"the figure {str(path)!r} needs one of the endings {', '.join(FIGURE_ENDINGS)}")


def check_figure_and_array(figure: Path | None, array: Path | None) -> None:
    """Refuse file names of a figure and an array whose endings say something else; None is not to be written."""
    if figure is not None:
        check_figure(figure)
    if array is not None and array.suffix != ".npz":
        raise InputError(f"the array file {str(array)!r} needs the ending .npz")


def check_outputs(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse what could not be written at the end, before any work is done.

    Raises
    ------
    InputError
        If a path is named twice, is a folder, lies in no folder or in one that cannot be written, or exists and may not
        be overwritten.
    """
    for number, path in enumerate(paths):
        folder = path.parent
        if path in paths[:number]:
            raise InputError(f"{path} is named for two outputs; give each its own file")
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; name a file in it")
        if not folder.is_dir():
            raise InputError(f"cannot write {path}: there is no folder {folder}; make it first")
        if not os.access(folder, os.W_OK):
            raise InputError(f"cannot write {path}: no permission to write into {folder}")
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists; --overwrite replaces it, or choose another name")


def write_file(path: Path, write: Callable[[Path], object], *, overwrite: bool) -> None:
    """Write a file completely or not at all.

    Parameters
    ----------
    path : Path
    write : callable
        Gets the path of the file to write, with the same suffix, in the same folder.
    overwrite : bool
        Whether a file may be replaced. If not, also one that has appeared since `check_outputs` is kept.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    try:
        with atomic_file(path, replace=overwrite) as beside:
            write(beside)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error_reason(error)}") from error


def write_figure(path: Path, figure: Figure, *, untrained: bool, overwrite: bool, dpi: int = 150) -> None:
    """Write a figure as `write_file` does; a strip below it says that the model is untrained, if it is."""
    page = None
    if untrained:
        from ..views.plot.sheet import add_strip

        page = add_strip(figure, "untrained model: its weights are random")
    write_file(path, lambda beside: figure.savefig(beside, dpi=dpi, bbox_inches=page), overwrite=overwrite)
