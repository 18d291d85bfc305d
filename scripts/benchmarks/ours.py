"""crp-kit's side."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import crp_kit
from crp_kit.atlas.build import dataset_pass as build
from crp_kit.atlas.build.build_folder import BuildFolder
from crp_kit.atlas.build.preparation import PreparedPass

from .asked_file import asked_file, expected
from .cases import BATCH, CONCEPT, K_CLASS, TARGET, WIDTH, Case, K
from .models import Images, atlas_layers, convolutions, images, make_composite, make_model
from .work import Work, disk, follow

COMPARED = 2
"""Heatmaps that are computed in float64 as well."""
QUERIES = 100
LAYER = "layer"


def heatmaps(case: Case, device: str, _: Path) -> Work:
    model, image = make_model(case, device), images(1, case.size).to(device)
    with torch.no_grad():
        model(image)
    attribution, composite = crp_kit.CondAttribution(model), make_composite(case)
    conditions: list[Any] = [{case.layer: [channel], "y": [TARGET]} for channel in range(case.count)]
    if not case.layer:
        conditions = [{"y": [TARGET]}]

    def run() -> torch.Tensor:
        return attribution(image, conditions, make_composite(case) if case.new_composite else composite).heatmap

    def exact() -> torch.Tensor:
        double = crp_kit.CondAttribution(make_model(case, device).double())
        return double(image.double(), conditions[:COMPARED], make_composite(case)).heatmap

    return Work(
        run,
        warm=lambda: attribution(image, conditions[:1], composite),
        result=lambda maps: {"heatmaps": maps.cpu().numpy(), "double": exact().cpu().numpy()},
    )


def atlas(case: Case, device: str, folder: Path) -> Work:
    model, data = make_model(case, device), Images(case)
    study, layers = crp_kit.Study(model, data, composite=make_composite(case)), atlas_layers(case, model)
    target, around = folder / "ours", _around_the_loop()

    def clear() -> None:
        around.clear()
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()

    def run(limit: int | None = None) -> None:
        study.build_atlas(
            target / "atlas.h5",
            layers=layers,
            k=K,
            k_class=K_CLASS,
            batch_size=BATCH,
            overwrite=True,
            verbose=False,
            options=crp_kit.BuildOptions(limit=limit),
        ).close()

    def warm() -> None:
        clear()
        run(min(BATCH, case.count))

    return Work(
        run,
        warm,
        before=clear,
        result=lambda _: _rankings(target / "atlas.h5", min(K, case.count)),
        facts=lambda: {"around": sum(around), "layers": len(layers), **disk(target)},
    )


def _around_the_loop() -> list[float]:
    """Return where is noted how long everything takes that is done once: checks, empty tables, writing the file."""
    seconds: list[float] = []
    steps = ((build, "prepare"), (PreparedPass, "empty_state"), (BuildFolder, "save"), (BuildFolder, "write"))
    for owner, name in steps:
        follow(owner, name, seconds)
    return seconds


def _rankings(path: Path, places: int) -> dict[str, Any]:
    """Return, by layer, the highest relevances and whose they are: (score or sample, place, concept)."""
    with crp_kit.ConceptAtlas(path) as written:
        return {layer: _ranking(written[layer], places) for layer in written.layers}


def _ranking(layer: Any, places: int) -> np.ndarray:
    best = [layer.relevance.top(concept) for concept in range(layer.n_concepts)]
    return np.array([[top.score[:places] for top in best], [top.sample[:places] for top in best]]).swapaxes(1, 2)


def graph(case: Case, device: str, _: Path) -> Work:
    model, image = make_model(case, device), images(1, case.size).to(device)
    study = crp_kit.Study(model, composite=make_composite(case))

    def run() -> Any:
        return study.concept_graph(
            image,
            start={case.layer: [CONCEPT], "y": [TARGET]},
            layers=torch.nn.Conv2d,
            width=WIDTH,
            rank="signed",
            exclude_parallel=False,  # as zennit-crp does
        )

    def edges(concept_graph: Any) -> dict[str, Any]:
        return {"edges": [[*edge.source, *edge.target, edge.relevance] for edge in concept_graph.edges]}

    return Work(run, warm=run, result=edges)


def trace(case: Case, device: str, _: Path) -> Work:
    model, image = make_model(case, device), images(1, case.size).to(device)
    names = convolutions(model)

    def run() -> dict[str, list[str]]:
        traced = crp_kit.trace_model_graph(model, image, names)
        return {name: traced.find_input_layers(name) for name in names}

    nodes = len(crp_kit.trace_model_graph(model, image))
    return Work(run, warm=run, result=lambda inputs: {"inputs": inputs}, facts=lambda: {"nodes": nodes})


def plan(case: Case, device: str, _: Path) -> Work:
    model, image = make_model(case, device), images(1, case.size).to(device)
    composite = make_composite(case)

    def run() -> Any:
        return crp_kit.CondAttribution(model).graph(image, composite)

    nodes = len(run().nodes)
    return Work(run, warm=run, facts=lambda: {"nodes": nodes})


def opened(case: Case, _: str, folder: Path) -> Work:
    path = asked_file(case, folder, LAYER)
    size = path.stat().st_size
    return Work(lambda: crp_kit.ConceptAtlas(path).close(), facts=lambda: {"files": 1, "bytes": size})


def query(case: Case, folder: Path, ask: Callable[[Any, int, int], Any]) -> Work:
    """Return the work of asking an open file about some concepts and classes."""
    relevance = crp_kit.ConceptAtlas(asked_file(case, folder, LAYER))[LAYER].relevance
    random = np.random.default_rng(0)
    cells = [(int(random.integers(case.count)), int(random.integers(case.classes))) for _ in range(QUERIES)]

    def scores(answers: list[Any]) -> dict[str, Any]:
        written = [expected(case, concept, cls if case.kind == "class_top" else None) for concept, cls in cells]
        return {"scores": np.stack([answer.score for answer in answers]), "written": np.stack(written)}

    def run() -> list[Any]:
        return [ask(relevance, concept, cls) for concept, cls in cells]

    return Work(run, warm=run, result=scores, per=QUERIES)


def top(case: Case, _: str, folder: Path) -> Work:
    return query(case, folder, lambda relevance, concept, _: relevance.top(concept, K))


def class_top(case: Case, _: str, folder: Path) -> Work:
    return query(case, folder, lambda relevance, concept, cls: relevance.class_top(concept, cls))


WORKS = {
    "heatmaps": heatmaps,
    "saliency": heatmaps,
    "atlas": atlas,
    "graph": graph,
    "trace": trace,
    "plan": plan,
    "open": opened,
    "top": top,
    "class_top": class_top,
}
