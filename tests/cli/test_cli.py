"""The command line: results on stdout, messages on stderr, mistakes in one line with exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from command_line import invoke as crp_kit
from command_line import refused as mistake
from image_batches import load_images
from PIL import Image

from crp_kit import ChannelConcept, CondAttribution, CrpKitWarning, __version__
from crp_kit.cli import files as cli_files
from crp_kit.cli.files import check_outputs, write_file
from crp_kit.cli.group import CrpGroup
from crp_kit.errors import InputError, NonFiniteRelevanceError
from crp_kit.models.load import load_model
from crp_kit.views.image import picture

DEMO = ("--model", "demo:resnet")
LAYER = "layer2.1.conv2"
WRITING = {
    "heatmap": ("heatmap", "0.png", *DEMO, "-o", "a.png"),
    "array": ("heatmap", "0.png", *DEMO, "--save-array", "a.npz"),
    "graph": ("graph", "0.png", *DEMO, "--class", "0", "--layers", LAYER, "-o", "a.json"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two demo images in it."""
    from crp_kit.data import ShapesDataset

    monkeypatch.chdir(tmp_path)
    for index, image in enumerate(ShapesDataset(2, split="test").batch(range(2))[0]):
        picture(image).save(tmp_path / f"{index}.png")
    return tmp_path


def test_layers_lists_names_types_and_shapes() -> None:
    result = crp_kit("layers", *DEMO, "--type", "conv2d", "--pattern", "layer1.*")
    assert result.exit_code == 0
    assert result.stderr == ""
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0][:3] == ["name", "type", "shape"]
    names = [f"layer1.{block}.conv{i}" for block in (0, 1) for i in (1, 2)]
    assert [row[:6] for row in rows[1:]] == [[name, "Conv2d", "16x32x32", "channel", "16", "32x32"] for name in names]
    assert [row[-1] for row in rows[1:]] == ["layer1.0.relu", "-", "layer1.1.relu", "-"]


def test_layers_of_the_graph_are_what_conditions_can_name() -> None:
    listed = json.loads(crp_kit("layers", *DEMO, "--graph", "--json").stdout)
    graph = CondAttribution(load_model("demo:resnet").model).graph(torch.zeros(1, 3, 64, 64))
    added = next(row for row in listed if row["name"] == "layer1.0.add")
    assert (added["type"], added["shape"], added["behind"]) == ("add", [16, 32, 32], "layer1.0.relu_1")
    for row in listed:
        assert list(graph.sample_shape(graph.find(row["name"]))) == row["shape"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--type", "Conv3"), "the model has no layer of type 'Conv3'; did you mean Conv2d?"),
        (("--type", "Zzz"), "it has AdaptiveAvgPool2d, BatchNorm2d, Conv2d"),
        (("--pattern", "layer["), "--pattern 'layer[' is no regular expression"),
        (("--pattern", "nothing"), "no layer of demo:resnet matches; leave out --pattern or --type to see all"),
    ],
)
def test_layers_that_do_not_exist_are_a_mistake(options: tuple[str, ...], message: str) -> None:
    assert message in mistake("layers", *DEMO, *options)


