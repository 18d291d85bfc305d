"""Import of what zennit-crp has collected as an atlas."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...atlas.file.header import Array, Integers
from ...concepts import Aggregate, ChannelConcept
from ...errors import AtlasError, CrpKitWarning
from ...interrupts import Interrupts
from ...progress import Progress as ProgressShown
from ..file.header import MODES, Header, LayerInfo, Mode, Progress
from ..query.concept_atlas import ConceptAtlas
from .array_storage import ArrayStorage
from .build_folder import BuildFolder
from .pass_state import PassState
from .settings import Origin, origin_attributes

__all__ = ["import_zennit_crp"]

_FOLDERS: dict[Mode, tuple[str, str]] = {"relevance": ("RelMax", "RelStats"), "activation": ("ActMax", "ActStats")}
_PARTS = {"sample": "data", "score": "rel", "position": "rf"}
_EMPTY: dict[str, tuple[str, float]] = {"sample": ("i8", -1), "score": ("f4", -np.inf), "position": ("i4", -1)}
"""Type of each array of a ranking, and its value in an empty place."""
_UNKNOWN = "unknown (imported from zennit-crp)"
_CONCEPT = ChannelConcept(axis=1).identity
_MEMORY = 2 << 30

Ranking = Mapping[str, Array]
"""Arrays (concept, k): sample, score and position."""


@dataclass(frozen=True)
class _Source:
    """Where the rankings of one layer and mode lie, as paths without the ends of their three files.

    Parameters
    ----------
    layer : str
    mode : {"relevance", "activation"}
    top : Path
        Over all samples.
    by_class : dict of int to Path
    """

    layer: str
    mode: Mode
    top: Path
    by_class: Mapping[int, Path]

    @property
    def stems(self) -> Iterator[tuple[int | None, Path]]:
        """Every ranking with its class, ``None`` for that over all samples."""
        yield None, self.top
        yield from self.by_class.items()


@dataclass(frozen=True, eq=False)
class _Survey:
    """What all rankings together are about.

    Parameters
    ----------
    concepts : dict of str to int
        How many, by layer.
    k, k_class : int
        Length of the longest rankings.
    members : dict of int or None to numpy.ndarray
        Samples in the rankings of each class, and in those over all samples.
    """

    concepts: Mapping[str, int]
    k: int
    k_class: int
    members: Mapping[int | None, Integers]

    @property
    def n_classes(self) -> int:
        return 1 + max((cls for cls in self.members if cls is not None), default=-1)

    @property
    def index(self) -> Integers:
        """Numbers of the samples that occur, ascending."""
        return np.unique(np.concatenate(list(self.members.values())))

    def targets(self, index: Integers) -> Integers:
        """Return the class of each sample, -1 where none or several are known."""
        target, known = np.full(len(index), -1, "i8"), np.zeros(len(index), "i8")
        for cls, samples in self.members.items():
            if cls is not None:
                positions = np.searchsorted(index, samples)
                target[positions] = cls
                known[positions] += 1
        return np.where(known == 1, target, -1)


def import_zennit_crp(
    folder: str | Path,
    path: str | Path,
    *,
    aggregate: Aggregate | None = None,
    abs_norm: bool | None = None,
    overwrite: bool = False,
    origin: Origin | None = None,
    verbose: bool = True,
) -> ConceptAtlas:
    """Make an atlas of what zennit-crp's ``FeatureVisualization.run`` has written, and return it.

    Rankings over all samples and by class are taken over, ties put in the order of samples; relevance or activation
    alone will do. What zennit-crp does not keep stays unknown: there are no moments, no predictions, and no
    fingerprints of model and dataset, so ask for references with ``check=False``. Only samples that occur in a ranking
    are known, and the class of those that occur in the rankings of one class. Concepts are taken to be channels.

    Parameters
    ----------
    folder : str or Path
        The `path` of the ``FeatureVisualization``, with ``RelMax_sum_normed`` or the like in it.
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
    verbose : bool, optional
        Show progress on stderr.

    Raises
    ------
    AtlasError
        If there is no such folder, no finished run of zennit-crp in it, there are several and the choice is not made,
        arrays are missing, damaged, or disagree, there are fewer names than classes, or the file cannot be written.

    Warns
    -----
    CrpKitWarning
        If a layer is left out because an interrupted run has left only parts of its rankings.
    """
    folder, origin = Path(folder), origin or Origin(command="crp_kit.atlas.import_zennit_crp")
    workspace = BuildFolder(Path(path), resume=False, overwrite=overwrite)
    suffix = _suffix(folder, aggregate, abs_norm)
    sources = [source for mode in MODES for source in _sources(folder, mode, suffix)]
    if not sources:
        raise AtlasError(
            f"the folders …_{suffix} in {str(folder)!r} hold only parts that an interrupted run has left, such as "
            f"layer_0_100_data.npy: let zennit-crp finish it, or join them by its collect_results"
        )
    survey = _survey(sources)
    header = _header(survey, suffix, origin)
    bar = ProgressShown(len(sources), "import", unit="ranking", verbose=verbose)
    with Interrupts() as interrupts, workspace, interrupts.leftover(workspace.abandon), bar:
        with interrupts.hurried():
            state = _state(survey, header, origin, workspace.path)
            for source in sources:
                top = _widened(_ranking(source.top), header.k)
                top["target"] = _target(state, top["sample"])
                by_class = ((cls, _widened(_ranking(stem), header.k_class)) for cls, stem in source.by_class.items())
                state.take_rankings(source.layer, source.mode, top, by_class)
                bar.update()
                interrupts.stop("interrupted; no atlas was written")
        workspace.write(state.tree(origin_attributes(origin), complete=True), bar.written, compress=True)
    return ConceptAtlas(workspace.target)


def _suffix(folder: Path, aggregate: str | None, abs_norm: bool | None) -> str:
    """Return which of zennit-crp's folders are meant, such as ``sum_normed``."""
    if not folder.is_dir():
        raise AtlasError(f"no folder {str(folder)!r}")
    known: set[str] = set()
    for child in folder.iterdir():
        match = re.fullmatch(r"(?:Rel|Act)Max_((?:sum|max)_(?:un)?normed)", child.name)
        # zennit-crp makes folders before it has anything to put into them.
        if match and any(child.glob("*.npy")):
            known.add(match[1])
    if not known:
        raise AtlasError(
            f"{str(folder)!r} has no folder RelMax_… or ActMax_… with arrays of zennit-crp in it; name the folder that "
            f"was the path of its FeatureVisualization"
        )
    norm = {None: ("normed", "unnormed"), True: ("normed",), False: ("unnormed",)}[abs_norm]
    wanted = {f"{kind}_{ending}" for kind in ([aggregate] if aggregate else ["sum", "max"]) for ending in norm}
    chosen = known & wanted
    if len(chosen) != 1:
        raise AtlasError(
            f"{str(folder)!r} has {', '.join(sorted(known))}: choose one by aggregate ('sum', 'max') and abs_norm "
            f"(True for normed)"
        )
    return chosen.pop()


