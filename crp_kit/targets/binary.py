"""Target of networks with one logit: the class for which it speaks, or the other one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..checks import is_integer
from ..errors import ConditionError
from .base import Names, Target, title_of

__all__ = ["Binary"]


@dataclass(frozen=True)
class Binary(Target):
    """One of the two classes of a network with one logit: relevance starts as the logit for class 1, minus it for 0.

    Parameters
    ----------
    number : {0, 1}
        The class. A logit above 0 speaks for class 1.

    Raises
    ------
    ConditionError
        If it is another number; later, if the output is not one number.

    Examples
    --------
    >>> Binary(0).relevance(torch.tensor([2.0]), class_axis=0)
    tensor([-2.])
    """

    number: int

    def __post_init__(self) -> None:
        if not is_integer(self.number) or self.number not in (0, 1):
            raise ConditionError(f"the classes of a network with one logit are 0 and 1; got {self.number!r}")

    @property
    def class_number(self) -> int:
        """The class."""
        return self.number

    @property
    def identity(self) -> str:
        return f"binary:{self.number}"

    def words(self, classes: Names) -> str:
        return title_of(self.number, classes)

    def relevance(self, output: torch.Tensor, *, class_axis: int | None) -> torch.Tensor:
        if output.numel() != 1:
            raise ConditionError(f"{self} needs one logit; a sample's output has shape {tuple(output.shape)}")
        return output if self.number else -output
