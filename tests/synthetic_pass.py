"""Dataset passes without a model: seeded scores, drawn for each sample alone, are fed into the state of a pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crp_kit.atlas.build.pass_state import PassState
from crp_kit.atlas.file.hdf5_writer import write_tree
from crp_kit.atlas.file.header import MODES, Array, Header, LayerInfo, Progress
from crp_kit.atlas.statistics.base import Allocate, in_memory
from crp_kit.atlas.statistics.scores import BatchScores, ModeScores, Rows, SampleFacts


@dataclass(frozen=True)
class SyntheticPass:
    """Samples with one label each, -1 for none, and layers with so many concepts.

    Samples are drawn by number, so that any division of the dataset gives the same scores.
    """

    labels: Sequence[int]
    concepts: Sequence[int] = (3, 4)
    n_classes: int = 10
    k: int = 4
    k_class: int = 2
    batch_size: int = 2
    matrix: bool = False

    @property
    def header(self) -> Header:
        return Header(
            model="synthetic", model_sha256="0" * 64, composite="{}", dataset="synthetic", dataset_sha256="1" * 64,
            subset="", n_samples=len(self.labels), n_classes=self.n_classes, k=self.k, k_class=self.k_class,
            batch_size=self.batch_size, target="label", abs_norm=False, aggregate="sum", matrix=self.matrix,
            dtype="float32",
        )  # fmt: skip

    @property
    def layers(self) -> tuple[LayerInfo, ...]:
        return tuple(
            LayerInfo(f"layer{number}", "ChannelConcept(axis=1)", count, (count, 7, 7))
            for number, count in enumerate(self.concepts)
        )

    @property
    def n_batches(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def empty(
        self, first: int = 0, end: int | None = None, *, shards: int = 1, allocate: Allocate = in_memory
    ) -> PassState:
        """The state of a shard of some batches, that has seen nothing; its number is right for two shards at most."""
        end = self.n_batches if end is None else end
        index = np.arange(len(self.labels))[first * self.batch_size : end * self.batch_size]
        progress = Progress(int(first > 0), shards, first, first, end, self.n_batches)
        names = tuple(f"photo {number}" for number in index)
        classes = tuple(f"class {number}" for number in range(self.n_classes))
        return PassState(self.header, self.layers, progress, index, names, classes, allocate)

    def scores(self, batch: int) -> BatchScores:
        """Scores of one batch: some exactly equal, of either sign, over several orders of magnitude."""
        samples = np.arange(len(self.labels))[batch * self.batch_size : (batch + 1) * self.batch_size]
        target = np.array([self.labels[sample] for sample in samples], "i8")
        layers = {}
        for number, info in enumerate(self.layers):
            modes = {}
            for mode in MODES:
                drawn = [np.random.default_rng((sample, number, mode == "relevance")) for sample in samples.tolist()]
                score = np.stack([draw.normal(size=info.n_concepts).astype("f2").astype("f4") for draw in drawn])
                position = np.stack([draw.integers(0, 49, info.n_concepts).astype("i4") for draw in drawn])
                held = target >= 0
                whole = Rows(samples, target, score, position)
                labelled = Rows(samples[held], target[held], score[held], position[held])
                modes[mode] = ModeScores(labelled, *((labelled,) * 2 if mode == "relevance" else (whole,) * 2))
            layers[info.name] = modes
        return BatchScores(samples, target, self.facts(samples, target), layers)

    def facts(self, samples: Array, label: Array) -> SampleFacts:
        """Labels and predictions, the first class always."""
        ranks = min(5, self.n_classes)
        top_class = np.tile(np.arange(ranks, dtype="i4"), (len(samples), 1))
        probability = np.tile(np.float32(2.0) ** -np.arange(1, ranks + 1, dtype="f4"), (len(samples), 1))
        return SampleFacts(label, np.zeros(len(samples), "i8"), top_class, probability, label.astype("f4"))

    def add(self, state: PassState, first: int, end: int) -> PassState:
        """Add some batches."""
        for batch in range(first, end):
            state.add(self.scores(batch))
        state.progress = replace(state.progress, done=end)
        return state

    def write(self, path: Path, *, allocate: Allocate = in_memory) -> Path:
        """Write the atlas that one process makes."""
        state = self.add(self.empty(allocate=allocate), 0, self.n_batches)
        write_tree(path, state.tree({}, complete=True), compress=True)
        return path

    def write_part(self, path: Path, first: int, done: int, end: int, *, shards: int = 1) -> Path:
        """Write a shard, or the checkpoint of one."""
        state = self.add(self.empty(first, end, shards=shards), first, done)
        write_tree(path, state.tree({}, complete=False), compress=False)
        return path

    def shards(self, folder: Path, cut: int) -> Iterator[Path]:
        """Write both shards of a division behind some batches."""
        for first, end in ((0, cut), (cut, self.n_batches)):
            yield self.write_part(folder / f"shard-{first}-{end}.h5", first, end, end, shards=2)
