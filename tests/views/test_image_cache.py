"""The images that a report keeps: each is read once while there is room, and memory stays bounded."""

from __future__ import annotations

import torch

from crp_kit.views.report.image_cache import ImageCache


def cache(most: int) -> tuple[ImageCache, list[int]]:
    """A cache of images of 48 bytes, and the numbers that were read."""
    read: list[int] = []
    return ImageCache(lambda number: read.append(number) or torch.full((3, 2, 2), float(number)), most), read  # type: ignore[func-returns-value]


def test_an_image_is_read_once_while_there_is_room() -> None:
    images, read = cache(3 * 48)
    for number in (1, 2, 3, 1, 2, 3):
        assert images(number)[0, 0, 0] == number
    assert read == [1, 2, 3]


def test_the_image_that_was_not_asked_for_longest_makes_room() -> None:
    images, read = cache(2 * 48)
    for number in (1, 2, 1, 3, 1, 2):
        images(number)
    assert read == [1, 2, 3, 2]


def test_the_latest_image_is_kept_however_large() -> None:
    images, read = cache(0)
    for number in (1, 1, 2, 2, 1):
        images(number)
    assert read == [1, 2, 1]
