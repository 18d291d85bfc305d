"""A small model whose layers, classes and samples have names that no page should trust, and its atlas and report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from studies import atlas_of, report_of
from torch import nn
from torch.utils.data import Dataset

import crp_kit as crp
from crp_kit.atlas import Origin
from crp_kit.views.report import BuiltReport

MARKUP = "<img src=x onerror=alert(1)>"
ODD = 'שכבה/"quoted"\'&%2F</script><script>alert(2)</script>'
LAYERS = (MARKUP, ODD)
CLASSES = (
    MARKUP,
    "</script><script>alert(3)</script>",
    "\"double\" 'single' &amp; `tick`",
    "قطة صغيرة \u202eكلب",
    "日本語 𝒳 \u2028 one line",
)
RULES = "epsilon_plus_flat"
SIZE = 16


class Noise(Dataset[Any]):
    """Coloured noise with paths and labels; every class has another channel that is bright."""

    def __init__(self, count: int = 30, seed: int = 0, sizes: tuple[int, ...] = (SIZE,)) -> None:
        noise = torch.Generator().manual_seed(seed)
        self.samples = [(f"folder/{MARKUP}-{number}.png", number % 4) for number in range(count)]
        self.images = [torch.rand(3, sizes[one % len(sizes)], SIZE, generator=noise) / 2 for one in range(count)]
        for image, (_, label) in zip(self.images, self.samples, strict=True):
            image[label % 3] += 0.5 if label < 3 else 0.2

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self.images[number], self.samples[number][1]


def odd_model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential()
        model.add_module(MARKUP, nn.Conv2d(3, 6, 3, padding=1))
        model.add_module("first", nn.ReLU())
        model.add_module(ODD, nn.Conv2d(6, 9, 3, stride=2))
        model.add_module("second", nn.ReLU())
        model.add_module("pool", nn.AdaptiveAvgPool2d(1))
        model.add_module("flat", nn.Flatten())
        model.add_module("fc", nn.Linear(9, len(CLASSES)))
        return model.eval()


ATTRIBUTION = crp.CondAttribution(odd_model())
DATA = Noise()


def odd_atlas(path: Path, dataset: Any = DATA, **options: Any) -> crp.ConceptAtlas:
    chosen = {
        "layers": list(LAYERS), "composite": RULES, "k": 6, "k_class": 2, "verbose": False, "matrix": True,
        "origin": Origin(f"model {MARKUP}", "data '\"", "made by <b>hand</b>", CLASSES), **options,
    }  # fmt: skip
    return atlas_of(ATTRIBUTION, dataset, path, **chosen)


def odd_report(atlas: crp.ConceptAtlas, path: Path, dataset: Any = DATA, **options: Any) -> BuiltReport:
    chosen = {"attribution": ATTRIBUTION, "composite": RULES, "references": 3, "verbose": False, **options}
    return report_of(atlas, dataset, path, **chosen)


def contents(path: Path) -> dict[str, str] | None:
    """What a folder holds, without the line that differs between two builds."""
    if not path.exists():
        return None
    texts = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            lines = file.read_bytes().decode("latin-1").splitlines()
            texts[str(file.relative_to(path))] = "\n".join(line for line in lines if 'id="built"' not in line)
    return texts
