"""Format 1 of the atlas file as data: its header, layers, progress and array specifications."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...checks import is_integer
from ...errors import AtlasError
from ...escapes import is_storable

__all__ = [
    "ENCODING",
    "HALF",
    "MODES",
    "MOMENTS",
    "OVERALL",
    "VERSION",
    "Array",
    "ArraySpec",
    "Floats",
    "Header",
    "Integers",
    "LayerInfo",
    "Mode",
    "MomentArrays",
    "Progress",
    "Tree",
    "array_spec",
    "checksum",
    "content_bytes",
    "digests_text",
    "encoded",
    "layer_path",
    "text_digest",
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

_CHUNK_BYTES = 1 << 16


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
_OMITTED = {*_FINGERPRINTS, "matrix_dtype"}
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
        for one in fields(cls):
            if one.name not in attributes and one.default is not MISSING:
                continue
            value = attributes.get(one.name)
            kind = known[str(one.type)]
            fits = is_integer(value) if kind is int else isinstance(value, (bool, np.bool_) if kind is bool else str)
            if not fits:
                raise AtlasError(f"its attribute {one.name!r} is missing or no {kind.__name__}: {value!r}")
            values[one.name] = kind(value)
        return cls(**values)

    def attributes(self) -> Attributes:
        """Return everything as attributes, without fingerprints that are not known and what older files lack."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if value or name not in _OMITTED}

    def lasting(self) -> Attributes:
        """Return the attributes that stay as they are when data is named in another way, or a sample is mended."""
        changing = {"model", "dataset", "dataset_sha256", "sample_digests", "input_digests"}
        return {name: value for name, value in self.attributes().items() if name not in changing}

    def differences(self, other: Header) -> list[str]:
        """Say where another header differs, the words for model and dataset apart; this one's value first."""
        found = []
        ignored = {"model", "dataset"} | ({"dataset_sha256"} if self._has_samples_of(other) else set())
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if mine == theirs or one.name in ignored:
                continue
            if one.name.endswith("_digests"):
                found += [_FINGERPRINTS[one.name].format(number) for number in _differing(mine, theirs)[:1]]
            elif one.name in _FINGERPRINTS:
                found += [_FINGERPRINTS[one.name]] if mine and theirs else []
            elif one.name == "composite":
                found.append(_rule_difference(mine, theirs))
            elif one.name.endswith("_sha256"):
                found.append(f"{one.name.removesuffix('_sha256')} has another content (SHA-256)")
            else:
                found.append(f"{one.name} is {mine!r} there and {theirs!r} here")
        return found

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
    one, other = (dict(pair.split(":", 1) for pair in text.split() if ":" in pair) for text in (mine, theirs))
    return [number for number in one if other.get(number, one[number]) != one[number]]


