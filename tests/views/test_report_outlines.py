"""Pictures of a report whose relevance starts from regions: a line is around them, as in figures of references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.text import Text
from nets import normal
from PIL import Image
from scipy import ndimage
from torch import nn

import crp_kit as crp
from crp_kit.targets import Region
from crp_kit.views.highlight import outlined
from crp_kit.views.look import Look
from crp_kit.views.report.sample_pictures import sample_pictures
from crp_kit.views.report.samples import SampleSource

DARK = (26, 26, 26)


def rim(area: np.ndarray) -> np.ndarray:
    return area & ~ndimage.binary_erosion(area)


def dark(image: Image.Image) -> np.ndarray:
    return (np.asarray(image) == DARK).all(-1)


def test_a_line_is_along_the_inside_of_an_area_and_of_the_image() -> None:
    image, area = Image.new("RGB", (12, 9), "white"), np.zeros((9, 12), bool)
    area[2:7, 4:] = True
    assert (dark(outlined(image, torch.from_numpy(area))) == rim(area)).all()
    assert rim(area)[4, 11]
    assert outlined(image, None) is outlined(image, torch.ones(3, 3)) is image


def test_references_and_samples_of_regions_have_their_outlines(tmp_path: Path) -> None:
    images = normal(3, 3, 16, 16, dtype=torch.float32)
    images[:, :, :, :8] += 3
    images = images.sigmoid()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    predicted = net(images).argmax(1)
    cls = int(predicted.flatten().mode().values)
    study = crp.Study(net, [(image, None) for image in images])
    with study.build_atlas(tmp_path / "a.h5", layers=["1"], target=Region(cls), verbose=False) as atlas:
        source = SampleSource(
            study.subject, atlas, conditioned_on="class", references=3, receptive_field=False, batch_size=4, size=16,
            look=Look("overlay", 99.5, "coldnhot"),
        )  # fmt: skip
        assert not source.outlined
        shown = {sample: picture for sample, _, picture in sample_pictures(source, [0, 1, 2])}
        assert source.outlined
        shown |= {one.sample + 3: one.heatmap for one in source.of("1", [0])[0, "relevance"]}
        texts = study.references(atlas, "1", 0, k=2).plot().findobj(Text)
        study.report(atlas, tmp_path / "report", concept_ids=[0], references=2, verbose=False)
    assert "line: around where relevance starts" in [text.get_text() for text in texts]
    assert '"outlined":true' in (tmp_path / "report/data/report.js").read_text().replace(": ", ":")
    assert set(shown) == set(range(6))
    for number, picture in shown.items():
        area = (predicted[number % 3] == cls).numpy()
        assert picture is not None
        assert rim(area).any()
        assert dark(picture)[rim(area)].all()
