"""Values by layer, which say how a layer that was not recorded would have been."""

from __future__ import annotations

from typing import NoReturn

import torch

from ..errors import UnknownLayerError

__all__ = ["Recorded"]


class Recorded(dict[str, torch.Tensor]):
    """Recorded values by layer."""

    def __missing__(self, name: str) -> NoReturn:
        """Refuse a layer that was not recorded.

        Raises
        ------
        UnknownLayerError
        """
        raise UnknownLayerError(name, self, f"{name!r} was not recorded", f"give record_layer=[{name!r}] to the call")
