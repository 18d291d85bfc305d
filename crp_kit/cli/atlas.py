"""``crp-kit atlas``: the commands around atlas files."""

from __future__ import annotations

import click

from .atlas_ask import export, info, stats
from .atlas_build import build
from .atlas_compare import compare
from .atlas_files import annotate, import_, merge, verify
from .atlas_questions import contrast, markers, mistakes, names, outliers, prototypes, similar, strategies
from .atlas_references import references
from .atlas_words import names_by_words

__all__ = ["atlas"]


@click.group(short_help="Build concept atlases of datasets, and ask them.")
def atlas() -> None:
    """Build concept atlases of whole datasets, and ask them.

    An atlas is one HDF5 file: for every concept of the chosen layers the samples in which it is most relevant and most
    active, over all and by class, and its moments over every sample.
    """


_QUESTIONS = (markers, contrast, mistakes, similar, prototypes, outliers, strategies, names, names_by_words, compare)

for _command in (build, merge, verify, info, stats, references, export, annotate, import_, *_QUESTIONS):
    atlas.add_command(_command)
