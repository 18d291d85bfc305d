"""``crp-kit atlas names-by-words``: names of concepts by an embedding of images and of words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from .atlas_ask import mode_option
from .embeddings import embed_option, embed_words_option, function_of_factory, read_words
from .evaluate_options import seed_option
from .options import atlas_layer_option
from .provenance import options_of_atlas
from .studies import study_of
from .study_options import atlas_study_options
from .table_output import check_table_output, figure_options, print_table

__all__ = ["names_by_words"]


@click.command(short_help="Names of concepts by an embedding of images and words.")
@click.argument("file", type=click.Path(path_type=Path))
@atlas_study_options
@atlas_layer_option
@mode_option
@embed_option
@click.option(
    "--words",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Words to choose from: one in each line, or a .json file with a list of words, or with an object of words and "
    "their vectors, which needs no --embed-words.",
)
@embed_words_option
@click.option("-k", "k", type=click.IntRange(min=1), default=20, show_default=True, help="References of each concept.")
@seed_option
@click.option("--save", is_flag=True, help="Keep the names beside the atlas, for reports and tables.")
@figure_options
def names_by_words(*, file: Path, **options: Any) -> None:
    """Print a name for every concept: the word that its references are nearest to in an embedding of yours.

    The embedding is of a model of images and words, such as CLIP. Model and data of the atlas are needed for the
    images.

    \b
    Example:
      crp-kit atlas names-by-words atlas.h5 --layer layer2.1.conv2 \\
          --embed clip.py:images --embed-words clip.py:words --words words.txt --save
    """  # noqa: D301
    from ..atlas import ConceptAtlas
    from ..atlas.file.names import check_replaceable

    check_table_output(options)
    words, vectors = read_words(options["words"]), None
    if isinstance(words, dict) == (options["embed_words"] is not None):
        raise InputError(
            f"{options['words']} has vectors of its words; leave --embed-words out"
            if isinstance(words, dict)
            else f"{options['words']} has words without vectors: say --embed-words"
        )
    settings = {name: options[name] for name in ("mode", "k", "seed")}
    with ConceptAtlas(file) as atlas:
        if options["save"]:
            check_replaceable(atlas, options["layer"], overwrite=options["overwrite"])
        embed = function_of_factory("--embed", options["embed"], "images")
        if options["embed_words"] is not None:
            vectors = function_of_factory("--embed-words", options["embed_words"], "words")
        study = study_of(options_of_atlas(options, atlas), needs_data=True)
        table = study.name_concepts(atlas, options["layer"], embed, words, vectors=vectors, **settings)
        if options["save"]:
            table.save(overwrite=options["overwrite"])
        print_table(table, options, table.plot)
