"""Attributes added to a finished atlas, whose other content stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..progress import Progress
from .attribute_table import SampleNames, joined_columns
from .file.attribute_columns import ATTRIBUTES, AttributeColumn, StoredAttributes, add_attributes
from .file.copied_tree import check_rewritable, rewrite
from .file.file_tree import Tree
from .file.hdf5_reader import H5File
from .file.reader import open_atlas
from .query.concept_atlas import ConceptAtlas

__all__ = ["annotate_atlas"]

_LARGE = 1 << 28
"""Bytes of a file that takes more than some seconds to write."""


def annotate_atlas(
    path: str | Path,
    attributes: str | Path | Mapping[str, Sequence[Any] | Mapping[Any, Any]] | Any,
    *,
    id_column: str | None = None,
    overwrite: bool = False,
) -> ConceptAtlas:
    """Add attributes of samples to a finished atlas file, and return it.

    The file is written anew beside its place, read back, and renamed: it holds its old or its new content at any
    moment. All other datasets are the same, which their digests prove.

    Parameters
    ----------
    path : str or Path
        The atlas file.
    attributes : str, Path, pandas.DataFrame or dict
        A CSV file or a frame with a row for each sample of the atlas; or by name the values of an attribute: one for
        each sample in the order of `ConceptAtlas.samples`, or some by id. Values are truth values (in CSV also
        ``true``, ``yes``, ``1`` …; numbers of which each is 0 or 1 are truth values too), numbers, or text; an empty
        cell, ``None`` and not-a-number are missing values.
    id_column : str, optional
        The column with ids of samples: by default the first one of a CSV file, and the index of a frame. An id is a
        sample's name as the atlas keeps it (`ConceptAtlas.identifiers`), the name of its file if no other sample's file
        is named so, or, where none of the ids is one of these, its number in the dataset.
    overwrite : bool, optional
        Replace attributes that the atlas has already.

    Returns
    -------
    ConceptAtlas
        With these attributes in `ConceptAtlas.attributes`.

    Raises
    ------
    InputError
        If the attributes are something else, an id is of no sample or of several, two are of one sample, a sample has
        no row, or the atlas has an attribute of this name already.
    AtlasError
        If there is no such atlas, it is not complete or damaged, cannot be written, or has been changed by another
        process meanwhile; it is kept as it was.

    Examples
    --------
    >>> import tempfile
    >>> import crp_kit as crp
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> study, folder = crp.Study(demo_resnet(), ShapesDataset(8), preprocess=demo_preprocess), tempfile.mkdtemp()
    >>> study.build_atlas(f"{folder}/atlas.h5", layers="layer3.1.conv2", verbose=False).close()
    >>> atlas = crp.annotate_atlas(f"{folder}/atlas.h5", {"scanner": ["A", "B"] * 4, "age": {3: 61, 5: 47}})
    >>> atlas.attributes["age"].tolist()
    [nan, nan, nan, 61.0, nan, 47.0, nan, nan]
    >>> len(atlas.where(attribute={"scanner": "B"}))
    4
    >>> atlas.close()
    """
    path = Path(path)
    with open_atlas(path) as file:
        check_rewritable(file)
        added = joined_columns(attributes, _names(file), id_column)
        with file.explained():
            known = StoredAttributes(file).columns()
        twice = [name for name in added if name in known]
        if twice and not overwrite:
            raise InputError(f"{path} has the attribute {twice[0]!r} already; overwrite replaces it")
        with Progress(1, "annotate", unit="file", verbose=file.state.st_size >= _LARGE) as bar:
            rewrite(file, lambda tree: _replace(tree, {**known, **added}), bar.written)
            bar.update()
    return ConceptAtlas(path)


def _names(file: H5File) -> SampleNames:
    names = file.strings("/samples/id") if file.has("/samples/id") else ()
    return SampleNames(file.array("/samples/index")[:], names)


def _replace(tree: Tree, attributes: Mapping[str, AttributeColumn]) -> None:
    """Let a tree have these attributes and no others."""
    tree.groups.pop(ATTRIBUTES, None)
    for path in [path for path in tree.arrays if path.startswith(f"{ATTRIBUTES}/")]:
        del tree.arrays[path]
    add_attributes(tree, attributes)
