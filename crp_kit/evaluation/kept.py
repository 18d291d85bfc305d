"""Steps of an evaluation that are kept in a file, from which an interrupted run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..atlas.build.function_fingerprint import function_fingerprint
from ..attribution.layer_concepts import layer_concepts
from ..attribution.layer_values import find_layer
from ..attribution.subject import Subject
from ..data.fingerprints import fingerprint, short_digest, tensor_bytes
from ..models.state_dict import state_digest
from ..propagation.plan_description import describe_plan
from .sample_choice import SampleChoice
from .step_log import Parts, StepLog

__all__ = ["Kept", "identity_of", "kept_in", "words_of"]


class Kept:
    """What the steps of an evaluation have given.

    Parameters
    ----------
    log : StepLog, optional
        Where it is kept; without one, nothing is.
    """

    def __init__(self, log: StepLog | None = None) -> None:
        self._log = log
        self._done: dict[str, list[Parts]] = {}
        for step, parts in log.steps if log is not None else ():
            self._done.setdefault(step, []).append(parts)

    def of(self, step: str) -> list[Parts]:
        """Return what an earlier run has kept of a step, part by part."""
        return list(self._done.get(step, ()))

    def add(self, step: str, parts: Parts) -> Parts:
        """Keep what the next part of a step gave, and return it."""
        if self._log is not None:
            self._log.append(step, parts)
        return parts

    def once(self, step: str, compute: Callable[[], Parts]) -> Parts:
        """Return what a step of one part gives, or has given."""
        done = self.of(step)
        return done[0] if done else self.add(step, compute())


@contextmanager
def kept_in(path: Path | None, identity: Callable[[], Mapping[str, str]]) -> Iterator[Kept]:
    """Yield what is kept in a file of an evaluation with an identity; nothing without a file.

    Raises
    ------
    InputError
        If it is of another evaluation, used by another process, or cannot be written.
    KeyboardInterrupt
        After Ctrl-C, with the file's name.
    """
    if path is None:
        yield Kept()
        return
    log = StepLog(path, identity())
    try:
        yield Kept(log)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"interrupted; what is done is kept in {path}; resume continues from there") from error
    finally:
        log.close()


def identity_of(subject: Subject, evaluation: str, layer: str | None, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what decides what the steps of an evaluation give: model, data, rules and settings, in words by name."""
    inputs = subject.normalised(subject.samples.first_image())
    run = subject.attribution.engine.run(inputs, subject.composite)
    identity = {
        "evaluation": evaluation,
        "model": state_digest(subject.model),
        "data": fingerprint(subject.samples),
        "model input": short_digest(f"{tuple(inputs.shape)} {inputs.dtype}\n".encode() + tensor_bytes(inputs)),
        "rules": hashlib.sha256(json.dumps(describe_plan(run.graph, run.plan)).encode()).hexdigest(),
    }
    if layer is not None:
        find_layer(run, layer)
        identity |= {"layer": layer, "concept": layer_concepts(run, [layer], subject.concepts)[layer].identity}
    return {**identity, **{name: words_of(value) for name, value in settings.items()}}


def words_of(value: Any) -> str:
    """Return a setting in words: plain values as they are, functions and objects by what they do and hold."""
    if isinstance(value, SampleChoice):
        return f"{words_of(value.target)}, limit {value.limit}, batches of {value.batch_size}"
    plain = value is None or isinstance(value, (str, int, float))
    if plain or (isinstance(value, (tuple, list)) and all(isinstance(one, (str, int, float)) for one in value)):
        return str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {words_of(one)}" for name, one in value.items())
    return f"{type(value).__name__} {function_fingerprint(value)}"
