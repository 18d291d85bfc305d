"""Rendering of the demo images: a background and five layers, anti-aliased, a chunk of images at once.

Pixels are computed with operations that IEEE 754 rounds exactly: no sine, no exponential, no reduction. So they do not
depend on the other images of the chunk, nor on the processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crp_kit.data.seeded_random import Draws, Floats, Integers, Words
from crp_kit.data.shape_fields import PATTERNS, SHAPES, Field, pixel_coverage

__all__ = ["PARTS", "SIZE", "TAG", "Bools", "Scene", "drawn_tags"]

Bools = npt.NDArray[np.bool_]

SIZE = 64
PARTS = ("red", "blue", "circle", "triangle", "striped", "dotted", "square", "cross")
TAG = "tag"
"""A small magenta square in a corner, which images of a variant of the data bear beside their parts."""

# Lowest and highest value of each channel. The plain objects take the first two, the distractors all but the tag's.
_PAINTS = np.array(
    [
        [[0.78, 0.08, 0.08], [0.95, 0.22, 0.20]],  # red
        [[0.08, 0.22, 0.70], [0.20, 0.40, 0.95]],  # blue
        [[0.10, 0.50, 0.15], [0.25, 0.68, 0.30]],  # green
        [[0.90, 0.75, 0.10], [1.00, 0.88, 0.25]],  # yellow
        [[0.92, 0.92, 0.92], [1.00, 1.00, 1.00]],  # white
        [[0.05, 0.05, 0.05], [0.15, 0.15, 0.15]],  # black
        [[0.80, 0.05, 0.70], [0.95, 0.20, 0.90]],  # magenta
    ],
    dtype=np.float32,
)
_DISTRACTORS = 3
_DISTRACTOR_PAINTS = 6
_TAG_PAINT = 6
_TAG_RADIUS = 3.5

# Each layer draws its random numbers from a stream of its own. Those of the tags come behind those of the distractors.
_BACKGROUND, _PLACEMENT, _PLAIN, _TEXTURED, _FIRST_DISTRACTOR = range(5)
_TAG_CHOICE, _TAG = range(_FIRST_DISTRACTOR + _DISTRACTORS, _FIRST_DISTRACTOR + _DISTRACTORS + 2)

_Y, _X = np.mgrid[:SIZE, :SIZE].astype(np.float32)


@dataclass(frozen=True)
class _Layer:
    """What is painted over what was there before."""

    coverage: Floats  # sample, height, width, in [0, 1]
    colour: Floats  # sample, channel, height, width, or broadcasting to it
    parts: Bools  # sample, part: what the covered pixels show


@dataclass(frozen=True)
class _Placement:
    """Where an object lies: all fields have one value for each sample, in pixels."""

    x: Floats
    y: Floats
    radius: Floats
    turn: tuple[Floats, Floats]

    def coordinates(self) -> tuple[Floats, Floats]:
        """Pixel coordinates in the object's own turned frame, rightwards and downwards: sample, height, width each."""
        return _turned(_X - _spread(self.x), _Y - _spread(self.y), self.turn)

    def where(self, condition: Bools, other: _Placement) -> _Placement:
        """Placements that are these where the condition (sample) holds and the other ones elsewhere."""

        def choose(this: Floats, that: Floats) -> Floats:
            return np.where(condition, this, that)

        return _Placement(
            choose(self.x, other.x),
            choose(self.y, other.y),
            choose(self.radius, other.radius),
            (choose(self.turn[0], other.turn[0]), choose(self.turn[1], other.turn[1])),
        )


