"""Samples that are no pictures, of any values and number of channels, are shown scaled, and the page says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from report_case import ATTRIBUTION, DATA, LAYERS, RULES, Noise, odd_atlas, odd_report
from studies import virelay_of

import crp_kit as crp
from crp_kit.errors import InputError
from crp_kit.views.image import drawn


class Counts(Noise):
    """The images in other units, as a scanner has them."""

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        image, label = super().__getitem__(number)
        return image * 3000 - 1000, label


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[crp.ConceptAtlas]:
    with odd_atlas(tmp_path_factory.mktemp("counts") / "a.h5", Counts()) as atlas:
        yield atlas


def remarks(folder: Path) -> list[Any]:
    text = (folder / "data" / "report.js").read_text()
    about = json.loads(text[text.index(",") + 1 : text.rindex(")")])
    return [layer["remark"] for layer in about["layers"]]


def test_a_report_shows_values_of_any_range_and_says_that_they_are_scaled(
    counts: crp.ConceptAtlas, tmp_path: Path
) -> None:
    odd_report(counts, tmp_path / "report", Counts(), concept_ids={LAYERS[0]: [0], LAYERS[1]: [0]}, references=1)
    said = remarks(tmp_path / "report")
    assert len(said) == 2
    assert all(
        "values outside of [0, 1]" in one and "scaled from its lowest value to its highest" in one for one in said
    )


def test_a_report_of_pictures_says_nothing_of_scaling(odd_atlas_file: Path, tmp_path: Path) -> None:
    with crp.ConceptAtlas(odd_atlas_file) as atlas:
        odd_report(atlas, tmp_path / "report", concept_ids={LAYERS[0]: [0]}, references=1)
    (said,) = remarks(tmp_path / "report")
    assert "scaled" not in said
    assert said.endswith(
        f"is ranked before its activation function; for values behind it build the atlas with {'first'!r}."
    )


@pytest.mark.parametrize(("data", "scaled"), [(Counts(), True), (DATA, False)], ids=["counts", "pictures"])
def test_a_virelay_project_says_in_the_name_of_its_dataset_that_images_are_scaled(
    counts: crp.ConceptAtlas, odd_atlas_file: Path, tmp_path: Path, data: Any, scaled: bool
) -> None:
    with crp.ConceptAtlas(counts.path if scaled else odd_atlas_file) as atlas:
        options = {"attribution": ATTRIBUTION, "composite": RULES, "layer": LAYERS[1], "concept_ids": [3], "k": 4}
        project = virelay_of(atlas, data, tmp_path / "project", **options)
    name = yaml.safe_load(project.read_text())["project"]["dataset"]["name"]
    assert name.endswith(" (each image scaled from its lowest value to its highest)") == scaled


@pytest.mark.parametrize(
    ("image", "changed"),
    [
        (torch.rand(3, 4, 5), False),
        (torch.rand(1, 4, 5), False),
        (torch.rand(3, 4, 5) * 1.0005, False),  # what antialiasing overshoots is no other range
        (torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8), False),
        (torch.rand(3, 4, 5) - 0.5, True),
        (torch.rand(1, 4, 5) * 4096, True),
        (torch.rand(2, 4, 5), True),
        (torch.rand(13, 4, 5) * 1e4, True),
        (torch.full((3, 4, 5), 7.0), True),
    ],
)
def test_any_image_is_drawn_and_it_is_said_whether_it_was_changed(image: torch.Tensor, changed: bool) -> None:
    picture, said = drawn(image)
    assert (picture.size, picture.mode, said) == ((5, 4), "RGB", changed)


def test_the_lowest_value_is_black_the_highest_white_and_many_channels_are_their_mean() -> None:
    image = torch.tensor([[[-1000.0, 0.0, 1000.0]]])
    assert np.asarray(drawn(image)[0])[0, :, 0].tolist() == [0, 128, 255]
    two = torch.tensor([[[0.0, 0.4, 1.0]], [[0.0, 0.6, 1.0]]])
    assert np.asarray(drawn(two)[0])[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("image", [torch.full((3, 4, 5), torch.nan), torch.rand(4, 5, 6, 7), torch.rand(2, 0, 4)])
def test_what_is_no_image_is_refused(image: torch.Tensor) -> None:
    with pytest.raises(InputError):
        drawn(image)
