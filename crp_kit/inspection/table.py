"""Rule table: the rule that a composite gives to each node of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..attribution.cond_attribution import CondAttribution
from ..conditions import OutputSelector
from ..errors import ConditionError
from ..graph.graph import Graph, Node, Ref
from ..propagation.plan_description import step_description
from ..propagation.run import Run
from ..result_table import Framed
from ..rules.maps.layer_index import Layers
from ..rules.presets import Composite
from ..tables import Tone, html_table, shape_text, text_table
from .layers import attribution_of

__all__ = ["RuleRow", "RuleTable", "rule_table"]

_WIDTH = 100
_GRADIENT = "plain gradient"
_HEADS = ("index", "name", "type", "shape", "rule", "canonization", "quality")
_WANTED = {1: 21, 2: 11, 4: 24, 5: 15}
"""Columns whose cells are shortened where a line would be too long, and the width that each should keep."""
_NARROWEST = 8
_SHOWN = 200
"""Rows that a notebook displays."""
_TONES: Mapping[str, Tone] = {"": "quiet", _GRADIENT: "loud"}
"""The tone of rows of each quality there."""


@dataclass(frozen=True)
class RuleRow:
    """The rule at one node.

    Parameters
    ----------
    index : int or None
        The index by which `crp_kit.rules.maps` give it a rule; ``None`` for nodes that only move values.
    name : str
        Name of the node.
    type : str
        Class of its module, or the operation.
    shape : tuple of int
        Shape of its output, without the batch axis.
    rule : str
        The rule with its parameters. ``"routed"``: relevance goes where the values came from, as in reshapes and max
        pooling. Empty where no relevance arrives.
    canonization : str
        Which node it is folded into, which are folded into it, and which inputs count as constants.
    quality : str
        ``"exact"``, ``"approximate"`` or ``"plain gradient"``; empty where no relevance arrives.
    """

    index: int | None
    name: str
    type: str
    shape: tuple[int, ...]
    rule: str
    canonization: str
    quality: str

    def cells(self, *, relative: bool = False) -> tuple[str, ...]:
        """Return the values as strings, on request with other nodes named from the node's own module on: ``…bn1``."""
        index = "" if self.index is None else str(self.index)
        path = self.name.rpartition(".")[0]
        others = self.canonization.replace("BatchNorm ", "") if relative else self.canonization
        others = others.replace(f"{path}.", "…") if relative and path else others
        return (index, self.name, self.type, shape_text(self.shape), self.rule, others, self.quality)