class Scene:
    """A chunk of images, layer by layer.

    Parameters
    ----------
    keys : array of uint64
        What the random numbers of each image come from: sample.
    has : array of bool
        Which parts each image has, in the order of `PARTS`, behind which `TAG` may come: sample, part.
    plain_on_top : array of bool
        Whether the plain object lies above the textured one: sample.
    """

    def __init__(self, keys: Words, has: Bools, plain_on_top: Bools) -> None:
        self._keys = keys
        self._has = has
        self._names = (*PARTS, TAG)[: has.shape[1]]
        self._plain_on_top = plain_on_top

    def images(self) -> npt.NDArray[np.float32]:
        """Values in [0, 1], multiples of 1/255: sample, channel, height, width."""
        images = self._background()
        for layer in self._layers():
            images += layer.coverage[:, None] * (layer.colour - images)
        levels: Floats = np.floor(np.clip(images, 0, 1) * 255 + 0.5)
        return (levels / 255).astype(np.float32, copy=False)

    def masks(self) -> Bools:
        """Which pixels show which part: sample, part, height, width."""
        masks = np.zeros((*self._has.shape, SIZE, SIZE), dtype=np.bool_)
        for layer in self._layers():
            shown = layer.coverage[:, None] >= 0.5
            masks = (masks & ~shown) | (shown & layer.parts[:, :, None, None])
        return masks

    def _background(self) -> Floats:
        """Muted colour gradients with two soft waves: sample, channel, height, width."""
        draws = Draws(self._keys, _BACKGROUND)
        start, end = _muted(draws), _muted(draws)
        along, _ = _turned(_X - SIZE / 2, _Y - SIZE / 2, draws.direction(1))
        ramp = np.clip(along / 80 + 0.5, 0, 1)
        ground = start[:, :, None, None] + ramp[:, None] * (end - start)[:, :, None, None]
        for _ in range(2):
            along, _ = _turned(_X, _Y, draws.direction(1))
            cycles = along / _spread(draws.uniform(14, 40)) + _spread(draws.uniform(0, 1))
            height = 4 * np.abs(cycles - np.floor(cycles) - 0.5) - 1
            ground += (0.04 * height * (1.5 - 0.5 * height * height))[:, None]
        return ground

    def _layers(self) -> Iterator[_Layer]:
        for number in range(_DISTRACTORS):
            yield self._distractor(Draws(self._keys, _FIRST_DISTRACTOR + number))
        upper, lower = _stacked(Draws(self._keys, _PLACEMENT))
        yield self._plain(Draws(self._keys, _PLAIN), upper.where(self._plain_on_top, lower))
        yield self._textured(Draws(self._keys, _TEXTURED), lower.where(self._plain_on_top, upper))
        if TAG in self._names:
            yield self._tag(Draws(self._keys, _TAG))

    def _distractor(self, draws: Draws) -> _Layer:
        """A small bar or ring of any paint, or nothing."""
        x, y = draws.uniform(5, SIZE - 6), draws.uniform(5, SIZE - 6)
        placement = _Placement(x, y, draws.uniform(3, 5), draws.direction(1))
        right, down = placement.coordinates()
        radius, thickness = _spread(placement.radius), _spread(draws.uniform(1, 1.6))
        ring = np.abs(np.sqrt(right * right + down * down) - radius) - thickness
        bar = np.maximum(np.abs(right) - 1.3 * radius, np.abs(down) - thickness)
        coverage = pixel_coverage(np.where(_spread(draws.integer(2) == 0), ring, bar))
        present = draws.integer(4) > 0
        choice = draws.integer(_DISTRACTOR_PAINTS)
        parts = np.stack([choice == 0, choice == 1] + [np.zeros_like(present)] * (len(self._names) - 2), axis=1)
        return _Layer(coverage * _spread(present), _paint(draws, choice)[:, :, None, None], parts)

    def _plain(self, draws: Draws, placement: _Placement) -> _Layer:
        right, down = placement.coordinates()
        coverage = self._coverage_of(("circle", "triangle"), right, down, placement)
        colour = _paint(draws, np.where(self._shows("red"), 0, 1))[:, :, None, None]
        light = _light(right, down, placement)
        return _Layer(coverage, colour * light, self._parts("red", "blue", "circle", "triangle"))

    def _textured(self, draws: Draws, placement: _Placement) -> _Layer:
        right, down = placement.coordinates()
        coverage = self._coverage_of(("square", "cross"), right, down, placement)
        along, across = _turned(right, down, draws.direction(1))
        period = _spread(draws.uniform(5, 6.5))
        along, across = along + period * _spread(draws.uniform(0, 1)), across + period * _spread(draws.uniform(0, 1))
        dark = self._chosen(("striped", "dotted"), PATTERNS, (along, across, period))[:, None]
        bright, dim = draws.uniform(0.85, 1), draws.uniform(0.05, 0.25)
        paper = np.stack([bright, bright * draws.uniform(0.9, 1), bright * draws.uniform(0.65, 1)], axis=1)
        ink = np.stack([dim, dim * draws.uniform(0.8, 1.4), dim * draws.uniform(0.6, 1)], axis=1)
        colour = paper[:, :, None, None] + dark * (ink - paper)[:, :, None, None]
        light = _light(right, down, placement)
        return _Layer(coverage, colour * light, self._parts("striped", "dotted", "square", "cross"))

    def _tag(self, draws: Draws) -> _Layer:
        """A magenta square in the upper left corner, over whatever is there, or nothing."""
        x, y = draws.uniform(5, 7), draws.uniform(5, 7)
        coverage = pixel_coverage(np.maximum(np.abs(_X - _spread(x)), np.abs(_Y - _spread(y))) - _TAG_RADIUS)
        colour = _paint(draws, np.full(len(self._keys), _TAG_PAINT))[:, :, None, None]
        return _Layer(coverage * _spread(self._shows(TAG)), colour, self._parts(TAG))

    def _shows(self, part: str) -> Bools:
        shows: Bools = self._has[:, self._names.index(part)]
        return shows

    def _parts(self, *candidates: str) -> Bools:
        """Which of the named parts each image has: sample, part."""
        return self._has & np.isin(self._names, candidates)

    def _coverage_of(self, shapes: tuple[str, str], right: Floats, down: Floats, placement: _Placement) -> Floats:
        return pixel_coverage(self._chosen(shapes, SHAPES, (right, down, _spread(placement.radius))))

    def _chosen(self, pair: tuple[str, str], table: dict[str, Field], arguments: tuple[Floats, ...]) -> Floats:
        """Values of that one of two functions which the class names: sample, height, width."""
        values = np.empty_like(arguments[0])
        first = self._shows(pair[0])
        for name, rows in zip(pair, (first, ~first), strict=True):
            values[rows] = table[name](*(argument[rows] for argument in arguments))
        return values


