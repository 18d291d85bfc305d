"""Directions that are fitted: PCA and PRCA by their eigenproblems, codes by scipy, concept vectors by hand."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from nets import lrp_0, normal, small_convnet
from scipy.optimize import nnls
from sklearn.decomposition import PCA
from torch import nn

import crp_kit as crp
from crp_kit import DictionaryConcept, DirectionConcept, Study
from crp_kit.concepts import NearestCentre, NonNegativeCode
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import ConditionError, InputError
from crp_kit.statistics.subspaces import SecondMoments

CHANNELS, SAMPLES = 6, 24
LAYER = "1"


@lru_cache
def study() -> Study:
    """A small network in float64, and images in three classes."""
    torch.manual_seed(0)
    model = small_convnet(channels=CHANNELS).double()
    images = normal(SAMPLES, 3, 8, 8)
    return Study(model, [(image, number % 3) for number, image in enumerate(images)], composite=lrp_0())


@lru_cache
def activations() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Activation of the layer and gradient of each sample's class, (sample, position, channel), by autograd."""
    model: Any = study().model
    images = torch.stack([image for image, _ in study().data])
    values = model[:2](images).detach().requires_grad_()
    output = model[2:](values)
    total = sum(output[number, number % 3] for number in range(SAMPLES))
    (gradient,) = torch.autograd.grad(total, values)
    return tuple(part.detach().flatten(2).movedim(1, 2).numpy() for part in (values, gradient))  # type: ignore[return-value]


def flat() -> np.ndarray[Any, Any]:
    return activations()[0].reshape(-1, CHANNELS)


def test_pca_is_that_of_all_positions() -> None:
    expected = PCA(3).fit(flat())
    for batch_size in (5, SAMPLES):
        concept = study().fit_directions(LAYER, "pca", 3, batch_size=batch_size)
        assert isinstance(concept, DirectionConcept)
        np.testing.assert_allclose(concept.mean, expected.mean_, rtol=1e-10)
        overlap = np.abs(concept.directions.numpy() @ expected.components_.T)
        np.testing.assert_allclose(overlap, np.eye(3), atol=1e-7)


def cross() -> np.ndarray[Any, Any]:
    values, gradient = activations()
    product: np.ndarray[Any, Any] = np.einsum("spi,spj->ij", values, gradient)
    return product / (values.shape[0] * values.shape[1])


def carried(directions: Any) -> float:
    """The mean relevance that passes a subspace with orthonormal directions, (direction, channel)."""
    basis = np.asarray(directions)
    return float(np.trace(basis @ cross() @ basis.T))


def test_prca_solves_its_eigenproblem() -> None:
    concept = study().fit_directions(LAYER, "prca", 2)
    assert isinstance(concept, DirectionConcept)
    values, vectors = np.linalg.eigh(cross() + cross().T)
    np.testing.assert_allclose(np.abs(concept.directions.numpy() @ vectors[:, ::-1][:, :2]), np.eye(2), atol=1e-8)
    assert carried(concept.directions) == pytest.approx(values[::-1][:2].sum() / 2, rel=1e-10)


@pytest.mark.parametrize("n", [1, 3])
def test_no_other_directions_carry_more_relevance_than_those_of_prca(n: int) -> None:
    own = carried(study().fit_directions(LAYER, "prca", n).directions)  # type: ignore[union-attr]
    pca = carried(study().fit_directions(LAYER, "pca", n).directions)  # type: ignore[union-attr]
    drawn = [carried(np.linalg.qr(normal(CHANNELS, n, seed=seed).numpy())[0].T) for seed in range(200)]
    assert own >= max(pca, *drawn) - 1e-12