@pytest.mark.slow
def test_a_heatmap_is_what_the_library_computes(folder: Path) -> None:
    result = crp_kit(
        "heatmap", "0.png", *DEMO, "--condition", f"{LAYER}:3", "--condition", "y:2", "--condition", f"{LAYER}:5-6",
        "-o", "map.png", "--save-array", "map.npz",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout.split() == ["map.png", "map.npz"]
    assert "0.png: predicted" in result.stderr
    loaded = load_model("demo:resnet")
    inputs = load_images(["0.png"], loaded.preprocess).inputs
    conditions = [{LAYER: [3, 5, 6], "y": [2]}]
    expected = CondAttribution(loaded.model)(inputs, conditions, "epsilon_plus_flat")
    with np.load("map.npz") as arrays:
        assert np.array_equal(arrays["heatmap"], expected.heatmap.numpy())
        assert json.loads(str(arrays["conditions"][0])) == conditions[0]
        assert list(arrays["image"]) == ["0.png"]
        assert np.array_equal(arrays["prediction"], expected.prediction.numpy())
    with Image.open("map.png") as image:
        assert image.width > image.height > 200


def test_option_each_makes_one_heatmap_per_id_and_image(folder: Path) -> None:
    result = crp_kit(
        "heatmap", "0.png", "1.png", *DEMO, "--each", f"{LAYER}:3,5", "--each", "layer1.0.conv1:1", "--json"
    )
    found = json.loads(result.stdout)
    assert found["files"] == []
    assert [one["image"] for one in found["images"]] == ["0.png", "1.png"]
    for one in found["images"]:
        target = int(one["prediction"].split()[0])
        conditions = [row["condition"] for row in one["heatmaps"]]
        assert conditions == [
            {LAYER: [3], "y": [target]},
            {LAYER: [5], "y": [target]},
            {"layer1.0.conv1": [1], "y": [target]},
        ]


def test_option_top_takes_the_channels_of_most_relevance(folder: Path) -> None:
    result = crp_kit("heatmap", "0.png", *DEMO, "--layer", LAYER, "--top", 3, "--condition", "y:1", "--json")
    rows = json.loads(result.stdout)["images"][0]["heatmaps"]
    loaded = load_model("demo:resnet")
    inputs = load_images(["0.png"], loaded.preprocess).inputs
    attr = CondAttribution(loaded.model)(inputs, [{"y": [1]}], "epsilon_plus_flat", record_layer=[LAYER])
    shares = ChannelConcept().attribute(attr.relevances[LAYER])[0]
    best = sorted(range(len(shares)), key=lambda channel: -abs(float(shares[channel])))[:3]
    assert [row["condition"][LAYER] for row in rows] == [[channel] for channel in best]
    assert [row["share"] for row in rows] == pytest.approx([float(shares[channel]) for channel in best])


def test_option_top_ranks_a_layer_beside_another_condition_by_the_relevance_that_arrives(folder: Path) -> None:
    """Whether relevance passes a convolution says nothing of what passes the shortcut beside it."""
    beside, layer = "layer2.0.conv2", "layer2.0.downsample.0"
    asked = ("--condition", f"{beside}:3", "--condition", "y:1", "--layer", layer, "--top", 4, "--json")
    rows = json.loads(crp_kit("heatmap", "0.png", *DEMO, *asked).stdout)["images"][0]["heatmaps"]
    loaded = load_model("demo:resnet")
    inputs, attribution = load_images(["0.png"], loaded.preprocess).inputs, CondAttribution(loaded.model)
    attr = attribution(inputs, [{"y": [1]}], "epsilon_plus_flat", record_layer=[layer])
    shares = ChannelConcept().attribute(attr.relevances[layer])[0]
    best = shares.abs().argsort(descending=True)[:4].tolist()
    assert [row["condition"][layer] for row in rows] == [[channel] for channel in best]
    assert [row["share"] for row in rows] == pytest.approx([float(shares[channel]) for channel in best])
    sets = [{beside: [3], layer: ids, "y": [1]} for ids in ([], *([channel] for channel in range(len(shares))))]
    maps = attribution(inputs, sets, "epsilon_plus_flat", pairing="product").heatmap
    passed = (maps[1:] - maps[0]).flatten(1).abs().sum(1)
    assert set(passed.argsort(descending=True)[:2].tolist()) <= set(best)
    assert float(passed.min()) >= 0 < float(passed[best].min())


def test_option_top_ranks_channels_where_a_layer_folds_windows_into_its_batch(folder: Path) -> None:
    """The axis of channels is that of the recorded relevance, which has the windows behind the samples."""
    (folder / "windows.py").write_text(
        "import torch\nfrom torch import nn\nfrom crp_kit.models.load import LoadedModel, Preprocess\n"
        "class Windows(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.mix, self.head = nn.Linear(3, 20), nn.Linear(20, 4)\n"
        "    def forward(self, x):\n"
        "        windows = x.unflatten(2, (4, 2)).unflatten(4, (4, 2)).permute(0, 2, 4, 3, 5, 1)\n"
        "        mixed = self.mix(windows.reshape(-1, 4, 3)).relu()\n"
        "        return self.head(mixed.reshape(len(x), -1, 20).mean(1))\n"
        "def model():\n"
        "    torch.manual_seed(0)\n"
        "    return LoadedModel(Windows().eval(), Preprocess(8, 8))\n"
    )
    asked = ("--model", "windows.py:model", "--layer", "mix", "--top", 20, "--condition", "y:1", "--json")
    rows = json.loads(crp_kit("heatmap", "0.png", *asked).stdout)["images"][0]["heatmaps"]
    loaded = load_model("windows.py:model")
    inputs = load_images(["0.png"], loaded.preprocess).inputs
    sets = [{"mix": [channel], "y": [1]} for channel in range(20)]
    maps = CondAttribution(loaded.model)(inputs, sets, "epsilon_plus_flat", pairing="product").heatmap
    sums = maps.flatten(1).sum(1)
    relevant = [channel for channel in sums.abs().argsort(descending=True).tolist() if sums[channel]]
    assert [row["condition"]["mix"][0] for row in rows][: len(relevant)] == relevant
    assert len(relevant) > 6


@pytest.mark.slow
def test_composites_and_parallel_paths_are_passed_on(folder: Path) -> None:
    def relevance(*options: str) -> float:
        result = crp_kit(
            "heatmap", "0.png", *DEMO, "--condition", f"{LAYER}:3", "--condition", "y:2", "--json", *options
        )
        return float(json.loads(result.stdout)["images"][0]["heatmaps"][0]["strongest"])

    values = [
        relevance(),
        relevance("--parallel"),
        relevance("--composite", "gradient"),
        relevance("--composite", "epsilon_gamma_box"),
    ]
    assert len(set(values)) == 4
    assert relevance("--exclude-parallel", "--batch-size", "1") == values[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.png", *DEMO), "no image file 'none.png'"),
        ((".", *DEMO), "'.' is a folder; name the images in it"),
        (("0.png", *DEMO, "--condition", f"{LAYER}:1,x"), f"got 'x'\n  {LAYER}:1,x\n  {' ' * len(f'{LAYER}:1,')}^"),
        (("0.png", *DEMO, "--condition", "layer2"), "expected ':' and concept ids after the layer name"),
        (("0.png", *DEMO, "--each", "layer9.1.conv2:1"), "no layer named 'layer9.1.conv2'; did you mean"),
        (("0.png", *DEMO, "--each", "layer9.1.conv2:1"), "See crp-kit layers --graph"),
        (("0.png", *DEMO, "--each", f"{LAYER}:99"), "channel 99 of 'layer2.1.conv2' is out of range"),
        (("0.png", *DEMO, "--each", f"{LAYER}:"), f"--each {LAYER}: names no id; write for example --each {LAYER}:0-3"),
        (("0.png", *DEMO, "--top", "3"), "--top needs --layer"),
        (("0.png", *DEMO, "--layer", LAYER, "--each", "fc:1"), "--layer and --each both choose heatmaps"),
        (("0.png", *DEMO, "--layer", LAYER, "--condition", f"{LAYER}:1"), "is named by --condition and by --layer"),
        (("0.png", *DEMO, "--composite", "epsilon_plus_fla"), "no composite named 'epsilon_plus_fla'; did you mean"),
        (("0.png", *DEMO, "--device", "nonsense"), "no device is named 'nonsense'; there are cpu, cuda"),
        (("0.png", *DEMO, "-o", "map.txt"), "the figure 'map.txt' needs one of the endings .png"),
        (("0.png", *DEMO, "--save-array", "map.csv"), "the array file 'map.csv' needs the ending .npz"),
        (("0.png", *DEMO, "-o", "no/map.png"), "cannot write no/map.png: there is no folder no; make it first"),
        (("0.png", *DEMO, "-o", "0.png"), "0.png exists; --overwrite replaces it, or choose another name"),
        (("0.png", "--model", "torchvision:resnet18"), "without weights is untrained: say --weights DEFAULT"),
        (("0.png",), "Missing option '--model'; see crp-kit heatmap --help"),
        (("0.png", *DEMO, "--top", "x"), "'x' is not a valid integer range; see crp-kit heatmap --help"),
    ],
)
def test_mistakes_are_one_line_with_the_fix(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    before = sorted(folder.iterdir())
    assert message in mistake("heatmap", *arguments)
    assert sorted(folder.iterdir()) == before


def test_nothing_is_overwritten_unless_asked(folder: Path) -> None:
    target = folder / "heatmap.png"
    target.write_text("mine", encoding="utf-8")
    assert "heatmap.png exists; --overwrite replaces it" in mistake("heatmap", "0.png", *DEMO)
    assert target.read_text(encoding="utf-8") == "mine"
    assert crp_kit("heatmap", "0.png", *DEMO, "--overwrite").stdout == "heatmap.png\n"
    assert target.read_bytes().startswith(b"\x89PNG")


def test_an_output_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"

    def fails(beside: Path) -> None:
        beside.write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"cannot write .*result.txt: the disk, or what you may use of it, is full"):
        write_file(path, fails, overwrite=False)
    assert list(tmp_path.iterdir()) == []
    write_file(path, lambda beside: beside.write_text("all", encoding="utf-8"), overwrite=False)
    assert path.read_text(encoding="utf-8") == "all"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_appears_meanwhile_is_replaced_with_overwrite_alone(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"

    def slow(beside: Path) -> None:
        path.write_text("theirs", encoding="utf-8")
        beside.write_text("ours", encoding="utf-8")

    with pytest.raises(InputError, match=r"cannot write .*result.txt: a file of this name has appeared meanwhile"):
        write_file(path, slow, overwrite=False)
    assert path.read_text(encoding="utf-8") == "theirs"
    write_file(path, slow, overwrite=True)
    assert path.read_text(encoding="utf-8") == "ours"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.parametrize("command", WRITING.values(), ids=WRITING)
def test_no_command_replaces_a_file_that_appears_while_it_works(
    folder: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, output = cli_files.atomic_file, Path(command[-1])

    def late(path: Path, **options: Any) -> Any:
        output.write_text("theirs", encoding="utf-8")
        return usual(path, **options)

    monkeypatch.setattr(cli_files, "atomic_file", late)
    result = crp_kit(*command)
    assert result.exit_code == 2
    assert result.stderr.endswith(f"cannot write {output}: a file of this name has appeared meanwhile\n")
    assert output.read_text(encoding="utf-8") == "theirs"
    assert crp_kit(*command, "--overwrite").exit_code == 0
    assert output.read_bytes() != b"theirs"


def test_outputs_are_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="is named for two outputs"):
        check_outputs([tmp_path / "a", tmp_path / "a"], overwrite=True)
    with pytest.raises(InputError, match="it is a folder; name a file in it"):
        check_outputs([tmp_path], overwrite=True)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="no permission to write into"):
        check_outputs([tmp_path / "a"], overwrite=True)


