"""Heatmaps of many samples take bounded memory: only as many samples go through the model at once as are small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from report_case import ATTRIBUTION, DATA, LAYERS, RULES, contents, odd_report
from studies import references_of, virelay_of

import crp_kit as crp
from crp_kit.propagation import runtime
from crp_kit.propagation.runtime import Runtime
from crp_kit.views.virelay.row_contents import RowContents


@pytest.fixture(scope="module")
def atlas(odd_atlas_file: Path) -> Iterator[crp.ConceptAtlas]:
    with crp.ConceptAtlas(odd_atlas_file) as opened:
        yield opened


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of samples of each forward."""
    usual, sizes = ATTRIBUTION.engine.run, []

    def run(data: Any, composite: Any) -> Any:
        made = usual(data, composite)
        sizes.append(made.graph.batch)
        return made

    monkeypatch.setattr(ATTRIBUTION.engine, "run", run)
    return sizes


def report(atlas: crp.ConceptAtlas, folder: Path) -> Any:
    made = contents(odd_report(atlas, folder / "report", receptive_field=False).path)
    assert made is not None
    return {name: text for name, text in made.items() if not name.endswith(".webp")}


def references(atlas: crp.ConceptAtlas, _: Path) -> Any:
    shown = references_of(atlas, DATA, LAYERS[1], 3, k=6, attribution=ATTRIBUTION, composite=RULES)
    return torch.stack(shown.heatmaps)


def virelay(atlas: crp.ConceptAtlas, folder: Path) -> Any:
    kept: list[RowContents] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crp_kit.views.virelay.export.write_project", lambda *arguments, **_: kept.append(arguments[2]))
        options = {"attribution": ATTRIBUTION, "composite": RULES, "concept_ids": [3, 4], "k": 6}
        virelay_of(atlas, DATA, folder / "project", layer=LAYERS[1], **options)
    return torch.from_numpy(kept[0].relevance)


@pytest.mark.parametrize("make", [report, references, virelay])
def test_as_many_samples_go_through_the_model_at_once_as_what_it_records_is_small(
    atlas: crp.ConceptAtlas,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forwards: list[int],
    make: Callable[[crp.ConceptAtlas, Path], Any],
) -> None:
    (tmp_path / "usual").mkdir()
    usual = make(atlas, tmp_path / "usual")
    assert max(forwards) > 2
    forwards.clear()
    recorded = 16 * 16 * 4 * (3 + 6 + 6)  # bytes of an image and of the first layer with its ReLU
    monkeypatch.setattr(runtime, "_RECORDED_ON_CPU", 3 * recorded)
    bounded = make(atlas, tmp_path)
    assert max(forwards) == 2  # later layers are smaller: two samples, and not three, fit
    if isinstance(usual, torch.Tensor):
        assert torch.allclose(bounded, usual, rtol=1e-4, atol=1e-7)
    else:
        assert bounded.keys() == usual.keys()


def test_one_sample_goes_through_the_model_however_large_it_is() -> None:
    assert Runtime.samples_at_once(1 << 50, torch.device("cpu")) == 1
    assert Runtime.samples_at_once(0, torch.device("cpu")) > 1000
