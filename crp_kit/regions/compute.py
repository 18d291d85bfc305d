"""The region map of one image: which concept of a layer is the most relevant one where."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..attribution.cond_attribution import CondAttribution
from ..attribution.layer_relevance import layer_concepts, observe
from ..attribution.result import Attribution
from ..checks import check_integer, is_integer
from ..concepts import Concept
from ..data.pixels import picture, stretched
from ..errors import ConditionError, InputError
from ..rules.presets import Composite
from .result import NONE, Floats, RegionMap
from .segments import Integers, Regions, segment

__all__ = ["region_map"]


def region_map(
    attribution: CondAttribution,
    sample: torch.Tensor,
    layer: str,
    *,
    composite: Composite | str | None = None,
    target: int | None = None,
    regions: Regions = "grid",
    count: int | tuple[int, ...] | None = None,
    cell: int | tuple[int, ...] | None = None,
    image: Any = None,
    concepts: Concept | None = None,
    top: int | None = None,
    signed: bool = False,
    exclude_parallel: bool = True,
    batch_size: int = 16,
    verbose: bool = False,
) -> RegionMap:
    """Return which concept of a layer has the highest conditional relevance in each region of an image.

    For every concept its conditional heatmap is computed and summed over each region's pixels; never more than a batch
    of heatmaps is kept. Achtibat et al. (Nature Machine Intelligence 5, 2023, Fig. 3c) call this a concept atlas; here
    it is a region map, and a concept atlas is the file that a whole dataset makes.

    Parameters
    ----------
    attribution : CondAttribution
    sample : torch.Tensor
        One model input: (1, channel, height, width); a signal, (1, channel, time), whose regions are stretches of time;
        or a volume, (1, channel, depth, height, width), whose regions are boxes.
    layer : str
    composite : zennit Composite, str or None
        Rules of the heatmaps, as for `CondAttribution`.
    target : int, optional
        The class whose relevance it is; by default the one that the model predicts.
    regions : {"grid", "pixels", "slic", "changes"} or array, optional
        Rectangles, or equal stretches of a signal, or boxes of a volume; single pixels, time steps or voxels;
        superpixels, which follow the edges in the image and need scikit-image; the stretches of a signal between the
        changes of its level, by binary segmentation (`crp_kit.regions.change_points.change_points`); or labels of
        another segmentation, whole numbers (height, width), or of the signal's or volume's shape, which are
        numbered anew from 0 in their own order.
    count : int or tuple of int, optional
        About how many regions a grid, SLIC or changes make, 64 by default and 16 of a signal; for a grid also how many
        along each axis.
    cell : int or tuple of int, optional
        Side length of a grid's cells in pixels, or their length along each axis, instead of `count`.
    image : PIL image, torch.Tensor or array, optional
        What the model saw, before normalisation (`crp_kit.views.image.picture`): SLIC follows its edges, and it is
        drawn. By default the sample itself, scaled to [0, 1]. Of a signal, (channel, time) in its own units; by
        default the sample as it is. Of a volume, (channel, depth, height, width), of any range.
    concepts : Concept, optional
        What a concept is in the layer; by default its channels.
    top : int, optional
        Only the concepts with the largest shares in the relevance of the layer, by magnitude if `signed`.
    signed : bool, optional
        Let the largest magnitude win, so that concepts against the class may dominate. Otherwise the highest relevance
        wins, and where none is positive there is no dominant concept.
    exclude_parallel : bool, optional
        As for `CondAttribution`.
    batch_size : int, optional
        Heatmaps that are computed at once.
    verbose : bool, optional
        Show a progress bar.

    Returns
    -------
    RegionMap
        Of equal concepts the lowest number dominates.

    Raises
    ------
    InputError
        If the sample is not one image, the image has another size, or the regions are none; see
        `crp_kit.regions.segments.segment`.
    UnknownLayerError, UnreachableLayerError, ConceptAxisError, ConceptRangeError
        If there is no such layer, no relevance arrives there, its channels cannot be told, or there is no such class.
    ConditionError
        If `top` is not at least 1.

    Examples
    --------
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> image, label = ShapesDataset(1)[0]
    >>> attribution = CondAttribution(demo_resnet())
    >>> found = region_map(attribution, demo_preprocess(image)[None], "layer2.1.conv2", composite="epsilon_plus_flat",
    ...                    image=image, count=(4, 4), top=8)
    >>> found.dominant.shape, found.concept_map.shape
    ((16,), (64, 64))
    """
    if top is not None:
        check_integer("top", top, low=1, error=ConditionError)
    rules = attribution.resolve_composite(composite)
    below = _drawn(image, sample)
    labels = segment(regions, below.movedim(0, -1).double().numpy(), count=count, cell=cell)
    kind, cls, shares = _shares(attribution, sample, layer, composite=rules, target=target, concepts=concepts)
    ids = _chosen(shares, top, signed=signed)
    best = _Best(labels, signed=signed)
    for part in attribution.generate(
        sample,
        [{layer: [one], "y": [cls]} for one in ids],
        rules,
        mask_map={layer: kind},
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
    order = [int(one) for one in np.argsort(-counted, kind="stable") if counted[one]]
    areas = counted[order] / labels.size
    return RegionMap(
        labels, dominant, best.relevance, tuple(order), areas, shares[order], layer, cls, signed, below, composite
    )


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
        found = values[row, np.arange(len(self.row))]
        better = np.abs(found) > np.abs(self.relevance) if self.signed else found > self.relevance
        self.row[better] = row[better] + self.seen
        self.relevance[better] = found[better]
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
    attribution: CondAttribution,
    sample: torch.Tensor,
    layer: str,
    *,
    composite: Composite | None,
    target: int | None,
    concepts: Concept | None,
) -> tuple[Concept, int, Floats]:
    """Return what a concept is in a layer, the class, and the share of each concept in the layer's relevance."""
    attribution.graph(sample, composite)  # says what is wrong with the sample
    kind = layer_concepts(attribution.engine.run(sample, composite), [layer], concepts)[layer]

    def start(output: torch.Tensor) -> torch.Tensor:
        if target is None and output.ndim != 2:
            raise ConditionError("the model's output is not one number for each class: say what to explain with target")
        return output.argmax(1)[:, None] if target is None else torch.full((1, 1), target, device=output.device)

    if target is not None and not is_integer(target, 0):
        raise ConditionError(f"target is the number of a class; got {target!r}")
    seen = observe(attribution.engine, sample, start, composite=composite, layers=[layer])
    shares = kind.attribute(seen.relevances[layer][0])[0]
    return kind, int(seen.targets[0, 0]), shares.detach().cpu().double().numpy()


def _chosen(shares: Floats, top: int | None, *, signed: bool) -> list[int]:
    """Return the numbers of the concepts to compare, ascending."""
    order = np.argsort(-(np.abs(shares) if signed else shares), kind="stable")
    return sorted(order[:top].tolist())
