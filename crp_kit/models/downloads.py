"""Downloads of weights, by the libraries that publish them; what to do where one fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import ModelError

__all__ = ["downloaded", "fetched"]

_Loaded = TypeVar("_Loaded")


def downloaded(build: Callable[[], _Loaded], name: str, weights: str, address: str) -> _Loaded:
    """Make a model whose weights may have to be downloaded.

    Raises
    ------
    ModelError
        If they cannot be fetched.
    """
    advice = f"fetch {address} by other means and give the file as weights, or say none for an untrained model"
    return fetched(build, f"the weights {weights} of {name}", advice)


def fetched(build: Callable[[], _Loaded], what: str, advice: str) -> _Loaded:
    """Make what may have to be downloaded.

    Raises
    ------
    ModelError
        If it cannot be fetched, with the advice.
    """
    try:
        return build()
    except (OSError, RuntimeError) as error:
        reason = str(getattr(error, "reason", None) or error).rstrip(".")
        raise ModelError(f"{what} could not be fetched ({reason}); {advice}") from error
