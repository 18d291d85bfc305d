"""Options ``--target`` and ``--mask``, and the target that they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import InputError
from ..files import check_file

if TYPE_CHECKING:
    from ..targets import Target

__all__ = ["conditioned_on_option", "target_of", "target_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


conditioned_on_option = click.option(
    "--conditioned-on",
    type=click.Choice(["class", "prediction", "layer"]),
    default="class",
    show_default=True,
    help="Where the relevance of the heatmaps starts.",
)


def target_options(default: str) -> Callable[[_Command], _Command]:
    """Return what adds ``--target`` and ``--mask``; `default` says what relevance starts from without them."""

    def added(command: _Command) -> _Command:
        target = click.option(
            "--target",
            metavar="TARGET",
            help=f"What relevance starts from: class:281, contrast:281,285, value:4, region:15, box:3:0.  [default: "
            f"{default}]",
        )
        mask = click.option(
            "--mask",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="A picture: a region is where it is not black.",
        )
        return target(mask(command))

    return added


def target_of(options: Mapping[str, Any], *, words: Sequence[str] = ()) -> Target | str | None:
    """Return the target that ``--target`` and ``--mask`` mean; one of some words as it is; None without them.

    Raises
    ------
    InputError
        If there is no such target, or the mask cannot be read or belongs to none.
    """
    text, mask = options["target"], options["mask"]
    if mask is not None and (text is None or not text.startswith("region:")):
        raise InputError("--mask needs --target region:ID")
    if text is None or text in words:
        return None if text is None else str(text)
    from ..targets import parse_target

    return parse_target(text, mask=None if mask is None else _mask(mask))


def _mask(path: Path) -> Any:
    """Return where a picture is not black: (height, width)."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    check_file(path, "mask")
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L")) > 0
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"cannot read the mask {path}: {error}") from error