def test_on_the_demo_no_directions_carry_more_relevance_than_those_of_prca() -> None:
    """By the shares that conditions have, under other rules than LRP-0, against PCA and directions that are drawn."""
    layer, data, n = "layer2.1.relu_1", ShapesDataset(8), 3
    own = Study(demo_resnet().double(), data, preprocess=demo_preprocess)
    images, labels = data.batch(range(len(data)))
    sets = [{"y": [label]} for label in labels.tolist()]

    def carries(directions: torch.Tensor) -> float:
        attr = own(images, sets, record_layer=[layer], mask_map=DirectionConcept(directions), pairing="zip")
        return float(attr.by_concept[layer][:, : len(directions)].sum())

    prca, pca = (own.fit_directions(layer, method, n).directions for method in ("prca", "pca"))  # type: ignore[arg-type, union-attr]
    others = [torch.linalg.qr(normal(32, n, seed=seed)).Q.T for seed in range(4)]
    near = [torch.linalg.qr((prca + 0.02 * normal(n, 32, seed=seed)).T).Q.T for seed in range(2)]
    most = carries(prca)
    assert most > 1.05 * max(map(carries, others))
    assert most > carries(pca)
    assert most > max(map(carries, near))


def test_the_relevance_of_prca_directions_is_what_the_subspace_carries() -> None:
    concept = study().fit_directions(LAYER, "prca", 2)
    images = torch.stack([image for image, _ in study().data])
    sets = [{"y": [number % 3]} for number in range(SAMPLES)]
    attr = study()(images, sets, record_layer=[LAYER], mask_map=concept, pairing="zip")
    shares = attr.by_concept[LAYER]
    assert float(shares[:, :2].sum(1).mean()) == pytest.approx(carried(concept.directions), rel=1e-8)  # type: ignore[union-attr]


def test_moments_are_the_same_in_parts() -> None:
    rows, others = normal(30, 4).numpy(), normal(30, 4, seed=1).numpy()
    whole, parts = SecondMoments.empty(4), [SecondMoments.empty(4) for _ in range(3)]
    whole.add(rows, others)
    for number, part in enumerate(parts):
        part.add(rows[number::3], others[number::3])
    merged = parts[0].merge(parts[1]).merge(parts[2])
    np.testing.assert_allclose(merged.pca(2)[0], whole.pca(2)[0], rtol=1e-10)
    np.testing.assert_allclose(merged.prca(2), whole.prca(2), rtol=1e-10)


def test_a_non_negative_code_is_the_best_one() -> None:
    entries = normal(4, CHANNELS).abs()
    code = NonNegativeCode(entries).encode(torch.from_numpy(flat()))
    expected = [nnls(entries.numpy().T, row)[0] for row in flat()]
    np.testing.assert_allclose(code, expected, atol=1e-6)


@pytest.mark.parametrize("method", ["nmf", "kmeans"])
def test_dictionaries_are_the_same_again_and_rebuild_better_than_others(method: Any) -> None:
    concepts = [study().fit_directions(LAYER, method, 4, positions=20, batch_size=size) for size in (5, SAMPLES)]
    assert concepts[0].identity == concepts[1].identity
    module: Any = concepts[0].module  # type: ignore[union-attr]
    rows = torch.from_numpy(flat())
    error = float((rows - module.decode(module.encode(rows))).square().mean())
    for seed in range(5):
        other = type(module)(normal(4, CHANNELS, seed=seed).abs())
        assert error < float((rows - other.decode(other.encode(rows))).square().mean())