@dataclass(frozen=True, repr=False)
class RuleTable(Framed):
    """The rule of each node of a recorded graph, in execution order. Made by `rule_table`.

    Its data frame has a row for each node.

    Parameters
    ----------
    rows : tuple of RuleRow
        In execution order.
    composite : str
        Name of the composite.
    lrp : bool
        Whether relevance is propagated, not gradients.
    """

    rows: tuple[RuleRow, ...]
    composite: str
    lrp: bool = True

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[RuleRow]:
        return iter(self.rows)

    @property
    def improper(self) -> tuple[RuleRow, ...]:
        """The rows of nodes without a rule of LRP, at which relevance passes as plain gradient."""
        return tuple(row for row in self.rows if self.lrp and row.quality == _GRADIENT)

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries of numbers, strings and lists."""
        return [{**asdict(row), "shape": list(row.shape)} for row in self.rows]

    def _framed(self) -> list[dict[str, Any]]:
        return self.as_dicts()

    def __repr__(self) -> str:
        lines = text_table(_narrowed([_HEADS, *(row.cells(relative=True) for row in self.rows)], _WIDTH))
        return "\n".join([self._summary(), *lines])

    def _summary(self) -> str:
        counts = {name: sum(row.quality == name for row in self.rows) for name in ("exact", "approximate", _GRADIENT)}
        summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return f"RuleTable of {len(self)} nodes under {self.composite}: {summary or 'no relevance flows'}"

    def _repr_html_(self) -> str:
        shown = self.rows[:_SHOWN]
        return html_table(
            _HEADS,
            [row.cells() for row in shown],
            text_columns=_HEADS[1:],
            caption=self._summary(),
            hidden=len(self) - len(shown),
            tones={index: _TONES[row.quality] for index, row in enumerate(shown) if row.quality in _TONES},
        )


def rule_table(
    model: torch.nn.Module | CondAttribution,
    sample: Any,
    composite: Composite | str | None = None,
    *,
    output: OutputSelector = None,
) -> RuleTable:
    """Return the rule that each node of a model gets from a composite. No relevance is computed.

    Parameters
    ----------
    model : torch.nn.Module or CondAttribution
        It is not changed. A `CondAttribution` is inspected with all of its settings.
    sample : torch.Tensor, tuple or dict
        Model input, (batch, channel, height, width) for images; a batch of one is enough.
    composite : zennit Composite or str, optional
        Rules, maps of `crp_kit.rules.maps` included; a preset name; ``None`` for plain gradients.
    output : str, int or callable, optional
        The part of the model's output that is attributed, if that is not one tensor.

    Returns
    -------
    RuleTable

    Raises
    ------
    InputError
        If the model is no module, the sample has no tensor, or `output` is given for a `CondAttribution`.
    CompositeError
        If there is no such composite, or it asks for layers that the model does not have.
    ModelError
        If the forward fails or the output is no tensor.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> rule_table(model.eval(), torch.zeros(1, 3, 4, 4), "epsilon_plus")
    RuleTable of 6 nodes under EpsilonPlus: 5 exact
    index  name   type         shape  rule                    canonization  quality
           input  input        3x4x4
    0      0      Conv2d       4x2x2  ZPlus                   with 1        exact
    1      1      BatchNorm2d  4x2x2  Pass                    part of 0     exact
    2      2      ReLU         4x2x2  Pass                                  exact
           3      Flatten      16     routed                                exact
    3      4      Linear       2      Epsilon(epsilon=1e-06)                exact
    """
    attribution = attribution_of(model, output)
    chosen = attribution.resolve_composite(composite)
    run = attribution.engine.run(sample, chosen)
    layers, notes = Layers(run.graph), _notes(run)
    reached = {ref.node for ref in run.plan.flow.from_start(run.graph.output)}
    rows = tuple(
        _row(
            run,
            node,
            index=layers.index_of(node.name),
            notes=notes.get(node.index, []),
            arrives=node.index in reached,
        )
        for node in run.graph
    )
    name = "plain gradients" if chosen is None else type(chosen).__name__.strip("_")
    return RuleTable(rows, name, not run.plan.flow.gradient)


def _row(run: Run, node: Node, *, index: int | None, notes: list[str], arrives: bool) -> RuleRow:
    step = run.plan.steps[node.index]
    rule, remark = step_description(step)
    quality = _GRADIENT if step.quality == "gradient" else step.quality
    if not arrives:
        rule, remark, quality = "", "", ""
    elif node.index in run.plan.units.folded:
        rule, remark = "Pass", ""
    elif rule == "gradient" and step.quality == "exact" and not run.plan.flow.gradient:
        rule = "routed"
    return RuleRow(
        index=index,
        name=node.name,
        type=type(node.module).__name__ if node.module is not None else node.op,
        shape=_shape(run.graph, node),
        rule=rule,
        canonization=", ".join([*notes, *([remark] if remark else [])]),
        quality=quality,
    )


def _notes(run: Run) -> dict[int, list[str]]:
    """Return by node the BatchNorms that belong to it, or the linear layers that it belongs to."""
    notes: dict[int, list[str]] = {}
    nodes, units = run.graph.nodes, run.plan.units
    pairs = [(linear, fold.norm) for linear, fold in units.before.items()] + list(units.behind.items())
    for linear, norm in pairs:
        notes.setdefault(linear, []).append(f"with BatchNorm {nodes[norm].name}")
        notes.setdefault(norm, []).append(f"part of {nodes[linear].name}")
    for fold in units.before.values():
        if fold.relu is not None:
            notes[fold.relu] = [f"with the threshold of BatchNorm {nodes[fold.norm].name}"]
    return notes


def _shape(graph: Graph, node: Node) -> tuple[int, ...]:
    output = next(i for i, shape in enumerate(node.shapes) if shape is not None)
    try:
        return tuple(graph.sample_shape(Ref(node.index, output)))
    except ConditionError:  # the batch is not the first axis: nothing can be left out
        return tuple(node.shape)


def _narrowed(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Return the cells of a table no line of which is wider than `width`, long ones shortened."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        candidates = [column for column in _WANTED if widths[column] > _NARROWEST]
        if not candidates:
            break
        widths[max(candidates, key=lambda column: widths[column] - _WANTED[column])] -= 1
    return [[_shortened(cell, size) for cell, size in zip(row, widths, strict=True)] for row in rows]


def _shortened(text: str, size: int) -> str:
    """Return a string with its middle left out if it is too long."""
    if len(text) <= size:
        return text
    tail = (size - 1) * 2 // 3  # the end of a name says more than its beginning
    return f"{text[: size - 1 - tail]}…{text[len(text) - tail :]}"
