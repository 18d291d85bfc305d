"""Reports of atlases in which relevance of all samples starts from one target: its words stand where a class would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import normal, small_convnet
from torch import nn

import crp_kit as crp
from crp_kit.targets import Contrast, Region, Target, Value


def segmentation() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()


def dominant(net: nn.Module, images: torch.Tensor) -> int:
    return int(net(images).argmax(1).flatten().mode().values)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["contrast", "region", "value"])
def test_a_report_says_in_words_what_relevance_started_from(kind: str, tmp_path: Path) -> None:
    images = normal(3, 3, 8, 8, dtype=torch.float32)
    net = segmentation() if kind == "region" else small_convnet()
    cls = dominant(net, images)
    names = ["cat & co", "dog", "owl"]
    expected: dict[str, tuple[Target, str, bool]] = {
        "contrast": (Contrast(0, 2), "cat &amp; co against owl", True),
        "region": (Region(cls), f"region of {names[cls]}".replace("&", "&amp;"), True),
        "value": (Value(1), "output 1", False),
    }
    target, words, has_classes = expected[kind]
    data: list[Any] = [(image, None) for image in images]
    study = crp.Study(net, data, classes=names)
    with study.build_atlas(tmp_path / "a.h5", layers=["1"], target=target, verbose=False) as atlas:
        report = study.report(atlas, tmp_path / "report", verbose=False)
    page = report.index.read_text(encoding="utf-8")
    assert f"Relevance starts from <bdi>{words}</bdi> in every sample" in page
    assert ("so that there are no classes" in page) != has_classes
    assert ('id="classes"' in page) == has_classes
    assert "the class that is named below" not in page


@pytest.mark.slow
def test_a_sample_is_on_the_pages_of_each_of_its_classes(tmp_path: Path) -> None:
    data: list[Any] = [(image, None) for image in normal(3, 3, 8, 8, dtype=torch.float32)]
    study = crp.Study(small_convnet(), data)
    with study.build_atlas(tmp_path / "a.h5", layers=["1"], target="top:0.01", verbose=False) as atlas:
        report = study.report(atlas, tmp_path / "report", verbose=False)
        second = set(atlas.seen.tolist()) - set(atlas.targets.tolist())
    assert second, "a class that is no sample's first target"
    pages = (report.path / "data" / "classes-0.js").read_text(encoding="utf-8")
    classes = json.loads(pages[pages.index("[") : pages.rindex("]") + 1])
    assert all(classes[cls]["samples"] for cls in second)
    assert all((report.path / "data" / f"graph-{cls}.js").exists() for cls in second)
