"""Copies of an atlas file: everything in it as a tree to write again, changed in a part, with the rest proved equal."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from ...errors import AtlasError
from ...files import check_free, error_reason
from .digests import DIGESTS, add_digests, noted_digests
from .expected_groups import expected_groups
from .file_tree import ArraySpec, Tree, checksum
from .hdf5_reader import H5File
from .hdf5_writer import Note, write_tree

__all__ = ["check_rewritable", "rewrite"]


def check_rewritable(file: H5File) -> None:
    """Make sure, before any work, that a file can be written anew in its place.

    Raises
    ------
    AtlasError
        If its name is a link, or it has been changed or replaced since it was opened, or nothing may be written there.
    """
    try:
        check_free(file.path, replace=True, instead_of=file.state)
        if not os.access(file.path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, f"no permission to write into {file.path.parent}")
    except OSError as error:
        raise AtlasError(f"cannot write {file.path}: {error_reason(error)}") from error


def rewrite(file: H5File, change: Callable[[Tree], object], note: Note) -> None:
    """Write what is in a file anew, changed, and let it take its place, which holds the one or the other at any moment.

    Parameters
    ----------
    file : H5File
        An open atlas. If it has been changed or replaced since, by another process, it stays so.
    change : callable
        Changes, adds or removes groups and arrays of the tree. Arrays that it leaves alone have to have the values
        whose digests the file has noted.
    note : callable
        See `write_tree`.

    Raises
    ------
    AtlasError
        If the file is damaged, or cannot be written; then what was there before is kept.
    """
    with file.explained():
        tree, noted = _copied(file), noted_digests(file)
    untouched = dict(tree.arrays)
    change(tree)
    kept = {name for name, spec in tree.arrays.items() if untouched.get(name) is spec}
    add_digests(tree, {name: digest for name, digest in noted.items() if name in kept})
    tree.groups["/"]["checksum"] = checksum(tree.groups)
    write_tree(file.path, tree, compress=True, instead_of=file.state, note=note)


def _copied(file: H5File) -> Tree:
    """Return everything that is where an atlas has anything, without digests."""
    groups = sorted(expected_groups(file))
    tree = Tree({group: file.attributes(group) for group in groups})
    for group in groups:
        for name in file.names(group):
            path = f"{group.rstrip('/')}/{name}"
            if path not in tree.groups:
                array = file.array(path)
                tree.arrays[path] = ArraySpec(array.shape, array.dtype, array.__getitem__, array.chunks)
    tree.arrays.pop(DIGESTS, None)
    tree.groups.pop(DIGESTS.rpartition("/")[0], None)
    return tree
