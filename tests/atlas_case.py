"""Atlases of the demo model on synthetic images, and comparison of two atlas files bit by bit."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt
import torch
from studies import atlas_of
from torch.utils.data import Dataset

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet

LAYERS = ["layer2.1.conv2", "layer3.0.conv1"]
SAMPLES = 37  # not a whole number of batches: the last one has a single sample
COMPOSITE = "epsilon_plus_flat"
Array = npt.NDArray[Any]


class Labelled(Dataset[Any]):
    """Images with the labels that a test chooses."""

    classes = ShapesDataset.classes

    def __init__(self, count: int, labels: Sequence[Any] | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.images, own = ShapesDataset(count, seed=5).batch(range(count))
        self.images = self.images.to(dtype)
        self.labels: Sequence[Any] = own.tolist() if labels is None else labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, Any]:
        return self.images[number], self.labels[number]


@cache
def demo_attribution() -> crp.CondAttribution:
    """Return an attribution that atlases of the demo model share, with what it has planned already."""
    return crp.CondAttribution(demo_resnet())


def build(path: Path, dataset: Any = None, **options: Any) -> crp.ConceptAtlas:
    """Build and open an atlas."""
    chosen = {"layers": LAYERS, "composite": COMPOSITE, "preprocess": demo_preprocess, "batch_size": 12, **options}
    model = chosen.pop("model", None)
    return atlas_of(
        crp.CondAttribution(model) if model is not None else demo_attribution(),
        Labelled(SAMPLES) if dataset is None else dataset,
        path,
        **{"verbose": False, **chosen},
    )


SHAPES = ShapesDataset(40)
SHAPES_LAYER = "layer2.1.conv2"
SHAPES_K = 9


def shapes_atlas(path: Path) -> crp.ConceptAtlas:
    """Build and open the atlas that many tests read (fixture ``shapes_atlas_file``)."""
    return build(path, SHAPES, layers=[SHAPES_LAYER], k=SHAPES_K, matrix=False)


def datasets(path: Path) -> dict[str, Array]:
    """Every dataset of a file, read with h5py alone."""
    arrays: dict[str, Array] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return arrays


def same_bits(path: Path, other: Path) -> bool:
    """Whether two files hold the same datasets, bit by bit."""
    first, second = datasets(path), datasets(other)
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and first[name].tobytes() == second[name].tobytes() for name in first
    )
