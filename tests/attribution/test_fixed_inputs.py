"""Inputs that belong to all samples alike: declared or recognised; results never depend on how rows are cut."""

import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from studies import concept_graph_of
from torch import nn

import crp_kit as crp
from crp_kit.graph.recording.inputs import Inputs

M, D = 4, 6
Function = Callable[["Pair", torch.Tensor, torch.Tensor], torch.Tensor]


class Pair(nn.Module):
    """A function of an input (sample, ...) and of another one."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.image, self.text, self.head = nn.Linear(D, 5), nn.Linear(D, 5), nn.Linear(5, 3)
        self.double().eval()

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self.function(self, x, other)


def attended(m: Pair, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    keys, query = m.text(memory), m.image(x)
    return m.head((query @ keys.T).softmax(-1) @ keys + query)


PAIRS: dict[str, tuple[Function, tuple[int, ...], tuple[int, ...]]] = {
    "similarity": (lambda m, x, t: m.image(x) @ m.text(t).T, (M, D), (M, D)),
    "similarity by rows of text": (lambda m, x, t: (m.text(t) @ m.image(x).T).T, (M, D), (M, D)),
    "memory": (attended, (M, D), (M, D)),
    "position": (lambda m, x, p: m.head(m.image(x + p).relu().mean(1)), (M, M, D), (M, D)),
    "mask of tokens": (lambda m, x, k: m.head((k @ m.image(x).relu()).mean(1)), (M, M, D), (M, M)),
    "scale of tokens": (lambda m, x, s: m.head(m.image(x * s.T[..., None]).relu().mean(1)), (M, M, D), (M, 1)),
}


def data(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    _, first, second = PAIRS[name]
    generator = torch.Generator().manual_seed(2)
    one, other = (torch.rand(shape, generator=generator, dtype=torch.float64) for shape in (first, second))
    return one, other


class Similarity(nn.Module):
    """The first of these with arguments that have names."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(D, 5), nn.Linear(D, 5)
        self.double().eval()

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.image(x) @ self.text(t).T
        return logits


@pytest.mark.filterwarnings("ignore::crp_kit.CrpKitWarning")
@pytest.mark.parametrize("rules", ["epsilon_plus", "attnlrp", None])
@pytest.mark.parametrize("pairing", ["zip", "product"])
@pytest.mark.parametrize("name", PAIRS)
def test_rows_are_those_of_each_sample_alone_for_any_batch_size(name: str, pairing: Any, rules: str | None) -> None:
    x, other = data(name)
    attribution = crp.CondAttribution(Pair(PAIRS[name][0]), fixed=1)
    sets = [{"image": [0, 1], "y": [0]}, {"y": [1]}, {"image": [2], "y": [2]}, {"y": [0, 1]}]
    pairs = list(zip(range(M), range(M), strict=True)) if pairing == "zip" else itertools.product(range(M), range(M))
    alone = torch.cat([attribution((x[i : i + 1], other), [sets[j]], rules).heatmap for i, j in pairs])
    for batch_size in (1, 2, 3, M, 64):
        attr = attribution((x, other), sets, rules, pairing=pairing, batch_size=batch_size, record_layer=["image"])
        assert torch.allclose(attr.heatmap, alone, atol=1e-12)
        assert attr.relevances["image"].shape[0] == len(alone)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("batch_size", [1, M])
def test_what_could_be_either_is_an_error(name: str, batch_size: int) -> None:
    attribution = crp.CondAttribution(Pair(PAIRS[name][0]))
    with pytest.raises(crp.CrpKitError, match=r"input, input_1 have one entry for each of them.*fixed=\('input_1',\)"):
        attribution(data(name), [{"y": [0]}], "epsilon_plus", batch_size=batch_size)


@pytest.mark.filterwarnings("ignore::crp_kit.CrpKitWarning")
@pytest.mark.parametrize("name", ["similarity", "memory"])
def test_another_number_of_entries_is_recognised(name: str) -> None:
    x, other = data(name)
    model = Pair(PAIRS[name][0])
    declared = crp.CondAttribution(model, fixed="input_1")((x, other), [{"y": [1]}], "epsilon_plus")
    for count, batch_size in itertools.product((1, 2, 3), (1, 2, 3)):
        attr = crp.CondAttribution(model)((x[:count], other), [{"y": [1]}], "epsilon_plus", batch_size=batch_size)
        assert torch.allclose(attr.heatmap, declared.heatmap[:count])


