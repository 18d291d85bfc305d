"""Models and weights that cannot be used: one sentence that says what to do, on the command line and in Python."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import invoke, refused
from PIL import Image
from torch import nn

import crp_kit as crp
from crp_kit.errors import CrpKitError, InputError, ModelError
from crp_kit.models.load import LoadedModel, Preprocess, load_model
from crp_kit.models.state_dict import is_state_file, load_state, state_digest
from crp_kit.models.weights import check_weights

FACTORIES = """
import sys
import warnings
import torch
from torch import nn
from crp_kit.models.load import LoadedModel, Preprocess

P = Preprocess(resize=None, crop=None, mean=(0.5,), std=(0.5,))

def net():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

class Raises(nn.Module):
    def forward(self, x):
        raise KeyError("no way")

class Two(nn.Module):
    def forward(self, x, y):
        return x

class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        return {"aux": x, "logits": self.net(x)}

class Needs(nn.Module):
    def __init__(self, width):
        super().__init__()

def grey(): return LoadedModel(net(), P)
def raises(): return LoadedModel(Raises(), P)
def two(): return LoadedModel(Two(), P)
def flat(size): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(size, 2)).eval()
def sized(): return LoadedModel(flat(9), P)
def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LoadedModel(torch.ao.quantization.quantize_dynamic(flat(144), {nn.Linear}), P)
def function(): return LoadedModel(Parts(), P, output=lambda parts: parts["logits"])
def key(): return LoadedModel(Parts(), P, output="logits")
def bad_function(): return LoadedModel(Parts(), P, output=lambda parts: parts["none"])
def nothing(): return LoadedModel(Parts(), P, output=lambda parts: None)
def bad_key(): return LoadedModel(Parts(), P, output="none")
def whole(): return LoadedModel(Parts(), P)
def bad_output(): return LoadedModel(net(), P, output=3.5)
def bad_classes(): return LoadedModel(net(), P, classes="abc")
def bad_preprocess(): return LoadedModel(net(), lambda image: image)
def lazy(): return LoadedModel(nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3)), P)
def meta(): return LoadedModel(net().to("meta"), P)
def exits(): sys.exit(0)
def fails(): raise RuntimeError("three\\nlines\\nlong")
def endless(): return endless()
def number(): return 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(FACTORIES, encoding="utf-8")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / "x.png")
    return tmp_path


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("raises", "the model's forward failed for input of shape (1, 1, 8, 8): 'no way'"),
        ("two", "missing 1 required positional argument: 'y'. It was called with one tensor: give a tuple or a dict"),
        ("sized", "shapes cannot be multiplied (1x144 and 9x2). The model may be made for inputs of another size"),
        ("quantised", "the model is quantised: 'linear_dynamic' at '2' computes with integers, and no relevance can"),
        (
            "bad_function",
            "the function that LoadedModel has as output failed on the model's output (dict): KeyError: 'none",
        ),
        ("nothing", "is a NoneType, not a floating-point tensor; its forward has to return scores in floating point"),
        ("bad_key", "has no part 'none'"),
        ("whole", "a factory that returns crp_kit.LoadedModel(model, output=...)"),
        ("bad_output", "output is a key, an index, an attribute or a function; got 3.5"),
        ("bad_classes", "classes is the name of each output, a tuple of strings; got 'abc'"),
        ("bad_preprocess", "preprocess is a crp_kit.Preprocess; got function"),
        ("lazy", "'0.weight' is not initialised, as in lazy modules: call the model once with a sample"),
        ("meta", "'0.weight' has a shape but no values, since it is on the device 'meta'"),
        ("exits", ": SystemExit: 0"),
        ("fails", ": RuntimeError: three lines long"),
        ("endless", ": RecursionError"),
        ("number", "has to return a torch.nn.Module or a LoadedModel; it returned int"),
        ("Needs", "missing 1 required positional argument: 'width'; it is called without arguments: give each a def"),
    ],
)
def test_models_that_cannot_be_used_are_refused_in_one_line(folder: Path, factory: str, message: str) -> None:
    assert message in refused("heatmap", "x.png", "--model", f"m.py:{factory}")


