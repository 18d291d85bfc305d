"""Programs: statements in two writings, the user's and the oracle's, that print and run as Python."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from .detached import Forms
from .parts import PARTS

CLASSES = 3
NAMES: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, **PARTS}


@dataclass(frozen=True)
class Statement:
    """One step of a program.

    Parameters
    ----------
    outs, uses : tuple of str
        Variables that it makes, and those that it reads or writes into.
    plain, detached : str
        Its lines in the model's forward, and in the oracle's, where ``q`` is a `Forms`.
    declared : tuple of (str, str)
        Attributes of the module that it needs: name and expression.
    family : str
        Name of the operation that drew it.
    live : bool
        What it makes carries relevance.
    elementwise : bool
        What it makes is an element-wise function of what it reads.
    one_sample : bool
        It mixes samples, so that it is right for one only.
    """

    outs: tuple[str, ...]
    uses: tuple[str, ...]
    plain: str
    detached: str
    declared: tuple[tuple[str, str], ...] = ()
    family: str = ""
    live: bool = True
    elementwise: bool = True
    one_sample: bool = False


@dataclass(frozen=True)
class Program:
    """A straight line of statements from ``x`` to a linear head.

    Parameters
    ----------
    seed : int
        Of input and parameters; parameters depend on the attribute's name as well, so that fewer lines keep them.
    shape : tuple of int
        Of the input, batch included.
    statements : tuple of Statement
    results : tuple of str
        Variables that the head sees, flattened.
    """

    seed: int
    shape: tuple[int, ...]
    statements: tuple[Statement, ...]
    results: tuple[str, ...]

    @property
    def one_sample(self) -> bool:
        """Whether the program is right for one sample only."""
        return any(statement.one_sample for statement in self.statements)

    @property
    def declared(self) -> dict[str, str]:
        """Attributes of the module, and the expressions that make them."""
        read = " ".join(statement.plain for statement in self.statements)
        declared = [pair for statement in self.statements for pair in statement.declared]
        return {name: expression for name, expression in declared if re.search(rf"self\.{name}\b", read)}

    @cached_property
    def width(self) -> int:
        """Number of features in front of the head."""
        with torch.no_grad():
            return int(self._built(0)(self.data())[0].numel())

    @property
    def source(self) -> str:
        """The model as Python."""
        return self._source(self.width)

    def model(self) -> nn.Module:
        """The model with its parameters, in float64 and evaluation mode."""
        return self._built(self.width)

    def data(self, samples: int | None = None, *, other: int = 0) -> torch.Tensor:
        """An input in float64, with another number of samples or other values if wanted."""
        shape = (samples or self.shape[0], *self.shape[1:])
        generator = torch.Generator().manual_seed(self.seed * 1000 + other)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def run_detached(self, model: nn.Module, x: torch.Tensor, forms: Forms) -> torch.Tensor:
        """Output of the oracle's writing, linear in the live tensors where `forms` are those of LRP."""
        lines = []
        for statement in self.statements:
            lines += [statement.detached, f"q.see({', '.join(statement.outs or statement.uses[:1])})"]
        lines.append(f"out = q.node('head', self.head({self._features}))")
        names = {**NAMES, "self": model, "x": x, "q": forms}
        with saved_tensors_hooks(torch.clone, lambda tensor: tensor):  # later statements may write in place
            exec("\n".join(lines), names)
        return names["out"]

    def without(self, index: int, renamed: dict[str, str]) -> Program:
        """The program without a statement, its variables replaced by others."""
        kept = [_renamed(s, renamed) for i, s in enumerate(self.statements) if i != index]
        results = tuple(dict.fromkeys(renamed.get(name, name) for name in self.results))
        return replace(self, statements=tuple(kept), results=results)

    @property
    def _features(self) -> str:
        parts = [f"{name}.flatten(1)" for name in self.results]
        return parts[0] if len(parts) == 1 else f"torch.cat([{', '.join(parts)}], 1)"

    def _source(self, width: int) -> str:
        head = f"self.head({self._features})" if width else self._features
        attributes = {**self.declared, **({"head": f"nn.Linear({width}, {CLASSES})"} if width else {})}
        body = [line for statement in self.statements for line in statement.plain.splitlines()]
        return "\n".join(
            [
                "class Model(nn.Module):",
                "    def __init__(self):",
                "        super().__init__()",
                *(
                    f"        self.register_buffer({name!r}, {expression[7:-1]})"
                    if expression.startswith("buffer(")
                    else f"        self.{name} = {expression}"
                    for name, expression in attributes.items()
                ),
                "",
                "    def forward(self, x):",
                *(f"        {line}" for line in body),
                f"        return {head}",
            ]
        )

    def _built(self, width: int) -> nn.Module:
        names = dict(NAMES)
        exec(self._source(width), names)
        model: nn.Module = names["Model"]()
        randomise(model, self.seed)
        return model.double().eval()


def randomise(model: nn.Module, seed: int) -> None:
    """Draw all parameters and statistics of a model from a seed and their names, in place."""
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not tensor.is_floating_point():
                continue
            generator = torch.Generator().manual_seed(seed * 7919 + zlib.crc32(name.encode()))
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            else:
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 4 if name.endswith("bias") else 1
                tensor.normal_(0, max(fan_in, 1) ** -0.5, generator=generator)


def _renamed(statement: Statement, renamed: dict[str, str]) -> Statement:
    def change(text: str) -> str:
        for old, new in renamed.items():
            text = re.sub(rf"(?<![\w.]){old}(?!\w)", new, text)
        return text

    uses = tuple(dict.fromkeys(renamed.get(name, name) for name in statement.uses))
    return replace(statement, uses=uses, plain=change(statement.plain), detached=change(statement.detached))