def drawn_tags(keys: Words) -> Bools:
    """Which images would bear a tag if each did with a chance of one half: sample."""
    tags: Bools = Draws(keys, _TAG_CHOICE).uniform(0, 1) < 0.5
    return tags


def _spread(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One value for each sample, made to broadcast over height and width."""
    return values[:, None, None]


def _turned(right: Floats, down: Floats, turn: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    cosine, sine = _spread(turn[0]), _spread(turn[1])
    return right * cosine + down * sine, down * cosine - right * sine


def _light(right: Floats, down: Floats, placement: _Placement) -> Floats:
    """Brightness that falls from the object's upper left to its lower right: sample, 1, height, width."""
    light: Floats = 1 - 0.12 * (right + down) / _spread(placement.radius)
    return light[:, None]


def _muted(draws: Draws) -> Floats:
    """Colours of little saturation: sample, channel."""
    grey = draws.uniform(0.4, 0.78)
    return np.stack([grey + draws.uniform(-0.09, 0.09) for _ in range(3)], axis=1)


def _paint(draws: Draws, choice: Integers) -> Floats:
    """Colours between the bounds of the chosen paints: sample, channel."""
    low, high = _PAINTS[choice, 0], _PAINTS[choice, 1]
    colours: Floats = low + (high - low) * np.stack([draws.uniform(0, 1) for _ in range(3)], axis=1)
    return colours


def _stacked(draws: Draws) -> tuple[_Placement, _Placement]:
    """Two places, one above the other, that touch neither each other nor the border."""
    upper_radius, lower_radius = draws.uniform(10, 14), draws.uniform(10, 14)
    above, between, below = (draws.uniform(0.01, 1) for _ in range(3))
    slack = (SIZE - 4 - 2 * upper_radius - 2 * lower_radius) / (above + between + below)
    upper_y = 1 + slack * above + upper_radius
    lower_y = upper_y + upper_radius + 1 + slack * between + lower_radius

    def place(y: Floats, radius: Floats) -> _Placement:
        x = 1 + radius + (SIZE - 3 - 2 * radius) * draws.uniform(0, 1)
        return _Placement(x, y, radius, draws.direction(0.2))

    return place(upper_y, upper_radius), place(lower_y, lower_radius)
