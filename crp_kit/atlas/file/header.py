"""Header of an atlas file as data: what it was made from, its layers and its progress, and their attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...checks import is_integer
from ...errors import AtlasError

__all__ = [
    "ENCODING",
    "HALF",
    "MODES",
    "MOMENTS",
    "OVERALL",
    "VERSION",
    "Array",
    "Attributes",
    "Floats",
    "Header",
    "Integers",
    "LayerInfo",
    "Mode",
    "MomentArrays",
    "Progress",
    "digests_text",
    "layer_path",
    "titles_path",
]

ENCODING, VERSION = "crp-kit-atlas", "1"
OVERALL = "overall"
"""Group with the moments over all samples, each counted once; absent in files of older versions."""
HALF = "float16"
"""Type of a matrix that is not kept in float32."""
Mode = Literal["relevance", "activation"]
MODES: tuple[Mode, Mode] = ("relevance", "activation")
Attributes = dict[str, Any]
Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class MomentArrays:
    """Moments of each group and concept; not-a-number where a group is empty.

    Parameters
    ----------
    count : numpy.ndarray
        (group,).
    mean, std, min, max : numpy.ndarray
        (group, concept). `std` is the population's: divided by the count.
    """

    count: Integers
    mean: Floats
    std: Floats
    min: Floats
    max: Floats


_FINGERPRINTS = {
    "target_sha256": "the function that chooses targets does something else, or holds other values",
    "labels_sha256": "labels stand for other classes",
    "names_sha256": "samples have other names",
    "sample_digests": "sample {} has another content",
    "input_digests": "preprocess makes another model input of sample {}",
}
"""Fields of a header that older files lack, and what is said where two differ."""
_OMITTED = {*_FINGERPRINTS, "matrix_dtype", "no_classes"}
"""Fields of a header that are no attributes where they are empty."""
MOMENTS = ("mean", "std", "min", "max")
"""Fields of `MomentArrays` that have concepts, in the order of the file."""


@dataclass(frozen=True)
class Header:
    """What an atlas was made from and how. Two parts of one atlas agree in all of it.

    Parameters
    ----------
    model : str
    model_sha256 : str
        Of the state dict.
    composite : str
        The rule of every node, as JSON: {rule: [names]}.
    dataset : str
    dataset_sha256 : str
        Fingerprint.
    subset : str
        Which of the dataset's samples were asked for, in words; empty for all.
    n_samples, n_classes, k, k_class : int
    batch_size : int
        Batches lie on one grid over the whole dataset.
    target : str
        From which classes relevance starts.
    abs_norm : bool
        Whether the scores of a sample are divided by their sum of magnitudes over the concepts of a layer.
    aggregate : str
        How the values of a concept become its score: sum or max.
    matrix : bool
        Whether the scores of every sample are kept.
    dtype : str
        Of the model's input.
    target_sha256, labels_sha256, names_sha256 : str
        Of a function that chooses targets, of the classes that labels stand for, of the samples' names. Empty where
        nothing is known, as in files that older versions have made.
    sample_digests, input_digests : str
        ``number:digest``, with spaces between: of samples, and of the model's inputs for the first of them. A sample
        that cannot be read has none, so that it may be mended between two parts.
    matrix_dtype : str
        ``"float16"`` if the scores of every sample are kept in that, empty for float32.
    no_classes : bool
        Whether relevance starts from something that is of no class, such as a value or a function of the output. All
        samples count together then.
    """

    model: str
    model_sha256: str
    composite: str
    dataset: str
    dataset_sha256: str
    subset: str
    n_samples: int
    n_classes: int
    k: int
    k_class: int
    batch_size: int
    target: str
    abs_norm: bool
    aggregate: str
    matrix: bool
    dtype: str
    target_sha256: str = ""
    labels_sha256: str = ""
    names_sha256: str = ""
    sample_digests: str = ""
    input_digests: str = ""
    matrix_dtype: str = ""
    no_classes: bool = False

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Header:
        """Read a header from attributes.

        Raises
        ------
        AtlasError
            If one is missing or has a value of another type.
        """
        known = {"str": str, "int": int, "bool": bool}
        values = {}
        for entry in fields(cls):
            if entry.name not in attributes and entry.default is not MISSING:
                continue
            value = attributes.get(entry.name)
            kind = known[str(entry.type)]
            fits = is_integer(value) if kind is int else isinstance(value, (bool, np.bool_) if kind is bool else str)
            if not fits:
                raise AtlasError(f"its attribute {entry.name!r} is missing or no {kind.__name__}: {value!r}")
            values[entry.name] = kind(value)
        return cls(**values)

    def attributes(self) -> Attributes:
        """Return everything as attributes, without fingerprints that are not known and what older files lack."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in values.items() if value or name not in _OMITTED}

    def lasting(self) -> Attributes:
        """Return the attributes that stay as they are when data is named in another way, or a sample is mended."""
        changing = {"model", "dataset", "dataset_sha256", "sample_digests", "input_digests"}
        return {name: value for name, value in self.attributes().items() if name not in changing}

    def differences(self, other: Header) -> list[str]:
        """Say where another header differs, the words for model and dataset apart; this one's value first."""
        reasons = []
        ignored = {"model", "dataset"} | ({"dataset_sha256"} if self._has_samples_of(other) else set())
        for entry in fields(self):
            mine, theirs = getattr(self, entry.name), getattr(other, entry.name)
            if mine == theirs or entry.name in ignored:
                continue
            if entry.name.endswith("_digests"):
                reasons += [_FINGERPRINTS[entry.name].format(number) for number in _differing(mine, theirs)[:1]]
            elif entry.name in _FINGERPRINTS:
                reasons += [_FINGERPRINTS[entry.name]] if mine and theirs else []
            elif entry.name == "composite":
                reasons.append(_rule_difference(mine, theirs))
            elif entry.name.endswith("_sha256"):
                reasons.append(f"{entry.name.removesuffix('_sha256')} has another content (SHA-256)")
            else:
                reasons.append(f"{entry.name} is {mine!r} there and {theirs!r} here")
        return reasons

    def _has_samples_of(self, other: Header) -> bool:
        """Return whether names and digests are known and agree, in which a mended sample makes no difference."""
        names = bool(self.names_sha256) and self.names_sha256 == other.names_sha256
        digests = self.sample_digests, other.sample_digests
        return names and all(digests) and not _differing(*digests)


