"""Settings of a build that are rarely changed, and the provenance that an atlas file states in words."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...checks import check_integer
from ...class_names import checked_names
from ...errors import InputError
from ...escapes import escaped
from ...version import __version__
from .matrix_choice import MatrixChoice, check_matrix

if TYPE_CHECKING:
    from ...attribution.layer_choice import LayerChoice
    from ...concepts import Aggregate
    from ...targets import Target
    from .target_policy import TargetRule

__all__ = ["OPTIONS", "BuildOptions", "Origin", "Settings", "origin_attributes", "parse_shard"]

OPTIONS = "options"
"""Attribute of a file that holds the options of its build, as JSON; absent where none are known."""


@dataclass(frozen=True)
class Origin:
    """Words for where an atlas comes from. They change no number of it and no fingerprint.

    What a file cannot hold, such as the bytes of a path that are no UTF-8, is kept in an escaped form.

    Parameters
    ----------
    model, dataset : str, optional
        Their specs or names; by default the names of their Python classes.
    command : str, optional
        The command or function that made the file.
    classes : tuple of str, optional
        Name of each model output; by default the dataset's. Left out where there are not as many as outputs.
    options : dict, optional
        Options of the command line that make the study again, such as ``{"model": "demo:resnet", "data":
        "demo:shapes"}``: plain values by name.

    Raises
    ------
    InputError
        If `classes` are no names, or `options` no plain values.

    Examples
    --------
    >>> Origin(model="torchvision:resnet18", dataset="imagefolder:/data/birds").command
    'crp_kit.Study.build_atlas'
    """

    model: str | None = None
    dataset: str | None = None
    command: str = "crp_kit.Study.build_atlas"
    classes: tuple[str, ...] | None = None
    options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("model", "dataset", "command"):
            words = getattr(self, name)
            object.__setattr__(self, name, None if words is None else escaped(str(words), free=True))
        if self.classes is not None:
            object.__setattr__(self, "classes", checked_names(self.classes))
        try:
            json.dumps(self.options)
        except (TypeError, ValueError) as error:
            raise InputError(f"options are plain values by name, as JSON has them: {error}") from error


@dataclass(frozen=True)
class BuildOptions:
    """Settings of a build of an atlas that are rarely changed.

    Parameters
    ----------
    aggregate : {"sum", "max"}, optional
        How the values of a concept in one sample become its score.
    abs_norm : bool, optional
        Divide the scores of a sample by their sum of magnitudes over all concepts of the layer.
    subset : sequence of int, optional
        Numbers of the samples to pass over; all by default.
    limit : int, optional
        At most so many samples, the first ones.
    skip_unreadable : bool, optional
        Leave out samples that cannot be read and list them in the file, instead of stopping at the first.
    max_memory : int, optional
        Bytes that rankings and moments may take in memory; larger ones are kept in unnamed files beside the atlas.
    checkpoint : float, optional
        Seconds between checkpoints. What a batch gave is in a log as soon as it is counted, whatever this is; a
        checkpoint makes it safe against a loss of power, and turns a log that has outgrown the state into a file. It
        takes at most a twentieth of the time; 0 makes one after every batch.

    Raises
    ------
    InputError
        If a number is no whole number or too small, or `aggregate` has another form.

    Examples
    --------
    >>> BuildOptions(limit=1000).aggregate
    'sum'
    >>> BuildOptions(aggregate="mean")
    Traceback (most recent call last):
    ...
    crp_kit.errors.InputError: aggregate is 'sum' or 'max'; got 'mean'
    """

    aggregate: Aggregate = "sum"
    abs_norm: bool = True
    subset: Sequence[int] | None = None
    limit: int | None = None
    skip_unreadable: bool = False
    max_memory: int = 2 << 30
    checkpoint: float = 60.0

    def __post_init__(self) -> None:
        if self.limit is not None:
            object.__setattr__(self, "limit", check_integer("limit", self.limit, low=1))
        if self.aggregate not in ("sum", "max"):
            raise InputError(f"aggregate is 'sum' or 'max'; got {self.aggregate!r}")
        if self.subset is not None:
            object.__setattr__(self, "subset", tuple(map(int, self.subset)))


@dataclass(frozen=True, kw_only=True)
class Settings(BuildOptions):
    """All settings of a build: those of `crp_kit.Study.build_atlas`, and the rare ones."""

    layers: LayerChoice | Iterable[LayerChoice]
    target: str | Target | TargetRule
    k: int
    k_class: int
    batch_size: int
    num_workers: int
    matrix: MatrixChoice
    shard: tuple[int, int] | str | None
    resume: bool
    origin: Origin

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("k", 1), ("k_class", 0), ("batch_size", 1)):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=low))
        check_integer("num_workers", self.num_workers, low=0)
        check_matrix(self.matrix)
        parse_shard(self.shard)

    @property
    def part(self) -> tuple[int, int]:
        """Number of the shard and how many there are: (0, 1) for the whole."""
        return parse_shard(self.shard)


def origin_attributes(origin: Origin) -> dict[str, Any]:
    """Return the attributes of a file that state its version of crp-kit, its time (UTC), command and options."""
    now = dt.datetime.now(dt.timezone.utc)
    words = {"crp_kit_version": __version__, "created": now.isoformat(timespec="seconds"), "command": origin.command}
    return words if origin.options is None else {**words, OPTIONS: json.dumps(origin.options, sort_keys=True)}


def parse_shard(shard: tuple[int, int] | str | None) -> tuple[int, int]:
    """Return the number of a shard, counted from 0, and how many there are.

    Raises
    ------
    InputError
        If it is no such pair.

    Examples
    --------
    >>> parse_shard("2/8")
    (2, 8)
    """
    if shard is None:
        return 0, 1
    try:
        part, parts = shard.split("/") if isinstance(shard, str) else shard
        number, count = int(part), int(parts)
    except (TypeError, ValueError) as error:
        raise InputError(f"a shard is 'i/n' or (i, n), such as '0/4'; got {shard!r}") from error
    if not 0 <= number < count:
        raise InputError(f"shards are counted from 0: of {count} there are 0 to {count - 1}; got {number}")
    return number, count