def _rule_difference(mine: str, theirs: str) -> str:
    """Name the first node that has another rule."""
    rules = [{node: rule for rule, nodes in json.loads(text).items() for node in nodes} for text in (mine, theirs)]
    for node in dict.fromkeys([*rules[0], *rules[1]]):
        one, other = (table.get(node, "no rule") for table in rules)
        if one != other:
            return f"composite: {node!r} has {one} there and {other} here"
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
    """

    name: str
    concept: str
    n_concepts: int
    output_shape: tuple[int, ...]

    def attributes(self) -> Attributes:
        return {
            "name": self.name,
            "concept": self.concept,
            "n_concepts": self.n_concepts,
            "output_shape": np.array(self.output_shape, "i8"),
        }

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> LayerInfo:
        try:
            shape = tuple(int(one) for one in np.atleast_1d(attributes["output_shape"]))
            return cls(str(attributes["name"]), str(attributes["concept"]), int(attributes["n_concepts"]), shape)
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
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Progress:
        try:
            return cls(**{one.name: int(attributes[one.name]) for one in fields(cls)})
        except (KeyError, TypeError, ValueError) as error:
            raise AtlasError("what it says of its progress is missing or of another type") from error


@dataclass(eq=False)
class ArraySpec:
    """One dataset of a file.

    Parameters
    ----------
    shape, dtype
        Of the dataset.
    read : callable
        From a slice of the first axis to that part of the values.
    chunks : tuple of int
    attributes : dict, optional
        Of the dataset itself; an atlas has none.

    Attributes
    ----------
    digest : str
        SHA-256 of the values that `blocks` has yielded.
    """

    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[slice], Array]
    chunks: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    digest: str = field(init=False, default=hashlib.sha256().hexdigest())

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield the values in blocks of whole chunks, of bounded size, and note their digest."""
        content = hashlib.sha256()
        for part in self.parts():
            values = self.read(part)
            content.update(content_bytes(values, self.dtype))
            yield part, values
        self.digest = content.hexdigest()

    def parts(self) -> Iterator[slice]:
        """Yield the slices of the first axis that are read or written at once: whole chunks, of bounded size.

        Of an array without values there are none.
        """
        if 0 in self.shape:
            return
        bytes_per_row = max(1, int(np.prod(self.shape[1:])) * np.dtype(self.dtype).itemsize)
        step = max(self.chunks[0], (1 << 26) // bytes_per_row // self.chunks[0] * self.chunks[0])
        for start in range(0, self.shape[0], step):
            yield slice(start, min(start + step, self.shape[0]))


@dataclass(eq=False)
class Tree:
    """What a file holds: attributes by group, and datasets by path."""

    groups: dict[str, Attributes] = field(default_factory=dict)
    arrays: dict[str, ArraySpec] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, before compression."""
        return sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in self.arrays.values())


def array_spec(
    values: Any,
    *,
    rows: Integers | None = None,
    swap: bool = False,
    dtype: Any = None,
    blank: Callable[[Array], Array] = lambda values: values,
) -> ArraySpec:
    """Return how an array is stored: `rows` of it, all by default; with `swap` its first two axes change places.

    Both happen block by block. Chunks hold whole rows along the first axis as stored, about 64 KiB, so that reading one
    concept reads one chunk; rows longer than that are cut.
    """
    count = len(values) if rows is None else len(rows)
    shape = (values.shape[1], count, *values.shape[2:]) if swap else (count, *values.shape[1:])
    kind = np.dtype(dtype or values.dtype)
    taken = slice(None) if rows is None else rows

    def read(part: slice) -> Array:
        wanted = (taken, part) if swap else part if rows is None else rows[part]
        block = np.swapaxes(values[wanted], 0, 1) if swap else values[wanted]
        return np.ascontiguousarray(blank(np.asarray(block)), dtype=kind)

    return ArraySpec(tuple(shape), kind, read, _chunks(tuple(shape), kind.itemsize))


def content_bytes(values: Array, dtype: Any) -> bytes:
    """Return values, as the type that they were written as, in the form that digests are taken of."""
    kind = np.dtype(dtype)
    if kind.kind == "S":
        return b"".join(value + b"\0" for value in values.ravel().tolist())
    return values.astype(kind.newbyteorder("<"), copy=False).tobytes()


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    if len(shape) == 2 and shape[1] * itemsize * 16 > _CHUNK_BYTES:
        return min(shape[0], 256), max(1, _CHUNK_BYTES // itemsize // 256)
    row = max(1, int(np.prod(shape[1:])) * itemsize)
    rows = min(max(1, shape[0]), max(1, _CHUNK_BYTES // row))
    return rows, *(max(1, size) for size in shape[1:])


def layer_path(number: int, mode: Mode | None = None) -> str:
    """Return the path of a layer's group, or of one of its two halves."""
    return f"/layers/{number}" if mode is None else f"/layers/{number}/{mode}"


def encoded(strings: Sequence[str]) -> Array:
    """Return strings as UTF-8 of one length, so that they are stored within their dataset, not in a heap.

    Raises
    ------
    AtlasError
        If one holds a NUL, which ends a string there, or is not Unicode; names from outside are escaped before.
    """
    wrong = next((text for text in strings if not is_storable(text)), None)
    if wrong is not None:
        raise AtlasError(f"a file cannot hold the text {wrong!r:.200}")
    array: Array = np.char.encode(np.array(strings, dtype=str), "utf-8")
    return array.astype(f"S{max(1, array.dtype.itemsize)}")


def text_digest(strings: Sequence[str]) -> str:
    """Return a SHA-256 of strings: HDF5 keeps no checksum of those."""
    return hashlib.sha256("\n".join(strings).encode()).hexdigest()


def checksum(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a SHA-256 of every attribute of every group but the checksum's own.

    A reader looks for groups, those of later versions too, in the root, in ``/layers``, in each layer, and in each mode
    of a layer, and nowhere else.
    """
    plain = {
        path: {name: _plain(value) for name, value in attributes.items() if name != "checksum"}
        for path, attributes in groups.items()
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
