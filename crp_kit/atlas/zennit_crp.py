"""What zennit-crp has collected, as an atlas, so that people can move."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..concepts import Aggregate
from ..errors import AtlasError
from .accumulate import Array
from .job import Origin, origin_attributes
from .query import ConceptAtlas
from .schema import Header, Kind, LayerInfo, Progress
from .state import PassState
from .store import write_tree
from .workplace import Workplace

__all__ = ["import_zennit_crp"]

_FOLDERS: dict[Kind, tuple[str, str]] = {"relevance": ("RelMax", "RelStats"), "activation": ("ActMax", "ActStats")}
_PARTS = {"sample": "data", "score": "rel", "position": "rf"}
_UNKNOWN = "unknown (imported from zennit-crp)"


@dataclass(frozen=True, eq=False)
class _Found:
    """The rankings of one layer and kind: arrays (concept, k) by name, and the same by class."""

    top: Mapping[str, Array]
    by_class: Mapping[int, Mapping[str, Array]]


def import_zennit_crp(
    folder: str | Path,
    path: str | Path,
    *,
    aggregate: Aggregate | None = None,
    abs_norm: bool | None = None,
    overwrite: bool = False,
    origin: Origin | None = None,
) -> ConceptAtlas:
    """Make an atlas of what zennit-crp's ``FeatureVisualization.run`` has written, and return it.

    Rankings over all samples and by class are taken over, ties put in the order of samples. There are no moments, since
    zennit-crp keeps none, and no fingerprints, since it does not say what model and dataset it saw: ask for references
    with ``check=False``. Only samples that occur in a ranking are known.

    Parameters
    ----------
    folder : str or Path
        With ``RelMax_sum_normed`` or the like in it.
    path : str or Path
        The file to make.
    aggregate : {"sum", "max"}, optional
        Which of several folders; not needed if there is one.
    abs_norm : bool, optional
        The same: normed or unnormed.
    overwrite : bool, optional
        Replace what is there.
    origin : Origin, optional
        Words for the file, and names of the classes.

    Raises
    ------
    AtlasError
        If there is no such folder, nothing of zennit-crp is in it, there are several and the choice is not made, or
        arrays are missing, damaged, or disagree.
    """
    folder, origin = Path(folder), origin or Origin(command="crp_kit.atlas.import_zennit_crp")
    place = Workplace(Path(path), resume=False, overwrite=overwrite)
    suffix = _suffix(folder, aggregate, abs_norm)
    found = {kind: dict(_layers(folder, names, suffix)) for kind, names in _FOLDERS.items()}
    state = _state(found, suffix, origin)
    for kind, layers in found.items():
        for name, one in layers.items():
            state.take_rankings(name, kind, _ranked(one.top, state), _stacked(one, state))
    with place:
        write_tree(place.target, state.tree(origin_attributes(origin), complete=True), compress=True)
    return ConceptAtlas(place.target)


def _suffix(folder: Path, aggregate: str | None, abs_norm: bool | None) -> str:
    """Return which of zennit-crp's folders are meant, such as ``sum_normed``."""
    if not folder.is_dir():
        raise AtlasError(f"no folder {str(folder)!r}")
    prefixes = [f"{names[0]}_" for names in _FOLDERS.values()]
    known = {
        one.name.removeprefix(prefix)
        for prefix in prefixes
        for one in folder.iterdir()
        if one.is_dir() and one.name.startswith(prefix)
    }
    if not known:
        raise AtlasError(f"{str(folder)!r} has no folder RelMax_… or ActMax_… of zennit-crp in it")
    norm = {None: "", True: "_normed", False: "_unnormed"}[abs_norm]
    chosen = sorted(one for one in known if one.startswith(aggregate or "") and one.endswith(norm))
    if len(chosen) != 1:
        raise AtlasError(
            f"{str(folder)!r} has {', '.join(sorted(known))}: choose one by aggregate ('sum', 'max') and abs_norm"
        )
    return chosen[0]


def _layers(folder: Path, names: tuple[str, str], suffix: str) -> Iterator[tuple[str, _Found]]:
    """Yield the rankings of every layer of one kind."""
    tops, classes = (folder / f"{name}_{suffix}" for name in names)
    # An interrupted run leaves files such as layer_0_100_data.npy beside the merged ones.
    files = sorted(tops.glob("*_data.npy")) if tops.is_dir() else []
    layers = [file.name.removesuffix("_data.npy") for file in files]
    parts = {name for name in layers for other in layers if name.startswith(f"{other}_") and _is_span(name, other)}
    for name in layers:
        if name not in parts:
            targets = classes / name / "targets.npy"
            found = _read(targets).astype(int).ravel().tolist() if targets.is_file() else []
            yield (
                name,
                _Found(_arrays(tops / name, name), {one: _arrays(classes / name / str(one), name) for one in found}),
            )


