"""A matrix that is added to a finished atlas is that of a build with it, and nothing else in the file changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atlas_case import COMPOSITE, LAYERS, Labelled, build, datasets
from test_attributes import Annotated

import crp_kit as crp
from crp_kit.atlas.build import added_matrix
from crp_kit.data import demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError, InputError

COUNT = 21


def study_of(data: Any = None, **options: Any) -> crp.Study:
    chosen = {"composite": COMPOSITE, "preprocess": demo_preprocess, **options}
    return crp.Study(demo_resnet(), Labelled(COUNT) if data is None else data, **chosen)


def labels_of(output: Any, labels: Any) -> Any:
    return labels[:1] if labels[0] % 3 else ()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"matrix": "float16"},
        {"target": "top:0.05", "subset": [1, 2, 5, 6, 7, 8, 9, 20], "aggregate": "max"},
        {"target": labels_of, "abs_norm": False},
    ],
)
def test_it_is_the_matrix_of_a_build_with_it(tmp_path: Path, options: dict[str, Any]) -> None:
    matrix = options.get("matrix", True)
    build(tmp_path / "with.h5", Labelled(COUNT), **{**options, "matrix": matrix}).close()
    path, target = tmp_path / "a.h5", options.get("target")
    with build(path, Labelled(COUNT), **{**options, "matrix": False}) as old:
        kept = None if isinstance(target, str) else target
        with study_of().add_matrix(old, matrix=matrix, target=kept, verbose=False) as new:
            assert new.header.matrix
            assert not old.header.matrix
            assert np.asarray(new[LAYERS[0]].relevance.matrix).dtype == np.float32
    made, expected = (datasets(one) for one in (path, tmp_path / "with.h5"))
    lines = [sorted(arrays.pop("digests/sha256").tolist()) for arrays in (made, expected)]
    assert lines[0] == lines[1]
    assert {name: values.tobytes() for name, values in made.items()} == {
        name: values.tobytes() for name, values in expected.items()
    }
    assert crp.verify_atlas(path) == ()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.h5", "with.h5"]


def test_samples_that_were_left_out_have_no_scores_and_attributes_stay(tmp_path: Path) -> None:
    data = Annotated(13, [*Labelled(12).labels, "no class"])
    data.attributes = {"size": np.arange(13) * 0.5}
    with build(tmp_path / "a.h5", data, matrix=False, skip_unreadable=True) as old:
        before = datasets(old.path)
        with study_of(data).add_matrix(old, verbose=False) as new:
            matrix = np.asarray(new[LAYERS[0]].activation.matrix)
            assert np.isnan(matrix[12]).all()
            assert np.isfinite(matrix[:12]).all()
            assert new.attributes["size"].tolist() == old.attributes["size"].tolist()
    after = datasets(tmp_path / "a.h5")
    del before["digests/sha256"]
    assert all(after[name].tobytes() == values.tobytes() for name, values in before.items())


@pytest.fixture
def old(tmp_path: Path) -> Any:
    with build(tmp_path / "a.h5", Labelled(COUNT), layers=LAYERS[:1], matrix=False) as atlas:
        yield atlas


def test_what_differs_is_refused_and_the_file_kept(old: crp.ConceptAtlas) -> None:
    before = old.path.read_bytes()
    with pytest.raises(AtlasError, match="composite: 'conv1' has .* there and .* here"):
        study_of(composite="epsilon_plus").add_matrix(old, verbose=False)
    with pytest.raises(AtlasError, match="the layers' concepts or shapes differ"):
        study_of(concepts=crp.NeuronConcept()).add_matrix(old, verbose=False)
    with pytest.raises(AtlasError, match="another dataset"):
        study_of(Labelled(COUNT + 1)).add_matrix(old, verbose=False)
    assert old.path.read_bytes() == before


def test_an_atlas_with_a_matrix_and_a_function_that_is_missing_are_refused(tmp_path: Path) -> None:
    with (
        build(tmp_path / "a.h5", Labelled(COUNT), layers=LAYERS[:1]) as atlas,
        pytest.raises(InputError, match="has a matrix already"),
    ):
        study_of().add_matrix(atlas, verbose=False)
    with build(tmp_path / "b.h5", Labelled(COUNT), layers=LAYERS[:1], matrix=False, target=labels_of) as atlas:
        with pytest.raises(InputError, match=r"started from, labels_of: give the function or target as"):
            study_of().add_matrix(atlas, verbose=False)
        with pytest.raises(AtlasError, match="the function that chooses targets does something else"):
            study_of().add_matrix(atlas, target=lambda output, labels: [1], verbose=False)


class Interrupting(Labelled):
    """Is interrupted when it reads the last samples for the second time."""

    armed = False

    def __getitem__(self, number: int) -> Any:
        if self.armed and number == 10:
            raise KeyboardInterrupt
        return super().__getitem__(number)


def test_an_interruption_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    data = Interrupting(COUNT)
    with build(tmp_path / "a.h5", data, layers=LAYERS[:1], matrix=False, subset=[0, 1, 10, 20]) as atlas:
        before, study = atlas.path.read_bytes(), study_of(data)
        study.check_atlas(atlas)
        data.armed = True
        with pytest.raises((KeyboardInterrupt, crp.CrpKitError)):
            study.add_matrix(atlas, verbose=False)
        assert atlas.path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.h5"]


def test_a_link_to_an_atlas_is_refused_before_the_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "a.h5", Labelled(COUNT), matrix=False).close()
    (tmp_path / "link.h5").symlink_to("a.h5")
    monkeypatch.setattr(added_matrix, "_filled", pytest.fail)
    with (
        crp.ConceptAtlas(tmp_path / "link.h5") as atlas,
        pytest.raises(AtlasError, match="it is a symbolic link; name the file that it leads to"),
    ):
        study_of().add_matrix(atlas, verbose=False)
