"""Conservation of relevance: what biases, stabilizers, masks and excluded paths absorbed, node by node."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..drawing import plots
from ..graph.graph import Graph
from ..graph.operations import Kind
from ..propagation.relevance_balance import RelevanceBalance
from ..result_table import Framed
from ..tables import html_table, text_table

if TYPE_CHECKING:
    from ..drawing import Figure

__all__ = ["SINKS", "Conservation", "ConservationReport", "NodeRelevance"]

SINKS = ("constants", "stabilizer", "masked", "excluded", "other")
"""Where relevance goes that does not arrive at the input."""
_SINK_TEXTS = {
    "constants": "biases and constants",
    "stabilizer": "stabilizers",
    "masked": "masks",
    "excluded": "paths that do not count",
    "other": "rules that do not conserve",
}
_SHOWN = 12
_TABLES, _ROWS = 3, 50
"""In a notebook: rows that have a table of their own, and rows in one table, if there are more."""
_PERCENT = 0.0005
"""Smaller shares are shown as 0, and nodes that lose less get no line."""
_MANY = 10
"""Larger shares are shown as multiples."""


@dataclass(frozen=True)
class NodeRelevance:
    """The relevance balance of one node, summed over its elements.

    Parameters
    ----------
    name : str
    op : str
        Class of its module, or the operation.
    rule : str
    arrived : float
        Relevance at the node's output, before its own mask.
    masked, excluded, constants, stabilizer, other : float
        What the node's mask took away, what it handed to paths that do not count, what its biases and constants and
        its stabilizer absorbed, and what no rule explains.
    lowest, highest : float
        Smallest and largest relevance of an element.
    finite : bool
        Whether all relevance that arrived, and all that was handed on, is finite.
    remaining : float
        Relevance that is still on its way to the input, on all branches at this depth of the graph, after this node
        has redistributed its own.
    """

    name: str
    op: str
    rule: str
    arrived: float
    masked: float
    excluded: float
    constants: float
    stabilizer: float
    other: float
    lowest: float
    highest: float
    finite: bool
    remaining: float


@dataclass(frozen=True, repr=False)
class Conservation:
    """The relevance balance of one row.

    Parameters
    ----------
    title : str
        The row's condition set.
    nodes : tuple of NodeRelevance
        In the order in which relevance reached them: the start first, the input last.
    start : float
        Relevance at the start.
    input : float
        Relevance that arrived at the model's inputs.
    """

    title: str
    nodes: tuple[NodeRelevance, ...]
    start: float
    input: float

    def lost(self, sink: str) -> float:
        """Return the relevance that one of `SINKS` absorbed, over all nodes."""
        return math.fsum(getattr(node, sink) for node in self.nodes)

    def share(self, relevance: float) -> float:
        """Return a relevance as a share of that at the start."""
        return relevance / self.start if self.start else 0.0

    @property
    def first_non_finite(self) -> NodeRelevance | None:
        """The first node, from the start, at which relevance is infinite or not a number."""
        return next((node for node in self.nodes if not node.finite), None)

    @property
    def unexplained(self) -> float:
        """The share that rules which do not conserve added or absorbed, by magnitude over all nodes; at least 0."""
        return math.fsum(abs(self.share(node.other)) for node in self.nodes)

    def table(self, *, least: float = 0.0) -> str:
        """Return a table of the nodes, one per line, in shares of the start.

        Parameters
        ----------
        least : float, optional
            Leave out nodes that lost less than this share.
        """
        rows = [self._cells(node) for node in self.nodes if self._losses(node) >= least]
        return "\n".join(text_table([_HEADS, *rows], left=2))

    def _losses(self, node: NodeRelevance) -> float:
        largest = max(abs(self.share(getattr(node, sink))) for sink in SINKS)
        return math.inf if not node.finite or math.isnan(largest) else largest

    def _cells(self, node: NodeRelevance) -> tuple[str, ...]:
        sinks = (_percent(self.share(getattr(node, sink))) for sink in SINKS)
        extremes = (f"{node.lowest:.2g}", f"{node.highest:.2g}")
        remaining = _percent(self.share(node.remaining))
        return (node.name, node.rule, _percent(self.share(node.arrived)), *sinks, remaining, *extremes)

    def summary(self) -> str:
        """Return the balance in one sentence."""
        broken = self.first_non_finite
        if broken is not None:
            return f"{self.title}: {self.start:.4g} at the start, not finite from {broken.name!r} ({broken.rule}) on"
        shares = [(self.share(self.lost(sink)), _SINK_TEXTS[sink]) for sink in SINKS]
        absorbed = [f"{text} {_percent(share)}" for share, text in shares if abs(share) >= _PERCENT]
        at_input = f"{self.title}: {self.start:.4g} at the start, {_percent(self.share(self.input))} of it at the input"
        return at_input + (f" ({', '.join(absorbed)})" if absorbed else "")

    def __repr__(self) -> str:
        kept, _ = self._largest_losses()
        if not kept:
            return self.summary()
        return "\n".join([self.summary(), *text_table([_HEADS, *map(self._cells, kept)], left=2)])

    def _repr_html_(self) -> str:
        kept, left = self._largest_losses()
        rows = [self._cells(node) for node in kept]
        return html_table(_HEADS, rows, text_columns=_HEADS[:2], caption=self.summary(), hidden=left)

    def _largest_losses(self) -> tuple[list[NodeRelevance], int]:
        """Return the nodes at which most is absorbed, in their order, and how many others absorb something."""
        broken = self.first_non_finite
        nodes = self.nodes[: self.nodes.index(broken) + 1] if broken is not None else self.nodes
        losing = [node for node in nodes if self._losses(node) >= _PERCENT]
        strongest = sorted(losing, key=self._losses, reverse=True)[:_SHOWN]
        return [node for node in losing if node in strongest], len(losing) - len(strongest)


_HEADS = ("node", "rule", "arrived", *SINKS, "remaining", "lowest", "highest")


@dataclass(frozen=True, repr=False)
class ConservationReport(Framed):
    """The relevance balance of an attribution, row by row. In `Attribution.conservation` after ``diagnose=True``.

    For every row, relevance at the start is the sum of the relevance at the input and of what biases and constants,
    stabilizers, masks, excluded paths, and rules that do not conserve absorbed. The parts of biases and stabilizers are
    computed from the rules' own formulas, not from what is missing, so ``other`` shows whatever they do not explain.
    Its data frame has a line for each row and node, relevance in the unit of the start.

    Parameters
    ----------
    rows : tuple of Conservation
        The balance of each row of the attribution: (row,).
    threshold : float, optional
        Share of the start, in [0, 1], from which what no rule explains is worth a warning.
    """

    rows: tuple[Conservation, ...]
    threshold: float = 0.01

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Conservation]:
        return iter(self.rows)

    def __getitem__(self, row: int) -> Conservation:
        return self.rows[row]

    def warnings(self) -> list[str]:
        """Return a sentence for each row in which relevance is not finite or not conserved by a rule."""
        problems = []
        for row in self.rows:
            broken, worst = row.first_non_finite, max(row.nodes, key=lambda node: abs(node.other))
            if broken is not None:
                problems.append(f"{row.title}: relevance is not finite from {broken.name!r} (rule: {broken.rule}) on")
            elif row.unexplained > self.threshold:
                problems.append(
                    f"{row.title}: rules that do not conserve changed relevance by {_percent(row.unexplained)} of that "
                    f"at the start, most of it at {worst.name!r} (rule: {worst.rule})"
                )
        return problems

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return a dictionary for each row and node."""
        return [
            {"row": number, "title": row.title, "start": row.start, **asdict(node)}
            for number, row in enumerate(self.rows)
            for node in row.nodes
        ]

    def _framed(self) -> list[dict[str, Any]]:
        return self.as_dicts()

    def plot(self, row: int = 0, **options: Any) -> Figure:
        """Return a matplotlib Figure of one row: what remains and what was absorbed, over the depth of the graph.

        Parameters
        ----------
        row : int, optional
            Index of the row.
        **options : Any
            As in `crp_kit.views.plot.conservation`: `ax`, the axes to draw into.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        InputError
            If the row has no relevance at its start, so that there are no shares.
        """
        figure: Figure = plots().conservation(self[row], **options)
        return figure

    def __repr__(self) -> str:
        if len(self) == 1:
            return f"ConservationReport of {self.rows[0]!r}"
        return "\n".join([f"ConservationReport of {len(self)} rows", *(row.summary() for row in self.rows)])

    def _repr_html_(self) -> str:
        if len(self) <= _TABLES:
            return "".join(row._repr_html_() for row in self.rows)
        lines = []
        for row in self.rows[:_ROWS]:
            broken = row.first_non_finite
            shares = [row.share(row.input), *(row.share(row.lost(sink)) for sink in SINKS)]
            title = f"{row.title} (not finite from {broken.name!r} on)" if broken is not None else row.title
            lines.append((title, f"{row.start:.4g}", *map(_percent, shares)))
        caption = f"ConservationReport of {len(self)} rows"
        heads = ("row", "start", "input", *SINKS)
        return html_table(heads, lines, text_columns=heads[:1], caption=caption, hidden=len(self) - len(lines))


