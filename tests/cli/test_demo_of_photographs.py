"""The demonstration on photographs: the model knows what they show, and everything is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from command_line import invoke, refused

import crp_kit as crp
from crp_kit.data import photographs
from crp_kit.data.photographs import Photographs
from crp_kit.demo.photographs import LAYER, SUBJECTS
from crp_kit.errors import InputError

KNOWN = {"chelsea": "Egyptian cat", "coffee": "espresso", "rocket": "missile", "camera": "tripod", "flower": "daisy"}


def test_photographs_are_those_of_the_packages_whole_and_in_parts() -> None:
    data = crp.load_data("demo:photos", crp.Preprocess(None, None))
    assert len(data) == 5 * len(data.names)
    number = 5 * data.names.index("chelsea")
    picture = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1) / 255
    height, width = (round(0.7 * side) for side in picture.shape[1:])
    whole, first, last = (data[number + view][0] for view in (0, 1, 4))
    torch.testing.assert_close(whole, picture)
    torch.testing.assert_close(first, picture[:, :height, :width])
    torch.testing.assert_close(last, picture[:, -height:, -width:])
    assert data.whole("chelsea").equal(whole)
    assert all(label is None for _, label in (data[index] for index in range(0, len(data), 5)))


@pytest.mark.slow
def test_the_model_names_what_the_photographs_show() -> None:
    loaded = crp.load_model("demo:lite0")
    data = Photographs(loaded.preprocess)
    inputs = loaded.preprocess.normalise(torch.stack([data.whole(name) for name in KNOWN]))
    with torch.no_grad():
        predicted = loaded.model(inputs).argmax(1).tolist()
    assert [loaded.classes[cls] for cls in predicted if loaded.classes] == list(KNOWN.values())


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="demo:lite0 has no weights 'V1'"):
        crp.load_model("demo:lite0", "V1")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    assert "which is not installed: pip install 'crp-kit[photos]'" in refused("demo", "--photos", "-o", "out")
    assert not Path("out").exists()
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(InputError, match=r"demo:photos needs scikit-image, .* pip install 'crp-kit\[photos\]'"):
        crp.load_data("demo:photos")


@pytest.mark.slow
def test_the_demo_of_photographs_writes_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [name for name in photographs._OF_SKIMAGE if name.partition(".")[0] in SUBJECTS]
    monkeypatch.setattr(photographs, "_SOURCES", [("skimage.data", "", files)])  # those that are shown
    for name, number in {"_REGIONS": 16, "_SHOWN": 4, "_REFERENCES": 2}.items():
        monkeypatch.setattr(f"crp_kit.demo.photographs.{name}", number)
    result = invoke("demo", "--photos", "--no-report", "-o", "out")
    assert result.exit_code == 0, (result.output, result.exception)
    assert all(Path(line).stat().st_size for line in result.stdout.splitlines())
    rows = json.loads(Path("out/concepts.json").read_text())
    assert [row["prediction"].partition(" ")[2] for row in rows[:3]] == ["Egyptian cat", "espresso", "missile"]
    with np.load("out/heatmaps.npz") as arrays:
        assert arrays["heatmap"].shape == (4, 224, 224)
        assert arrays["conditional"].shape == (4, 4, 224, 224)
        assert arrays["channel"].tolist() == [[one["channel"] for one in row["concepts"]] for row in rows]
    shown = invoke("atlas", "references", "out/atlas.h5", "--layer", LAYER, "--concept", 3, "-k", 2, "-o", "refs.png")
    assert shown.exit_code == 0, shown.output
