"""Table of composites: what each gives by flipping, localisation, randomisation and conservation, and how fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..drawing import plots
from ..result_table import Column, Table, not_a_column

if TYPE_CHECKING:
    from ..drawing import Figure

__all__ = ["CompositeTable"]


@dataclass(frozen=True, eq=False, repr=False)
class CompositeTable(Table):
    """Composites with what they give, the one that flipping finds best first.

    Parameters
    ----------
    composite : numpy.ndarray
        Name of the rules.
    aoc : numpy.ndarray
        Mean area over the curve of flipping by relevance.
    better, better_low, better_high : numpy.ndarray
        That area minus the one of random orders, and its t interval over samples.
    mass : numpy.ndarray
        Mean share of positive relevance inside of the masks; not-a-number without masks.
    pointing : numpy.ndarray
        Share of samples whose most relevant position is inside.
    mask_share : numpy.ndarray
        Mean share of the image that the masks have: what both are by chance.
    other_class : numpy.ndarray
        Mean rank correlation of the shares with those of another class; not-a-number for a target.
    randomised : numpy.ndarray
        Mean rank correlation with those of a model that loses its weights from the output down, over the stages.
    reached : numpy.ndarray
        Mean share of the start that reaches the input; not-a-number for plain gradients.
    unexplained : numpy.ndarray
        Mean share that rules which do not conserve added or absorbed, by magnitude over all nodes.
    gradient_nodes : numpy.ndarray
        Nodes that handed relevance on as plain gradient, because no rule is known for them.
    seconds : numpy.ndarray
        For the heatmap of one sample, in a batch, reading and forward included.
    layer : str
    settings : dict
        What was done, in words.
    left_out : dict
        Presets that could not be used, and why.
    """

    composite: Column
    aoc: Column
    better: Column
    better_low: Column
    better_high: Column
    mass: Column
    pointing: Column
    mask_share: Column
    other_class: Column
    randomised: Column
    reached: Column
    unexplained: Column
    gradient_nodes: Column
    seconds: Column
    layer: str = field(metadata=not_a_column)
    settings: Mapping[str, str] = field(metadata=not_a_column)
    left_out: Mapping[str, str] = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        left = "; ".join(f"without {name}: {why}" for name, why in self.left_out.items())
        return f"composites at {self.layer!r}; {settings}" + (f"; {left}" if left else "")

    def plot(self) -> Figure:
        """Return a figure: a line for each composite, a panel for each measure."""
        figure: Figure = plots().composites(self)
        return figure
