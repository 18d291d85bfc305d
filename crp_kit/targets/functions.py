"""Targets that are functions of the output: their gradient, times the output."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import ConditionError
from ..numerics import is_finite
from .base import Target

__all__ = ["Function", "Similarity"]


def _value(function: Callable[[torch.Tensor], Any], output: torch.Tensor, name: str) -> torch.Tensor:
    """Return the one number that a function makes of an output, checked."""
    try:
        value = function(output)
    except Exception as error:  # a function of the user's own may fail in any way
        raise ConditionError(f"{name} fails for an output of shape {tuple(output.shape)}: {error}") from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1 or value.is_complex():
        shown = type(value).__name__
        if isinstance(value, torch.Tensor):
            shown = f"{tuple(value.shape)}" + (" of complex numbers" if value.is_complex() else "")
        raise ConditionError(f"{name} has to return one number for the output of a sample; it returned {shown}")
    if not is_finite(value.detach()):
        raise ConditionError(f"{name} is {float(value.detach())} at this output, and has to be a number")
    return value.reshape(())


def _gradient_times_output(function: Callable[[torch.Tensor], Any], output: torch.Tensor, name: str) -> torch.Tensor:
    with torch.enable_grad():
        leaf = output.detach().clone().requires_grad_()
        value = _value(function, leaf, name)
        gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
    if gradient is None:
        raise ConditionError(f"{name} does not depend on the output by operations that have a gradient")
    if not is_finite(gradient):
        raise ConditionError(f"the gradient of {name} is NaN or infinite at this output")
    return gradient * output


@dataclass(frozen=True, eq=False)
class Function(Target):
    """A scalar function of a sample's output: relevance starts as gradient times output.

    Parameters
    ----------
    f : callable
        From the output of one sample, without a batch axis, to one number, by operations that have a gradient.
    name : str
        Stands for the function in titles and provenance.

    Raises
    ------
    ConditionError
        If it is no function, or the name is empty.

    Examples
    --------
    >>> Function(lambda output: output.logsumexp(0), "evidence").relevance(torch.zeros(2), class_axis=0)
    tensor([0., 0.])
    """

    f: Callable[[torch.Tensor], Any]
    name: str

    def __post_init__(self) -> None:
        if not callable(self.f) or not isinstance(self.name, str) or not self.name:
            raise ConditionError(f"Function takes a function and a name for it; got {self.f!r}, {self.name!r}")

    @property
    def identity(self) -> str:
        return f"function:{self.name}"

    @property
    def _shown(self) -> str:
        return f"the function {self.name!r}"

    def relevance(self, output: torch.Tensor, *, class_axis: int | None) -> torch.Tensor:
        return _gradient_times_output(self.f, output, self._shown)

    def measured(self, output: torch.Tensor, *, class_axis: int | None, reference: torch.Tensor) -> torch.Tensor:
        return _value(self.f, output.clone(), self._shown)


@dataclass(frozen=True, eq=False)
class Similarity(Target):
    """Cosine similarity of a sample's output, an embedding, to a reference: gradient times output.

    A cosine does not change with the length of an embedding, so that the start relevance sums to zero: positive where
    the embedding agrees with the reference more than as a whole, negative where it agrees less.

    Parameters
    ----------
    vector : torch.Tensor or array
        The reference, of the shape of one sample's output.

    Raises
    ------
    ConditionError
        If the vector is zero or not finite.

    Examples
    --------
    >>> Similarity([1.0, 0.0]).relevance(torch.tensor([1.0, 1.0]), class_axis=None)
    tensor([ 0.3536, -0.3536])
    """

    vector: Any

    def __post_init__(self) -> None:
        try:
            vector = torch.as_tensor(self.vector).detach().cpu()
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConditionError(f"the reference of a similarity is an array of numbers: {error}") from error
        if vector.is_complex():
            raise ConditionError("the reference of a similarity is an array of real numbers; got complex ones")
        vector = vector if vector.is_floating_point() else vector.float()
        if not is_finite(vector) or not bool(vector.any()):
            raise ConditionError("the reference of a similarity has to be finite and not zero everywhere")
        object.__setattr__(self, "vector", vector)

    @property
    def identity(self) -> str:
        return f"similarity:{hashlib.sha256(self.vector.double().numpy().tobytes()).hexdigest()[:8]}"

    def relevance(self, output: torch.Tensor, *, class_axis: int | None) -> torch.Tensor:
        if self.vector.shape != output.shape:
            shapes = tuple(self.vector.shape), tuple(output.shape)
            raise ConditionError(f"the reference has shape {shapes[0]}, a sample's output {shapes[1]}")
        if not bool(output.any()):
            raise ConditionError("the output of a sample is zero everywhere: it has no cosine")
        return _gradient_times_output(self._cosine, output, "the cosine")

    def measured(self, output: torch.Tensor, *, class_axis: int | None, reference: torch.Tensor) -> torch.Tensor:
        return self._cosine(output)

    def _cosine(self, embedding: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cosine_similarity(embedding.flatten(), self.vector.to(embedding).flatten(), 0)
