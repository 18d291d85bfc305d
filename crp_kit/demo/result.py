"""Results of the demonstration: what the demo model uses in a few images, beside the truth about them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from ..drawing import Figure

__all__ = ["DemoConcept", "DemoResult", "DemoSample"]


@dataclass(frozen=True)
class DemoConcept:
    """One of the most relevant channels of a sample.

    Parameters
    ----------
    channel : int
    share : float
        Share of the sample's relevance in the layer; the magnitudes of all channels sum to 1.
    part : str
        The part of the images whose presence correlates most with the channel's relevance.
    correlation : float
        Correlation of the share with the presence of that part, over the samples: in [-1, 1].
    on_plain, on_textured : float
        Share of the conditional heatmap's magnitude on either object: in [0, 1].
    """

    channel: int
    share: float
    part: str
    correlation: float
    on_plain: float
    on_textured: float


@dataclass(frozen=True, eq=False)
class DemoSample:
    """One image and the channels that the model used in it.

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
        Values in [0, 1]: (channel, height, width).
    heatmap : torch.Tensor
        For the prediction: (height, width).
    concept_heatmaps : torch.Tensor
        Conditional, one for each of `concepts`: (concept, height, width).
    shares : torch.Tensor
        Of every channel of the layer: (concept,).
    objects : torch.Tensor
        Masks of the plain and of the textured object, boolean: (object, height, width).
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
    """Result of `crp_kit.demo.run.run_demo`.

    Parameters
    ----------
    layer : str
    composite : str
        Name of the rules.
    accuracy : float
        Of the model, over all samples.
    count : int
        Number of these samples.
    samples : tuple of DemoSample
    parts : dict of int to (str, float)
        By channel: the part that correlates most with it, and the correlation.
    """

    layer: str
    composite: str
    accuracy: float
    count: int
    samples: tuple[DemoSample, ...]
    parts: dict[int, tuple[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """Return all but the arrays, as plain values for JSON."""
        return {
            "layer": self.layer,
            "composite": self.composite,
            "accuracy": self.accuracy,
            "samples": [
                {
                    "index": sample.index,
                    "label": sample.label,
                    "prediction": sample.prediction,
                    "probability": sample.probability,
                    "concepts": [asdict(concept) for concept in sample.concepts],
                }
                for sample in self.samples
            ],
        }

    def figure(self, width: float | None = None) -> Figure:
        """Return the figure of all samples, in a width in inches if one is named."""
        from ..views.plot import demo_figure

        return demo_figure([self._view(sample) for sample in self.samples], title=self._title(), width=width)

    def _title(self) -> str:
        return (
            f"What the demo model uses: channels of {self.layer}, rules EpsilonPlusFlat\n"
            f"Each word is the image part whose presence a channel's relevance follows, r the correlation "
            f"({self.count} test images, accuracy {self.accuracy:.0%})"
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
                ConceptView(heatmap, _title(concept))
                for concept, heatmap in zip(sample.concepts, sample.concept_heatmaps, strict=True)
            ],
            labels={channel: f"{channel} {part}" for channel, (part, _) in self.parts.items()},
            outlines={"plain object": sample.objects[0].numpy(), "textured object": sample.objects[1].numpy()},
        )


def _title(concept: DemoConcept) -> str:
    return f"channel {concept.channel} ({concept.share:+.1%})\n{concept.part}, r = {concept.correlation:.2f}"


def _in_two_lines(name: str) -> str:
    return name.replace(" above ", "\nabove ")
