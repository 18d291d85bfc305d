"""Evaluations that were interrupted go on from what is done, to the same bits; other checkpoints are refused."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import Running
from shortcut_net import shortcut_study
from torch.utils.data import TensorDataset

import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import InputError
from crp_kit.evaluation import Evaluation
from crp_kit.evaluation.step_log import StepLog

EVALUATIONS: dict[str, Callable[[Evaluation], Any]] = {
    "flipping": lambda evaluate: evaluate.flipping(
        "branch", orders=("relevance", "prototype", "random"), steps=3, repeats=2, batch_size=2, target="contrast:0,1"
    ),
    "insertion": lambda evaluate: evaluate.insertion("branch", steps=None, repeats=2, batch_size=2, shard="1/2"),
    "impact": lambda evaluate: evaluate.impact("branch", batch_size=2),
    "localisation": lambda evaluate: evaluate.localisation(masks=lambda number: np.eye(8, dtype=bool), batch_size=2),
    "randomisation": lambda evaluate: evaluate.randomisation("branch", stages=2, batch_size=2),
    "sensitivity": lambda evaluate: evaluate.sensitivity("branch", noise=(0.1, 0.2), repeats=2, batch_size=2),
    "composites": lambda evaluate: evaluate.composites("branch", ["epsilon_plus", None], steps=3, repeats=2, stages=1),
}


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return shortcut_study()


def arrays(result: Any) -> dict[str, np.ndarray]:
    """All arrays of a result, those of scores and of dictionaries included; the time apart."""
    held: dict[str, np.ndarray] = {}
    for name, value in vars(result).items():
        if isinstance(value, np.ndarray) and name != "seconds":
            held[name] = value
        elif isinstance(value, dict) or hasattr(value, "mass"):
            inner = value if isinstance(value, dict) else vars(value)
            held |= {f"{name}.{key}": one for key, one in inner.items() if isinstance(one, np.ndarray)}
    return held


def interrupted_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a log take some steps, and interrupt at the next."""
    usual, count = StepLog.append, iter(range(steps))

    def append(self: StepLog, step: str, parts: Any) -> None:
        if next(count, None) is None:
            raise KeyboardInterrupt
        usual(self, step, parts)

    return monkeypatch.setattr(StepLog, "append", append)


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_interrupted_evaluation_goes_on_to_the_same_bits(
    study: crp.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run, path = EVALUATIONS[name], tmp_path / "run.partial"
    whole = arrays(run(study.evaluate))
    for _ in range(2):
        with monkeypatch.context() as patched:
            interrupted_after(1, patched)
            with pytest.raises(KeyboardInterrupt, match=r"kept in .*run\.partial"):
                run(study.evaluate.resumable(path))
    size = path.stat().st_size
    resumed = arrays(run(study.evaluate.resumable(path)))
    assert path.stat().st_size > size
    assert set(resumed) == set(whole)
    assert whole
    for key, array in whole.items():
        np.testing.assert_array_equal(resumed[key], array, err_msg=key)


def test_what_is_done_is_not_computed_again(study: crp.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = EVALUATIONS["impact"]
    first = run(study.evaluate.resumable(tmp_path / "run.partial"))
    monkeypatch.setattr("crp_kit.evaluation.layer_pass.LayerBatch", None)
    again = run(study.evaluate.resumable(tmp_path / "run.partial"))
    np.testing.assert_array_equal(again.impact, first.impact)


def changed_model(study: crp.Study) -> crp.Study:
    other = shortcut_study()
    other.model.head.bias.data += 1
    return other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda study: changed_model(study), "model is"),
        (lambda study: crp.Study(study.model, TensorDataset(torch.rand(5, 3, 8, 8), torch.arange(5))), "data is"),
        (lambda study: study.replace(composite="excitation_backprop"), "rules is"),
        (
            lambda study: crp.Study(study.model, study.data, composite="epsilon_plus", preprocess=lambda x: x * 2),
            "model input is",
        ),
    ],
)
def test_a_checkpoint_of_another_study_is_refused(
    study: crp.Study, tmp_path: Path, change: Callable[[crp.Study], crp.Study], message: str
) -> None:
    path = tmp_path / "run.partial"
    study.evaluate.resumable(path).impact("branch")
    with pytest.raises(InputError, match=rf"cannot go on from .*{message}"):
        change(study).evaluate.resumable(path).impact("branch")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda evaluate: evaluate.flipping("branch"), "evaluation is impact there and deletion here"),
        (lambda evaluate: evaluate.impact("stem"), "layer is branch there and stem here"),
        (lambda evaluate: evaluate.impact("branch", baseline="zero"), "baseline is mean there and zero here"),
        (lambda evaluate: evaluate.impact("branch", concept_ids=[1]), r"concept_ids is None there and \[1\] here"),
        (lambda evaluate: evaluate.impact("branch", limit=2), "samples is prediction, limit None"),
        (lambda evaluate: evaluate.impact("branch", target="label"), "samples is prediction"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(
    study: crp.Study, tmp_path: Path, run: Callable[[Evaluation], Any], message: str
) -> None:
    path = tmp_path / "run.partial"
    study.evaluate.resumable(path).impact("branch")
    with pytest.raises(InputError, match=message):
        run(study.evaluate.resumable(path))


def test_orders_of_a_user_s_own_count_by_what_they_do(study: crp.Study, tmp_path: Path) -> None:
    def run(order: Any) -> Any:
        evaluate = study.evaluate.resumable(tmp_path / "run.partial")
        return evaluate.flipping("branch", orders={"mine": order}, steps=2)

    run(np.arange(6))
    run(np.arange(6))
    with pytest.raises(InputError, match="orders is"):
        run(np.arange(6)[::-1])
    with pytest.raises(InputError, match="orders is"):
        run(lambda relevance, activation: np.arange(6))


def test_a_damaged_end_is_computed_again_and_foreign_files_are_kept(study: crp.Study, tmp_path: Path) -> None:
    path, run = tmp_path / "run.partial", EVALUATIONS["impact"]
    whole = run(study.evaluate.resumable(path))
    content = path.read_bytes()
    for damaged in (content[:-5], content[:40], content[:10], b"", content[:-9] + b"?" + content[-8:]):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(run(study.evaluate.resumable(path)).impact, whole.impact)
        assert path.read_bytes() == content
    path.write_text("mine")
    with pytest.raises(InputError, match="no checkpoint of an evaluation, and is kept"):
        run(study.evaluate.resumable(path))
    assert path.read_text() == "mine"
    with pytest.raises(InputError, match="is a folder"):
        run(study.evaluate.resumable(tmp_path))
    with pytest.raises(InputError, match="cannot write"):
        run(study.evaluate.resumable(tmp_path / "none" / "run.partial"))
    path.unlink()
    log = StepLog(path, {"evaluation": "other"})
    with pytest.raises(InputError, match="another process works with"):
        run(study.evaluate.resumable(path))
    log.close()


def test_a_disk_that_is_full_from_the_start_is_said_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StepLog, "_write", full)
    with pytest.raises(InputError, match="cannot write .*run.partial: the disk, or what you may use of it, is full"):
        StepLog(tmp_path / "run.partial", {"evaluation": "other"})
    assert list(tmp_path.iterdir()) == []


_RUN = """
import sys
from pathlib import Path
import crp_kit as crp
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
study = crp.Study(demo_resnet(), ShapesDataset(60), preprocess=demo_preprocess)
study.evaluate.resumable(sys.argv[1]).impact("layer3.1.conv2", batch_size=2)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_what_is_done(tmp_path: Path) -> None:
    path = tmp_path / "run.partial"
    process = Running(_RUN, path)
    process.wait_for(lambda: path.exists() and path.read_bytes().count(b"impact.npy") >= 2)
    os.kill(process.pid, signal.SIGKILL)
    assert process.ended().returncode == -signal.SIGKILL
    study = crp.Study(demo_resnet(), ShapesDataset(60), preprocess=demo_preprocess)
    resumed = study.evaluate.resumable(path).impact("layer3.1.conv2", batch_size=2)
    whole = study.evaluate.impact("layer3.1.conv2", batch_size=2)
    np.testing.assert_array_equal(resumed.impact, whole.impact)
    np.testing.assert_array_equal(resumed.relevance, whole.relevance)
