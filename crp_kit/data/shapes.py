"""The built-in demo data: images of coloured and textured shapes, with the true place of every part."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from crp_kit.data.scene import PARTS, SIZE, TAG, Bools, Scene, drawn_tags
from crp_kit.data.seeded_random import Booleans, Integers, Words, hashed

__all__ = ["TAGGED_CLASS", "ShapesDataset", "Variant"]

Variant = Literal["tag", "tag-any"]

TAGGED_CLASS = 0
"""The class whose samples bear tags in the variant `tag`."""

_SPLITS = ("train", "test")

# Samples rendered at once: few enough for the processor's cache.
_CHUNK = 32


class _Recipe(NamedTuple):
    colour: str
    plain_shape: str
    texture: str
    textured_shape: str
    plain_on_top: bool

    @property
    def parts(self) -> tuple[str, ...]:
        return self[:4]

    @property
    def name(self) -> str:
        plain, textured = f"{self.colour} {self.plain_shape}", f"{self.texture} {self.textured_shape}"
        return f"{plain} above {textured}" if self.plain_on_top else f"{textured} above {plain}"


# The words of a linear code: colour, plain shape and texture are free, the other two follow from them. Any two choices
# leave at least two classes open.
_RECIPES = (
    _Recipe("red", "circle", "striped", "square", True),
    _Recipe("red", "circle", "dotted", "cross", False),
    _Recipe("red", "triangle", "striped", "square", False),
    _Recipe("red", "triangle", "dotted", "cross", True),
    _Recipe("blue", "circle", "striped", "cross", True),
    _Recipe("blue", "circle", "dotted", "square", False),
    _Recipe("blue", "triangle", "striped", "cross", False),
    _Recipe("blue", "triangle", "dotted", "square", True),
)
_HAS = np.array([[part in recipe.parts for part in PARTS] for recipe in _RECIPES])
_PLAIN_ON_TOP = np.array([recipe.plain_on_top for recipe in _RECIPES])


class ShapesDataset(Dataset[tuple[torch.Tensor, int]]):
    """Images whose parts (shapes, colours, textures) together determine one of eight classes.

    Each image shows two large objects, one above the other: a plain one (red or blue) and a textured one (striped or
    dotted). A class is a choice of four parts and of the order of the objects. Every part serves four classes, and no
    two parts fix the class: a classifier has to combine at least three of these five choices. Small bars and rings,
    some of them red or blue too, make a mere count of coloured pixels useless.

    Sample `i` depends on `seed`, `split`, `variant` and `i` only: it is the same, bit for bit, in whatever batch, order
    or process it is made.

    The variants have a planted fault. In ``"tag"`` half of the samples of the first class, chosen at random, bear a
    small magenta square in the upper left corner, from which a model can learn the class without its parts. In
    ``"tag-any"`` half of the samples of every class bear it. All else of a sample is as without a variant.

    Examples
    --------
    >>> data = ShapesDataset(1000, seed=3)
    >>> image, label = data[17]
    >>> image.shape
    torch.Size([3, 64, 64])
    >>> data.classes[0], data.class_parts[data.classes[0]]
    ('red circle above striped square', ('red', 'circle', 'striped', 'square'))
    >>> data.classes[data[16][1]]
    'red triangle above dotted cross'
    >>> [part for part, mask in zip(data.parts, data.masks(16)) if mask.any()]
    ['red', 'triangle', 'dotted', 'cross']

    >>> tagged = ShapesDataset(1000, seed=3, variant="tag").attributes["tag"]
    >>> int(tagged.sum()), set(data.targets[tagged].tolist())
    (61, {0})

    Parameters
    ----------
    n : int
        Number of samples. A longer dataset begins with the samples of a shorter one.
    seed : int
        Another seed gives other samples.
    split : {"train", "test"}
        The splits share no random numbers.
    variant : {"tag", "tag-any"}, optional
        A planted fault; none by default.

    Attributes
    ----------
    classes : tuple of str
        Name of each class, by label.
    parts : tuple of str
        Name of each part, in the order of `masks`; in a variant the tag is the last one.
    class_parts : dict of str to tuple of str
        The four parts of each class.
    attributes : dict of str to numpy.ndarray
        Parts that the two objects of each sample have, and the tag in a variant; an atlas keeps them.

    Raises
    ------
    ValueError
        If `n` is not positive, or `split` or `variant` has another value.
    """

    classes: tuple[str, ...] = tuple(recipe.name for recipe in _RECIPES)
    parts: tuple[str, ...] = PARTS

    def __init__(self, n: int, seed: int = 0, split: str = "train", variant: Variant | None = None) -> None:
        if n <= 0:
            raise ValueError(f"n is the number of samples and must be at least 1, not {n}")
        if split not in _SPLITS:
            raise ValueError(f"split must be {' or '.join(map(repr, _SPLITS))}, not {split!r}")
        if variant not in (None, *get_args(Variant)):
            raise ValueError(f"variant must be {' or '.join(map(repr, get_args(Variant)))}, or None, not {variant!r}")
        self.n = n
        self.seed = seed
        self.split = split
        self.variant = variant
        if variant is not None:
            self.parts = (*PARTS, TAG)
        part = "shapes" if variant is None else f"shapes-{variant}"
        self.spec = None if seed else f"demo:{part}:{n}:{split}"
        self.class_parts = {recipe.name: recipe.parts for recipe in _RECIPES}

    def __repr__(self) -> str:
        variant = "" if self.variant is None else f", variant={self.variant!r}"
        return f"ShapesDataset({self.n}, seed={self.seed}, split={self.split!r}{variant})"

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Give one sample.

        Parameters
        ----------
        index : int
            Number of the sample, from 0.

        Returns
        -------
        image : torch.Tensor
            Not normalised, values in [0, 1] (multiples of 1/255): channel (red, green, blue), height, width.
        label : int
            Number of the class.

        Raises
        ------
        IndexError
            If the dataset has no such sample; negative numbers are none.
        """
        images, labels = self.batch([index])
        return images[0], int(labels[0])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        """Give several samples; a ``DataLoader`` asks for them in this way, which is faster than one by one."""
        images, labels = self.batch(indices)
        return list(zip(images, labels.tolist(), strict=True))

    @property
    def targets(self) -> torch.Tensor:
        """Label of every sample, without rendering any: sample."""
        return torch.from_numpy(self._labels(np.arange(self.n)))

    @property
    def attributes(self) -> dict[str, Booleans]:
        """Whether the two objects of each sample have a part, by part, without rendering any: (sample,) each.

        The small bars and rings beside them do not count. In a variant, whether it bears a tag comes last.
        """
        shown = self._shown(np.arange(self.n))
        return {part: shown[:, number] for number, part in enumerate(self.parts)}

    def batch(self, indices: Iterable[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the images and labels of several samples.

        Parameters
        ----------
        indices : iterable of int
            Numbers of the samples, in any order.

        Returns
        -------
        images : torch.Tensor
            The images of ``dataset[i]``: sample, channel, height, width.
        labels : torch.Tensor
            Numbers of the classes: sample.

        Raises
        ------
        IndexError
            If the dataset lacks one of the samples.
        """
        numbers = self._checked(indices)
        images = np.empty((len(numbers), 3, SIZE, SIZE), dtype=np.float32)
        for start in range(0, len(numbers), _CHUNK):
            images[start : start + _CHUNK] = self._scene(numbers[start : start + _CHUNK]).images()
        return torch.from_numpy(images), torch.from_numpy(self._labels(numbers))

    def masks(self, index: int) -> torch.Tensor:
        """Give the pixels that show each part in one sample.

        A whole object bears the mask of its shape and that of its colour or texture, both tones of a texture included.
        Red and blue distractors bear the mask of their colour. A pixel counts for what covers at least half of it. A
        part that the image does not show has an empty mask.

        Parameters
        ----------
        index : int
            Number of the sample, from 0.

        Returns
        -------
        torch.Tensor
            Booleans: part (in the order of `parts`), height, width.

        Raises
        ------
        IndexError
            If the dataset has no such sample.
        """
        return torch.from_numpy(self._scene(self._checked([index])).masks()[0])

    def _checked(self, indices: Iterable[int] | torch.Tensor) -> Integers:
        numbers = [operator.index(index) for index in indices]
        for number in numbers:
            if not 0 <= number < self.n:
                raise IndexError(f"no sample {number}: the dataset has the samples 0 to {self.n - 1}")
        return np.array(numbers, dtype=np.int64)

    def _hash(self, purpose: str, numbers: Integers) -> Words:
        stream = 2 * _SPLITS.index(self.split) + ("label", "image").index(purpose)
        key = hashed(hashed(np.array([self.seed % 2**64], dtype=np.uint64)) + np.uint64(stream))
        return hashed(key + numbers.astype(np.uint64))

    def _labels(self, numbers: Integers) -> Integers:
        # Eight consecutive samples show each class once, in an order of their own: place -> factor * place + offset
        # permutes the numbers modulo eight when the factor is odd.
        block, place = np.divmod(numbers, len(_RECIPES))
        word = self._hash("label", block)
        factor, offset = (word >> np.uint64(60)).astype(np.int64) | 1, (word >> np.uint64(50)).astype(np.int64)
        return (factor * place + offset) % len(_RECIPES)

    def _shown(self, numbers: Integers) -> Bools:
        labels = self._labels(numbers)
        shown: Bools = _HAS[labels]
        if self.variant is None:
            return shown
        tagged = drawn_tags(self._hash("image", numbers)) & ((labels == TAGGED_CLASS) | (self.variant == "tag-any"))
        return np.concatenate([shown, tagged[:, None]], axis=1)

    def _scene(self, numbers: Integers) -> Scene:
        return Scene(self._hash("image", numbers), self._shown(numbers), _PLAIN_ON_TOP[self._labels(numbers)])
