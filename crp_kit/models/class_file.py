"""Files of class names: one in each line, or JSON; and the names of ImageNet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..class_names import checked_names
from ..errors import InputError
from ..files import check_file
from .torchvision_models import imagenet_classes

__all__ = ["read_classes"]

_FORM = (
    'a name in each line, or JSON: ["cat", "dog"], or {"0": "cat", "1": "dog"}, or {"0": ["n02123045", "tabby"]} as '
    "ImageNet's index"
)


def read_classes(source: str) -> tuple[str, ...]:
    """Return the names of classes in a file, by number; or those of ImageNet.

    Parameters
    ----------
    source : str
        ``imagenet``, or a file: names in lines, or, if its name ends in ``.json``, a list of names, or an object of
        names by number, as ``id2label`` of Hugging Face; the last of several names if a number has a list of them.

    Raises
    ------
    InputError
        If it cannot be read, or has another form.

    Examples
    --------
    >>> read_classes("imagenet")[285]
    'Egyptian cat'
    """
    if source == "imagenet":
        return imagenet_classes()
    path = Path(source)
    check_file(path, "classes")
    try:
        text = path.read_text("utf-8-sig")
        names = _json_names(json.loads(text)) if path.suffix.lower() == ".json" else text.splitlines()
    except OSError as error:
        raise InputError(f"the classes {source!r} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise InputError(f"the classes {source!r} are {_FORM}; this is something else") from error
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        wrong = f"number {names.index('')} is empty" if names else "this is empty"
        raise InputError(f"the classes {source!r} are {_FORM}; {wrong}")
    return checked_names(names)


def _json_names(value: Any) -> list[str]:
    """Return names in the order of their numbers."""
    listed = [value[str(number)] for number in range(len(value))] if isinstance(value, Mapping) else value
    names = [one[-1] if isinstance(one, list) else one for one in listed]
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("no names")
    return names
