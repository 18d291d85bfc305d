"""The benchmark that everyone can run: what it writes, and that it fails when results disagree."""

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from matplotlib.figure import Figure
from processes import run_python

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
PYTHONPATH = os.pathsep.join(map(str, (SCRIPTS, SCRIPTS.parent)))  # this checkout, wherever crp-kit is installed from
TINY = ["--quick", "--models", "small_cnn", "--size", "16", "--least", "0"]
KINDS = {"heatmaps", "saliency", "atlas", "graph", "trace", "plan", "open", "top", "class_top"}


def benchmarks_part(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return benchmarks_part


class SideHere:
    """A side that answers in this process: starting one of its own takes seconds for its imports."""

    alive = True

    def __init__(self, side: str, device: str) -> None:
        self.side, self._answers = side, benchmarks_part("worker").Side(side, device)

    def ask(self, do: str, **arguments: Any) -> Any:
        return getattr(self._answers, do)(**arguments)

    def close(self) -> None:
        """Nothing ends."""


def some_here(process: Any, apart: Sequence[str] = ()) -> Callable[[str, str, str], Any]:
    """Return how sides are started: of another Python, or named, as processes, all others in this process."""

    def started(side: str, python: str, device: str) -> Any:
        is_apart = side in apart or python != sys.executable
        return process(side, python, device) if is_apart else SideHere(side, device)

    return started


@pytest.fixture
def sides_here(part: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    workers = part("workers")
    monkeypatch.setattr(workers, "Worker", some_here(workers.Worker))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)  # which a side changes


def benchmark(*arguments: str) -> int:
    """Run the benchmark in this process, and crp-kit's side in one of its own."""
    sys.path.insert(0, str(SCRIPTS))
    workers = benchmarks_part("workers")
    workers.Worker = some_here(workers.Worker, apart=["ours"])
    return int(benchmarks_part("__main__").main(list(arguments)))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run of everything on a small model and small images, without zennit-crp."""
    folder = tmp_path_factory.mktemp("benchmark")
    files = {"--markdown": "table.md", "--json": "all.json", "--figure": "growth.png"}
    options = [word for option, name in files.items() for word in (option, folder / name)]
    code = "import sys, test_benchmark\nsys.exit(test_benchmark.benchmark(*sys.argv[1:]))"
    paths = {"PYTHONPATH": PYTHONPATH}
    ended = run_python(code, *TINY, *options, "--rounds", 2, "--no-peers", environment=paths, seconds=600)
    assert ended.returncode == 0, ended.stderr
    return SimpleNamespace(folder=folder, report=json.loads((folder / "all.json").read_text()), said=ended)


@pytest.mark.slow
def test_every_part_is_measured_in_every_round_and_compared(ran: SimpleNamespace) -> None:
    cases = ran.report["cases"]
    assert {one["case"]["kind"] for one in cases} == KINDS
    for one in cases:
        alone = {part: {"ours"} for part in ("graph", "query", "growth")}
        expected = {
            "heatmaps": {"ours", "gradient", "floor"},
            "saliency": {"ours", "saliency", "gradient"},
            **alone,
        }
        assert set(one["sides"]) == expected.get(one["part"], {"ours", "floor"})
        for name, side in one["sides"].items():
            assert len(side["wall"]) == len(side["cpu"]) == (1 if name == "gradient" else 2)
            assert min(side["wall"]) > 0
        if one["case"]["kind"] in ("heatmaps", "saliency", "top", "class_top"):
            assert one["agreement"]
        assert all(found["ok"] and found["error"] <= found["limit"] for found in one["agreement"])
    counts = [one["case"]["count"] for one in cases if one["part"] == "heatmaps"]
    assert counts == [1, 10, 64]


@pytest.mark.slow
def test_medians_and_ratios_are_those_of_the_rounds(ran: SimpleNamespace) -> None:
    for one in ran.report["cases"]:
        medians = {side: np.median(found["wall"]) for side, found in one["sides"].items()}
        assert one["median"] == medians
        assert one["ratio"] == {side: found / medians["ours"] for side, found in medians.items() if side != "ours"}


@pytest.mark.slow
def test_the_report_names_the_machine_and_the_versions(ran: SimpleNamespace) -> None:
    machine, about = ran.report["machine"], ran.report["about"]["ours"]
    assert machine["cores"] >= 1
    assert machine["memory"] > 1 << 28
    assert about["threads"] == 1
    assert {"crp-kit", "zennit", "torch", "numpy"} <= set(about["versions"])
    options = "--models small_cnn --size 16 --rounds 2 --peer-rounds 1 --least 0.0 --device cpu"
    assert ran.report["commands"] == [f"scripts/benchmark --quick --no-peers {options}"]


@pytest.mark.slow
def test_the_table_has_a_row_for_each_case(ran: SimpleNamespace) -> None:
    text = (ran.folder / "table.md").read_text()
    assert ran.said.stdout.strip() == text.strip()
    assert f"torch {ran.report['about']['ours']['versions']['torch']}" in text
    for one in ran.report["cases"]:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {one['name']} |")]
        assert row.split(" | ")[1].split()[1] in ("s", "ms", "µs")
    tables = [[line for line in block.splitlines() if line[:1] == "|"] for block in text.split("\n\n")]
    for table in filter(None, tables):
        assert len({line.count("|") for line in table}) == 1
    assert "zennit-crp / crp-kit" not in text  # it took no part
    assert (ran.folder / "growth.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_short_tables_stand_between_their_comments(part: Any, ran: SimpleNamespace) -> None:
    filled = part("page").filled
    names = ("atlas", "saliency", "speed")
    text = "a\n" + "".join(f"<!-- benchmark: {name} -->\nold\n<!-- end -->\nb\n" for name in names)
    new = filled(text, ran.report)
    assert filled(new, ran.report) == new
    assert "old" not in new
    assert [line for line in new.splitlines() if line in "ab" and line] == ["a", "b", "b", "b"]
    blocks = [block.partition("<!-- end -->")[0] for block in new.split("<!-- benchmark: ")[1:]]
    atlas, saliency, speed = blocks
    for one in ran.report["cases"]:
        shown = {"atlas": [atlas], "saliency": [saliency], "growth": []}.get(one["part"], [speed])
        rows = [line for block in blocks for line in block.splitlines() if line.startswith(f"| {one['name']} |")]
        assert [row in block for row, block in zip(rows, shown, strict=True)] == [True] * len(shown)
    assert ran.report["commands"][0] in speed
    for wrong in ("", text.replace("<!-- end -->", "")):
        with pytest.raises(ValueError, match="no place for a table"):
            filled(wrong, ran.report)
    page = (SCRIPTS.parent / "tutorials" / "performance.md").read_text()
    assert filled(page, {**ran.report, "cases": []}) == page


@pytest.fixture
def half(ran: SimpleNamespace, tmp_path: Path) -> Path:
    """A file that lacks one case."""
    path = tmp_path / "half.json"
    path.write_text(json.dumps({**ran.report, "cases": ran.report["cases"][1:]}))
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("sides_here")
def test_a_run_continues_an_unfinished_one(
    part: Any, ran: SimpleNamespace, half: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = []

    def record_of(case: Any, *_: Any) -> Any:
        names.append(case.name)
        return ran.report["cases"][0]

    monkeypatch.setattr(part("__main__"), "record_of", record_of)
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    assert part("__main__").main([*TINY, "--no-peers", "--json", str(half), "--resume"]) == 0
    assert names == [ran.report["cases"][0]["name"]]
    found, said = json.loads(half.read_text()), capsys.readouterr().out
    assert found["cases"] == ran.report["cases"]
    assert len(found["commands"]) == 2
    assert all(f"`{command}`" in said for command in found["commands"])


@pytest.mark.slow
def test_measurements_are_shown_again_without_measuring(
    part: Any, ran: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    measured = str(ran.folder / "all.json")
    assert part("__main__").main([*TINY, "--no-peers", "--json", measured, "--resume"]) == 0
    assert capsys.readouterr().out == (ran.folder / "table.md").read_text() + "\n"
    with pytest.raises(SystemExit):
        part("__main__").main([*TINY, "--no-peers", "--json", measured])
    assert "--resume goes on with it" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"cases": []}'])
def test_a_file_that_it_did_not_write_is_left_as_it_is(part: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(SystemExit, match=r"other\.json is not what --json writes"):
        part("__main__").main([*TINY, "--no-peers", "--json", str(tmp_path / "other.json"), "--resume"])
    assert (tmp_path / "other.json").read_text() == text


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there_is_named(part: Any, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        part("__main__").main([*TINY, "--no-peers", "--device", device])
    assert f"device '{device}' cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_a_side_takes_the_gpu_that_was_named(
    part: Any, device: str, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)  # which a side changes
    part("worker").Side("floor", device)
    assert taken == [index]


@pytest.mark.slow
def test_measurements_of_another_machine_are_not_continued(part: Any, ran: SimpleNamespace, half: Path) -> None:
    machine = {**ran.report["machine"], "cpu": "another"}
    half.write_text(json.dumps({**ran.report, "machine": machine}))
    with pytest.raises(SystemExit, match="another machine: cpu differ"):
        part("__main__").main([*TINY, "--no-peers", "--json", str(half), "--resume"])


@pytest.mark.slow
def test_the_growth_figure_varies_one_number_at_a_time(part: Any, ran: SimpleNamespace) -> None:
    grown = part("figure").growth(ran.report["cases"])
    assert {what: [number for number, _ in found["crp-kit"]] for what, found in grown.items()} == {
        "conditions": [1, 64],
        "images": [32, 128],
        "layers": [1, 3],
        "classes": [10, 100],
    }
    assert {what for what, found in grown.items() if "the pass alone" in found} == {"images", "layers", "classes"}
    table = (ran.folder / "table.md").read_text().partition("### How time grows")[2]
    assert table.split("\n\n")[1].startswith("| work | crp-kit | for each | of it once |")


GROWN = ["Heatmaps, by conditions", "Atlas, by images", "Atlas, by layers", "Atlas, by classes"]
PANELS = {"growth": GROWN, "heatmaps": ["Conditional heatmaps of one image"], "graph": []}


@pytest.mark.slow
@pytest.mark.parametrize("parts", [["growth"], ["heatmaps"], ["heatmaps", "graph", "growth"], ["graph"]])
def test_the_figure_shows_the_parts_that_were_measured(
    part: Any, ran: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, parts: list[str]
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    part("figure").draw([record for record in ran.report["cases"] if record["part"] in parts], Path("figure.png"))
    titles = [axes.get_title() for figure in drawn for axes in figure.axes]
    assert titles == [title for name in parts for title in PANELS[name]]
    assert all(len(axes.lines[0].get_xdata()) > 1 for figure in drawn for axes in figure.axes)


@pytest.mark.slow
@pytest.mark.usefixtures("sides_here")
def test_results_that_disagree_fail_the_run_and_a_side_that_fails_is_named(
    part: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = SideHere.ask

    def ask(worker: Any, do: str, **given: Any) -> Any:
        found = asked(worker, do, **given)
        if do == "result" and worker.side == "gradient":
            with np.load(given["path"]) as arrays:
                changed = {name: 1.01 * array for name, array in arrays.items()}
            np.savez(given["path"], **changed)
        return found

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("#!/bin/sh\necho no zennit-crp >&2; exit 3\n")
    (tmp_path / "bin" / "python").chmod(0o755)
    monkeypatch.setattr(SideHere, "ask", ask)
    monkeypatch.setattr(part("__main__"), "quick_cases", lambda: part("cases").quick_cases()[:1])
    assert part("__main__").main([*TINY, "--rounds", "1", "--peers", str(tmp_path)]) == 1
    out, said = capsys.readouterr()
    assert "results disagree: 1 heatmap, small_cnn features.8: 0.0099 from zennit, float64" in said
    assert "1e-02 zennit, float64 **DIFFERS**" in out
    assert "no zennit-crp" in said
    assert "1 heatmap, small_cnn features.8: zennit-crp fails: `its process ended with 3`" in out


def test_512_heatmaps_are_measured_without_the_slow_sides_and_nothing_is_extrapolated(part: Any) -> None:
    several = [case for case in part("cases").all_cases() if case.kind == "heatmaps" and case.count == 512]
    assert {case.model for case in several} == {"vgg16_bn", "resnet18", "resnet50", "densenet121"}
    assert all(case.sides == ("ours", "floor") for case in several)


def test_every_heatmap_has_a_channel_of_its_own(part: Any) -> None:
    cases = [case for case in part("cases").all_cases() if case.kind == "heatmaps" and not case.growth]
    with torch.device("meta"):
        models = {name: torchvision.models.get_model(name, weights=None) for name in {case.model for case in cases}}
    assert all(models[case.model].get_submodule(case.layer).out_channels >= case.count for case in cases)


def test_parts_and_models_are_chosen_and_unknown_ones_refused(part: Any, capsys: pytest.CaptureFixture[str]) -> None:
    parsed = part("__main__").parsed
    _, cases = parsed(["--only", "graph,tracing", "--models", "resnet18", "--no-peers"])
    assert [(case.kind, case.model) for case in cases] == [(kind, "resnet18") for kind in ("graph", "trace", "plan")]
    assert all("peer" not in case.sides for case in cases)
    for wrong in (["--only", "heatmap"], ["--models", "resnet19"]):
        with pytest.raises(SystemExit):
            parsed(wrong)
        assert wrong[1] in capsys.readouterr().err


def test_edges_agree_if_they_are_the_strongest_and_in_the_same_proportion(part: Any) -> None:
    error = part("agreement").edges_error
    theirs = {"edges": [["top", 0, "low", 5, 0.4], ["top", 0, "low", 2, 0.2], ["top", 0, "low", 9, 0.1]]}
    assert error({"edges": [["top", 0, "low", 5, 80.0], ["top", 0, "low", 2, 40.0]]}, theirs)[0] == pytest.approx(0)
    assert error({"edges": [["top", 0, "low", 5, 80.0], ["top", 0, "low", 2, 50.0]]}, theirs)[0] == pytest.approx(
        2 / 13
    )
    for wrong in (-80.0, float("nan")):
        found, limit = error({"edges": [["top", 0, "low", 5, wrong], ["top", 0, "low", 2, 40.0]]}, theirs)
        assert not found <= limit
    assert error({"edges": []}, theirs)[0] == float("inf")
    assert error({"edges": [["top", 0, "low", 5, 80.0], ["top", 0, "low", 9, 20.0]]}, theirs)[0] == float("inf")
    assert error({"edges": [["top", 1, "low", 5, 80.0]]}, theirs)[0] == float("inf")


def test_each_map_has_to_agree(part: Any) -> None:
    agreement, random = part("agreement"), np.random.default_rng(0)
    maps = random.standard_normal((3, 4, 4)) * np.array([1e4, 1, 0])[:, None, None]
    assert agreement.maps_error(maps, maps) == 0
    for row, value in ((1, 2.0), (1, np.nan), (2, 1e-9)):
        other = maps.copy()
        other[row, 1, 1] = value
        assert not agreement.maps_error(other, maps) <= agreement.LIMIT


def test_each_layer_of_an_atlas_has_to_agree_but_a_few_samples_may_be_astray(part: Any) -> None:
    agreement, random = part("agreement"), np.random.default_rng(0)
    scores = {name: random.standard_normal((16, 8)) for name in ("one", "two")}  # (sample, concept)
    scores["one"][-1] -= 9  # has no place there

    def ranked(table: Any) -> Any:
        """Return the ten best samples of each concept: (score or sample, place, concept)."""
        best = np.argsort(-table, axis=0)[:10]
        return np.array([np.take_along_axis(table, best, 0), best])

    def agrees(second: Any) -> bool:
        error, limit = agreement.scores_error({"one": theirs["one"], "two": second}, theirs)
        return bool(error <= limit)

    theirs = {name: ranked(table) for name, table in scores.items()}
    table, best = scores["two"], theirs["two"][1, :3, 3].astype(int)
    assert agreement.scores_error(theirs, theirs)[0] == 0
    for samples, few in ((best[:1], True), (best, False)):
        astray = table.copy()
        astray[samples] *= 1.01
        assert agrees(ranked(astray)) == few
    for value in (0.0, np.nan, np.inf):
        wrong = theirs["two"].copy()
        wrong[0, 0, 3] = value
        assert not agrees(wrong)
    left_out = table.copy()
    left_out[best[0], 3] = table.min()
    for wrong in (1.002 * table, np.roll(table, 1, axis=1), np.roll(table, 1, axis=0), left_out):
        assert not agrees(ranked(wrong))


def test_traced_graphs_agree_if_all_layers_are_fed_by_the_same(part: Any) -> None:
    error = part("agreement").inputs_error
    theirs = {"inputs": {"a": [], "b": ["a", "a"], "c": ["b", "a"]}}
    assert error({"inputs": {"a": [], "b": ["a"], "c": ["a", "b"]}}, theirs)[0] == 0
    assert error({"inputs": {"a": [], "b": [], "c": ["b"]}}, theirs)[0] == 2


def test_the_floor_runs_all_convolutions_up_to_the_layer_and_no_other(part: Any) -> None:
    cases, floor, models = part("cases"), part("floor"), part("models")
    case = cases.Case("heatmaps", "resnet18", size=32, layer=cases.SHALLOW)
    model = models.make_model(case, "cpu")
    names = {module: name for name, module in model.named_modules()}
    steps = floor._convolutions(model, models.images(1, case.size), case.layer)
    assert [names[module] for module, _, _ in steps] == [cases.SHALLOW, "conv1"]
    assert [tuple(after) for _, _, after in steps] == [(1, 64, 8, 8), (1, 64, 16, 16)]