def _is_span(name: str, layer: str) -> bool:
    numbers = name.removeprefix(f"{layer}_").split("_")
    return len(numbers) == 2 and all(one.isdigit() for one in numbers)


def _arrays(stem: Path, layer: str) -> dict[str, Array]:
    """Return one ranking: (concept, k) each."""
    found = {name: _read(stem.with_name(f"{stem.name}_{part}.npy")) for name, part in _PARTS.items()}
    shapes = {one.shape for one in found.values()}
    if len(shapes) != 1 or found["score"].ndim != 2:
        raise AtlasError(f"the arrays of {layer!r} at {stem} should all be (k, concept); they are {sorted(shapes)}")
    if np.isnan(found["score"]).any():
        raise AtlasError(f"the scores of {layer!r} at {stem} have values that are not-a-number")
    return {name: values.T for name, values in found.items()}


def _read(file: Path) -> Array:
    try:
        array: Array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AtlasError(f"{file} is missing or no array: {error}") from error
    return array


def _state(found: Mapping[Kind, Mapping[str, _Found]], suffix: str, origin: Origin) -> PassState:
    """Return an empty state for everything that was found."""
    every = [one for layers in found.values() for one in layers.values()]
    if not every:
        raise AtlasError(f"the folders …_{suffix} hold no rankings, no file …_data.npy")
    sizes: dict[str, int] = {}
    for layers in found.values():
        for name, one in layers.items():
            if sizes.setdefault(name, len(one.top["score"])) != len(one.top["score"]):
                raise AtlasError(f"{name!r} has as many concepts as {sizes[name]} and {len(one.top['score'])}")
    rankings = [one.top for one in every] + [part for one in every for part in one.by_class.values()]
    index = np.unique(np.concatenate([part["sample"].ravel() for part in rankings])).astype("i8")
    index = index[index >= 0]
    classes = 1 + max((cls for one in every for cls in one.by_class), default=-1)
    aggregate, _, norm = suffix.partition("_")
    header = Header(
        model=origin.model or _UNKNOWN,
        model_sha256="",
        composite=json.dumps({}),
        dataset=origin.dataset or _UNKNOWN,
        dataset_sha256="",
        subset="samples that occur in a ranking",
        n_samples=len(index),
        n_classes=classes,
        k=max(one.top["score"].shape[1] for one in every),
        k_class=max((part["score"].shape[1] for one in every for part in one.by_class.values()), default=1),
        batch_size=1,
        target="label" if classes else "unknown",
        abs_norm=norm == "normed",
        aggregate=aggregate,
        matrix=False,
        dtype="float32",
    )
    infos = tuple(LayerInfo(name, "channel", size, ()) for name, size in sorted(sizes.items()))
    names = origin.classes or ()
    done = Progress(0, 1, 0, len(index), len(index), len(index))
    state = PassState(header, infos, done, index, None, names if len(names) == classes else ())
    for one in found["relevance"].values():
        for cls, part in one.by_class.items():
            state.target[np.searchsorted(index, part["sample"][part["sample"] >= 0])] = cls
    return state


def _ranked(ranking: Mapping[str, Array], state: PassState) -> dict[str, Array]:
    """Return a ranking as the state holds it: (group, concept, k), best first, filled up with empty places."""
    filled = _filled(ranking, state.header.k)
    target = np.where(filled["sample"] >= 0, _target(state, filled["sample"]), -1)
    return {name: values[None] for name, values in {**filled, "target": target}.items()}


def _target(state: PassState, sample: Array) -> Array:
    places = np.searchsorted(state.index, np.maximum(sample, state.index[0]))
    found: Array = state.target[places]
    return found


def _stacked(found: _Found, state: PassState) -> dict[str, Array]:
    """Return the rankings by class: (class, concept, k)."""
    empty = {name: values[:, :0] for name, values in found.top.items()}
    each = [_filled(found.by_class.get(cls, empty), state.header.k_class) for cls in range(state.header.n_classes)]
    shape = (0, len(found.top["score"]), state.header.k_class)
    return {name: np.stack([one[name] for one in each]) if each else np.zeros(shape) for name in _PARTS}


def _filled(ranking: Mapping[str, Array], k: int) -> dict[str, Array]:
    missing = ((0, 0), (0, k - ranking["score"].shape[1]))
    empty = {"score": -np.inf, "sample": -1, "position": -1}
    return {name: np.pad(values, missing, constant_values=empty[name]) for name, values in ranking.items()}
