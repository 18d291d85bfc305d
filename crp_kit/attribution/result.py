"""Result of a conditional attribution: heatmaps, relevance at layers, and their display."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image

from ..checks import is_integer
from ..conditions import ConditionSet
from ..drawing import imgify, plots, png_of, save_attribution
from ..errors import InputError
from ..tables import html_table
from .conservation import ConservationReport, join_reports
from .display import Display
from .recorded import Recorded

if TYPE_CHECKING:
    from ..drawing import Figure


_LITTLE = 0.05
"""The share of the start that reaches the input below which `Attribution.remark` says so."""
Layout: TypeAlias = Literal["image", "signal", "volume", "tokens", "features"]

_PICTURES: Mapping[Layout | None, int] = {"image": 24, "signal": 12, "volume": 6, "tokens": 12}
_ROWS = 50
"""Heatmaps of each layout, and rows of a table, that a notebook displays."""
_DRAWN: Mapping[Layout, tuple[str, str, dict[str, Any]]] = {
    "image": ("heatmaps", "images", {}),
    "signal": ("signals", "values", {}),
    "volume": ("volumes", "values", {}),
    "tokens": ("bars", "names", {"label": "token"}),
    "features": ("bars", "names", {"label": "feature"}),
}
"""By layout: the function of `crp_kit.views.plot` that draws heatmaps, its parameter for the data, its options."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """The result of a conditional attribution. Rows come in the order in which the conditions were given.

    Parameters
    ----------
    heatmap : torch.Tensor
        (row, height, width), input relevance summed over the input's channels; (row, time) for signals, (row, depth,
        height, width) for volumes, (row, token) for tokens, and (row, feature) where the input has no further axis.
    input_relevance : torch.Tensor
        (row, *input shape); for token ids (row, token, feature), at the embedding's output.
    relevances : dict
        Layer name to (row, *shape), the relevance that arrived at the layer's output, before the layer's own mask.
    activations : dict
        Layer name to (row, *shape), the layer's forward value.
    prediction : torch.Tensor
        (row, class), the model's output for the row's sample, up to rounding: on the CPU maps may be channels last.
    conditions : tuple of ConditionSet
        By row.
    samples : tuple of int
        Index into the data, by row.
    gradient_nodes : tuple of str
        Nodes at which relevance passed as plain gradient, because no rule is known for their operation.
    conservation : ConservationReport or None
        The relevance balance of each node, after ``diagnose=True``.
    reached : torch.Tensor or None
        (row,), the share of the start's relevance that reaches the inputs: the sum at all inputs that have an entry for
        each sample over the sum of the start. None for gradients, which are not conserved; NaN where the start is zero.
    by_concept : dict
        Of recorded layers whose concepts mix channels, such as directions: layer name to (row, concept, *position), the
        relevance of each concept at each position; mean and rest are the last two. Empty for gradients.
    display : Display
        How a study resizes and crops photos, and what it calls the classes.
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
    reached: torch.Tensor | None = None
    by_concept: Mapping[str, torch.Tensor] = field(default_factory=dict)
    display: Display = field(default_factory=Display)

    def __len__(self) -> int:
        return len(self.conditions)

    def __iter__(self) -> Iterator[Any]:
        """Unpack as ``heatmap, activations, relevances, prediction``, the order that zennit-crp has."""
        return iter((self.heatmap, self.activations, self.relevances, self.prediction))

    def titles(self) -> list[str]:
        """Return a title for each row: its condition set, and its sample where there are several."""
        titles = [_condition_text(condition, self.display) for condition in self.conditions]
        if len(set(self.samples)) == 1:
            return titles
        return [f"sample {sample}: {title}" for sample, title in zip(self.samples, titles, strict=True)]

    @property
    def layout(self) -> Layout | None:
        """Layout of the heatmaps, by the axes of the input that they keep; ``None`` for what has no picture."""
        maps, inputs = self.heatmap, self.input_relevance
        if maps.ndim == 2:
            return "features" if inputs.ndim == 2 else "signal" if self._summed_axis == 1 else "tokens"
        return "image" if maps.ndim == 3 else "volume" if maps.ndim == 4 else None

    @property
    def _summed_axis(self) -> int:
        """The axis of the input over which the heatmap is the sum: by shape, and by the values where shapes agree."""
        maps, inputs = self.heatmap, self.input_relevance
        fitting = [axis for axis in (1, 2) if inputs.shape[:axis] + inputs.shape[axis + 1 :] == maps.shape]
        if not fitting:
            raise InputError(f"a heatmap {tuple(maps.shape)} is no sum of the input relevance {tuple(inputs.shape)}")
        return min(fitting, key=lambda axis: float((inputs.sum(axis) - maps).abs().sum()))

    def plot(self, data: Any = None, **options: Any) -> Figure:
        """Return a matplotlib Figure of the heatmaps.

        Parameters
        ----------
        data : torch.Tensor, array, PIL image or sequence, optional
            What the model saw, as the call got it, with all of its samples; images before normalisation, with values in
            [0, 1]. Photos of any size (PIL, names of files, or arrays (height, width, channel)) are resized and cropped
            as the study does. Of tokens or features: their names, as a list, or a list for each sample.
        **options : Any
            As in `crp_kit.views.plot.heatmaps` for images, `crp_kit.views.plot.signals`, `crp_kit.views.plot.volumes`,
            and `crp_kit.views.plot.bars` for tokens and features.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        InputError
            If the data has fewer samples than the result, an image has not the size that the model saw, or there is no
            picture of such inputs.
        """
        if self.layout is None:
            raise InputError(f"there is no picture of heatmaps {tuple(self.heatmap.shape)}: plot parts of `heatmap`")
        shown = self.data_by_run(data)
        if self.layout == "image" and shown is not None:
            shown = self.display.views(shown, tuple(self.heatmap.shape[1:]))
        return draw(self.heatmap, self.layout, shown, **{"titles": self.titles(), **options})

    def imgify(self, row: int | None = None, **options: Any) -> Image.Image:
        """Return the heatmaps as a PIL picture, one pixel for each value; several stand in a grid.

        Parameters
        ----------
        row : int, optional
            Only this one.
        **options : Any
            As in `crp_kit.views.imgify.imgify`: `cmap`, `vmin`, `vmax`, `level`, `symmetric`, `percentile`, `columns`.

        Returns
        -------
        PIL.Image.Image

        Raises
        ------
        InputError
            If the heatmaps are not (height, width), or there is no such row.

        Examples
        --------
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(8), preprocess=demo_preprocess)
        >>> study(study.data[0][0], [{"y": [0]}]).imgify(cmap="coldnhot").size
        (64, 64)
        """
        if row is not None and not is_integer(row, 0, len(self) - 1):
            raise InputError(f"row is a whole number from 0 to {len(self) - 1}; got {row!r}")
        image: Image.Image = imgify(self.heatmap if row is None else self.heatmap[row], **options)
        return image

    def save(self, folder: str | Path, data: Any = None, *, overwrite: bool = False, **options: Any) -> Path:
        """Write arrays, pictures and a manifest into a folder, and return the path of ``manifest.json``.

        ``arrays.npz`` has the values: ``heatmap``, ``input_relevance``, ``prediction``, ``relevance/LAYER`` and
        ``activation/LAYER``. ``figure.png`` is what `plot` draws, and ``heatmap-ROW.png`` each heatmap, over its image
        where that is given. The manifest is written last; it says what each row is, and the SHA-256 of each file.

        Parameters
        ----------
        folder : str or Path
            Made if it does not exist.
        data : torch.Tensor, array, PIL image or sequence, optional
            What the model saw, as for `plot`.
        overwrite : bool, optional
            Replace files of these names.
        **options : Any
            Of the figure, as for `plot`.

        Returns
        -------
        Path

        Raises
        ------
        InputError
            If a file of these names exists and is not to be replaced, or cannot be written; and as for `plot`.

        Examples
        --------
        >>> import tempfile
        >>> import crp_kit as crp
        >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
        >>> study = crp.Study(demo_resnet(), ShapesDataset(8), preprocess=demo_preprocess)
        >>> image, label = study.data[0]
        >>> path = study(image, [{"y": [label]}]).save(tempfile.mkdtemp(), image)
        >>> sorted(file.name for file in path.parent.iterdir())
        ['arrays.npz', 'figure.png', 'heatmap-0.png', 'manifest.json']
        """
        path: Path = save_attribution(self, folder, data, overwrite=overwrite, options=options)
        return path

    def data_by_run(self, data: Any) -> Any:
        """Return the data of each run of rows of one sample, where the runs are equally long; else of each row.

        Parameters
        ----------
        data : torch.Tensor, array or sequence
            What the model saw, with all of its samples; data of one sample is returned as it is.

        Returns
        -------
        torch.Tensor, array or sequence

        Raises
        ------
        InputError
            If the data has fewer samples than the result.
        """
        batched = isinstance(data, (torch.Tensor, np.ndarray)) and data.ndim == self.input_relevance.ndim
        words = self.layout != "image" and isinstance(data, Sequence) and all(isinstance(x, str) for x in data)
        listed = isinstance(data, Sequence) and not isinstance(data, str) and not words
        if not (batched or listed):
            return data
        if len(data) <= max(self.samples):
            raise InputError(f"the rows are of samples 0 to {max(self.samples)}, and the data has {len(data)} samples")
        runs = [(sample, len(list(rows))) for sample, rows in groupby(self.samples)]
        chosen = [sample for sample, _ in runs] if len({length for _, length in runs}) == 1 else list(self.samples)
        return [data[sample] for sample in chosen] if listed else data[chosen]

    def __repr__(self) -> str:
        layers = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.relevances.items())
        return (
            f"Attribution of {len(self)} rows: heatmap {tuple(self.heatmap.shape)}, prediction "
            f"{tuple(self.prediction.shape)}"
            + (f", relevance at {layers}" if layers else "")
            + ("; plain gradients, no rules" if self.reached is None else "")
            + (f"\n{self.remark}" if self.remark else "")
        )

    @property
    def remark(self) -> str:
        """One line on how little of the start reaches the input, where no condition accounts for it; else empty."""
        if self.reached is None:
            return ""
        free = {row for row, condition in enumerate(self.conditions) if not condition.layers}
        reached = enumerate(self.reached.tolist())
        shares = {row: share for row, share in reached if row in free and abs(share) < _LITTLE}
        if not shares:
            return ""
        least = min(shares, key=lambda row: abs(shares[row]))
        which = f" in row {least}" if len(self) > 1 else ""
        more = f" (and less than {_LITTLE:.0%} in {len(shares) - 1} others)" if len(shares) > 1 else ""
        sinks = "biases, stabilizers and plain gradients" if self.gradient_nodes else "biases and stabilizers"
        return (
            f"{100 * shares[least]:.2g} % of the start reaches the input{which}{more}; {sinks} absorb the rest; "
            f"diagnose=True shows where"
        )

    @property
    def _drawable(self) -> bool:
        """Whether a notebook shows the heatmaps as pictures."""
        if not self.heatmap.numel() or not bool(self.heatmap.isfinite().all()):
            return False
        return self.layout in _PICTURES

    def _repr_png_(self) -> bytes | None:
        """Show the heatmaps in a notebook, where they are pictures; of many the first."""
        if not self._drawable:
            return None
        layout, shown = self.layout, _PICTURES[self.layout]
        assert layout is not None
        figure = draw(self.heatmap[:shown], layout, titles=self.titles()[:shown])
        if len(self) > shown:
            figure.supxlabel(f"… {len(self) - shown:,} more of {len(self):,} rows", fontsize="small")
        return png_of(figure)

    def _repr_html_(self) -> str | None:
        """Show a table in a notebook, where the heatmaps are no pictures."""
        if self._drawable:
            return None
        totals = self.input_relevance.flatten(1).sum(1).tolist()[:_ROWS]
        conditions = ("; ".join(_condition_text(condition, self.display).splitlines()) for condition in self.conditions)
        rows = [
            (str(sample), condition, f"{total:.4g}")
            for sample, condition, total in zip(self.samples, conditions, totals, strict=False)
        ]
        heads = ("sample", "condition", "relevance at the input")
        return html_table(heads, rows, text_columns=heads[1:2], caption=repr(self), hidden=len(self) - len(rows))


