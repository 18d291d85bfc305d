"""The demonstration on real photographs: heatmaps, top concepts, a concept graph, a region map, an atlas, a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..atlas import ConceptAtlas, Origin
from ..concepts import ChannelConcept
from ..data.photographs import Photographs
from ..models import load_model
from ..progress import Progress
from ..study import Study

if TYPE_CHECKING:
    from ..atlas.query.references import References
    from ..drawing import Figure
    from ..views.report import BuiltReport

__all__ = [
    "LAYER",
    "SUBJECTS",
    "PhotoResult",
    "build_photo_atlas",
    "explain_photographs",
    "photo_graph",
    "photo_references",
    "photo_regions",
    "photo_report",
    "photo_study",
]

SUBJECTS = ("chelsea", "coffee", "rocket", "astronaut")
LAYER = "_blocks.11._swish"
"""Behind an activation, and all relevance goes through it. Maps are 14x14: parts of objects, still in their place."""
_LAYERS = ("_blocks.5._swish", LAYER, "_blocks.15._swish")
_MODEL, _DATA, _COMPOSITE = "demo:lite0", "demo:photos", "epsilon_plus_flat"
_TOP, _REFERENCES, _REGIONS, _SHOWN = 4, 6, 196, 24
_OF_OTHERS, _IN_REPORT = 2, 4
"""Channels of the other layers in the report, and reference samples there, which take longest."""
_TITLE = f"What EfficientNet-Lite0 uses: channels of {LAYER}, rules EpsilonPlusFlat"


@dataclass(frozen=True, eq=False)
class PhotoResult:
    """A photograph and the channels that the model's prediction rests on.

    Parameters
    ----------
    name : str
    prediction : str
        Number and name of the class.
    cls : int
    probability : float
    image : torch.Tensor
        Values in [0, 1]: (channel, height, width).
    heatmap : torch.Tensor
        For the prediction: (height, width).
    shares : torch.Tensor
        Share of every channel in the relevance of the layer: (concept,).
    top : tuple of int
        The channels of largest share, of either sign.
    heatmaps : torch.Tensor
        Conditional, one for each of `top`: (concept, height, width).
    """

    name: str
    prediction: str
    cls: int
    probability: float
    image: torch.Tensor
    heatmap: torch.Tensor
    shares: torch.Tensor
    top: tuple[int, ...]
    heatmaps: torch.Tensor

    def as_dict(self) -> dict[str, Any]:
        """Return all but the arrays, as plain values for JSON."""
        concepts = [{"channel": channel, "share": float(self.shares[channel])} for channel in self.top]
        return {
            "photograph": self.name,
            "prediction": self.prediction,
            "probability": self.probability,
            "concepts": concepts,
        }

    def view(self) -> Any:
        """Return it as the figure takes it."""
        from ..views.plot import ConceptView, SampleView

        return SampleView(
            image=self.image,
            title=f"{self.name}\n{self.prediction.partition(' ')[2]}, p = {self.probability:.2f}",
            heatmap=self.heatmap,
            heatmap_title="for the prediction",
            shares=self.shares,
            shares_title="most relevant channels",
            concepts=[
                ConceptView(heatmap, f"channel {channel} ({self.shares[channel]:+.1%})")
                for channel, heatmap in zip(self.top, self.heatmaps, strict=True)
            ],
        )


def photo_study() -> Study:
    """Return the study of EfficientNet-Lite0 on the photographs.

    Raises
    ------
    InputError
        If packages of the extra ``photos`` are missing.
    """
    loaded = load_model(_MODEL)
    options = {"model": _MODEL, "data": _DATA, "composite": _COMPOSITE}
    origin = Origin(_MODEL, _DATA, "crp-kit demo --photos", loaded.classes, options)
    return Study(loaded, Photographs(loaded.preprocess), composite=_COMPOSITE, origin=origin)


def explain_photographs(
    study: Study, *, width: float | None = None, verbose: bool = False
) -> tuple[list[PhotoResult], Figure]:
    """Return what the predictions of four photographs rest on, and the figure of it, in a width in inches."""
    from ..views.plot import demo_figure

    bar = Progress(len(SUBJECTS), "heatmaps", unit="photograph", verbose=verbose)
    results = [_explained(study, name) for name in bar.over(SUBJECTS)]
    return results, demo_figure([result.view() for result in results], title=_TITLE, width=width)


def _explained(study: Study, name: str) -> PhotoResult:
    image = study.data.whole(name)
    inputs = study.inputs(image)
    with torch.no_grad():
        probabilities = study.model(inputs)[0].softmax(0)
    cls = int(probabilities.argmax())
    recorded = study(image, [{"y": [cls]}], record_layer=[LAYER])
    shares = ChannelConcept().attribute(recorded.relevances[LAYER])[0].detach()
    top = shares.abs().argsort(descending=True, stable=True)[:_TOP].tolist()
    maps = study(image, [{LAYER: [channel], "y": [cls]} for channel in top], pairing="product").heatmap.detach()
    return PhotoResult(
        name,
        study.class_name(cls),
        cls,
        float(probabilities[cls]),
        image,
        recorded.heatmap[0].detach(),
        shares,
        tuple(top),
        maps,
    )


def build_photo_atlas(study: Study, path: Path, *, overwrite: bool, verbose: bool) -> ConceptAtlas:
    """Return an atlas of all photographs, each whole and in parts, from the predicted classes.

    Raises
    ------
    AtlasError
        If the file cannot be written.
    """
    return study.build_atlas(
        path, layers=_LAYERS, target="prediction", matrix=True, overwrite=overwrite, verbose=verbose
    )


def photo_references(study: Study, atlas: ConceptAtlas, results: Sequence[PhotoResult]) -> list[References]:
    """Return the reference samples of the strongest channel of each photograph."""
    channels = dict.fromkeys(result.top[0] for result in results)
    return [study.references(atlas, LAYER, channel, k=_REFERENCES, check=False) for channel in channels]


def photo_graph(study: Study, atlas: ConceptAtlas, result: PhotoResult, *, width: float | None) -> Figure:
    """Return the concept graph of a photograph's prediction, with reference samples."""
    graph = study.concept_graph(result.image, start={"y": [result.cls]}, layers=_LAYERS, width=(3, 2, 2))
    references = study.reference_pictures(graph, atlas)
    return graph.plot(references=references, image=result.image, classes=study.classes, width=width)


def photo_regions(study: Study, atlas: ConceptAtlas, result: PhotoResult, *, width: float | None) -> Figure:
    """Return the region map of a photograph, with reference samples."""
    regions = study.region_map(result.image, LAYER, cls=result.cls, count=_REGIONS, top=_SHOWN)
    references = study.reference_pictures(regions, atlas, k=3, most=6)
    return regions.plot(title=f"{LAYER}, class {result.prediction}", references=references, most=6, width=width)


def photo_report(
    study: Study, atlas: ConceptAtlas, path: Path, results: Sequence[PhotoResult], *, overwrite: bool, verbose: bool
) -> BuiltReport:
    """Return the report of the channels that the four photographs rest on, of three layers."""
    from ..views.report import ReportOptions

    chosen = {LAYER: sorted({channel for result in results for channel in result.top})}
    for layer in _LAYERS:
        strongest = atlas[layer].relevance.statistics().sorted("mean", _OF_OTHERS).concept.tolist()
        chosen.setdefault(layer, strongest)
    return study.report(
        atlas,
        path,
        concept_ids=chosen,
        references=_IN_REPORT,
        overwrite=overwrite,
        verbose=verbose,
        options=ReportOptions(title="What EfficientNet-Lite0 uses in photographs"),
    )
