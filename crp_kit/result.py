"""The result of a conditional attribution, and how it shows itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .conditions import ConditionSet
from .diagnostics import ConservationReport, join_reports
from .notebook import html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_PICTURES, _ROWS = 24, 50
"""Heatmaps, and rows of a table, that a notebook shows of itself."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """The result of a conditional attribution. Rows come in the order in which the conditions were given.

    Parameters
    ----------
    heatmap : torch.Tensor
        (row, height, width), input relevance summed over the input's channels.
    input_relevance : torch.Tensor
        (row, *input shape).
    relevances : dict
        Layer name to (row, *shape), the relevance that arrived at the layer's output, before the layer's own mask.
    activations : dict
        Layer name to (row, *shape), the layer's forward value.
    prediction : torch.Tensor
        (row, class), the model's output for the row's sample, up to rounding: on the CPU maps may lie channels last.
    conditions : tuple of ConditionSet
        By row.
    samples : tuple of int
        Index into the data, by row.
    gradient_nodes : tuple of str
        Nodes that handed relevance on as plain gradient, because no rule is known for their operation.
    conservation : ConservationReport or None
        Where relevance went, node by node, if that was asked for with ``diagnose=True``.
    """

    heatmap: torch.Tensor
    input_relevance: torch.Tensor
    relevances: Mapping[str, torch.Tensor]
    activations: Mapping[str, torch.Tensor]
    prediction: torch.Tensor
    conditions: tuple[ConditionSet, ...]
    samples: tuple[int, ...]
    gradient_nodes: tuple[str, ...] = ()
    conservation: ConservationReport | None = None

    def __len__(self) -> int:
        return len(self.conditions)

    def __iter__(self) -> Iterator[Any]:
        """Unpack as ``heatmap, activations, relevances, prediction``, the order that zennit-crp has."""
        return iter((self.heatmap, self.activations, self.relevances, self.prediction))

    def titles(self) -> list[str]:
        """Return a short text for each row: its condition set, and its sample where there are several."""
        several = len(set(self.samples)) > 1
        texts = (_condition_text(one) for one in self.conditions)
        return [f"sample {i}: {text}" if several else text for i, text in zip(self.samples, texts, strict=True)]

    def plot(self, **options: Any) -> Figure:
        """Return a matplotlib Figure of the heatmaps; options as in `crp_kit.plot.heatmaps`."""
        from . import plot

        return plot.heatmaps(self.heatmap, **{"titles": self.titles(), **options})

    def __repr__(self) -> str:
        layers = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.relevances.items())
        return (
            f"Attribution of {len(self)} rows: heatmap {tuple(self.heatmap.shape)}, prediction "
            f"{tuple(self.prediction.shape)}" + (f", relevance at {layers}" if layers else "")
        )

    @property
    def _drawable(self) -> bool:
        """Whether the heatmaps are pictures."""
        return self.heatmap.ndim == 3 and self.heatmap.numel() > 0 and bool(self.heatmap.isfinite().all())

    def _repr_png_(self) -> bytes | None:
        """Show the heatmaps in a notebook, where they are pictures; of many the first."""
        from . import plot

        if not self._drawable:
            return None
        figure = plot.heatmaps(self.heatmap[:_PICTURES], titles=self.titles()[:_PICTURES])
        if len(self) > _PICTURES:
            figure.supxlabel(f"… {len(self) - _PICTURES:,} more of {len(self):,} rows", fontsize="small")
        return plot.to_png(figure)

    def _repr_html_(self) -> str | None:
        """Show a table in a notebook, where the heatmaps are no pictures."""
        if self._drawable:
            return None
        totals = self.input_relevance.flatten(1).sum(1).tolist()[:_ROWS]
        conditions = ("; ".join(_condition_text(one).splitlines()) for one in self.conditions)
        rows = [
            (str(sample), condition, f"{total:.4g}")
            for sample, condition, total in zip(self.samples, conditions, totals, strict=False)
        ]
        heads = ("sample", "condition", "relevance at the input")
        return html_table(heads, rows, texts=heads[1:2], caption=repr(self), hidden=len(self) - len(rows))


def _condition_text(condition: ConditionSet) -> str:
    parts = [f"{name}: {', '.join(map(str, ids)) or 'none'}" for name, ids in condition.layers]
    if condition.targets is not None:
        parts.append(f"y: {', '.join(map(str, condition.targets))}")
    return "\n".join(parts) or "all"


def join(parts: list[Attribution]) -> Attribution:
    """Put slices of an attribution together."""
    return Attribution(
        heatmap=torch.cat([part.heatmap for part in parts]),
        input_relevance=torch.cat([part.input_relevance for part in parts]),
        relevances={name: torch.cat([part.relevances[name] for part in parts]) for name in parts[0].relevances},
        activations={name: torch.cat([part.activations[name] for part in parts]) for name in parts[0].activations},
        prediction=torch.cat([part.prediction for part in parts]),
        conditions=tuple(one for part in parts for one in part.conditions),
        samples=tuple(one for part in parts for one in part.samples),
        gradient_nodes=tuple(sorted({name for part in parts for name in part.gradient_nodes})),
        conservation=join_reports([part.conservation for part in parts if part.conservation is not None]),
    )
