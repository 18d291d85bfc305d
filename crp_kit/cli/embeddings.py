"""Options for embeddings of images and of words by a user's functions, and files of words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from ..files import check_file, error_reason

__all__ = ["embed_option", "embed_words_option", "function_of_factory", "read_words"]

_FACTORY = (
    "package.module:factory or file.py:factory, a function without arguments that returns the embedding: a function"
)

embed_option = click.option(
    "--embed",
    required=True,
    metavar="SPEC",
    help=f"{_FACTORY} from a list of images, (channel, height, width) each, to vectors (image, feature).",
)
embed_words_option = click.option(
    "--embed-words", metavar="SPEC", help=f"{_FACTORY} from a list of words to vectors (word, feature)."
)


def function_of_factory(option: str, spec: str, argument: str) -> Callable[[Any], Any]:
    """Return the function that the factory of an option makes.

    Raises
    ------
    InputError
        If there is no such factory, or it returns something else.
    """
    from ..factory_spec import call_factory

    if ":" not in spec:
        raise InputError(f"{option} is written like file.py:factory; got {spec!r}")
    forms = "an embedding is named package.module:factory or file.py:factory"
    function = call_factory(spec, forms=forms, schemes=())
    if not callable(function):
        raise InputError(f"{spec} has to return a function of {argument}; got {type(function).__name__}")
    checked: Callable[[Any], Any] = function
    return checked


def read_words(path: Path) -> list[str] | dict[str, Any]:
    """Return the words of a file: one in each line, or of JSON a list of words, or an object with their vectors.

    Raises
    ------
    InputError
        If it cannot be read, or has another form.
    """
    check_file(path, "words")
    form = 'a word in each line, or JSON: ["cat", "dog"], or with vectors {"cat": [0.1, 0.7], "dog": [0.3, 0.2]}'
    try:
        text = path.read_text("utf-8-sig")
        words = json.loads(text, object_pairs_hook=_once) if path.suffix.lower() == ".json" else _lines(text)
    except InputError:  # of a word that is there twice
        raise
    except OSError as error:
        raise InputError(f"the words {str(path)!r} cannot be read: {error_reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the words {str(path)!r} are {form}; this is something else") from error
    if not isinstance(words, (list, dict)) or not words:
        raise InputError(f"the words {str(path)!r} are {form}; this is {'empty' if not words else 'something else'}")
    return words


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON whose names differ."""
    (twice, count), *_ = Counter(name for name, _ in pairs).most_common(1) or [("", 0)]
    if count > 1:
        raise InputError(f"words differ from each other; {twice!r} is there more than once")
    return dict(pairs)
