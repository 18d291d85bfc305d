"""Targets that are classes or values of the output: one of them, or one against another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ..checks import is_integer
from ..errors import ConditionError
from .base import ClassName, Names, Target, class_scores_of, named, title_of, value_words

__all__ = ["Class", "Contrast", "Value", "check_class", "check_value"]


def check_class(cls: object, what: str = "a class") -> None:
    """Raise a `ConditionError` unless this is one class, by name or number."""
    if not isinstance(cls, str) and (not is_integer(cls) or cls < 0):
        raise ConditionError(f"{what} is a name or a number from 0 on; got {cls!r}")


def check_value(value: str, choices: Sequence[str]) -> None:
    """Raise a `ConditionError` unless the word for the start relevance is one of these."""
    if value not in choices:
        raise ConditionError(f"value is {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}; got {value!r}")


@dataclass(frozen=True)
class Class(Target):
    """One class, or several together.

    Parameters
    ----------
    ids : int, str, or several
        Classes by number, or by name in a study that knows names.
    value : {"logit", "one", "probability"}, optional
        Start relevance at each of them: the output itself, as ``{"y": [ids]}`` has it; 1; or the softmax probability.
        Where the output has positions, at every position.

    Raises
    ------
    ConditionError
        If there is no class, or `value` is another word.

    Examples
    --------
    >>> Class(1, value="one").relevance(torch.tensor([3.0, 2.0]), class_axis=0)
    tensor([0., 1.])
    """

    ids: ClassName | tuple[ClassName, ...]
    value: Literal["logit", "one", "probability"] = "logit"

    def __post_init__(self) -> None:
        ids = tuple(self.ids) if isinstance(self.ids, Iterable) and not isinstance(self.ids, str) else (self.ids,)
        if not ids:
            raise ConditionError("a target needs a class; got none")
        for cls in ids:
            check_class(cls)
        object.__setattr__(self, "ids", ids)
        check_value(self.value, ("logit", "one", "probability"))

    @property
    def classes(self) -> tuple[ClassName, ...]:
        """The classes, each once."""
        assert isinstance(self.ids, tuple)
        return tuple(dict.fromkeys(self.ids))

    @property
    def class_number(self) -> int:
        """The first class, by number."""
        return int(self.classes[0])

    @property
    def identity(self) -> str:
        return f"class:{','.join(map(named, self.classes))}" + ("" if self.value == "logit" else f":{self.value}")

    def words(self, classes: Names) -> str:
        return " and ".join(title_of(cls, classes) for cls in self.classes) + value_words(self.value, "logit")

    def numbered(self, number: Callable[[ClassName], ClassName]) -> Class:
        return replace(self, ids=tuple(map(number, self.classes)))

    def relevance(self, output: torch.Tensor, *, class_axis: int | None) -> torch.Tensor:
        scores, numbers = class_scores_of(output, self.classes, class_axis)
        start = torch.zeros_like(scores)
        values = {"logit": scores, "one": torch.ones_like(scores), "probability": scores.softmax(0)}[self.value]
        start[numbers] = values[numbers]
        return start.movedim(0, class_axis or 0).reshape(output.shape)

    def measured(self, output: torch.Tensor, *, class_axis: int | None, reference: torch.Tensor) -> torch.Tensor:
        value = replace(self, value="logit") if self.value == "one" else self
        return value.relevance(output, class_axis=class_axis).sum()


@dataclass(frozen=True)
class Contrast(Target):
    """One class against another: the logit of `a`, minus the logit of `b`.

    Its heatmap is the difference of the heatmaps of the two classes.

    Parameters
    ----------
    a, b : int or str
        Classes by number, or by name in a study that knows names.

    Raises
    ------
    ConditionError
        If both are one class, or one is no class.

    Examples
    --------
    >>> Contrast(0, 2).relevance(torch.tensor([3.0, 2.0, 1.0]), class_axis=0)
    tensor([ 3.,  0., -1.])
    """

    a: ClassName
    b: ClassName

    def __post_init__(self) -> None:
        check_class(self.a)
        check_class(self.b)
        if self.a == self.b:
            raise ConditionError(f"a contrast is between two classes; got {self.a!r} twice")

    @property
    def class_number(self) -> int:
        """Class `a`, by number."""
        return int(self.a)

    @property
    def identity(self) -> str:
        return f"contrast:{named(self.a)},{named(self.b)}"

    def words(self, classes: Names) -> str:
        return f"{title_of(self.a, classes)} against {title_of(self.b, classes)}"

    def numbered(self, number: Callable[[ClassName], ClassName]) -> Contrast:
        return Contrast(number(self.a), number(self.b))

    def relevance(self, output: torch.Tensor, *, class_axis: int | None) -> torch.Tensor:
        scores, (a, b) = class_scores_of(output, (self.a, self.b), class_axis)
        start = torch.zeros_like(scores)
        start[a], start[b] = scores[a], -scores[b]
        return start.movedim(0, class_axis or 0).reshape(output.shape)


@dataclass(frozen=True)
class Value(Target):
    """A value of a regression.

    Parameters
    ----------
    index : int or tuple of int, optional
        Which value of a sample's output: along its only axis, or by all of its axes.
    value : {"output", "one", "sign"}, optional
        Start relevance there: the value itself, 1, or the sign of the value.

    Raises
    ------
    ConditionError
        If `index` is no whole number or tuple of them, or `value` is another word.

    Examples
    --------
    >>> Value(1, value="sign").relevance(torch.tensor([0.5, -2.0]), class_axis=None).tolist()
    [0.0, -1.0]
    """

    index: int | tuple[int, ...] = 0
    value: Literal["output", "one", "sign"] = "output"

    def __post_init__(self) -> None:
        index = (self.index,) if is_integer(self.index) else self.index
        if not isinstance(index, (tuple, list)) or not index or not all(is_integer(i) and i >= 0 for i in index):
            raise ConditionError(f"index is a whole number from 0 on, or one for each axis; got {self.index!r}")
        object.__setattr__(self, "index", tuple(map(int, index)))
        check_value(self.value, ("output", "one", "sign"))

    @property
    def class_number(self) -> int:
        """The index along the first axis."""
        assert isinstance(self.index, tuple)
        return self.index[0]

    @property
    def identity(self) -> str:
        assert isinstance(self.index, tuple)
        return f"value:{','.join(map(str, self.index))}" + ("" if self.value == "output" else f":{self.value}")

    def words(self, classes: Names) -> str:
        assert isinstance(self.index, tuple)
        return f"output {', '.join(map(str, self.index))}" + value_words(self.value, "output")

    def relevance(self, output: torch.Tensor, *, class_axis: int | None) -> torch.Tensor:
        assert isinstance(self.index, tuple)
        index = () if not output.ndim and self.index == (0,) else self.index
        shape = tuple(output.shape)
        if len(index) != len(shape) or any(i >= size for i, size in zip(index, shape, strict=True)):
            raise ConditionError(f"index {self.index} names no single value of an output of shape {shape} per sample")
        start = torch.zeros_like(output)
        start[index] = {"output": output, "one": torch.ones_like(output), "sign": output.sign()}[self.value][index]
        return start

    def measured(self, output: torch.Tensor, *, class_axis: int | None, reference: torch.Tensor) -> torch.Tensor:
        return replace(self, value="output").relevance(output, class_axis=class_axis).sum()
