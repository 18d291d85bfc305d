"""Downloads of weights, by the libraries that publish them; what to do where one fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import ModelError

__all__ = ["downloaded"]

_Loaded = TypeVar("_Loaded")


def downloaded(build: Callable[[], _Loaded], name: str, weights: str, address: str) -> _Loaded:
    """Make a model whose weights may have to be downloaded.

    Raises
    ------
    ModelError
        If they cannot be fetched.
    """
    try:
        return build()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise ModelError(
            f"the weights {weights} of {name} could not be fetched ({reason}); fetch {address} by other means and give "
            f"the file as weights, or say none for an untrained model"
        ) from error