@pytest.fixture
def small_atlas(monkeypatch: pytest.MonkeyPatch) -> None:
    """The atlas of the demo has fewer images and layers than the user's."""
    monkeypatch.setattr("crp_kit.demo.run._ATLAS_SAMPLES", 40)
    monkeypatch.setattr("crp_kit.demo.run._ATLAS_LAYERS", (LAYER,))


@pytest.mark.slow
@pytest.mark.usefixtures("small_atlas")
def test_the_demo_writes_its_results_and_can_be_run_again(folder: Path) -> None:
    first = crp_kit("demo", "--images", 2)
    assert first.exit_code == 0, first.stderr
    assert first.stdout.split() == [
        f"crp-kit-demo/{name}"
        for name in ("concepts.png", "concepts.json", "heatmaps.npz", "atlas.h5", "references.png")
    ]
    assert "follows" in first.stderr
    content = (folder / "crp-kit-demo" / "concepts.json").read_bytes()
    found = json.loads(content)
    assert found["accuracy"] > 0.95
    assert [one["label"] == one["prediction"] for one in found["samples"]] == [True, True]
    for one in found["samples"]:
        shares = [abs(concept["share"]) for concept in one["concepts"]]
        assert shares == sorted(shares, reverse=True)
    with np.load(folder / "crp-kit-demo" / "heatmaps.npz") as arrays:
        assert arrays["heatmap"].shape == (2, 64, 64)
        assert arrays["conditional"].shape == (2, 4, 64, 64)

    again = crp_kit("demo", "--images", 2, "--no-report")
    assert again.stdout.split()[0] == "crp-kit-demo-2/concepts.png"
    assert (folder / "crp-kit-demo-2" / "concepts.json").read_bytes() == content
    assert "concepts.png exists; --overwrite replaces it" in mistake("demo", "-o", "crp-kit-demo")


