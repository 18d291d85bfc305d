"""The log of a build: what it holds is given back bit by bit, or is computed again, whatever happened to the file."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crp_kit as crp
from crp_kit.atlas.build.batch_log import BatchLog, LoggedBatch, logged_batches
from crp_kit.atlas.build.seen import Seen, batch_scores
from crp_kit.atlas.file.header import LayerInfo
from crp_kit.atlas.statistics.scores import SampleFacts
from crp_kit.errors import AtlasError

LAYERS = (LayerInfo("conv", "ChannelConcept()", 5, (5, 20, 30)), LayerInfo("fc", "ChannelConcept()", 3, (3,)))
DIGEST = b"0123456789abcdef"
GRID = [list(range(4 * batch, 4 * batch + 4)) for batch in range(6)]


def seen(samples: list[int], slots: int = 1) -> Seen:
    """What a batch might give, with values that are hard to keep: negative zeros, tiny and huge ones."""
    draw = np.random.default_rng(samples[0])

    def values(count: int, concepts: int) -> tuple[Any, Any]:
        score = draw.normal(size=(count, len(samples), concepts)).astype("f4")
        score[..., 0] = draw.choice([-0.0, 1e-45, 3e38, -1e-40], size=score.shape[:-1])
        return score, draw.integers(0, 600, score.shape).astype("i4")

    return Seen(
        np.array(samples, "i8"),
        draw.integers(-1, 1000, (slots, len(samples))).astype("i8"),
        SampleFacts(
            draw.integers(-1, 1000, len(samples)).astype("i8"),
            draw.integers(0, 1000, len(samples)).astype("i8"),
            draw.integers(0, 1000, (len(samples), 5)).astype("i4"),
            draw.random((len(samples), 5)).astype("f4"),
            draw.normal(size=len(samples)).astype("f4"),
        ),
        {info.name: values(1, info.n_concepts) for info in LAYERS},
        {info.name: values(slots, info.n_concepts) for info in LAYERS},
    )


BATCHES = [
    LoggedBatch(0, seen(GRID[0])),
    LoggedBatch(1, seen(GRID[1], slots=3)),
    LoggedBatch(2, seen(GRID[2][1:]), {8: "its file is away: caf\udce9\nsecond line"}),
    LoggedBatch(3, None, dict.fromkeys(GRID[3], "unreadable")),
    LoggedBatch(4, seen(GRID[4], slots=0)),
    LoggedBatch(5, seen(GRID[5])),
]


def arrays(batch: LoggedBatch) -> Iterator[tuple[Any, ...]]:
    if batch.seen is not None:
        one = batch.seen
        several = [one.sample, one.slots, *one.facts.arrays().values()]
        for info in LAYERS:
            several += [*one.activations[info.name], *one.relevances[info.name]]
        yield from ((values.dtype, values.shape, values.tobytes()) for values in several)


def same(some: list[LoggedBatch], others: list[LoggedBatch]) -> bool:
    return [(one.number, one.failures, [*arrays(one)]) for one in some] == [
        (one.number, one.failures, [*arrays(one)]) for one in others
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with BatchLog(tmp_path / "batches.log", DIGEST, LAYERS) as log:
        for batch in BATCHES:
            log.append(batch)
    return tmp_path / "batches.log"


def replayed(path: Path, done: int = 0, digest: bytes = DIGEST) -> tuple[list[LoggedBatch], int | None]:
    with BatchLog(path, digest, LAYERS) as log:
        return list(log.replay(done, GRID[done:])), log.damage


def test_batches_come_back_bit_by_bit(path: Path) -> None:
    found, damage = replayed(path)
    assert damage is None
    assert same(found, BATCHES)
    assert logged_batches(path) == 6
    for one, other in zip(found, BATCHES, strict=True):
        if one.seen is not None and other.seen is not None:
            mine, theirs = batch_scores(one.seen), batch_scores(other.seen)
            assert mine.target.tobytes() == theirs.target.tobytes()
            for name, modes in theirs.layers.items():
                for mode, scores in modes.items():
                    for rows in ("by_class", "first", "best"):
                        for part in ("sample", "target", "score", "position"):
                            values = [getattr(getattr(s, rows), part) for s in (mine.layers[name][mode], scores)]
                            assert values[0].tobytes() == values[1].tobytes()


def test_positions_take_as_many_bytes_as_they_need(path: Path) -> None:
    numbers = sum(4 * 5 * 2 * 2 * (4 + 2) for _ in range(1))  # batch 0: samples, concepts of conv and fc, modes
    with BatchLog(path.with_name("one.log"), DIGEST, LAYERS) as log:
        log.append(BATCHES[0])
        assert log.size < numbers + 700


def test_batches_that_a_checkpoint_holds_are_passed_over(path: Path) -> None:
    found, damage = replayed(path, done=2)
    assert damage is None
    assert same(found, BATCHES[2:])


def test_wherever_a_kill_cuts_the_file_the_batches_before_come_back(path: Path) -> None:
    content, ends = path.read_bytes(), [36]
    with BatchLog(path.with_name("ends.log"), DIGEST, LAYERS) as log:
        for batch in BATCHES:
            log.append(batch)
            ends.append(36 + log.size)
    draw = np.random.default_rng(0)
    cuts = {*range(40), *ends, *(end - 1 for end in ends), *draw.integers(0, len(content), 100).tolist()}
    for cut in sorted(cuts):
        path.write_bytes(content[:cut])
        whole = max(sum(end <= cut for end in ends) - 1, 0)
        found, damage = replayed(path)
        assert damage is None
        assert same(found, BATCHES[:whole]), cut
        with BatchLog(path, DIGEST, LAYERS) as log:  # and goes on
            list(log.replay(0, GRID))
            for batch in BATCHES[whole:]:
                log.append(batch)
        assert path.read_bytes() == content


def test_a_flipped_bit_anywhere_never_gives_another_batch(path: Path) -> None:
    content = path.read_bytes()
    draw = np.random.default_rng(1)
    for place in {*range(120), *draw.integers(0, len(content), 300).tolist()}:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        if place < 20:  # it is no log any more, by its first line
            with pytest.raises(AtlasError, match="is no log of a build, and is kept"):
                replayed(path)
            assert path.read_bytes() == damaged
            continue
        found, damage = replayed(path)
        assert same(found, BATCHES[: len(found)]), place
        assert len(found) < 6
        # At most the marker of the damaged record itself is not recognised.
        assert damage is None or 6 - len(found) - 1 <= damage <= 6 - len(found), place
        assert damage is not None or len(found) >= 5


def test_zeros_behind_the_last_batch_are_no_batch(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content + bytes(5000))  # as a loss of power may leave
    found, damage = replayed(path)
    assert damage is None
    assert same(found, BATCHES)
    assert path.read_bytes() == content


def test_batches_of_another_pass_are_never_taken(path: Path) -> None:
    found, damage = replayed(path, digest=b"another pass ...")
    assert (found, damage) == ([], 6)


@pytest.mark.parametrize("order", [[0, 2, 3], [1, 2], [0, 0, 1], [0, 2, 1]])
def test_batches_out_of_order_are_computed_again(tmp_path: Path, order: list[int]) -> None:
    with BatchLog(tmp_path / "batches.log", DIGEST, LAYERS) as log:
        for number in order:
            log.append(BATCHES[number])
    found, damage = replayed(tmp_path / "batches.log")
    assert [batch.number for batch in found] == list(range(len(found)))
    assert damage == len(order) - len(found) > 0


def test_a_log_of_other_samples_is_computed_again(path: Path) -> None:
    with BatchLog(path, DIGEST, LAYERS) as log:
        assert list(log.replay(0, [[1, 2, 3, 4], *GRID[1:]])) == []
        assert log.damage == 6


def test_a_file_of_somebody_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "batches.log").write_text("my own notes")
    with pytest.raises(crp.CrpKitError, match=r"batches.log is no log of a build, and is kept; move it away"):
        replayed(tmp_path / "batches.log")
    assert (tmp_path / "batches.log").read_text() == "my own notes"


def test_a_full_disk_leaves_the_log_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = path.read_bytes()
    write = BatchLog._write

    def full(self: BatchLog, data: Any) -> None:
        if len(data) > 100:
            write(self, memoryview(data)[:10])
            raise OSError(28, "No space left on device")
        write(self, data)

    with BatchLog(path, DIGEST, LAYERS) as log:
        list(log.replay(0, GRID))
        with monkeypatch.context() as patched:
            patched.setattr(BatchLog, "_write", full)
            with pytest.raises(crp.CrpKitError, match=r"the disk, or what you may use of it, is full; the batches"):
                log.append(LoggedBatch(6, seen([24, 25])))
        assert path.read_bytes() == content
        log.append(LoggedBatch(6, seen([24, 25])))
    assert logged_batches(path) == 7


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("theirs")
    os.symlink(tmp_path / "precious", tmp_path / "batches.log")
    with pytest.raises(crp.CrpKitError, match="cannot write .*batches.log"):
        BatchLog(tmp_path / "batches.log", DIGEST, LAYERS)