def _sources(folder: Path, mode: Mode, suffix: str) -> list[_Source]:
    """Return the layers of one mode in the order of their names, numbers in them as numbers."""
    tops, classes = (folder / f"{name}_{suffix}" for name in _FOLDERS[mode])
    stems = _stems(tops)
    parts = {name: layer for name in stems if (layer := _layer_of_part(tops / name, classes))}
    layers = [name for name in stems if name not in parts]
    lost = sorted({layer for layer in parts.values() if layer not in layers})
    if layers and lost:
        warnings.warn(
            f"left out {mode} of {', '.join(lost)}: an interrupted run has left only parts of it in {tops}",
            CrpKitWarning,
            stacklevel=3,
        )
    layers.sort(key=lambda name: [int(digits) if digits.isdecimal() else digits for digits in re.split(r"(\d+)", name)])
    listed = _listed(classes)
    return [_Source(name, mode, tops / name, _by_class(classes / name, listed)) for name in layers]


def _stems(folder: Path) -> set[str]:
    """Return the names of all rankings in a folder: those of their files without the ends."""
    ends = tuple(f"_{part}.npy" for part in _PARTS.values())
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    return {name.rpartition("_")[0] for name in names if name.endswith(ends)}


def _layer_of_part(stem: Path, classes: Path) -> str | None:
    """Return the layer that a ranking is a part of, as an interrupted run leaves it, or ``None`` if it is whole.

    A part is called layer_0_100 if it is of the samples 0 to 99, but a layer may be called so too. The folders with the
    rankings by class bear the names of layers alone; without them the samples tell.
    """
    match = re.fullmatch(r"(.+)_(\d+)_(\d+)", stem.name)
    if match is None or (classes / stem.name).is_dir():
        return None
    if not (classes / match[1]).is_dir():
        samples = _ranking(stem)["sample"]
        if ((samples < int(match[2])) | (samples >= int(match[3]))).any():
            return None
    return match[1]


def _listed(classes: Path) -> set[int]:
    """Return the classes that the last run has met."""
    file = classes / "targets.npy"
    if not file.is_file():
        return set()
    try:
        return {int(number) for number in _read(file).ravel().tolist()}
    except ValueError as error:
        raise AtlasError(f"{file} should hold the numbers of classes: {error}") from error


def _by_class(folder: Path, listed: set[int]) -> dict[int, Path]:
    """Return the rankings by class of a layer; those of other classes are left from an earlier run."""
    return {int(name): folder / name for name in sorted(_stems(folder)) if name.isdecimal() and int(name) in listed}