@pytest.mark.slow
@pytest.mark.usefixtures("small_atlas")
def test_images_of_the_demo_are_input_for_heatmap(folder: Path) -> None:
    crp_kit("demo", "--images", 1, "-o", "out/here", "--seed", 3, "--no-report")
    found = json.loads((folder / "out/here/concepts.json").read_text(encoding="utf-8"))
    result = crp_kit("heatmap", "out/here/image-0.png", *DEMO, "--layer", LAYER, "--top", 4, "--json")
    rows = json.loads(result.stdout)["images"][0]["heatmaps"]
    expected = found["samples"][0]["concepts"]
    assert [row["condition"][LAYER][0] for row in rows] == [one["channel"] for one in expected]
    # The share of the demo comes from a batch of 32: float32 rounding.
    assert [row["share"] for row in rows] == pytest.approx([one["share"] for one in expected], rel=1e-3)


def test_the_demo_refuses_layers_that_it_cannot_show(folder: Path) -> None:
    assert "no layer named 'layer9'" in mistake("demo", "--layer", "layer9")
    assert "'fc' has no channels of height and width" in mistake("demo", "--layer", "fc", "-o", "x")
    (folder / "file").touch()
    assert "cannot make the folder file/x" in mistake("demo", "-o", "file/x")
    assert "cannot make the folder file: it is a file; choose another name" in mistake("demo", "-o", "file")


