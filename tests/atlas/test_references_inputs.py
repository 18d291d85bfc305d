"""Reference samples of signals and volumes: heatmaps, receptive fields, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from studies import atlas_of, references_of, report_of
from torch import nn
from torch.utils.data import Dataset

import crp_kit as crp
from crp_kit.errors import InputError
from crp_kit.views.image import PERCENTILE, colours, scale_of
from crp_kit.views.plot import compare_modes, to_png

RULES = "epsilon_plus"
CONVS = {1: nn.Conv1d, 3: nn.Conv3d}
POOLS = {1: nn.AdaptiveAvgPool1d, 3: nn.AdaptiveAvgPool3d}
SHAPES = {1: (2, 30), 3: (1, 5, 6, 7)}


class Samples(Dataset[Any]):
    def __init__(self, dims: int, count: int = 8) -> None:
        self.data = 3 * torch.randn(count, *SHAPES[dims], generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.data[number], number % 3


def net(dims: int) -> nn.Module:
    torch.manual_seed(0)
    front = CONVS[dims](SHAPES[dims][0], 4, 3)
    return nn.Sequential(front, nn.ReLU(), POOLS[dims](1), nn.Flatten(), nn.Linear(4, 3)).eval()


def asked(dims: int, folder: Path, **options: Any) -> crp.References:
    attribution, dataset = crp.CondAttribution(net(dims)), Samples(dims)
    with atlas_of(attribution, dataset, folder / "a.h5", layers="0", composite=RULES, verbose=False) as atlas:
        return references_of(atlas, dataset, "0", 2, attribution=attribution, composite=RULES, **{"k": 3, **options})


@pytest.mark.slow
@pytest.mark.parametrize("dims", [1, 3])
def test_heatmaps_are_those_of_the_concept_and_the_sample_s_class(tmp_path: Path, dims: int) -> None:
    found = asked(dims, tmp_path)
    attribution, dataset = crp.CondAttribution(net(dims)), Samples(dims)
    assert len(found) == 3
    for number, image, heatmap in zip(found.table.sample.tolist(), found.images, found.heatmaps, strict=True):
        assert torch.equal(image, dataset[number][0])
        expected = attribution(image[None], [{"0": [2], "y": [number % 3]}], RULES).heatmap[0]
        torch.testing.assert_close(heatmap, expected, rtol=1e-4, atol=1e-7)  # batches of other sizes round otherwise
    assert to_png(found.plot()).startswith(b"\x89PNG")
    assert found._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("dims", [1, 3])
def test_receptive_fields_are_the_windows_of_the_convolution(tmp_path: Path, dims: int) -> None:
    found = asked(dims, tmp_path, receptive_field=True)
    assert found.boxes is not None
    shape = [size - 2 for size in SHAPES[dims][1:]]
    for position, box, crop, heatmap in zip(
        found.table.position.tolist(), found.boxes, found.crops(), found.heatmaps, strict=True
    ):
        start = [int(one) for one in np.unravel_index(position, shape)]
        assert box == (*start, *[one + 3 for one in start])
        assert crop.shape[1:] == (3,) * dims
        outside = heatmap.clone()
        outside[tuple(slice(one, one + 3) for one in start)] = 0
        assert not outside.any()
    for style in ("map", "crop"):
        assert to_png(found.plot(style=style)).startswith(b"\x89PNG")


def panels(figure: Figure) -> list[Any]:
    blocks, _ = figure.subfigs  # above the colour bar
    return [panel for block in blocks.subfigs for panel in block.axes if panel.axison]


def test_signals_stand_with_their_captions_in_the_colours_of_their_relevance(tmp_path: Path) -> None:
    found = asked(1, tmp_path)
    first = panels(found.plot())[0]
    ground = np.asarray(first.collections[0].get_array()).reshape(30, -1)[:, :3]
    assert np.allclose(ground, colours(found.heatmaps[0]) / 255, atol=1 / 255)
    assert first.get_title(loc="left").startswith(f"sample {found.table.sample[0]}; {found.classes[0]}; relevance ")
    assert len(first.lines) == 2
    for line, channel in zip(first.lines, found.images[0], strict=True):
        assert np.corrcoef(np.asarray(line.get_ydata(), float), channel)[0, 1] == pytest.approx(1)


@pytest.mark.slow
def test_of_a_volume_the_slice_with_most_relevance_is_shown(tmp_path: Path) -> None:
    found = asked(3, tmp_path)
    shown = found.heatmaps[0].abs().sum((1, 2)).argmax()
    first, below = (panels(found.plot(style="map"))[one] for one in (0, 3))
    assert first.get_title().endswith(f"depth {int(shown)} of 5")
    own = found.heatmaps[0][shown]
    strongest = scale_of(own, percentile=PERCENTILE)
    assert (np.asarray(below.get_images()[0].get_array()) == colours(own, vmax=strongest)).all()


@pytest.mark.slow
def test_both_rankings_of_signals_stand_in_one_figure(tmp_path: Path) -> None:
    attribution, dataset = crp.CondAttribution(net(1)), Samples(1)
    with atlas_of(attribution, dataset, tmp_path / "a.h5", layers="0", composite=RULES, verbose=False) as atlas:
        views = [
            references_of(atlas, dataset, "0", 1, mode=mode, k=4, attribution=attribution, composite=RULES)
            for mode in ("relevance", "activation")
        ]
    figure = compare_modes(*views, columns=2)
    assert len(figure.subfigs) == 2
    assert to_png(figure).startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("style", ["masked", "opaque"])
def test_styles_of_pictures_are_refused_for_signals(tmp_path: Path, style: str) -> None:
    with pytest.raises(InputError, match=f"signals are drawn in the styles 'map' and 'crop'.*; got '{style}'"):
        asked(1, tmp_path).plot(style=style)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix, self.head = nn.Linear(30, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(x).relu().mean(1))  # type: ignore[no-any-return]


@pytest.mark.slow
def test_samples_that_the_model_does_not_take_and_tokens_are_refused(tmp_path: Path) -> None:
    attribution, dataset = crp.CondAttribution(net(1)), Samples(1)
    with atlas_of(attribution, dataset, tmp_path / "a.h5", layers="0", composite=RULES, verbose=False) as atlas:
        options: dict[str, Any] = {"attribution": attribution, "composite": RULES, "k": 2, "check": False}
        with pytest.raises(InputError, match=r"sample \d has shape \(1, 5, 6, 7\), which the model does not take"):
            references_of(atlas, Samples(3), "0", 1, **options)
    tokens = crp.CondAttribution(Tokens().eval())
    options = {"composite": RULES, "concepts": {"mix": crp.ChannelConcept(axis=2)}}
    with (
        atlas_of(tokens, dataset, tmp_path / "t.h5", layers="mix", verbose=False, **options) as atlas,
        pytest.raises(InputError, match="images, signals and volumes; heatmaps of this model are of tokens"),
    ):
        references_of(atlas, dataset, "mix", 1, attribution=tokens, **options)


def test_a_report_of_signals_shows_curves_and_one_of_volumes_is_refused_in_a_sentence(tmp_path: Path) -> None:
    options: dict[str, Any] = {"composite": RULES, "verbose": False}
    for axes in (1, 3):
        attribution, dataset, file = crp.CondAttribution(net(axes)), Samples(axes), tmp_path / f"{axes}.h5"
        with atlas_of(attribution, dataset, file, layers="0", **options) as atlas:
            options["attribution"] = attribution
            if axes == 1:
                report_of(atlas, dataset, tmp_path / "report", references=1, **options)
            else:
                message = r"reports show images .* and signals \(channel, time\); sample \d has shape \(1, 5, 6, 7\)"
                with pytest.raises(InputError, match=message):
                    report_of(atlas, dataset, tmp_path / "refused", **options)
            del options["attribution"]
    with Image.open(next((tmp_path / "report" / "pictures").glob("layer-0-*.webp"))) as sheet:
        pixels = np.asarray(sheet.convert("RGB"), dtype=int)
    ink, red, blue = pixels.max(2) < 80, pixels[..., 0] - pixels[..., 2] > 80, pixels[..., 2] - pixels[..., 0] > 80
    assert ink.any()
    assert red.any() or blue.any()