def test_shares_of_a_dictionary_sum_to_the_relevance_of_the_layer() -> None:
    concept = study().fit_directions(LAYER, "nmf", 3)
    attr = study()(study().data[0][0], [{"y": [1]}], record_layer=[LAYER], mask_map=concept)
    np.testing.assert_allclose(attr.by_concept[LAYER].sum(1), attr.relevances[LAYER].sum(1), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("method", ["pattern", "difference", "logistic"])
def test_a_concept_vector_leads_from_one_group_to_the_other(method: Any) -> None:
    values, _ = activations()
    means = values.mean(1)
    a, b = [0, 3, 6, 9, 12], [1, 2, 4, 5, 7, 8]
    concept = study().concept_vector(a, b, layer=LAYER, method=method, name="first")
    code = concept.values(torch.from_numpy(means))[:, 0].numpy()
    assert code[a].mean() > 0 > code[b].mean()
    assert float(concept.directions.norm()) == pytest.approx(1)
    if method != "logistic":
        difference = means[a].mean(0) - means[b].mean(0)
        np.testing.assert_allclose(concept.directions[0], difference / np.linalg.norm(difference), rtol=1e-10)
    images = torch.stack([study().data[number][0] for number in a])
    again = study().concept_vector(images, np.array(b), layer=LAYER, method=method)
    np.testing.assert_allclose(again.directions, concept.directions, rtol=1e-8)


@pytest.mark.parametrize("method", ["pca", "nmf", "kmeans", "prca"])
def test_a_file_holds_the_same_directions(tmp_path: Path, method: Any) -> None:
    concept = study().fit_directions(LAYER, method, 3)
    concept.save(tmp_path / "directions.h5")
    loaded = crp.load_directions(tmp_path / "directions.h5")
    assert loaded.identity == concept.identity
    assert loaded.provenance == concept.provenance
    assert {"layer": LAYER, "method": method, "n": 3, "samples": SAMPLES}.items() <= loaded.provenance.items()
    with pytest.raises(InputError, match="exists"):
        concept.save(tmp_path / "directions.h5")
    concept.save(tmp_path / "directions.h5", overwrite=True)


def test_names_and_axis_are_kept(tmp_path: Path) -> None:
    DirectionConcept(torch.eye(2), names=["a", "b"], axis=-1).save(tmp_path / "named.h5")
    loaded = crp.load_directions(tmp_path / "named.h5")
    assert (loaded.names, loaded.axis) == (("a", "b"), -1)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no directions file"):
        crp.load_directions(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match=r"text.h5 is no file of directions"):
        crp.load_directions(tmp_path / "text.h5")
    path = tmp_path / "linked.h5"
    DirectionConcept(torch.eye(2)).save(path)
    with h5py.File(path, "r+") as file:
        del file["mean"]
        file["mean"] = h5py.ExternalLink("other.h5", "mean")
    with pytest.raises(InputError, match="'mean' is a link"):
        crp.load_directions(path)
    with h5py.File(path, "r+") as file:
        del file["mean"]
    with pytest.raises(InputError, match="is no file of directions"):
        crp.load_directions(path)
    with pytest.raises(InputError, match="save its state dict"):
        DictionaryConcept(Own()).save(tmp_path / "own.h5")


class Own(nn.Module):
    """A dictionary of a user's own."""

    def encode(self, activation: torch.Tensor) -> torch.Tensor:
        return activation

    decode = encode


def test_wrong_fits_are_named() -> None:
    own = study()
    with pytest.raises(InputError, match=r"NMF is of values that are not negative, and these go down to -"):
        own.fit_directions("0", "nmf", 2)
    with pytest.raises(InputError, match="no 7 directions in 6 channels"):
        own.fit_directions(LAYER, "pca", 7)
    with pytest.raises(InputError, match="method is 'pca'"):
        own.fit_directions(LAYER, "ica")  # type: ignore[arg-type]
    with pytest.raises(ConditionError, match="PRCA is of relevance"):
        own.replace(composite=None).fit_directions(LAYER, "prca", 2)
    with pytest.raises(InputError, match="samples_b is empty: a concept activation vector needs samples"):
        own.concept_vector([0, 1], [], layer=LAYER)
    with pytest.raises(InputError, match="both groups of samples are the same"):
        own.concept_vector([0, 1], [0, 1], layer=LAYER)
    with pytest.raises(InputError, match="samples_a is numbers of samples, from 0 to 23, or a batch of images; got 99"):
        own.concept_vector([99], [1], layer=LAYER)
    with pytest.raises(InputError, match="samples_a is numbers of samples.*got None"):
        own.concept_vector(None, [1], layer=LAYER)
    with pytest.raises(InputError, match="entries is .direction, channel"):
        NearestCentre([1.0])
