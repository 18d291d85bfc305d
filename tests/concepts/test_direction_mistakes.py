"""Directions and dictionaries that are wrong: each is refused in a sentence, before it counts for anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from dictionaries import Autoencoder
from nets import lrp_0, normal, small_convnet
from processes import limited
from torch import nn

from crp_kit import CondAttribution, Study, load_directions
from crp_kit.concepts import (
    ChannelConcept,
    DictionaryConcept,
    DirectionConcept,
    MixedConcept,
    NearestCentre,
    NonNegativeCode,
    TokenConcept,
)
from crp_kit.errors import ConceptAxisError, ConditionError, CrpKitWarning, InputError

PAIR = np.eye(2, 4)
LAYER = "1"
NET = small_convnet().double()
Encode = Callable[[torch.Tensor], Any]


def conditioned(concept: MixedConcept) -> torch.Tensor:
    conditions = [{LAYER: [0, 1, 2, 3, 4], "y": [0]}]
    return CondAttribution(NET)(normal(2, 3, 6, 6), conditions, lrp_0(), mask_map=concept, pairing="product").heatmap


class Dictionary(Autoencoder):
    """An autoencoder whose encode and decode can be replaced by functions."""

    def __init__(self, encode: Encode | None = None, decode: Encode | None = None) -> None:
        super().__init__(4, 5)
        self.norm = nn.BatchNorm1d(5, dtype=torch.float64).eval()
        self._encode, self._decode = encode, decode

    def encode(self, activation: torch.Tensor) -> Any:
        code = super().encode(activation)
        return code if self._encode is None else self._encode(code)

    def decode(self, code: torch.Tensor) -> Any:
        decoded = super().decode(code)
        return decoded if self._decode is None else self._decode(decoded)


class Normed(Dictionary):
    """The same with a BatchNorm."""

    def encode(self, activation: torch.Tensor) -> Any:
        code = super().encode(activation)
        return self.norm(code.reshape(-1, 5)).reshape(code.shape)


def batch_top_k(code: torch.Tensor) -> torch.Tensor:
    return code * (code >= code.flatten().topk(code.numel() // 4).values[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"directions": [[1.0, 0.0], [0.0, 0.0]]}, "row 1 of directions is zero in every channel"),
        ({"directions": np.zeros((7, 2))}, "row 0, 1, 2, 3, 4, … of directions is zero"),
        ({"directions": PAIR, "encoder": np.zeros((2, 4))}, "row 0, 1 of encoder is zero"),
        ({"directions": np.zeros((0, 4))}, r"at least one of each; got shape \(0, 4\)"),
        ({"directions": [[np.nan, 1.0]]}, "directions has values that are NaN"),
        ({"directions": PAIR, "names": ["a", "a"]}, "a name of its own"),
        ({"directions": PAIR, "names": ["a"]}, "2 directions and 1 names"),
        ({"directions": PAIR, "names": 5}, "a list of strings, one for each; got 5"),
        ({"directions": PAIR, "names": {"a": 1, "b": 2}}, "a list of strings, one for each"),
        ({"directions": PAIR, "names": ["", "b"]}, "neither empty nor a number"),
        ({"directions": PAIR, "names": ["1", "0"]}, "neither empty nor a number, which is its id; got '1'"),
        ({"directions": PAIR, "names": ["a", "rest"]}, "other than 'mean' and 'rest'; got 'rest'"),
        ({"directions": PAIR, "axis": True}, "axis is a whole number"),
    ],
)
def test_wrong_directions_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DirectionConcept(**arguments)


@pytest.mark.parametrize("concept", [ChannelConcept("x"), TokenConcept(1.0)])  # type: ignore[arg-type]
def test_an_axis_that_is_no_whole_number_is_refused_where_it_is_used(concept: Any) -> None:
    with pytest.raises(ConceptAxisError, match="is a whole number, the row axis counted"):
        concept.attribute(normal(1, 4, 3, 3))


def test_entries_that_are_zero_are_no_factors_but_may_be_a_centre() -> None:
    with pytest.raises(InputError, match="row 1 of entries is zero"):
        NonNegativeCode([[1.0, 0.0], [0.0, 0.0]])
    assert NearestCentre([[1.0, 0.0], [0.0, 0.0]]).encode(torch.tensor([0.1, 0.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(4, 4), "Linear, which has no encode and no decode"),
        (Dictionary, "the class Dictionary"),
        (Dictionary(decode=lambda decoded: decoded[..., :3]), r"decode makes \(..., 4 channels\)"),
        (Dictionary(decode=lambda decoded: decoded.relu()), "decode is not affine"),
        (Dictionary(decode=lambda decoded: decoded.long()), "decode makes finite floating point; it made torch.int64"),
        (Dictionary(decode=lambda decoded: decoded / 0), "decode makes finite floating point; it made values that are"),
        (Dictionary(lambda code: code[..., :0]), r"encode makes \(..., concept\)"),
        (Dictionary(lambda code: code > 0), "encode makes floating point"),
        (Dictionary(lambda code: code.log()), "encode makes codes that are NaN or infinite"),
        (Dictionary(lambda code: code.detach()), "encode has no gradient, .* say split='decoder'"),
        (Dictionary(lambda code: (code > 0).double()), "encode has no gradient"),
        (Dictionary(lambda code: (code - code).sqrt() + code), "the gradient of Dictionary.encode is NaN or infinite"),
        (Dictionary(lambda code: code - code.mean()), "another code of an activation alone"),
        (Dictionary(lambda code: code - code.mean(0)), "another code of an activation alone"),
        (Dictionary(lambda code: code - code.mean(-2, keepdim=True)), "another code of an activation alone"),
        (Dictionary(lambda code: (code - code.mean(0)) / code.std(0)), "another code of an activation alone"),
        (Dictionary(batch_top_k), "another code of an activation alone"),
        (Dictionary(lambda code: nn.functional.dropout(code)), "another code of an activation alone"),
        (Normed().train(), r"the BatchNorm 'norm' of Normed takes statistics .* call eval\(\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:std")
def test_a_wrong_dictionary_is_refused(module: Any, message: str) -> None:
    with pytest.raises((InputError, ConditionError), match=message):
        conditioned(DictionaryConcept(module))


@pytest.mark.parametrize("module", [Normed(), Dictionary(lambda code: code.mul(2)), Autoencoder(4, 5, "topk")])
def test_an_encoder_of_each_position_alone_is_taken(module: nn.Module) -> None:
    state = torch.get_rng_state()
    assert conditioned(DictionaryConcept(module)).isfinite().all()
    assert torch.equal(torch.get_rng_state(), state)


def test_an_encoder_that_begins_to_mix_samples_is_refused_then() -> None:
    module = Normed()
    concept = DictionaryConcept(module)
    conditioned(concept)
    module.train()
    with pytest.raises(ConditionError, match="the BatchNorm 'norm'"):
        conditioned(concept)


def test_an_encoder_that_changes_its_input_changes_a_copy() -> None:
    class InPlace(Autoencoder):
        def encode(self, activation: torch.Tensor) -> torch.Tensor:
            return super().encode(activation.mul_(2))

    plain, activation = Autoencoder(4, 5), normal(2, 4, 3, 3)
    with torch.no_grad():
        plain.reader *= 2
        plain.writer_bias /= 2
    plain.decode = InPlace(4, 5).decode  # type: ignore[method-assign]
    for method in ("virtual", "decoder"):
        values = activation.clone()
        codes = DictionaryConcept(InPlace(4, 5), method, axis=1).values(values)
        assert torch.equal(values, activation)
        assert torch.allclose(codes[:, :5], DictionaryConcept(plain, method, axis=1).values(activation)[:, :5])


def test_the_code_of_an_activation_does_not_depend_on_larger_ones_beside_it() -> None:
    module, small = NonNegativeCode(normal(5, 4, seed=1).abs()), normal(3, 4, seed=2).abs() * 1e-9
    together = module.encode(torch.cat([small, normal(3, 4, seed=3).abs() * 1e3]))
    assert torch.allclose(together[:3], module.encode(small), rtol=1e-6, atol=0)


def changed(path: Path, **settings: Any) -> Path:
    with h5py.File(path, "a") as file:
        file.attrs["settings"] = json.dumps(json.loads(file.attrs["settings"]) | settings)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    DirectionConcept(PAIR, names=["a", "b"]).save(tmp_path / "pair.h5")
    return tmp_path / "pair.h5"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"made": "circles"}, "it holds 'circles', and this crp-kit knows directions"),
        ({"made": ["directions"]}, "it holds"),
        ({"made": "nearest"}, "it has no array 'entries'"),
        ({"names": {"a": 1, "b": 2}}, "a list of strings"),
        ({"names": ["a"]}, "2 directions and 1 names"),
        ({"axis": "last"}, "axis is a whole number"),
    ],
)
def test_a_file_with_other_settings_is_no_file_of_directions(file: Path, settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"is no file of directions: .*{message}"):
        load_directions(changed(file, **settings))


def test_a_file_with_changed_arrays_is_damaged_and_one_without_a_checksum_is_read(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened["mean"][0] = 1.0
    with pytest.raises(InputError, match="it is damaged"):
        load_directions(file)
    with h5py.File(file, "a") as opened:
        del opened.attrs["sha256"]
    assert load_directions(file).names == ("a", "b")


def test_a_file_in_no_folder_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder .*; make it first"):
        DirectionConcept(PAIR).save(tmp_path / "missing" / "pair.h5")


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    concept = DirectionConcept(np.eye(20, 40))
    for size in (100, 3000, 7000):
        with limited(size), pytest.raises(InputError, match="cannot write .*: the disk, or what you may use of it, is"):
            concept.save(tmp_path / "pair.h5")
        assert list(tmp_path.iterdir()) == []


def test_a_study_warns_of_directions_of_another_layer_or_model() -> None:
    images = [(image, 0) for image in normal(4, 3, 6, 6, dtype=torch.float32)]
    net = small_convnet()
    concept = Study(net, images).fit_directions(LAYER, n=2)
    Study(net, images, concepts={LAYER: concept})
    with pytest.warns(CrpKitWarning, match="of '0' were fitted to the layer '1': what they stand for"):
        Study(net, images, concepts={"0": concept})
    with pytest.warns(CrpKitWarning, match="were fitted to another model, or to this one"):
        Study(small_convnet(), images, concepts=concept)
    with pytest.raises(InputError, match="concepts is a Concept, .*; got the class DirectionConcept"):
        Study(net, images, concepts={LAYER: DirectionConcept})  # type: ignore[dict-item]
