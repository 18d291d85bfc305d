"""A model with what is known of it: preprocessing, class names, the part of its output that counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..class_names import class_label
from ..conditions import OutputSelector
from ..data.preprocess import Preprocess
from ..errors import InputError

__all__ = ["LoadedModel"]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with its preprocessing, class names and the part of its output that counts. A factory may return one.

    Parameters
    ----------
    model : torch.nn.Module
        Is put into evaluation mode by `load_model`.
    preprocess : Preprocess
        ImageNet's by default.
    classes : tuple of str or None
        Name of each output, where known.
    output : str, int, callable or None
        Which part of the model's output counts, as `crp_kit.CondAttribution` takes it.
    spec, weights : str or None
        What `load_model` was asked for, which an atlas of the model keeps.

    Raises
    ------
    InputError
        If one of them is something else.

    Examples
    --------
    >>> LoadedModel(nn.Linear(4, 2), classes=("cat", "dog")).class_name(1)
    '1 dog'
    """

    model: nn.Module
    preprocess: Preprocess = field(default_factory=Preprocess)
    classes: tuple[str, ...] | None = None
    output: OutputSelector = None
    spec: str | None = None
    weights: str | None = None

    def __repr__(self) -> str:
        classes = f", {len(self.classes)} classes" if self.classes else ""
        spec = f" {self.spec!r}" if self.spec else ""
        return f"LoadedModel{spec}: {type(self.model).__name__}{classes}, {self.preprocess!r}"

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise InputError(f"model is a torch.nn.Module; got {type(self.model).__name__}")
        if not isinstance(self.preprocess, Preprocess):
            raise InputError(f"preprocess is a crp_kit.Preprocess; got {type(self.preprocess).__name__}")
        if not (self.output is None or isinstance(self.output, (str, int)) or callable(self.output)):
            raise InputError(f"output is a key, an index, an attribute or a function; got {self.output!r:.60}")
        if self.classes is not None:
            names: Any = self.classes
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise InputError(f"classes is the name of each output, a tuple of strings; got {self.classes!r:.60}")
            object.__setattr__(self, "classes", tuple(self.classes))

    def class_name(self, index: int) -> str:
        """Return ``"207 golden retriever"``, or only the number where no name is known.

        Parameters
        ----------
        index : int
            Number of the class, from 0.

        Returns
        -------
        str
        """
        return class_label(index, self.classes or ())

    def sample(self) -> torch.Tensor:
        """Return an input of zeros with the shape that the model takes: (1, channel, height, width), or (1, *shape)."""
        return self.preprocess.zeros()
