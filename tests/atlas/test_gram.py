"""The Gram matrix of scores is exact, the same in any order and division of the samples, and gives covariances."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from atlas_case import LAYERS, build, datasets, same_bits
from synthetic_pass import SyntheticPass

import crp_kit as crp
from crp_kit.atlas.build import estimate
from crp_kit.atlas.build.pass_state import PassState
from crp_kit.atlas.file.header import LayerInfo
from crp_kit.atlas.statistics.base import in_memory
from crp_kit.atlas.statistics.exact_gram import ExactGram
from crp_kit.errors import AtlasError

CONCEPTS = 7


def drawn(rows: int, seed: int = 0, concepts: int = CONCEPTS) -> Any:
    """Scores over many orders of magnitude, differing by concept, with zeros, ties, and a concept of zeros alone."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(rows, concepts)) * 10.0 ** draw.integers(-9, 9, (rows, concepts))
    values[:, 1] = draw.normal(size=rows) * 1e-40
    values[:, 2] = draw.choice([0, 0.5, -0.5, -0.0], rows)
    values[:, 3] = 0
    values[:, 4] = draw.uniform(0.5, 1, rows)
    return values.astype("f4")


def gram(*parts: Any) -> ExactGram:
    made = ExactGram(parts[0].shape[1], in_memory)
    for part in parts:
        made.add(part)
    return made


def exact(values: Any) -> list[list[Fraction]]:
    rows = [[Fraction(float(value)) for value in row] for row in values]
    return [[sum((row[i] * row[j] for row in rows), Fraction(0)) for j in range(CONCEPTS)] for i in range(CONCEPTS)]


def bits(made: ExactGram) -> tuple[bytes, ...]:
    return (made.total(slice(None)).tobytes(), *(array.tobytes() for array in made.arrays.values()))


def test_sums_of_products_are_those_of_fractions() -> None:
    values = drawn(60)
    total, expected = gram(values).total(slice(None)), exact(values)
    largest = np.abs(values.astype("f8")).max(0)
    for i in range(CONCEPTS):
        for j in range(CONCEPTS):
            error = abs(Fraction(float(total[i, j])) - expected[i][j])
            assert error <= len(values) * Fraction(2.0**-29) * Fraction(largest[i]) * Fraction(largest[j])


def test_sums_of_shares_of_one_size_are_exact_to_the_last_bit() -> None:
    values = np.random.default_rng(0).choice([-1, 1], (300, CONCEPTS)) * np.random.default_rng(1).uniform(
        2.0**-9, 2.0**-1, (300, CONCEPTS)
    )
    values = values.astype("f4")
    expected = exact(values)
    total = gram(values).total(slice(None))
    np.testing.assert_allclose(total, np.array(expected, float), rtol=2.0**-52, atol=2.0**-53)


@pytest.mark.parametrize("seed", range(6))
def test_any_order_and_division_of_the_rows_gives_the_same_bits(seed: int) -> None:
    values, draw = drawn(700, seed), np.random.default_rng(seed)
    whole = bits(gram(values))
    order = draw.permutation(len(values))
    assert bits(gram(values[order])) == whole
    assert bits(gram(*np.array_split(values[order], np.sort(draw.integers(0, 700, 9))))) == whole
    assert bits(gram(values[np.argsort(np.abs(values[:, 0]))])) == whole
    merged = ExactGram(CONCEPTS, in_memory)
    for part in np.array_split(values[order], np.sort(draw.integers(0, 700, 5))):
        merged.merge(gram(part).arrays)
    assert bits(merged) == whole


def test_a_part_of_the_concepts_is_that_part_of_the_sums() -> None:
    made = gram(drawn(40))
    np.testing.assert_array_equal(made.total(slice(2, 5)), made.total(slice(None))[2:5])


def test_nothing_gives_zeros() -> None:
    assert not ExactGram(3, in_memory).total(slice(None)).any()
    assert not gram(np.zeros((0, 3), "f4"), np.zeros((5, 3), "f4")).total(slice(None)).any()


# ----------------------------------------------------------------------------------------------------------- in a file