@pytest.fixture
def group() -> CrpGroup:
    """A group whose commands fail in every way."""

    @click.group(cls=CrpGroup)
    def failing() -> None: ...

    def command(name: str, action: Any) -> None:
        failing.command(name)(action)

    def raises(error: BaseException) -> Any:
        def action() -> None:
            raise error

        return action

    command("relevance", raises(NonFiniteRelevanceError("conv", "Epsilon")))
    command("disk", raises(OSError(28, "No space left on device", "out.png")))
    command("interrupt", raises(KeyboardInterrupt()))
    command("bug", raises(ZeroDivisionError("division by zero")))
    command("click", raises(click.ClickException("no")))
    command("warn", lambda: warnings.warn(CrpKitWarning("mind the gap"), stacklevel=1))
    return failing


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("relevance", 2, "crp-kit: error: relevance became non-finite at 'conv'"),
        ("disk", 2, "crp-kit: error: out.png: No space left on device"),
        ("interrupt", 130, "crp-kit: interrupted"),
        ("click", 2, "crp-kit: error: no"),
        ("nothing", 2, "crp-kit: error: No such command 'nothing'"),
    ],
)
def test_every_failure_has_its_exit_code_and_message(group: CrpGroup, name: str, code: int, said: str) -> None:
    result = CliRunner().invoke(group, [name])
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_bug_keeps_its_traceback(group: CrpGroup) -> None:
    assert isinstance(CliRunner().invoke(group, ["bug"]).exception, ZeroDivisionError)


def test_warnings_of_crp_kit_are_one_line_on_stderr(group: CrpGroup) -> None:
    usual = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("default", CrpKitWarning)
        result = CliRunner().invoke(group, ["warn"])
    assert (result.exit_code, result.stderr) == (0, "crp-kit: warning: mind the gap\n")
    assert warnings.showwarning is usual


def test_no_arguments_show_the_help_and_are_a_mistake() -> None:
    result = crp_kit()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr
    for name in ("demo", "layers", "heatmap"):
        shown = crp_kit(name, "--help")
        assert shown.exit_code == 0
        assert shown.stdout.startswith("Usage:")


def test_the_version_is_printed() -> None:
    assert crp_kit("--version").stdout == f"crp-kit {__version__}\n"


def test_a_command_ends_without_a_collection_of_all_that_it_has_imported() -> None:
    code = "import atexit, gc; from crp_kit.cli import main; atexit.register(lambda: print(gc.get_freeze_count() > 0))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}; main(['layers', '--help'])"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "True"


def test_a_reader_that_stops_early_ends_the_module_quietly() -> None:
    command = [sys.executable, "-m", "crp_kit", "layers", "--help"]  # which needs no torch
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (141, "")
