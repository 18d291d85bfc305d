"""The scores of every sample are kept by default while they are small, in float16 above, and read as float32."""

from pathlib import Path
from typing import Any

import h5py
import hostile
import numpy as np
import pytest
from atlas_case import LAYERS, Labelled, build, datasets, same_bits
from command_line import invoke

import crp_kit as crp
from crp_kit.atlas.build import matrix_choice
from crp_kit.atlas.build.matrix_choice import chosen_matrix
from crp_kit.atlas.build.pass_state import state_bytes
from crp_kit.atlas.file.header import LayerInfo
from crp_kit.atlas.file.reader import open_atlas, read_header, read_layers
from crp_kit.errors import AtlasError, InputError

LAYER = LAYERS[0]
COUNT = 14


def infos(*counts: int) -> list[LayerInfo]:
    return [LayerInfo(f"layer{count}", "channel", count, (count,)) for count in counts]


@pytest.mark.parametrize(
    ("matrix", "samples", "abs_norm", "expected"),
    [
        ("auto", 125_000, True, (True, "")),  # of 1000 concepts: 1 GB
        ("auto", 125_001, True, (True, "float16")),
        ("auto", 125_001, False, (True, "")),
        ("auto", 1_000_000, True, (True, "float16")),
        ("auto", 1_000_001, True, (False, "")),
        ("auto", 1_000_001, False, (False, "")),
        (True, 10**9, True, (True, "")),
        (False, 1, True, (False, "")),
        ("float16", 1, True, (True, "float16")),
    ],
)
def test_the_size_of_all_layers_and_modes_decides(matrix: Any, samples: int, abs_norm: bool, expected: Any) -> None:
    assert chosen_matrix(matrix, samples, infos(400, 600), abs_norm=abs_norm) == expected


def test_a_matrix_that_is_too_large_is_left_out_with_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    chosen_matrix("auto", 10**6, infos(2048), abs_norm=True)
    assert "would take 16.4 GB and are not kept" in caplog.text
    assert "matrix='float16' in 8.2 GB" in caplog.text
    caplog.clear()
    chosen_matrix("auto", 10**6, infos(2048), abs_norm=False)
    assert "float16" not in caplog.text


@pytest.mark.parametrize("matrix", ["float32", "yes", None, 1])
def test_another_word_is_refused(tmp_path: Path, matrix: Any) -> None:
    with pytest.raises(InputError, match="matrix is True, False, 'auto' or 'float16'; got"):
        build(tmp_path / "a.h5", Labelled(COUNT), layers=[LAYER], matrix=matrix)


def test_scores_that_are_no_shares_are_not_kept_in_float16(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"matrix='float16' needs normalised scores \(abs_norm\)"):
        build(tmp_path / "a.h5", Labelled(COUNT), layers=[LAYER], matrix="float16", abs_norm=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("matrix")
    build(made / "single.h5", Labelled(COUNT), layers=[LAYER]).close()
    build(made / "half.h5", Labelled(COUNT), layers=[LAYER], matrix="float16").close()
    return made


def test_by_default_the_matrix_is_kept_in_float32(folder: Path) -> None:
    with h5py.File(folder / "single.h5") as file:
        assert file["layers/0/relevance/matrix"].dtype == "<f4"
        assert "matrix_dtype" not in file.attrs
        assert file.attrs["matrix"]


def test_float16_is_the_rounded_matrix_and_read_as_float32_and_all_else_is_the_same(folder: Path) -> None:
    single, half = datasets(folder / "single.h5"), datasets(folder / "half.h5")
    for name, values in single.items():
        if name.endswith("/matrix"):
            assert half[name].tobytes() == values.astype("f2").tobytes()
        elif name != "digests/sha256":
            assert half[name].tobytes() == values.tobytes()
    with crp.ConceptAtlas(folder / "half.h5") as atlas:
        for mode in ("relevance", "activation"):
            scores: Any = atlas[LAYER].score(mode)  # type: ignore[arg-type]
            expected = half[f"layers/0/{mode}/matrix"].astype("f4")
            for matrix in (scores.matrix, scores.arrays("matrix")["matrix"]):
                assert (matrix.dtype, matrix.shape, len(matrix)) == (np.float32, expected.shape, COUNT)
                assert matrix[3:5, 7].dtype == np.float32
                assert np.array_equal(matrix[3:5, 7], expected[3:5, 7])
                assert np.array_equal(np.asarray(matrix), expected)
    assert crp.verify_atlas(folder / "half.h5") == ()


def test_shards_and_resumed_builds_in_float16_give_the_same_bits(folder: Path, tmp_path: Path) -> None:
    parts = [tmp_path / "0.h5", tmp_path / "1.h5"]
    for number, part in enumerate(parts):
        build(part, Labelled(COUNT), layers=[LAYER], matrix="float16", shard=(number, 2)).close()
        assert crp.verify_atlas(part) == ()
    crp.merge_atlases(parts, tmp_path / "merged.h5").close()
    assert same_bits(tmp_path / "merged.h5", folder / "half.h5")


def test_the_estimate_counts_two_bytes_for_a_score_in_float16(folder: Path) -> None:
    sizes = []
    for name in ("single.h5", "half.h5"):
        with open_atlas(folder / name) as file:
            header, layers = read_header(file), read_layers(file)
            sizes.append(state_bytes(header, layers, COUNT, 8))
    assert sizes[0] - sizes[1] == COUNT * sum(layer.n_concepts for layer in layers) * 2 * 2


def test_a_large_pass_is_kept_in_float16_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_choice, "_SINGLE", 100)
    with build(tmp_path / "a.h5", Labelled(COUNT), layers=[LAYER]) as atlas:
        assert (atlas.header.matrix, atlas.header.matrix_dtype) == (True, "float16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.__setitem__("matrix_dtype", "float8"), "'matrix_dtype' is 'float8'"),
        (lambda file: file.attrs.__setitem__("matrix_dtype", 3), "'matrix_dtype' is missing or no str"),
    ],
)
def test_another_type_of_matrix_is_refused(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    (tmp_path / "a.h5").write_bytes((folder / "half.h5").read_bytes())
    with hostile.edited(tmp_path / "a.h5") as file:
        change(file)
    with pytest.raises(AtlasError, match=message):
        crp.ConceptAtlas(tmp_path / "a.h5")


def test_a_matrix_that_is_not_of_the_type_of_the_header_or_has_gaps_is_found(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes((folder / "half.h5").read_bytes())
    with hostile.edited(path) as file:
        values = file["layers/0/relevance/matrix"][()]
        values[3, 4] = np.nan
        del file["layers/0/relevance/matrix"]
        file["layers/0/relevance/matrix"] = values.astype("f4")
    problems = "; ".join(crp.verify_atlas(path))
    assert "the matrix is of float32, which the header does not say" in problems
    assert "the matrix has no score of a sample that was looked at" in problems


@pytest.mark.parametrize(("word", "expected"), [("none", (False, "")), ("float16", (True, "float16"))])
def test_the_command_chooses(tmp_path: Path, word: str, expected: tuple[bool, str]) -> None:
    path = tmp_path / "a.h5"
    done = invoke("atlas", "build", "--model", "demo:resnet", "--data", "demo:shapes:9", "--layers", LAYER, "--workers",
                  "0", "--matrix", word, "-o", path, "--quiet")  # fmt: skip
    assert done.exit_code == 0, done.output
    with crp.ConceptAtlas(path) as atlas:
        assert (atlas.header.matrix, atlas.header.matrix_dtype) == expected
