"""Base of all targets: from the output of one sample to its start relevance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch

from ..class_names import class_name, class_words
from ..errors import ConceptAxisError, ConditionError

__all__ = ["ClassName", "LocatedTarget", "Names", "Target", "class_scores_of", "named", "title_of", "value_words"]

ClassName = int | str
"""A class by number, or by name where names are known."""
Names = Sequence[str] | Mapping[int, str]
"""Names of all classes, or of some by number."""
T = TypeVar("T", bound="Target")
L = TypeVar("L", bound="LocatedTarget")


class _Unquoted(str):
    """Name that stands in an identity without quotation marks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Target(ABC):
    """What relevance starts from. It stands for ``"y"`` in a condition set, alone: ``{"y": Contrast(281, 285)}``.

    A subclass defines the start relevance of one sample (`relevance`); nothing of it depends on the other samples of a
    batch. Several targets are several condition sets, one row each.

    Examples
    --------
    The margin of a class over the mean of all classes:

    >>> import crp_kit as crp
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> class Margin(crp.targets.Target):
    ...     def __init__(self, number):
    ...         self.number = number
    ...
    ...     @property
    ...     def identity(self):
    ...         return f"margin:{self.number}"
    ...
    ...     def relevance(self, output, *, class_axis):
    ...         weight = torch.full_like(output, -1 / len(output))
    ...         weight[self.number] += 1
    ...         return weight * output
    >>> image, label = ShapesDataset(1)[0]
    >>> study = crp.Study(demo_resnet(), composite="epsilon_plus_flat", preprocess=demo_preprocess)
    >>> study(image[None], {"y": Margin(label)}).titles()
    ['margin:0']
    """

    @property
    def class_number(self) -> int | None:
        """The class, or index of the output, under which an atlas counts a sample; None where a target has none."""
        return None

    @property
    @abstractmethod
    def identity(self) -> str:
        """Return what it is as a short text, the same in every process: for titles and provenance."""

    @abstractmethod
    def relevance(self, output: torch.Tensor, *, class_axis: int | None) -> torch.Tensor:
        """Return start relevance.

        Parameters
        ----------
        output : torch.Tensor
            The model's output for one sample, without a batch axis: (class,), (class, height, width), …
        class_axis : int or None
            The axis of `output` that enumerates classes, if that is known.

        Returns
        -------
        torch.Tensor
            Of the shape of `output`.

        Raises
        ------
        ConditionError
            If the output has no such class, region or value.
        """

    def measured(self, output: torch.Tensor, *, class_axis: int | None, reference: torch.Tensor) -> torch.Tensor:
        """Return the number that relevance explains, for evaluations that change the output.

        It is the linear function of the output whose gradient times output is the start relevance at `reference`, such
        as a logit, or the difference of two; classes whose start is no logit and functions define it themselves.

        Parameters
        ----------
        output : torch.Tensor
            For one sample, as it is after a change.
        class_axis : int or None
            As in `relevance`.
        reference : torch.Tensor
            As it was before, where regions and boxes are chosen.

        Returns
        -------
        torch.Tensor
            A scalar.
        """
        start = self.relevance(reference, class_axis=class_axis)
        return (torch.where(reference == 0, 0.0, start / reference) * output).sum()

    def area(self, output: torch.Tensor, *, class_axis: int | None, size: torch.Size) -> torch.Tensor | None:
        """Return where in the image relevance starts, for pictures; None where that is nowhere in particular.

        Parameters
        ----------
        output : torch.Tensor
            For one sample.
        class_axis : int or None
            As in `relevance`.
        size : torch.Size
            Height and width of the model's input.

        Returns
        -------
        torch.Tensor or None
            Bool, (height, width).
        """
        return None

    def numbered(self: T, number: Callable[[ClassName], ClassName]) -> T:
        """Return this target with classes by number, where it was given names."""
        return self

    def words(self, classes: Names) -> str:
        """Return what it is for a title, in words, or else its identity; with the names of classes, where known.

        Parameters
        ----------
        classes : sequence of str or dict
            Names of all classes, or of some by number.

        Examples
        --------
        >>> from crp_kit.targets import Contrast
        >>> Contrast(0, 2).words(["cat", "dog"])
        'cat against class 2'
        """

        def name(cls: ClassName) -> ClassName:
            called = class_name(cls, classes) if isinstance(cls, int) else ""
            return _Unquoted(called) if called else cls

        return self.numbered(name).identity

    def __str__(self) -> str:
        return self.identity


class LocatedTarget(Target):
    """A class where the output has it: a dataclass whose start relevance is 1 there if its `value` is ``"one"``."""

    cls: ClassName

    @property
    def class_number(self) -> int:
        """The class, by number."""
        return int(self.cls)

    def numbered(self: L, number: Callable[[ClassName], ClassName]) -> L:
        return self._with(cls=number(self.cls))

    def measured(self, output: torch.Tensor, *, class_axis: int | None, reference: torch.Tensor) -> torch.Tensor:
        chosen = self._with(value="one").relevance(reference, class_axis=class_axis)
        return (chosen * output).sum()

    def _with(self: L, **fields: Any) -> L:
        """Return this target with other values of its fields."""
        located: Any = self
        changed: L = replace(located, **fields)
        return changed


def named(cls: ClassName) -> str:
    """Return a class as it stands in an identity."""
    return repr(cls) if isinstance(cls, str) else str(cls)


def class_scores_of(
    output: torch.Tensor, classes: Sequence[ClassName], class_axis: int | None
) -> tuple[torch.Tensor, list[int]]:
    """Return a view of the output with its classes in front, and the checked numbers of some classes.

    Raises
    ------
    ConceptAxisError
        If the axis of the classes is not known.
    ConditionError
        If a class is a name that has no number, or out of range.
    """
    if output.ndim == 0:
        output, class_axis = output[None], 0
    if class_axis is None:
        raise ConceptAxisError(
            f"which axis of the model's output, of shape {tuple(output.shape)} for one sample, enumerates its classes "
            f"is not known: name it with class_axis=..."
        )
    by_class = output.movedim(class_axis, 0)
    names = [cls for cls in classes if isinstance(cls, str)]
    if names:
        raise ConditionError(f"no names of classes are known here: give the number of {names[0]!r}, or use a Study")
    numbers = [int(cls) for cls in classes]
    wrong = [number for number in numbers if not 0 <= number < len(by_class)]
    if wrong:
        raise ConditionError(f"class {wrong[0]} is out of range: the model's output has {len(by_class)} classes")
    return by_class, numbers


def title_of(cls: ClassName, classes: Names) -> str:
    """Return what titles call a class that is said by number or by name."""
    return cls if isinstance(cls, str) else class_words(cls, classes)


def value_words(value: str, usual: str) -> str:
    """Return the end of a title that says what the start relevance is, where it is not the usual one."""
    return "" if value == usual else f" ({value})"
