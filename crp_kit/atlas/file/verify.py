"""Whether an atlas file is what it should be: every value read, every order and range checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...atlas.file.schema import Array
from .hdf5 import H5File
from .reader import has_overall, open_atlas, read_header, read_layers
from .schema import KINDS, OVERALL, Header, Kind, LayerInfo, layer_path

__all__ = ["verify_atlas"]

_CONCEPTS_AT_ONCE = 64
_ROUNDING = 1e-6


def verify_atlas(path: str | Path) -> tuple[str, ...]:
    """Return what is wrong with an atlas file, a shard, or what an interrupted build has kept; nothing if it is sound.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    AtlasError
        If it is no atlas file, or is damaged so that it cannot be read.
    """
    with open_atlas(path, incomplete=True) as file, file.explained():
        header = read_header(file)
        found = list(_sample_problems(file, header))
        samples = file.array("/samples/index")[:]
        layers = read_layers(file)
        halves = [layer_path(number, kind) for number in range(len(layers)) for kind in KINDS]
        if len({tuple(file.array(f"{half}/moments/count")[:].tolist()) for half in halves}) > 1:
            found.append("its moments count different numbers of samples")
        for number, info in enumerate(layers):
            for kind in KINDS:
                check = _KindCheck(file, header, info, kind, layer_path(number, kind), samples)
                found += [f"{kind} of {info.name!r}: {one}" for one in check.problems()]
    return tuple(found)


def _sample_problems(file: H5File, header: Header) -> Iterator[str]:
    for path in ("/samples/id", "/classes/name", "/skipped/reason"):
        if file.has(path):
            file.texts(path)
    index = file.array("/samples/index")[:]
    if (np.diff(index) <= 0).any() or (len(index) and index[0] < 0):
        yield "the sample numbers do not ascend"
    if len(index) != header.n_samples and "progress" not in file.names("/"):
        yield f"it has {len(index)} samples and says that it has {header.n_samples}"
    for name in ("target", "prediction"):
        values = file.array(f"/samples/{name}")[:]
        if ((values < -1) | (values >= header.n_classes)).any():
            yield f"a {name} of its samples is no class"


class _KindCheck:
    """The checks of one half of a layer."""

    def __init__(self, file: H5File, header: Header, info: LayerInfo, kind: Kind, base: str, samples: Array) -> None:  # noqa: PLR0917
        self.file, self.header, self.info, self.kind, self.base, self.samples = file, header, info, kind, base, samples

    def problems(self) -> Iterator[str]:
        """Yield what is wrong, in blocks of concepts."""
        count = self.file.array(f"{self.base}/moments/count")[:]
        if (count < 0).any():
            yield "a count is negative"
        for start in range(0, self.info.n_concepts, _CONCEPTS_AT_ONCE):
            part = slice(start, start + _CONCEPTS_AT_ONCE)
            top, by_class = self._ranking("top", part), self._ranking("class_top", part)
            moments = {
                name: self.file.array(f"{self.base}/moments/{name}")[:, part].T
                for name in ("mean", "std", "min", "max")
            }
            yield from self._ranking_problems("top", top)
            yield from self._ranking_problems("class_top", by_class)
            yield from _moment_problems(moments, count)
            yield from self._agreement(top, by_class, moments, count)
            if has_overall(self.file, self.base):
                yield from self._overall_problems(top["score"][:, 0], part)
            if self.header.matrix:
                self.file.array(f"{self.base}/matrix")[:, part]

    def _overall_problems(self, best: Array, part: slice) -> Iterator[str]:
        """Yield what is wrong with the moments over all samples."""
        count = self.file.array(f"{self.base}/{OVERALL}/count")[:]
        names = ("mean", "std", "min", "max")
        moments = {name: self.file.array(f"{self.base}/{OVERALL}/{name}")[:, part].T for name in names}
        for problem in _moment_problems(moments, count):
            yield f"over all samples, {problem}"
        seen = int((self.file.array("/samples/prediction")[:] >= 0).sum())
        if count.any() and count[0] != seen:
            yield f"its moments over all samples count {count[0]} of {seen}"
        if count.any() and not np.array_equal(best, moments["max"][:, 0]):
            yield "the best of top is not the maximum over all samples"

    def _ranking(self, name: str, part: slice) -> dict[str, Array]:
        names = ("score", "sample", "position", "target") if name == "top" else ("score", "sample", "position")
        return {one: self.file.array(f"{self.base}/{name}/{one}")[part] for one in names}

    def _ranking_problems(self, name: str, found: dict[str, Array]) -> Iterator[str]:
        score, sample, position = found["score"], found["sample"], found["position"]
        held = sample >= 0
        if (held[..., 1:] & ~held[..., :-1]).any():
            yield f"{name} has a gap before an entry"
        if (np.isnan(score) == held).any() or np.isinf(score).any():
            yield f"{name} has scores without samples, samples without scores, or infinite scores"
        if not np.isin(sample[held], self.samples).all():
            yield f"{name} names samples that were not looked at"
        number = np.arange(sample.shape[-1])
        if (np.diff(np.sort(np.where(held, sample, -1 - number), -1), axis=-1) == 0).any():
            yield f"{name} names a sample twice"
        size = int(np.prod(self.info.output_shape)) if self.info.output_shape else np.iinfo(position.dtype).max
        if self.info.concept.startswith(("ChannelConcept(", "HeadConcept(", "TokenConcept(")):
            size //= self.info.n_concepts
        if (held & ((position < 0) | (position >= size))).any():
            yield f"{name} has positions outside of the layer"
        both = held[..., 1:]
        falling = score[..., :-1] > score[..., 1:]
        tied = (score[..., :-1] == score[..., 1:]) & (sample[..., :-1] < sample[..., 1:])
        if (both & ~(falling | tied)).any():
            yield f"{name} is not in order"
        if "target" in found and (held & ((found["target"] < -1) | (found["target"] >= self.header.n_classes))).any():
            yield f"{name} has targets that are no class"

    def _agreement(
        self, top: dict[str, Array], by_class: dict[str, Array], moments: dict[str, Array], count: Array
    ) -> Iterator[str]:
        """Yield where rankings and moments contradict each other."""
        filled = (by_class["sample"] >= 0).sum(-1)
        if not count.any():
            if filled.any() and self.header.model_sha256:
                yield "class_top has entries, but no class has samples"
            return
        if (filled != np.minimum(count, self.header.k_class)).any():
            yield "class_top has more or fewer entries than the class has samples"
        if not np.array_equal(by_class["score"][..., 0], moments["max"], equal_nan=True):
            yield "the best of class_top is not the maximum"
        highest = np.fmax.reduce(np.where(count > 0, moments["max"], -np.inf), axis=1)
        if self.kind == "relevance" and not np.array_equal(top["score"][:, 0], highest):
            yield "the best of top is not the maximum over the classes"
        if self.kind == "activation":
            yield from self._activation_problems(top, highest)

    def _activation_problems(self, top: dict[str, Array], highest: Array) -> Iterator[str]:
        """Yield what contradicts that a sample's activation counts once, with its first target."""
        target = self.file.array("/samples/target")[:]
        held = top["sample"] >= 0
        places = np.minimum(np.searchsorted(self.samples, top["sample"][held]), len(self.samples) - 1)
        if (target[places] != top["target"][held]).any():
            yield "top has targets that are not those of its samples"
        best, looked_at = top["score"][:, 0], self.file.array("/samples/prediction")[:] >= 0
        if (best < highest).any() or ((target[looked_at] >= 0).all() and not np.array_equal(best, highest)):
            yield "the best of top is not the maximum over the classes"


def _moment_problems(moments: dict[str, Array], count: Array) -> Iterator[str]:
    empty = count == 0
    for name, values in moments.items():
        if (np.isnan(values) != empty).any() or np.isinf(values).any():
            yield f"{name} is missing for a class that has samples, or there for one that has none"
    mean, std, low, high = (values[:, ~empty] for values in moments.values())
    slack = _ROUNDING * (np.abs(low) + np.abs(high))
    if ((mean < low - slack) | (mean > high + slack)).any():
        yield "a mean lies outside of minimum and maximum"
    if ((std < 0) | (std > (high - low) * (0.5 + _ROUNDING) + slack)).any():
        yield "a standard deviation is negative or larger than half the range"
