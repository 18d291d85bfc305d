"""The built-in demonstration: what the demo model uses in a few of its images, beside the truth about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from ..atlas import ConceptAtlas, Origin
from ..attribution.cond_attribution import CondAttribution
from ..concepts import ChannelConcept
from ..data import ShapesDataset, demo_preprocess, demo_resnet
from ..errors import InputError
from ..study import Study

if TYPE_CHECKING:
    from ..atlas.query.references import References
    from ..drawing import Figure
    from ..views.report import BuiltReport

__all__ = ["DemoConcept", "DemoResult", "DemoSample", "demo_atlas", "demo_report", "run_demo"]

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


@dataclass(frozen=True)
class DemoConcept:
    """One of the most relevant channels of a sample.

    Parameters
    ----------
    channel : int
    share : float
        Of the sample's relevance in the layer; the magnitudes of all channels sum to 1.
    part : str
        The part of the images whose presence goes along with the channel's relevance most.
    correlation : float
        Of the share with the presence of that part, over the samples: in [-1, 1].
    on_plain, on_textured : float
        How much of the conditional heatmap's magnitude lies on either object: in [0, 1].
    """

    channel: int
    share: float
    part: str
    correlation: float
    on_plain: float
    on_textured: float


@dataclass(frozen=True, eq=False)
class DemoSample:
    """One image and what the model used in it.

    Parameters
    ----------
    index : int
        Number of the sample in the dataset.
    label, prediction : str
        Class names.
    probability : float
        Of the prediction.
    concepts : tuple of DemoConcept
    image : torch.Tensor
        Values in [0, 1]: channel, height, width.
    heatmap : torch.Tensor
        For the prediction: height, width.
    concept_heatmaps : torch.Tensor
        Conditional, one for each of `concepts`: concept, height, width.
    shares : torch.Tensor
        Of every channel of the layer: concept.
    objects : torch.Tensor
        Where the plain and the textured object are, boolean: object, height, width.
    """

    index: int
    label: str
    prediction: str
    probability: float
    concepts: tuple[DemoConcept, ...]
    image: torch.Tensor
    heatmap: torch.Tensor
    concept_heatmaps: torch.Tensor
    shares: torch.Tensor
    objects: torch.Tensor


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What `run_demo` found.

    Parameters
    ----------
    layer : str
    accuracy : float
        Of the model, over all samples that were looked at.
    samples : tuple of DemoSample
    parts : dict of int to (str, float)
        By channel: the part that goes along with it most, and the correlation.
    """

    layer: str
    accuracy: float
    samples: tuple[DemoSample, ...]
    parts: dict[int, tuple[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the arrays, ready for JSON."""
        return {
            "layer": self.layer,
            "composite": _COMPOSITE,
            "accuracy": self.accuracy,
            "samples": [
                {
                    "index": one.index,
                    "label": one.label,
                    "prediction": one.prediction,
                    "probability": one.probability,
                    "concepts": [asdict(concept) for concept in one.concepts],
                }
                for one in self.samples
            ],
        }

    def figure(self) -> Figure:
        """Return the figure that shows it all."""
        from ..views.plot import demo_figure

        return demo_figure([self._view(one) for one in self.samples], title=self._title())

    def _title(self) -> str:
        return (
            f"What the demo model uses: channels of {self.layer}, rules EpsilonPlusFlat\n"
            f"Each word is the image part whose presence a channel's relevance follows, r the correlation "
            f"({_MEANING_SAMPLES} test images, accuracy {self.accuracy:.0%})"
        )

    def _view(self, sample: DemoSample) -> Any:
        from ..views.plot import ConceptView, SampleView

        right = "correct" if sample.label == sample.prediction else f"predicted: {sample.prediction}"
        return SampleView(
            image=sample.image,
            title=f"{_in_two_lines(sample.label)}\n{right}, p = {sample.probability:.2f}",
            heatmap=sample.heatmap,
            heatmap_title="for the prediction",
            shares=sample.shares,
            shares_title="most relevant channels",
            concepts=[
                ConceptView(heatmap, f"channel {one.channel} ({one.share:+.1%})\n{one.part}, r = {one.correlation:.2f}")
                for one, heatmap in zip(sample.concepts, sample.concept_heatmaps, strict=True)
            ],
            labels={channel: f"{channel} {part}" for channel, (part, _) in self.parts.items()},
            outlines={"plain object": sample.objects[0].numpy(), "textured object": sample.objects[1].numpy()},
        )


def run_demo(*, seed: int = 0, samples: int = 4, layer: str = LAYER, verbose: bool = False) -> DemoResult:
    """Attribute a few demo images to the channels of a layer, and compare with the truth about the images.

    Parameters
    ----------
    seed : int, optional
        Of the images.
    samples : int, optional
        How many of them are shown, at most 8; each has another class.
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
        [[part in data.class_parts[data.classes[int(one)]] for part in data.parts] for one in labels]
    )
    parts = _meaning(shares, present, data.parts)
    shown = []
    with _progress("heatmaps", samples, verbose=verbose) as bar:
        for index in range(samples):
            top = [int(one) for one in shares[index].abs().argsort(descending=True, stable=True)[:_TOP]]
            y = {"y": [int(predicted[index])]}
            sets: list[dict[str, list[int]]] = [y, *({layer: [one], **y} for one in top)]
            maps = attribution(inputs[index : index + 1], sets, _COMPOSITE, pairing="product").heatmap.detach()
            objects = _objects(data, index)
            concepts = [
                DemoConcept(one, float(shares[index, one]), *parts[one], *_shares_on(heatmap, objects))
                for one, heatmap in zip(top, maps[1:], strict=True)
            ]
            shown.append(
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
    return DemoResult(layer, float((predicted == labels).float().mean()), tuple(shown), parts)


def demo_atlas(
    path: Path, result: DemoResult, *, seed: int = 0, overwrite: bool = False, verbose: bool = False
) -> list[References]:
    """Build an atlas of demo images, and return the reference samples of the concepts that mattered in the few.

    Parameters
    ----------
    path : Path
        The atlas to make: of the layer of `result` and one of each part of the network, over 500 images.
    result : DemoResult
    seed : int, optional
        Of the images.
    overwrite : bool, optional
        Replace the file.
    verbose : bool, optional
        Show a progress bar, where somebody watches.

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
    """Make the report of the atlas that `demo_atlas` has made, and return where it is.

    Parameters
    ----------
    path : Path
        The folder to make.
    atlas : Path
    seed : int, optional
        Of the images, as for the atlas.
    overwrite : bool, optional
        Replace an earlier report.
    verbose : bool, optional
        Show a progress bar, where somebody watches.

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
    """Shares of the channels (sample, channel), predicted class (sample) and model output (sample, class)."""
    with torch.no_grad():
        predicted = torch.cat([attribution.model(part).argmax(1) for part in torch.split(inputs, _ROWS_AT_ONCE)])
    conditions = [{"y": [int(one)]} for one in predicted]
    rows = attribution.generate(
        inputs, conditions, _COMPOSITE, record_layer=[layer], pairing="zip", batch_size=_ROWS_AT_ONCE
    )
    concept, shares, values = ChannelConcept(), [], []
    with _progress("relevance of channels", len(inputs), verbose=verbose) as bar:
        for part in rows:
            shares.append(concept.attribute(part.relevances[layer]).detach())
            values.append(part.prediction.detach())
            bar.update(len(part))
    return torch.cat(shares), predicted, torch.cat(values)


def _progress(what: str, total: int, *, verbose: bool) -> tqdm[Any]:
    """A progress bar, where somebody watches."""
    return tqdm(total=total, desc=what, unit="image", disable=None if verbose else True)


def _meaning(shares: torch.Tensor, present: torch.Tensor, names: Sequence[str]) -> dict[int, tuple[str, float]]:
    """By channel: the part whose presence its share follows most, and the correlation."""
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
    """Where the plain and the textured object are: object, height, width."""
    masks = dict(zip(data.parts, data.masks(index), strict=True))
    return torch.stack([masks["circle"] | masks["triangle"], masks["square"] | masks["cross"]])


def _shares_on(heatmap: torch.Tensor, objects: torch.Tensor) -> tuple[float, float]:
    """How much of a heatmap's magnitude lies on either object."""
    magnitude = heatmap.abs()
    total = magnitude.sum().clamp_min(1e-30)
    plain, textured = (float(magnitude[one].sum() / total) for one in objects)
    return plain, textured


def _in_two_lines(name: str) -> str:
    return name.replace(" above ", "\nabove ")
