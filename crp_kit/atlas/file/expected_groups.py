"""Groups of a file where an atlas has anything; what else there may be is never walked."""

from __future__ import annotations

from .hdf5_reader import H5File
from .header import MODES

__all__ = ["expected_groups"]


def expected_groups(file: H5File) -> set[str]:
    """Return the paths of the root, of what is directly in it, and of layers, their modes and statistics.

    Groups that later versions put there are among them.
    """
    layers = file.groups("/layers")
    paths = {*file.groups("/"), *layers}
    for layer in layers[1:]:
        paths.update(file.groups(layer))
        for mode in MODES:
            paths.update(file.groups(f"{layer}/{mode}"))
    return paths