def _condition_text(condition: ConditionSet, display: Display) -> str:
    parts = [f"{name}: {', '.join(map(str, ids)) or 'none'}" for name, ids in condition.layers]
    if condition.targets is not None:
        parts.append(display.target_words(condition.targets) or "no class")
    return "\n".join(parts) or "all"


def draw(maps: torch.Tensor, layout: Layout, data: Any = None, **options: Any) -> Figure:
    """Return a figure of heatmaps, (row, *position), of one layout; data for runs of rows, options of the figure.

    Data are images, signals or volumes, or names of tokens or features.
    """
    name, parameter, fixed = _DRAWN[layout]
    shown = {} if data is None else {parameter: data}
    figure: Figure = getattr(plots(), name)(maps, **{**fixed, **shown, **options})
    return figure


def join(parts: list[Attribution]) -> Attribution:
    """Concatenate the rows of results."""
    if len(parts) == 1:
        return parts[0]
    reached = [part.reached for part in parts if part.reached is not None]
    return Attribution(
        heatmap=torch.cat([part.heatmap for part in parts]),
        input_relevance=torch.cat([part.input_relevance for part in parts]),
        relevances=Recorded(
            {name: torch.cat([part.relevances[name] for part in parts]) for name in parts[0].relevances}
        ),
        activations=Recorded(
            {name: torch.cat([part.activations[name] for part in parts]) for name in parts[0].activations}
        ),
        prediction=torch.cat([part.prediction for part in parts]),
        conditions=tuple(condition for part in parts for condition in part.conditions),
        samples=tuple(sample for part in parts for sample in part.samples),
        gradient_nodes=tuple(sorted({name for part in parts for name in part.gradient_nodes})),
        by_concept={name: torch.cat([part.by_concept[name] for part in parts]) for name in parts[0].by_concept},
        display=parts[0].display,
        reached=torch.cat(reached) if len(reached) == len(parts) else None,
        conservation=join_reports([part.conservation for part in parts if part.conservation is not None]),
    )