@pytest.mark.filterwarnings("ignore::crp_kit.CrpKitWarning")
@pytest.mark.parametrize("shape", [(), (1,), (M,)])
@pytest.mark.parametrize("batch_size", [1, M])
def test_another_input_may_be_a_number_or_one_for_each_sample(shape: tuple[int, ...], batch_size: int) -> None:
    """As the time of a diffusion model."""
    model = Pair(lambda m, x, t: m.head((m.image(x) + t.reshape(-1, 1)).relu()))
    x, t = torch.rand(M, D).double(), torch.linspace(0.3, 0.7, M).double()[: max(shape, default=1)].reshape(shape)
    found = crp.CondAttribution(model)((x, t), [{"y": [1]}], "epsilon_plus", pairing="product", batch_size=batch_size)
    for sample, time in enumerate(t.expand(M).tolist()):
        alone = Pair(lambda m, x, _, time=time: m.head((m.image(x) + time).relu()))
        one = crp.CondAttribution(alone)((x[sample : sample + 1], x[:1]), [{"y": [1]}], "epsilon_plus")
        assert torch.allclose(found.input_relevance[sample], one.input_relevance[0], rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::crp_kit.CrpKitWarning")
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_layer_of_what_is_shared_has_no_relevance_of_a_sample(batch_size: int) -> None:
    """Also where a slice happens to have as many samples as there are texts."""
    x, texts = data("similarity")
    attribution = crp.CondAttribution(Pair(PAIRS["similarity"][0]))
    for options in ({"record_layer": ["text"]}, {"record_layer": ["input_1"]}):
        with pytest.raises(crp.CrpKitError, match="depends only on inputs that belong to all samples alike"):
            attribution((x, texts[:2]), [{"y": [1]}], "epsilon_plus", batch_size=batch_size, **options)
    with pytest.raises(crp.CrpKitError, match="'text' depends only on inputs that belong to all samples"):
        attribution((x, texts[:2]), [{"text": [1], "y": [1]}], "epsilon_plus", batch_size=batch_size)


@pytest.mark.filterwarnings("ignore::crp_kit.CrpKitWarning")
def test_two_inputs_with_an_entry_each_need_no_word() -> None:
    x, other = data("similarity")
    model = Pair(lambda m, x, t: m.head(m.image(x) + m.text(t)))
    attribution = crp.CondAttribution(model)
    whole = attribution((x, other), [{"y": [0]}], "epsilon_plus", batch_size=3, record_layer=["input_1"])
    for i in range(M):
        one = attribution((x[i : i + 1], other[i : i + 1]), [{"y": [0]}], "epsilon_plus", record_layer=["input_1"])
        assert torch.allclose(whole.heatmap[i], one.heatmap[0])
        assert torch.allclose(whole.relevances["input_1"][i], one.relevances["input_1"][0])


@pytest.mark.filterwarnings("ignore::crp_kit.CrpKitWarning")
@pytest.mark.parametrize("fixed", ["t", ("t",), ["t"], 1, (1,)])
def test_a_fixed_input_has_a_name_or_a_position(fixed: Any) -> None:
    x, t = data("similarity")
    attribution = pickle.loads(pickle.dumps(crp.CondAttribution(Similarity(), fixed=fixed)))
    expected = crp.CondAttribution(Pair(PAIRS["similarity"][0]), fixed=1)((x, t), [{"y": [1]}], "epsilon_plus")
    assert torch.equal(attribution({"x": x, "t": t}, [{"y": [1]}], "epsilon_plus").heatmap, expected.heatmap)


def test_the_first_input_that_is_not_fixed_counts_the_samples_and_has_the_heatmap() -> None:
    inputs = Inputs.of(
        {"texts": torch.rand(3, 7, D), "mask": torch.ones(3, 7), "x": torch.rand(2, D)}, ("texts", "mask")
    )
    assert inputs.samples == 2
    assert list(inputs.by_sample) == ["x"]
    part = inputs.part(slice(0, 1)).tree
    assert [tuple(part[name].shape) for name in ("texts", "mask", "x")] == [(3, 7, D), (3, 7), (1, D)]


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        (("text",), r"fixed names 'text', which is no input with a tensor in it; the inputs are 'input', 'input_1'"),
        ((2,), "fixed names 2, which is no input"),
        ((0, 1), "names all inputs"),
    ],
)
def test_what_cannot_be_fixed_is_said(fixed: Any, message: str) -> None:
    with pytest.raises(crp.CrpKitError, match=message):
        crp.CondAttribution(Pair(PAIRS["similarity"][0]), fixed=fixed)(data("similarity"), [{"y": [0]}], "epsilon_plus")


def test_a_wrong_word_is_refused_at_once() -> None:
    with pytest.raises(crp.CrpKitError, match="fixed is names of inputs"):
        crp.CondAttribution(nn.Linear(2, 2), fixed=(1.5,))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::crp_kit.CrpKitWarning")
def test_a_concept_graph_over_samples_keeps_what_they_share() -> None:
    x, other = data("similarity")
    attribution = crp.CondAttribution(Pair(PAIRS["similarity"][0]), fixed=1)
    graphs = [
        concept_graph_of(attribution, (x, other), "epsilon_plus", start={"y": [1]}, layers=["image"], batch_size=size)
        for size in (1, 3, 8)
    ]
    shares = [[node["share"] for node in graph.to_json()["nodes"]] for graph in graphs]
    assert shares[0] == pytest.approx(shares[1])
    assert shares[0] == pytest.approx(shares[2])


@pytest.mark.filterwarnings("ignore::crp_kit.CrpKitWarning")
@pytest.mark.parametrize("images", [2, 3])
def test_images_are_compared_with_as_many_texts(images: int) -> None:
    """CLIP: every image alone beside all texts, whatever the batch size, with as many texts as images or more."""
    tf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = tf.CLIPConfig(
        text_config={**text, "vocab_size": 50, "eos_token_id": 49, "bos_token_id": 48},
        vision_config={**text, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    model = tf.CLIPModel(config).double().eval()
    pixels = torch.rand(images, 3, 16, 16, dtype=torch.float64)
    ids = torch.tensor([[48, 3, 4, 49], [48, 5, 6, 49], [48, 7, 8, 49]])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    attribution = crp.CondAttribution(model, output="logits_per_image", fixed=("input_ids", "attention_mask"))
    alone = torch.cat(
        [attribution({**given, "pixel_values": one[None]}, [{"y": [2]}], "attnlrp").heatmap for one in pixels]
    )
    assert alone.shape == (images, 16, 16)
    for batch_size in (1, 2, 3):
        assert torch.allclose(attribution(given, [{"y": [2]}], "attnlrp", batch_size=batch_size).heatmap, alone)
