"""The built-in demonstration: heatmaps of a few images, an atlas and a report of the demo model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..atlas import ConceptAtlas, Origin
from ..attribution.cond_attribution import CondAttribution
from ..concepts import ChannelConcept
from ..data import ShapesDataset, demo_preprocess, demo_resnet
from ..errors import InputError
from ..progress import Progress
from ..study import Study
from .result import DemoConcept, DemoResult, DemoSample

if TYPE_CHECKING:
    from ..atlas.query.references import References
    from ..views.report import BuiltReport

__all__ = ["LAYER", "demo_atlas", "demo_report", "run_demo"]

LAYER = "layer2.1.conv2"
"""In the middle of the network the channels' heatmaps differ most. Near the output, rules that keep positive
contributions only make them nearly equal (Sixt et al., ICML 2020, "When explanations lie").
"""
_COMPOSITE = "epsilon_plus_flat"
_TOP = 4
_MEANING_SAMPLES = 256
_ROWS_AT_ONCE = 32
_ATLAS_SAMPLES = 500
_ATLAS_LAYERS = ("layer1.1.conv2", "layer2.1.conv2", "layer3.1.conv2")
_SHOWN_CONCEPTS = 3
_SHOWN_REFERENCES = 6


def run_demo(*, seed: int = 0, samples: int = 4, layer: str = LAYER, verbose: bool = False) -> DemoResult:
    """Attribute a few demo images to the channels of a layer, and compare with the known objects of the images.

    Parameters
    ----------
    seed : int, optional
        Seed of the images.
    samples : int, optional
        Number of images, at most 8; each has another class.
    layer : str, optional
        Layer of `crp_kit.data.demo_resnet`.
    verbose : bool, optional
        Show progress bars.

    Returns
    -------
    DemoResult

    Raises
    ------
    InputError
        If `samples` is not from 1 to 8, or the layer's output is not (channel, height, width).
    UnknownLayerError
        If there is no such layer.

    Examples
    --------
    >>> result = run_demo(samples=1)
    >>> result.samples[0].prediction == result.samples[0].label
    True
    """
    data = ShapesDataset(_MEANING_SAMPLES, seed=seed, split="test")
    if not 1 <= samples <= len(data.classes):
        raise InputError(f"samples is the number of images shown, from 1 to {len(data.classes)}; got {samples}")
    images, labels = data.batch(range(len(data)))
    attribution = CondAttribution(demo_resnet())
    inputs = demo_preprocess(images)
    _check_layer(attribution, inputs[:1], layer)
    shares, predicted, values = _shares(attribution, inputs, layer, verbose=verbose)
    present = torch.tensor(
        [[part in data.class_parts[data.classes[int(label)]] for part in data.parts] for label in labels]
    )
    parts = _meaning(shares, present, data.parts)
    results = []
    with Progress(samples, "heatmaps", unit="image", verbose=verbose) as bar:
        for index in range(samples):
            top = shares[index].abs().argsort(descending=True, stable=True)[:_TOP].tolist()
            y = {"y": [int(predicted[index])]}
            sets: list[dict[str, list[int]]] = [y, *({layer: [channel], **y} for channel in top)]
            maps = attribution(inputs[index : index + 1], sets, _COMPOSITE, pairing="product").heatmap.detach()
            objects = _objects(data, index)
            concepts = [
                DemoConcept(channel, float(shares[index, channel]), *parts[channel], *_shares_on(heatmap, objects))
                for channel, heatmap in zip(top, maps[1:], strict=True)
            ]
            results.append(
                DemoSample(
                    index=index,
                    label=data.classes[int(labels[index])],
                    prediction=data.classes[int(predicted[index])],
                    probability=float(values[index].softmax(0).max()),
                    concepts=tuple(concepts),
                    image=images[index],
                    heatmap=maps[0],
                    concept_heatmaps=maps[1:],
                    shares=shares[index],
                    objects=objects,
                )
            )
            bar.update()
    accuracy = float((predicted == labels).float().mean())
    return DemoResult(layer, _COMPOSITE, accuracy, len(data), tuple(results), parts)


def demo_atlas(
    path: Path, result: DemoResult, *, seed: int = 0, overwrite: bool = False, verbose: bool = False
) -> list[References]:
    """Build an atlas of demo images, and return the reference samples of the strongest concepts of a result.

    Parameters
    ----------
    path : Path
        The file: an atlas of the layer of `result` and of one layer of each stage, over 500 images.
    result : DemoResult
    seed : int, optional
        Seed of the images.
    overwrite : bool, optional
        Replace the file.
    verbose : bool, optional
        Show progress on stderr: a bar on a terminal, else a line now and then.

    Raises
    ------
    AtlasError
        If the file cannot be written.
    """
    data = ShapesDataset(_ATLAS_SAMPLES, seed=seed, split="test")
    origin = Origin("demo:resnet", f"demo:shapes:{_ATLAS_SAMPLES}", "crp-kit demo", data.classes)
    study = Study(demo_resnet(), data, composite=_COMPOSITE, preprocess=demo_preprocess, origin=origin)
    chosen = list(dict.fromkeys(sample.concepts[0].channel for sample in result.samples))[:_SHOWN_CONCEPTS]
    layers = [*_ATLAS_LAYERS, result.layer]
    with study.build_atlas(path, layers=layers, matrix=True, overwrite=overwrite, verbose=verbose) as atlas:
        return [study.references(atlas, result.layer, channel, k=_SHOWN_REFERENCES) for channel in chosen]


def demo_report(
    path: Path, atlas: Path, *, seed: int = 0, overwrite: bool = False, verbose: bool = False
) -> BuiltReport:
    """Write the report of the atlas of `demo_atlas`, and return where it is.

    Parameters
    ----------
    path : Path
        The folder.
    atlas : Path
    seed : int, optional
        Seed of the images, as for the atlas.
    overwrite : bool, optional
        Replace an earlier report.
    verbose : bool, optional
        Show progress on stderr: a bar on a terminal, else a line now and then.

    Raises
    ------
    InputError
        If the folder cannot be written, or exists.
    """
    from ..views.report import ReportOptions

    data = ShapesDataset(_ATLAS_SAMPLES, seed=seed, split="test")
    study = Study(demo_resnet(), data, composite=_COMPOSITE, preprocess=demo_preprocess)
    with ConceptAtlas(atlas) as opened:
        return study.report(
            opened,
            path,
            references=_SHOWN_REFERENCES,
            overwrite=overwrite,
            verbose=verbose,
            options=ReportOptions(title="What the demo model uses"),
        )


def _check_layer(attribution: CondAttribution, sample: torch.Tensor, layer: str) -> None:
    graph = attribution.graph(sample)
    if len(graph.sample_shape(graph.find(layer))) != 3:
        raise InputError(f"{layer!r} has no channels of height and width; choose a convolution, such as {LAYER!r}")


def _shares(
    attribution: CondAttribution, inputs: torch.Tensor, layer: str, *, verbose: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return shares of the channels (sample, channel), predicted class (sample,) and model output (sample, class)."""
    with torch.no_grad():
        predicted = torch.cat([attribution.model(part).argmax(1) for part in torch.split(inputs, _ROWS_AT_ONCE)])
    conditions = [{"y": [int(cls)]} for cls in predicted]
    rows = attribution.generate(
        inputs, conditions, _COMPOSITE, record_layer=[layer], pairing="zip", batch_size=_ROWS_AT_ONCE
    )
    concept, shares, values = ChannelConcept(), [], []
    with Progress(len(inputs), "relevance of channels", unit="image", verbose=verbose) as bar:
        for part in rows:
            shares.append(concept.attribute(part.relevances[layer]).detach())
            values.append(part.prediction.detach())
            bar.update(len(part))
    return torch.cat(shares), predicted, torch.cat(values)