def _ranking(stem: Path) -> Ranking:
    """Read a ranking and check it."""
    arrays = {name: _read(stem.with_name(f"{stem.name}_{part}.npy")) for name, part in _PARTS.items()}
    shapes = {values.shape for values in arrays.values()}
    if len(shapes) != 1 or arrays["score"].ndim != 2 or arrays["score"].size == 0:
        raise AtlasError(f"the arrays {stem}_….npy should all be (k, concept); they are {sorted(shapes)}")
    kinds = {name: values.dtype.kind for name, values in arrays.items()}
    if kinds["score"] != "f" or {kinds["sample"], kinds["position"]} - set("iu"):
        raise AtlasError(f"the arrays {stem}_….npy should hold floats (rel) and whole numbers (data, rf)")
    if not np.isfinite(arrays["score"]).all():
        raise AtlasError(f"the scores {stem}_rel.npy have values that are not-a-number or infinite")
    if (arrays["sample"] < 0).any() or (arrays["position"] < 0).any():
        raise AtlasError(f"the arrays {stem}_….npy have sample numbers or positions below 0")
    return _once({name: values.T.astype(_EMPTY[name][0]) for name, values in arrays.items()})


def _read(file: Path) -> Array:
    try:
        # Mapped, so that a header of a size that the file does not have takes no memory.
        array: Array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError) as error:
        raise AtlasError(f"{file} is missing or no array: {error}") from error
    return array


def _once(ranking: dict[str, Array]) -> Ranking:
    """Leave empty all places of a sample but its best: zennit-crp ranks it once for each of its targets."""
    order = np.lexsort((-ranking["score"], ranking["sample"]), axis=-1)
    ranking = {name: np.take_along_axis(values, order, -1) for name, values in ranking.items()}
    again = np.diff(ranking["sample"], axis=-1, prepend=-1) == 0
    return {name: np.where(again, values.dtype.type(_EMPTY[name][1]), values) for name, values in ranking.items()}


def _survey(sources: Sequence[_Source]) -> _Survey:
    concepts: dict[str, int] = {}
    members: dict[int | None, Integers] = {}
    k = {True: 1, False: 1}
    for source in sources:
        for cls, stem in source.stems:
            sample = _ranking(stem)["sample"]
            known = concepts.setdefault(source.layer, len(sample))
            if known != len(sample):
                raise AtlasError(f"{stem}_….npy have {len(sample)} concepts, other arrays of {source.layer!r} {known}")
            k[cls is None] = max(k[cls is None], sample.shape[1])
            members[cls] = np.union1d(members.get(cls, np.zeros(0, "i8")), sample[sample >= 0])
    return _Survey(concepts, k[True], k[False], members)


def _header(survey: _Survey, suffix: str, origin: Origin) -> Header:
    aggregate, _, norm = suffix.partition("_")
    named = len(origin.classes or ())
    if 0 < named < survey.n_classes:
        raise AtlasError(f"there are names of {named} classes, and rankings of class {survey.n_classes - 1}")
    return Header(
        model=origin.model or _UNKNOWN,
        model_sha256="",
        composite=json.dumps({}),
        dataset=origin.dataset or _UNKNOWN,
        dataset_sha256="",
        subset="samples that occur in a ranking",
        n_samples=len(survey.index),
        n_classes=max(survey.n_classes, named),
        k=survey.k,
        k_class=survey.k_class,
        batch_size=1,
        target="label" if survey.n_classes else "unknown",
        abs_norm=norm == "normed",
        aggregate=aggregate,
        matrix=False,
        dtype="float32",
    )


def _state(survey: _Survey, header: Header, origin: Origin, folder: Path) -> PassState:
    """Return a state that has no rankings yet."""
    index = survey.index
    layers = tuple(LayerInfo(name, _CONCEPT, size, ()) for name, size in survey.concepts.items())
    progress = Progress(0, 1, 0, len(index), len(index), len(index))
    allocate = ArrayStorage(_MEMORY, folder)
    state = PassState(header, layers, progress, index, None, origin.classes or (), allocate)
    state.see(np.array([cls for cls in survey.members if cls is not None], "i8"))
    state.columns.leave_out_optional()
    state.columns.values["target"] = survey.targets(index)
    return state


def _widened(ranking: Ranking, k: int) -> dict[str, Array]:
    """Return a ranking as the state takes it, with empty entries up to k: (1, concept, k)."""
    wide = {}
    for name, values in ranking.items():
        dtype, fill = _EMPTY[name]
        wide[name] = np.full((1, len(values), k), fill, dtype)
        wide[name][0, :, : values.shape[1]] = values
    return wide


def _target(state: PassState, sample: Array) -> Array:
    """Return the class of each sample of a ranking, -1 for empty places."""
    places = np.searchsorted(state.index, np.maximum(sample, state.index[0]))
    return np.where(sample >= 0, state.columns.values["target"][places], -1)
