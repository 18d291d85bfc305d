"""The side of zennit-crp 0.6.0, in an environment of its own. Nothing here knows of crp-kit."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .cases import BATCH, CONCEPT, K_CLASS, ROWS_AT_ONCE, TARGET, WIDTH, Case, K
from .models import Images, atlas_layers, canonizers, convolutions, images, make_composite, make_model
from .work import Work, disk, follow

for _name, _kind in {"int": int, "float": float, "bool": bool, "object": object}.items():
    if _name not in vars(np):  # zennit-crp uses these names, which NumPy 1.24 removed
        setattr(np, _name, _kind)

from crp.attribution import AttributionGraph, CondAttribution  # noqa: E402 after the names are back
from crp.concepts import ChannelConcept  # noqa: E402
from crp.graph import trace_model_graph  # noqa: E402
from crp.visualization import FeatureVisualization  # noqa: E402

warnings.filterwarnings("ignore", category=DeprecationWarning)


def heatmaps(case: Case, device: str, _: Path) -> Work:
    model, image = make_model(case, device), images(1, case.size).to(device)
    with torch.no_grad():
        model(image)
    attribution = CondAttribution(model)
    conditions = [{case.layer: [channel], "y": [TARGET]} for channel in range(case.count)]

    def run(count: int = case.count) -> torch.Tensor:
        parts = attribution.generate(
            image.clone().requires_grad_(),
            conditions[:count],
            make_composite(case, canonizers=canonizers(case.model)),
            batch_size=ROWS_AT_ONCE,
            verbose=False,
        )
        return torch.cat([part.heatmap.detach() for part in parts])

    return Work(run, warm=lambda: run(1), result=lambda found: {"heatmaps": found.cpu().numpy()})


def atlas(case: Case, device: str, folder: Path) -> Work:
    model, data = make_model(case, device), Images(case)
    attribution, names = CondAttribution(model), atlas_layers(case, model)
    layers, place = {name: ChannelConcept() for name in names}, folder / "peer"
    around: list[float] = []
    for name in ("_save_results", "collect_results"):
        follow(FeatureVisualization, name, around)

    def clear() -> None:
        around.clear()
        shutil.rmtree(place, ignore_errors=True)

    def run(count: int = case.count) -> None:
        composite = make_composite(case, canonizers=canonizers(case.model))
        collector = FeatureVisualization(attribution, data, layers, path=str(place))
        collector.RelStats.SAMPLE_SIZE = collector.ActStats.SAMPLE_SIZE = K_CLASS
        collector.run(composite, 0, count, BATCH)

    def rankings(_: None) -> dict[str, Any]:
        found, places = place / "RelMax_sum_normed", min(K, case.count)
        parts = {name: [np.load(found / f"{name}_{part}.npy")[:places] for part in ("rel", "data")] for name in names}
        return {name: np.array(both) for name, both in parts.items()}

    return Work(
        run,
        warm=lambda: run(min(BATCH, case.count)),
        before=clear,
        result=rankings,
        facts=lambda: {"around": sum(around), **disk(place)},
    )


def graph(case: Case, device: str, _: Path) -> Work:
    model, image = make_model(case, device), images(1, case.size).to(device)
    names = convolutions(model)
    layers = {name: ChannelConcept() for name in names}
    decompose = AttributionGraph(CondAttribution(model), trace_model_graph(model, image, names), layers)

    def run() -> Any:
        return decompose(
            image.clone().requires_grad_(),
            make_composite(case, canonizers=canonizers(case.model)),
            CONCEPT,
            case.layer,
            TARGET,
            width=list(WIDTH),
            batch_size=ROWS_AT_ONCE,
            verbose=False,
        )

    def edges(found: Any) -> dict[str, Any]:
        return {"edges": [[*source, *target] for source, several in found.connections.items() for target in several]}

    return Work(run, warm=run, result=edges)


def trace(case: Case, device: str, _: Path) -> Work:
    model, image = make_model(case, device), images(1, case.size).to(device)
    names = convolutions(model)

    def run() -> dict[str, list[str]]:
        found = trace_model_graph(model, image, names)
        return {name: found.find_input_layers(name) for name in names}

    other = make_model(replace(case, model="small_cnn"), device)  # the model itself takes minutes
    return Work(
        run, warm=lambda: trace_model_graph(other, image, convolutions(other)), result=lambda found: {"inputs": found}
    )


WORKS = {"heatmaps": heatmaps, "atlas": atlas, "graph": graph, "trace": trace}