def _meaning(shares: torch.Tensor, present: torch.Tensor, names: Sequence[str]) -> dict[int, tuple[str, float]]:
    """Return by channel the part whose presence correlates most with its share, and the correlation."""
    correlations = _standardised(shares).T @ _standardised(present.to(shares.dtype)) / len(shares)
    best = correlations.max(1)
    return {
        channel: (names[int(part)], float(value))
        for channel, (value, part) in enumerate(zip(best.values, best.indices, strict=True))
    }


def _standardised(columns: torch.Tensor) -> torch.Tensor:
    centred = columns - columns.mean(0)
    return centred / centred.square().mean(0).sqrt().clamp_min(1e-12)


def _objects(data: ShapesDataset, index: int) -> torch.Tensor:
    """Return the masks of the plain and of the textured object: (object, height, width)."""
    masks = dict(zip(data.parts, data.masks(index), strict=True))
    return torch.stack([masks["circle"] | masks["triangle"], masks["square"] | masks["cross"]])


def _shares_on(heatmap: torch.Tensor, objects: torch.Tensor) -> tuple[float, float]:
    """Return the share of a heatmap's magnitude on either object."""
    magnitude = heatmap.abs()
    total = magnitude.sum().clamp_min(1e-30)
    plain, textured = (float(magnitude[mask].sum() / total) for mask in objects)
    return plain, textured