def conservation(graph: Graph, rules: Sequence[str], balance: RelevanceBalance, *, title: str) -> Conservation:
    """Return where the relevance of one pass went.

    Parameters
    ----------
    graph : Graph
    rules : sequence of str
        Name of the rule of each node.
    balance : RelevanceBalance
    title : str
    """
    order = sorted(balance.nodes, reverse=True)
    start = remaining = balance.nodes[order[0]].arrived
    nodes, arrived = [], 0.0
    for index in order:
        entry, node = balance.nodes[index], graph.nodes[index]
        other = 0.0 if node.kind is Kind.INPUT else entry.other
        remaining -= entry.masked + entry.excluded + entry.constants + entry.stabilizer + other
        arrived += entry.arrived - entry.masked if node.kind is Kind.INPUT else 0.0
        nodes.append(
            NodeRelevance(
                name=node.name,
                op=type(node.module).__name__ if node.module is not None else node.op,
                rule=rules[index],
                arrived=entry.arrived,
                masked=entry.masked,
                excluded=entry.excluded,
                constants=entry.constants,
                stabilizer=entry.stabilizer,
                other=other,
                lowest=entry.lowest,
                highest=entry.highest,
                finite=entry.finite,
                remaining=remaining,
            )
        )
    return Conservation(title, tuple(nodes), start, arrived)


def join_reports(reports: Sequence[ConservationReport]) -> ConservationReport | None:
    """Concatenate the rows of reports; None without reports."""
    rows = tuple(row for report in reports for row in report)
    return ConservationReport(rows, reports[0].threshold) if rows else None


def _percent(share: float) -> str:
    if not math.isfinite(share):
        return str(share)
    if abs(share) < _PERCENT:
        return "0"
    return f"{share:.1%}" if abs(share) < _MANY else f"{share:.3g} times"