PASS = SyntheticPass(
    tuple(int(label) for label in np.random.default_rng(0).integers(-1, 4, 23)), concepts=(5, 3), matrix=True
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return PASS.write(tmp_path_factory.mktemp("gram") / "a.h5")


@pytest.mark.parametrize("mode", ["relevance", "activation"])
def test_the_file_has_the_products_of_its_matrix_and_sums_by_class(path: Path, mode: Any) -> None:
    with crp.ConceptAtlas(path) as atlas:
        for layer in atlas.layers:
            scores = atlas[layer].score(mode)
            held = atlas.targets >= 0
            matrix, target = np.asarray(scores.matrix)[held].astype("f8"), atlas.targets[held]
            made = {name: np.asarray(array) for name, array in scores.arrays("gram").items()}
            assert {name: array.dtype.str for name, array in made.items()} == {
                "gram": "<f8",
                "count": "<i8",
                "sum": "<f8",
            }
            np.testing.assert_allclose(made["gram"], matrix.T @ matrix, rtol=1e-9, atol=1e-8)
            for row, cls in enumerate(atlas.seen):
                assert made["count"][row] == (target == cls).sum()
                np.testing.assert_allclose(made["sum"][row], matrix[target == cls].sum(0), rtol=1e-12, atol=1e-12)
    assert crp.verify_atlas(path) == ()


def test_correlation_within_classes_follows_from_the_file_alone(path: Path) -> None:
    with crp.ConceptAtlas(path) as atlas:
        scores, target = atlas["layer0"].relevance, atlas.targets
        made = {name: np.asarray(array) for name, array in scores.arrays("gram").items()}
        within = made["gram"] - (made["sum"] / made["count"][:, None]).T @ made["sum"]
        matrix = np.asarray(scores.matrix).astype("f8")
        centred = np.concatenate([matrix[target == cls] - matrix[target == cls].mean(0) for cls in atlas.seen])
        scale = np.sqrt(np.diag(within))
        np.testing.assert_allclose(within / np.outer(scale, scale), np.corrcoef(centred.T), atol=1e-10)


def test_shards_checkpoints_and_batches_of_any_size_give_the_same_bits(path: Path, tmp_path: Path) -> None:
    def arrays(file: Path) -> dict[str, bytes]:
        return {name: values.tobytes() for name, values in datasets(file).items() if "/gram/" in name}

    whole = arrays(path)
    assert len(whole) == 12
    for cut in (1, 5, 11):
        crp.merge_atlases(list(reversed(list(PASS.shards(tmp_path, cut)))), tmp_path / f"{cut}.h5").close()
        assert same_bits(tmp_path / f"{cut}.h5", path)
    for size in (1, 5, 23):
        other = SyntheticPass(PASS.labels, concepts=PASS.concepts, matrix=True, batch_size=size)
        assert arrays(other.write(tmp_path / f"size-{size}.h5")) == whole


@pytest.mark.parametrize("target", ["label", "top:0.05", lambda output, labels: labels[:1] if labels[0] % 2 else ()])
def test_builds_of_any_target_are_sound_and_their_shards_the_same(tmp_path: Path, target: Any) -> None:
    options: dict[str, Any] = {"layers": LAYERS[:1], "target": target}
    with build(tmp_path / "whole.h5", **options) as atlas:
        for mode in ("relevance", "activation"):
            scores = atlas[LAYERS[0]].score(mode)  # type: ignore[arg-type]
            matrix = np.asarray(scores.matrix)[atlas.targets >= 0].astype("f8")
            np.testing.assert_allclose(
                np.asarray(scores.arrays("gram")["gram"]), matrix.T @ matrix, rtol=1e-9, atol=1e-12
            )
    assert crp.verify_atlas(tmp_path / "whole.h5") == ()
    parts = [tmp_path / f"{number}.h5" for number in range(3)]
    for number, part in enumerate(parts):
        build(part, shard=(number, 3), **options).close()
    crp.merge_atlases(parts, tmp_path / "merged.h5").close()
    assert same_bits(tmp_path / "merged.h5", tmp_path / "whole.h5")


def test_large_layers_are_without_it_and_that_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from crp_kit.atlas.statistics.gram import Gram

    monkeypatch.setattr(Gram, "most_concepts", 4)
    path = PASS.write(tmp_path / "a.h5")
    with crp.ConceptAtlas(path) as atlas:
        assert atlas["layer1"].relevance.arrays("gram")["gram"].shape == (3, 3)
        with pytest.raises(
            AtlasError, match="no gram of 'layer0' by relevance: layers with more than 4 concepts have none"
        ):
            atlas["layer0"].relevance.arrays("gram")
    assert crp.verify_atlas(path) == ()
    with caplog.at_level("INFO", estimate.__name__):
        estimate.say_estimate(PASS.header, PASS.layers, path, 1 << 30)
    assert "layer0 has 5 concepts: there is no statistic 'gram' of layers with more than 4" in caplog.text
    assert "layer1" not in caplog.text


def test_more_than_4096_concepts_are_too_many() -> None:
    layers = tuple(LayerInfo(f"layer{count}", "channel", count, (count,)) for count in (4096, 4097))
    empty = [PassState(PASS.header, (layer,), PASS.empty().progress, np.arange(2)) for layer in layers]
    held = ["/layers/0/relevance/gram/gram" in state.tree({}, complete=True).arrays for state in empty]
    assert held == [True, False]


def test_a_file_of_an_older_version_is_without_it(path: Path, tmp_path: Path) -> None:
    parts = list(PASS.shards(tmp_path, 3))
    with h5py.File(parts[0], "r+", libver=("v110", "v110")) as file:
        del file["digests"]
        for layer in "01":
            for mode in ("relevance", "activation"):
                del file[f"layers/{layer}/{mode}/gram"], file[f"layers/{layer}/{mode}/exact_gram"]
    renew(parts[0])
    crp.merge_atlases(parts, tmp_path / "whole.h5").close()
    assert crp.verify_atlas(tmp_path / "whole.h5") == ()
    with crp.ConceptAtlas(tmp_path / "whole.h5") as atlas, pytest.raises(AtlasError, match="no gram .* build it anew"):
        atlas["layer0"].relevance.arrays("gram")


def renew(path: Path) -> None:
    from crp_kit.atlas.file.expected_groups import expected_groups
    from crp_kit.atlas.file.file_tree import checksum
    from crp_kit.atlas.file.hdf5_reader import H5File

    with H5File(path) as opened:
        renewed = checksum({group: opened.attributes(group) for group in expected_groups(opened)})
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file.attrs["checksum"] = renewed


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("gram", np.zeros((5, 4)), r"gram/gram has shape \(5, 4\) and should have \(5, 5\)"),
        ("gram", np.zeros((5, 5), "i8"), "gram/gram has the type int64"),
        ("count", np.zeros(9, "i8"), r"gram/count has shape \(9,\)"),
        ("sum", np.zeros((5, 4)), r"gram/sum has shape \(5, 4\)"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(
    path: Path, tmp_path: Path, name: str, values: Any, message: str
) -> None:
    copy = tmp_path / "a.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+", libver=("v110", "v110")) as file:
        del file[f"layers/0/relevance/gram/{name}"]
        file[f"layers/0/relevance/gram/{name}"] = values
    with pytest.raises(AtlasError, match=message):
        crp.ConceptAtlas(copy)


@pytest.mark.parametrize(
    ("name", "place", "value", "problem"),
    [
        ("gram", (1, 2), 9.0, "the Gram matrix is not symmetric"),
        ("gram", (1, 1), np.nan, "values that are not-a-number or infinite"),
        ("sum", (0, 1), np.inf, "values that are not-a-number or infinite"),
        ("gram", (1, 1), 0.0, "smaller than the sums of scores allow"),
        ("count", (0,), -1, "counts less than no samples"),
    ],
)
def test_wrong_values_are_found(path: Path, tmp_path: Path, name: str, place: Any, value: Any, problem: str) -> None:
    copy = tmp_path / "a.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+", libver=("v110", "v110")) as file:
        file[f"layers/0/relevance/gram/{name}"][place] = value
    assert any(problem in one for one in crp.verify_atlas(copy))


def test_a_total_is_its_sum_of_limbs_rounded_once() -> None:
    made = ExactGram(1, in_memory)
    half_of_the_last_bit, next_to_nothing = 1 << 11, 1
    limbs = np.array([1 << 32, 0, half_of_the_last_bit, next_to_nothing], "i8").reshape(4, 1, 1)
    made.merge({"limbs": limbs, "top": np.zeros(1, "i2")})
    assert made.total(slice(None)) == 2.0**32 + 2.0**-20
    made.merge({"limbs": -2 * limbs, "top": np.zeros(1, "i2")})
    assert made.total(slice(None)) == -(2.0**32) - 2.0**-20