def test_a_factory_that_fails_names_the_line(folder: Path) -> None:
    Path("late.py").write_text(
        "def helper():\n    return 1 / 0\n\ndef make():\n    return helper()\n", encoding="utf-8"
    )
    assert "late.py:make failed in line 2: ZeroDivisionError" in refused("layers", "--model", "late.py:make")
    Path("early.py").write_text("import not_there\n", encoding="utf-8")
    assert "running early.py failed in line 1: ModuleNotFoundError" in refused("layers", "--model", "early.py:make")


@pytest.mark.parametrize(
    "words",
    [
        ("https://example.org/cat.jpg", "--model", "m.py:grey"),
        ("x.png", "--model", "m.py:grey", "--weights", "https://example.org/weights.pt"),
    ],
    ids=["image", "weights"],
)
def test_an_address_is_no_file(folder: Path, words: tuple[str, ...]) -> None:
    assert "is an address, 'https:/example.org/" in refused("heatmap", *words)


def test_a_name_that_does_not_exist_is_said_before_its_weights_are_asked_for(folder: Path) -> None:
    said = refused("heatmap", "x.png", "--model", "torchvision:resnet19")
    assert "torchvision has no model named 'resnet19'; did you mean 'resnet1" in said


def test_an_untrained_model_is_said_to_be_one(folder: Path) -> None:
    words = ("--weights", "none", "--size", "32", "--json")
    done = invoke("heatmap", "x.png", "--model", "torchvision:squeezenet1_1", *words)
    assert done.exit_code == 0
    assert "torchvision:squeezenet1_1 is untrained: its weights are random" in done.stderr
    assert "untrained" not in invoke("heatmap", "x.png", "--model", "m.py:grey", "--json").stderr


@pytest.mark.parametrize("command", [("layers",), ("rules",), ("heatmap", "x.png", "--condition", "y:0")])
@pytest.mark.parametrize("factory", ["raises", "bad_function", "lazy", "meta"])
def test_every_command_refuses_them(folder: Path, command: tuple[str, ...], factory: str) -> None:
    assert "\n" not in refused(*command, "--model", f"m.py:{factory}").rstrip("\n")


def test_an_output_may_be_a_function_in_every_command(folder: Path) -> None:
    torch.manual_seed(0)
    torch.save(load_model("m.py:key").model.state_dict(), "w.pt")
    commands = [
        ("heatmap", "x.png", "--json"),
        ("layers",),
        ("rules", "--size", "8"),
        ("check", "--size", "8"),
        ("graph", "x.png", "--layers", "net.0"),
        ("regions", "x.png", "--layer", "net.0", "--json"),
    ]
    for command in commands:
        shown = [invoke(*command, "--model", f"m.py:{name}", "--weights", "w.pt") for name in ("function", "key")]
        assert shown[0].exit_code == shown[1].exit_code == 0, shown[0].output
        assert shown[0].stdout == shown[1].stdout != ""


@pytest.mark.parametrize("device", ["meta", "hpu", "cuda:99", "nonsense"])
def test_devices_that_are_not_there_are_refused(folder: Path, device: str) -> None:
    assert repr(device) in refused("heatmap", "x.png", "--model", "m.py:grey", "--device", device)


# -------------------------------------------------------------------------------------------------------- weights


def linear_state(change: Any) -> Any:
    return {name: change(value) for name, value in nn.Linear(3, 2).state_dict().items()}


BAD: dict[str, tuple[Any, str]] = {
    "integers as keys": ({0: torch.ones(1)}, r"not names with tensors; its key 0 \(int\) has a tensor"),
    "pairs as keys": ({("a", 1): torch.ones(1)}, r"its key \('a', 1\) \(tuple\) has a tensor"),
    "lists": ({"weight": [1, 2], "bias": torch.ones(2)}, r"its key 'weight' \(str\) has list"),
    "meta": (linear_state(lambda one: one.to("meta")), r"'weight' in .* is a tensor without values \(device 'meta'\)"),
    "sparse": (linear_state(lambda one: one.to_sparse()), r"'weight' in .* is sparse \(torch.sparse_coo\)"),
    "integers": (
        linear_state(lambda one: one.to(torch.int8)),
        "weight is torch.int8 in the file and torch.float32 here",
    ),
    "complex": (linear_state(lambda one: one.to(torch.complex64)), "weight is torch.complex64 in the file"),
}


