"""Shapes and patterns of the demo images, as functions of a pixel's position relative to the object's centre.

Every function takes two coordinates in pixels, (sample, height, width), and a radius or period that broadcasts to them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crp_kit.data.seeded_random import Floats

__all__ = ["PATTERNS", "SHAPES", "Field", "pixel_coverage"]

Field = Callable[..., Floats]


def pixel_coverage(distance: Floats) -> Floats:
    """Return the share of each pixel that lies inside, from the signed distance to the edge in pixels."""
    return (0.5 - distance).clip(0, 1)


def _circle(right: Floats, down: Floats, radius: Floats) -> Floats:
    distance: Floats = np.sqrt(right * right + down * down) - 0.92 * radius
    return distance


def _triangle(right: Floats, down: Floats, radius: Floats) -> Floats:
    distance: Floats = np.maximum(down, 0.8660254 * np.abs(right) - 0.5 * down) - 0.52 * radius
    return distance


def _square(right: Floats, down: Floats, radius: Floats) -> Floats:
    distance: Floats = np.maximum(np.abs(right), np.abs(down)) - 0.74 * radius
    return distance


def _cross(right: Floats, down: Floats, radius: Floats) -> Floats:
    right, down = np.abs(right), np.abs(down)
    distance: Floats = np.maximum(np.maximum(right, down) - 0.94 * radius, np.minimum(right, down) - 0.38 * radius)
    return distance


SHAPES: dict[str, Field] = {"circle": _circle, "triangle": _triangle, "square": _square, "cross": _cross}
"""Signed distances to the edge in pixels, negative inside."""


def _centred(coordinate: Floats, period: Floats) -> Floats:
    """Distance in pixels to the middle of the period, with sign."""
    cycles = coordinate / period
    return (cycles - np.floor(cycles) - 0.5) * period


def _stripes(along: Floats, across: Floats, period: Floats) -> Floats:
    return pixel_coverage(np.abs(_centred(along, period)) - 0.25 * period)


def _dots(along: Floats, across: Floats, period: Floats) -> Floats:
    along, across = _centred(along, period), _centred(across, period)
    return pixel_coverage(np.sqrt(along * along + across * across) - 0.33 * period)


PATTERNS: dict[str, Field] = {"striped": _stripes, "dotted": _dots}
"""Share of each pixel that is dark, in [0, 1]."""
