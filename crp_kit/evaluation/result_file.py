"""Files of results of evaluations: an .npz with their arrays, and a header with the rest and with their origin."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..attribution.subject import Subject
from ..data.fingerprints import fingerprint
from ..errors import InputError
from ..files import atomic_file, check_file, error_reason
from ..models.state_dict import state_digest
from ..statistics.localisation import LocalisationScores
from ..version import __version__
from .clarity_table import ClarityTable
from .composite_table import CompositeTable
from .curves import FlippingCurves
from .impact import ConceptImpact
from .localisation_tables import ConceptLocalisation, Localisation
from .robustness_tables import Randomisation, Sensitivity

__all__ = ["Result", "StoredResult", "checked_path", "load_result", "save_result"]

Result: TypeAlias = (
    FlippingCurves | ConceptImpact | Localisation | ConceptLocalisation | Randomisation | Sensitivity | CompositeTable
    | ClarityTable
)  # fmt: skip
_TYPES: tuple[type[Any], ...] = (
    FlippingCurves, ConceptImpact, Localisation, ConceptLocalisation, Randomisation, Sensitivity, CompositeTable,
    ClarityTable, LocalisationScores,
)  # fmt: skip
_BY_NAME = {cls.__name__: cls for cls in _TYPES}
_FORMAT = "crp-kit evaluation 1"
_LARGEST, _LARGEST_HEADER = 1 << 32, 1 << 22
"""Bytes of all arrays, and of the header, of a file that is opened."""


@dataclass(frozen=True, eq=False)
class StoredResult:
    """A result from a file.

    Parameters
    ----------
    result : Result
    model_sha256, data_sha256 : str
        Fingerprints of the model and the data that it is of.
    version : str
        Of crp-kit, which wrote it.
    """

    result: Result
    model_sha256: str
    data_sha256: str
    version: str

    def check_belongs(self, subject: Subject) -> None:
        """Make sure that model and data of a subject are those of the result.

        Raises
        ------
        InputError
            If one is another.
        """
        for what, stored, own in (
            ("model", self.model_sha256, state_digest(subject.model)),
            ("data", self.data_sha256, fingerprint(subject.samples)),
        ):
            if stored != own:
                raise InputError(f"the result is of another {what} than the study's: redo it, or check=False trusts it")


def save_result(result: Result, subject: Subject, path: Path, *, overwrite: bool) -> None:
    """Write a result with the fingerprints of model and data; see `crp_kit.evaluation.Evaluation.save`."""
    if not isinstance(result, _TYPES):
        raise InputError(f"what is saved is a result of an evaluation; got {type(result).__name__}")
    if path.suffix != ".npz":
        raise InputError(f"a result is saved as .npz; got {str(path)!r}")
    arrays: dict[str, Any] = {}
    header = {
        "format": _FORMAT,
        "version": __version__,
        "model_sha256": state_digest(subject.model),
        "data_sha256": fingerprint(subject.samples),
        "result": _encoded(result, "result", arrays),
    }
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    try:
        with atomic_file(path, replace=overwrite) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error_reason(error)}") from error


def load_result(path: str | Path) -> StoredResult:
    """Return a result from a file that `crp_kit.evaluation.Evaluation.save` has written.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    InputError
        If there is no such file, or it is something else.
    """
    file = checked_path(path)
    check_file(file, "result")
    try:
        with zipfile.ZipFile(file) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
        if sum(sizes.values()) > _LARGEST or sizes.get("header.npy", _LARGEST) > _LARGEST_HEADER:
            raise ValueError("it has no header, or is too large")
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop("header").tobytes())
        if header["format"] != _FORMAT:
            raise ValueError(f"its format is {header['format']!r}")
        digests = (str(header[name]) for name in ("model_sha256", "data_sha256", "version"))
        return StoredResult(_decoded(header["result"], arrays), *digests)
    except Exception as error:  # a damaged file may fail in any way
        raise InputError(f"{file} is no result of an evaluation: {type(error).__name__}: {error}") from error


def checked_path(path: str | Path) -> Path:
    """Return the path that a name means.

    Raises
    ------
    InputError
        If it is no text and no path.
    """
    if not isinstance(path, (str, Path)):
        raise InputError(f"a file is named by a text or a path; got {path!r}")
    return Path(path)


def _encoded(value: Any, name: str, arrays: dict[str, Any]) -> Any:
    """Return a value for JSON, and put its arrays aside."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    if is_dataclass(value) and isinstance(value, _TYPES):
        of_fields = {field.name: getattr(value, field.name) for field in fields(value)}
        parts = {key: _encoded(part, f"{name}.{key}", arrays) for key, part in of_fields.items()}
        return {"type": type(value).__name__, "fields": parts}
    if isinstance(value, Mapping):
        numbered = enumerate(value.items())
        return {"items": [[key, _encoded(part, f"{name}.{number}", arrays)] for number, (key, part) in numbered]}
    if isinstance(value, tuple):
        return {"tuple": [_encoded(part, f"{name}.{number}", arrays) for number, part in enumerate(value)]}
    return value


def _decoded(value: Any, arrays: Mapping[str, Any]) -> Any:
    """Return what `_encoded` has made."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "items" in value:
        return {key: _decoded(part, arrays) for key, part in value["items"]}
    if "tuple" in value:
        return tuple(_decoded(part, arrays) for part in value["tuple"])
    parts = {name: _decoded(part, arrays) for name, part in value["fields"].items()}
    return _BY_NAME[value["type"]](**parts)