@pytest.mark.parametrize("name", BAD)
def test_state_dicts_with_other_things_in_them_are_refused(tmp_path: Path, name: str) -> None:
    state, message = BAD[name]
    torch.save(state, tmp_path / "w.pt")
    model = nn.Linear(3, 2)
    before = state_digest(model)
    with pytest.raises(ModelError, match=message):
        load_state(model, tmp_path / "w.pt")
    assert state_digest(model) == before


def test_half_precision_weights_load_into_a_model_of_single_precision(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    torch.save({name: value.half() for name, value in model.state_dict().items()}, tmp_path / "w.pt")
    load_state(model, tmp_path / "w.pt")
    assert model.weight.dtype == torch.float32


def test_weights_that_are_a_picture_or_a_folder_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "w.png")
    (tmp_path / "d.pt").mkdir()
    with pytest.raises(ModelError, match="w.png is no state dict"):
        load_state(nn.Linear(3, 2), tmp_path / "w.png")
    with pytest.raises(InputError, match=r"d.pt' is a folder; name a file in it"):
        load_state(nn.Linear(3, 2), tmp_path / "d.pt")
    (tmp_path / "text.pt").write_bytes(b"hello")
    with pytest.raises(
        ModelError, match=r"cannot be read as a state dict \(.*\): it is damaged, or torch.save did not"
    ):
        load_state(nn.Linear(3, 2), tmp_path / "text.pt")
    assert not is_state_file("a" * 5000)


def test_weights_that_may_not_be_read_are_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pt").write_bytes(b"")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "w.pt")

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(InputError, match=r"the weights file '.*w.pt' cannot be read: Permission denied$"):
        load_state(nn.Linear(3, 2), tmp_path / "w.pt")


# --------------------------------------------------------------------------------------------------------- Python


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.LazyLinear(3)), "'0.weight' is not initialised"),
        (nn.Sequential(nn.BatchNorm1d(3), nn.LazyBatchNorm1d()).eval(), "'1.weight' is not initialised"),
        (nn.Sequential(nn.Linear(3, 2, device="meta")), "'0.weight' has a shape but no values"),
    ],
)
def test_models_without_values_are_refused_in_python_too(model: nn.Module, message: str) -> None:
    x = torch.ones(1, 3)
    with pytest.raises(ModelError, match=message):
        crp.CondAttribution(model)(x, [{"y": [0]}], "epsilon_plus")
    with pytest.raises(ModelError, match=message):
        crp.CondAttribution(model).graph(x)
    for use in (state_digest, check_weights):
        with pytest.raises(ModelError, match=message):
            use(model)


def test_a_lazy_model_that_has_run_once_is_used() -> None:
    model = nn.Sequential(nn.LazyLinear(3)).eval()
    model(torch.ones(1, 4))
    assert crp.CondAttribution(model)(torch.ones(1, 4), [{"y": [0]}], "epsilon_plus").heatmap.shape == (1, 4)


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_a_fingerprint_sees_the_values_of_sparse_buffers() -> None:
    digests = set()
    for value in (1.0, 2.0):
        model = nn.Linear(3, 2)
        nn.init.ones_(model.weight), nn.init.ones_(model.bias)
        model.register_buffer("links", torch.eye(3).mul(value).to_sparse())
        digests.add(state_digest(model))
    assert len(digests) == 2
    model.register_buffer("links", torch.eye(3).to_sparse_csr())
    with pytest.raises(ModelError, match=r"'links' of the model is torch.sparse_csr"):
        state_digest(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": None}, "model is a torch.nn.Module; got NoneType"),
        ({"preprocess": (0.5,)}, "preprocess is a crp_kit.Preprocess; got tuple"),
        ({"output": [1]}, r"output is a key, an index, an attribute or a function; got \[1\]"),
        ({"classes": [1, 2]}, "classes is the name of each output"),
    ],
)
def test_a_loaded_model_says_what_it_is_made_of(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CrpKitError, match=message):
        LoadedModel(**{"model": nn.Identity(), "preprocess": Preprocess(), **options})
