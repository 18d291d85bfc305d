"""Computation of region maps: the most relevant concept of a layer in each region of an input."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..attribution.call_arguments import check_data
from ..attribution.layer_concepts import layer_concepts
from ..attribution.layer_relevance import Choice, observe
from ..attribution.predicted_class import predicted_class
from ..attribution.result import Attribution
from ..attribution.subject import Subject
from ..checks import check_integer
from ..concepts import Concept
from ..data.pixels import drawable, picture, stretched
from ..errors import ConditionError, InputError
from ..targets import Target
from ..targets.text import target_words
from .result import NONE, Floats, RegionMap
from .segments import Integers, Regions, segment

__all__ = ["region_map"]


def region_map(
    subject: Subject,
    image: Any,
    layer: str,
    *,
    cls: int | str | None = None,
    target: Target | None = None,
    regions: Regions = "grid",
    count: int | tuple[int, ...] | None = None,
    cell: int | tuple[int, ...] | None = None,
    top: int | None = None,
    signed: bool = False,
    exclude_parallel: bool = True,
    batch_size: int = 16,
    verbose: bool = False,
) -> RegionMap:
    """Return which concept of a layer has the highest conditional relevance in each region of an image.

    See `crp_kit.Study.region_map`. Never more than a batch of heatmaps is kept.
    """
    if top is not None:
        check_integer("top", top, low=1, error=ConditionError)
    view = subject.images(image)
    sample = subject.inputs(view)
    below = _drawn(None if subject.preprocess is None else view[0], sample)
    labels = segment(regions, below.movedim(0, -1).double().numpy(), count=count, cell=cell)
    concept, number, shares = _shares(subject, sample, layer, start=_start(subject, cls, target))
    ids = _chosen(shares, top, signed=signed)
    best = _Best(labels, signed=signed)
    for part in subject.attribution.generate(
        sample,
        [{layer: [concept_id], "y": [number]} for concept_id in ids],
        subject.composite,
        mask_map={layer: concept},
        exclude_parallel=exclude_parallel,
        pairing="product",
        batch_size=batch_size,
        on_device="cpu",
        verbose=verbose,
    ):
        _check_layout(part, labels.ndim)
        best.add(part.heatmap)
    dominant = np.append(ids, NONE)[best.row]
    counted = np.bincount(dominant[labels].ravel() + 1, minlength=len(shares) + 1)[1:]
    order = [int(concept_id) for concept_id in np.argsort(-counted, kind="stable") if counted[concept_id]]
    areas = counted[order] / labels.size
    about = number if isinstance(number, int) else str(number)
    words = target_words(number, subject.classes)
    titles = {concept_id: concept.title(concept_id, len(shares)) for concept_id in order}
    return RegionMap(
        labels, dominant, best.relevance, tuple(order), areas, shares[order], layer, about, signed, below,
        "" if words == f"class {number}" else words, {one: title for one, title in titles.items() if title},
    )  # fmt: skip


def _start(subject: Subject, cls: int | str | None, target: Target | None) -> Choice | None:
    """Return the class or target that relevance starts from; None for the predicted class."""
    if target is None:
        return None if cls is None else subject.class_number(cls)
    if cls is not None:
        raise InputError(f"cls={cls!r} and the target {target} are two starts; give one of them")
    return target.numbered(subject.class_number)


class _Best:
    """The strongest of all heatmaps so far, region by region."""

    def __init__(self, labels: Integers, *, signed: bool) -> None:
        self.flat = torch.from_numpy(labels.ravel())
        self.signed, self.seen = signed, 0
        self.row = np.full(int(labels.max()) + 1, -1)
        self.relevance = np.zeros(len(self.row))

    def add(self, heatmaps: torch.Tensor) -> None:
        """Compare with further heatmaps, (row, height, width); of equals the first stays."""
        sums = torch.zeros(len(heatmaps), len(self.row), dtype=torch.float64)
        sums.index_add_(1, self.flat, heatmaps.detach().flatten(1).double())
        values = sums.numpy()
        row = (np.abs(values) if self.signed else values).argmax(0)
        totals = values[row, np.arange(len(self.row))]
        better = np.abs(totals) > np.abs(self.relevance) if self.signed else totals > self.relevance
        self.row[better] = row[better] + self.seen
        self.relevance[better] = totals[better]
        self.seen += len(heatmaps)


def _drawn(image: Any, sample: torch.Tensor) -> torch.Tensor:
    """Return the image, or the sample scaled to [0, 1], (channel, height, width); or a signal or a grey volume."""
    if not isinstance(sample, torch.Tensor) or sample.ndim not in (3, 4, 5) or sample.shape[0] != 1:
        shown = tuple(sample.shape) if isinstance(sample, torch.Tensor) else type(sample).__name__
        raise InputError(
            f"a region map is of one image: (1, channel, height, width); got {shown}; or it is of one signal (1, "
            f"channel, time) or one volume (1, channel, depth, height, width)"
        )
    if sample.ndim != 4:
        return _shown(image, sample[0])
    if image is None:
        plain = torch.nan_to_num(sample[0].detach().cpu().float())
        plain = plain if len(plain) in (1, 3) else plain.mean(0, keepdim=True)
        low, high = plain.min(), plain.max()
        image = (plain - low) / (high - low).clamp_min(1e-12)
    elif image.ndim == 3 and image.shape[1:] == sample.shape[2:]:
        image = drawable(image)
    pixels = torch.from_numpy(np.array(picture(image))).permute(2, 0, 1) / 255
    if pixels.shape[1:] != sample.shape[2:]:
        raise InputError(
            f"the image has {pixels.shape[1]}x{pixels.shape[2]} pixels and the sample {sample.shape[2]}x"
            f"{sample.shape[3]}: give the image as the model saw it (resized and cropped)"
        )
    return pixels


def _shown(image: Any, sample: torch.Tensor) -> torch.Tensor:
    """Return the image or the sample: a signal (channel, time), or a volume in grey (1, depth, height, width)."""
    values = torch.nan_to_num(sample.detach().cpu().double())
    if image is not None:
        values = torch.as_tensor(np.asarray(image.detach().cpu() if isinstance(image, torch.Tensor) else image))
        values = values.double()[None] if values.ndim == sample.ndim - 1 else values.double()
        if values.ndim != sample.ndim or values.shape[1:] != sample.shape[1:]:
            raise InputError(
                f"the image has shape {tuple(values.shape)} and the sample {tuple(sample.shape)}: give what the model "
                f"saw, of the same size"
            )
    return values if sample.ndim == 2 else torch.from_numpy(stretched(values.mean(0, keepdim=True)))


def _check_layout(attr: Attribution, axes: int) -> None:
    """Make sure that relevance is kept by the places that the regions are made of."""
    if attr.layout != {1: "signal", 2: "image", 3: "volume"}[axes]:
        raise InputError(
            f"a region map is of images, signals or volumes; the relevance of this input, (row, *{axes} axes), is that "
            f"of {attr.layout}"
        )


def _shares(
    subject: Subject, sample: torch.Tensor, layer: str, *, start: Choice | None
) -> tuple[Concept, Choice, Floats]:
    """Return what a concept is in a layer, the start, and the share of each concept in the layer's relevance."""
    engine = subject.attribution.engine
    check_data(engine.named(sample))
    run = engine.run(sample, subject.composite)
    concept = layer_concepts(run, [layer], subject.concepts)[layer]
    number = predicted_class(run, otherwise="say what to explain with cls or target") if start is None else start
    seen = observe(run, lambda _: [(number,)], concepts={layer: concept})
    shares = concept.attribute(seen.relevances[layer][0])[0]
    return concept, number, shares.detach().cpu().double().numpy()


def _chosen(shares: Floats, top: int | None, *, signed: bool) -> list[int]:
    """Return the numbers of the concepts to compare, ascending."""
    order = np.argsort(-(np.abs(shares) if signed else shares), kind="stable")
    return sorted(order[:top].tolist())
