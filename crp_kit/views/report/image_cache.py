"""Images of samples that are shown again and again, read once within bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["ImageCache"]


class ImageCache:
    """Images by the numbers of their samples, those that were asked for last.

    Parameters
    ----------
    read : callable
        From a number to an image, (channel, height, width).
    most : int
        Bytes of the images that are kept, at most; the latest image is kept always.
    """

    def __init__(self, read: Callable[[int], torch.Tensor], most: int) -> None:
        self._read, self._most = read, most
        self._kept: dict[int, torch.Tensor] = {}
        self._bytes = 0

    def __call__(self, number: int) -> torch.Tensor:
        """Return the image of a sample."""
        image = self._kept.pop(number, None)
        if image is None:
            image = self._read(number)
            self._bytes += image.nbytes
        self._kept[number] = image
        while self._bytes > self._most and len(self._kept) > 1:
            self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        return image
