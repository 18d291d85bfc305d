"""Files of results: what is loaded is what was saved, of this model and data; other files are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shortcut_net import shortcut_study

import crp_kit as crp
from crp_kit.errors import InputError
from crp_kit.evaluation import load_result
from crp_kit.result_table import Table


@pytest.fixture(scope="module")
def study() -> crp.Study:
    return shortcut_study()


def results(study: crp.Study) -> dict[str, Any]:
    evaluate = study.evaluate
    return {
        "flipping": evaluate.flipping("branch", steps=3, repeats=2),
        "impact": evaluate.impact("branch"),
        "localisation": evaluate.localisation(masks=lambda number: np.eye(8, dtype=bool)),
        "randomisation": evaluate.randomisation("branch", stages=2),
        "sensitivity": evaluate.sensitivity("branch", noise=(0.1,), repeats=1),
        "composites": evaluate.composites("branch", ["epsilon_plus"], steps=3, repeats=2, stages=1),
    }


def test_every_result_comes_back_as_it_was(study: crp.Study, tmp_path: Path) -> None:
    for name, result in results(study).items():
        path = tmp_path / f"{name}.npz"
        study.evaluate.save(result, path)
        loaded = study.evaluate.load(path)
        assert type(loaded) is type(result)
        assert repr(loaded) == repr(result)

        assert path.stat().st_size < 20_000
    curves = study.evaluate.load(tmp_path / "flipping.npz")
    assert curves.changes["random"].shape == (2, 5, 3)
    assert study.evaluate.load(tmp_path / "randomisation.npz").stages == (("head", "branch"), ("stem",))


def test_results_print_and_show_themselves_alike(study: crp.Study) -> None:
    pytest.importorskip("pandas")
    for name, result in results(study).items():
        assert list(result.to_frame().columns), name
        assert result.plot().axes, name
        if isinstance(result, Table):
            assert "<table" in result._repr_html_(), name
            continue
        words = [f"{key} {value}" for key, value in result.settings.items()]
        assert repr(result).partition("\n")[0] == f"{result.heading}; {', '.join(words)}"
        assert repr(result).endswith(repr(result.summary))
        assert result.heading.startswith(type(result).__name__)
        assert result._repr_png_().startswith(b"\x89PNG")


def test_a_result_of_another_model_or_other_data_is_named(study: crp.Study, tmp_path: Path) -> None:
    study.evaluate.save(study.evaluate.impact("branch"), tmp_path / "impact.npz")
    other = shortcut_study()
    other.model.head.bias.data += 1
    with pytest.raises(InputError, match="of another model than the study's"):
        other.evaluate.load(tmp_path / "impact.npz")
    assert other.evaluate.load(tmp_path / "impact.npz", check=False).layer == "branch"
    fewer = crp.Study(study.model, [(study.data[0][0], 0)], composite="epsilon_plus")
    with pytest.raises(InputError, match="of another data than the study's"):
        fewer.evaluate.load(tmp_path / "impact.npz")
    assert load_result(tmp_path / "impact.npz").version == crp.__version__


def test_what_is_no_result_is_refused(study: crp.Study, tmp_path: Path) -> None:
    impact = study.evaluate.impact("branch", concept_ids=[0, 1])
    with pytest.raises(InputError, match="a result is saved as .npz"):
        study.evaluate.save(impact, tmp_path / "impact.json")
    with pytest.raises(InputError, match="a result of an evaluation; got dict"):
        study.evaluate.save({}, tmp_path / "impact.npz")  # type: ignore[arg-type]
    study.evaluate.save(impact, tmp_path / "impact.npz")
    with pytest.raises(InputError, match="cannot write"):
        study.evaluate.save(impact, tmp_path / "impact.npz")
    study.evaluate.save(impact, tmp_path / "impact.npz", overwrite=True)
    for name, content in (("text.npz", b"text"), ("cut.npz", (tmp_path / "impact.npz").read_bytes()[:200])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="is no result of an evaluation"):
            load_result(tmp_path / name)
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    np.savez(tmp_path / "objects.npz", header=np.array([{}], object))
    for name in ("arrays.npz", "objects.npz"):
        with pytest.raises(InputError, match="is no result of an evaluation"):
            load_result(tmp_path / name)
    with pytest.raises(InputError, match="no result file"):
        load_result(tmp_path / "none.npz")