def digests_text(digests: Mapping[int, str]) -> str:
    """Return digests by the number of their sample as text.

    Examples
    --------
    >>> digests_text({0: "5f", 7: "c0"})
    '0:5f 7:c0'
    """
    return " ".join(f"{number}:{digest}" for number, digest in digests.items())


def _differing(mine: str, theirs: str) -> list[str]:
    """Return the numbers of samples of which both know digests, and other ones."""
    first, second = (dict(pair.split(":", 1) for pair in text.split() if ":" in pair) for text in (mine, theirs))
    return [number for number in first if second.get(number, first[number]) != first[number]]


def _rule_difference(mine: str, theirs: str) -> str:
    """Name the first node that has another rule."""
    rules = [{node: rule for rule, nodes in json.loads(text).items() for node in nodes} for text in (mine, theirs)]
    for node in dict.fromkeys([*rules[0], *rules[1]]):
        first, second = (table.get(node, "no rule") for table in rules)
        if first != second:
            return f"composite: {node!r} has {first} there and {second} here"
    return "composite: the rules differ"


@dataclass(frozen=True)
class LayerInfo:
    """One layer of an atlas.

    Parameters
    ----------
    name : str
        The node's full name.
    concept : str
        What a concept is there, in words.
    n_concepts : int
    output_shape : tuple of int
        Of the node, without the batch axis.
    behind : str
        The node behind the activation function that follows; empty if none does, and in files of older versions.
    signed : bool
        Whether values may be negative and no activation function follows; False in files of older versions.
    titles : tuple of str
        What concepts are called that have names of their own, such as directions, and empty texts for the others; empty
        if none has, and in files of older versions.
    """

    name: str
    concept: str
    n_concepts: int
    output_shape: tuple[int, ...]
    behind: str = field(default="", compare=False)
    signed: bool = field(default=False, compare=False)
    titles: tuple[str, ...] = field(default=(), compare=False)

    def attributes(self) -> Attributes:
        values: Attributes = {
            "name": self.name,
            "concept": self.concept,
            "n_concepts": self.n_concepts,
            "output_shape": np.array(self.output_shape, "i8"),
        }
        values |= {"behind": self.behind} if self.behind else {}
        return values | ({"signed": True} if self.signed else {})

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> LayerInfo:
        try:
            shape = tuple(int(entry) for entry in np.atleast_1d(attributes["output_shape"]))
            name, concept, behind = attributes["name"], attributes["concept"], attributes.get("behind", "")
            count, signed = int(attributes["n_concepts"]), bool(attributes.get("signed", False))
            return cls(str(name), str(concept), count, shape, str(behind), signed)
        except (KeyError, TypeError, ValueError) as error:
            raise AtlasError("the attributes of one of its layers are missing or of another type") from error


@dataclass(frozen=True)
class Progress:
    """Which batches of the grid a part has seen.

    Parameters
    ----------
    shard, shards : int
        This part and how many there are, counted from 0.
    first, done, end : int
        Batches: the first of this part, the first that is not seen yet, and the first behind this part.
    batches : int
        Of the whole grid.
    """

    shard: int
    shards: int
    first: int
    done: int
    end: int
    batches: int

    @property
    def finished(self) -> bool:
        return self.done == self.end

    def attributes(self) -> Attributes:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Progress:
        try:
            return cls(**{entry.name: int(attributes[entry.name]) for entry in fields(cls)})
        except (KeyError, TypeError, ValueError) as error:
            raise AtlasError("what it says of its progress is missing or of another type") from error


def layer_path(number: int, mode: Mode | None = None) -> str:
    """Return the path of a layer's group, or of one of its two halves."""
    return f"/layers/{number}" if mode is None else f"/layers/{number}/{mode}"


def titles_path(number: int) -> str:
    """Return the path of the names that a layer's concepts have of their own."""
    return f"{layer_path(number)}/title"
