"""Integer token ids: relevance is recorded at the embedding's output, one row of it for each token."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from language_models import LANGUAGE_MODELS, WORDS, language_model, scores
from torch import nn
from torch.nn import functional as F
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.rules import Epsilon
from zennit.types import Linear

import crp_kit as crp
from crp_kit.errors import InputError

LRP0 = LayerMapComposite([*layer_map_base(1e-12), (Linear, Epsilon(1e-12))])
B, T, C = 3, 4, 5
IDS = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8]])


class Bag(nn.Module):
    """Tokens looked up, added up and scored, without biases: all of the score is relevance of tokens."""

    def __init__(self, embedded: Callable[["Bag", torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedded = embedded
        self.table, self.position = nn.Embedding(12, C), nn.Embedding(30, C)
        self.score = nn.Linear(C, 2, bias=False)
        self.register_buffer("renamed", torch.arange(12).flip(0))
        self.double().eval()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        value = self.embedded(self, ids) if mask is None else self.embedded(self, (ids, mask))  # type: ignore[arg-type]
        return self.score(value)


def shifted(ids: torch.Tensor) -> torch.Tensor:
    """Tokens moved by one to the right, as decoders get them."""
    right = ids.new_zeros(ids.shape)
    right[:, 1:] = ids[:, :-1].clone()
    right[:, 0] = 7
    return right


def replaced(ids: torch.Tensor) -> torch.Tensor:
    ids = ids.clone()
    ids.masked_fill_(ids == 9, 0)
    return ids


MOVED: dict[str, tuple[Callable[[Bag, torch.Tensor], torch.Tensor], int]] = {
    "as they are": (lambda m, ids: m.table(ids).sum(1), T),
    "functional": (lambda m, ids: F.embedding(ids, m.table.weight, padding_idx=0).sum(1), T),
    "table indexed": (lambda m, ids: m.table.weight[ids].sum(1), T),
    "rows selected": (lambda m, ids: m.table.weight.index_select(0, ids.view(-1)).view(len(ids), -1, C).sum(1), T),
    "flattened": (lambda m, ids: m.table(ids.reshape(-1)).view(len(ids), T, C).sum(1), T),
    "tokens first": (lambda m, ids: m.table(ids.t()).sum(0), T),
    "another type": (lambda m, ids: m.table(ids.to(torch.int32).contiguous()).sum(1), T),
    "cut": (lambda m, ids: m.table(ids[:, 1:]).sum(1), T - 1),
    "one more in front": (lambda m, ids: m.table(torch.cat([ids.new_full((len(ids), 1), 7), ids], 1)).sum(1), T + 1),
    "padded": (lambda m, ids: m.table(F.pad(ids, (0, 2), value=11)).sum(1), T + 2),
    "shifted to the right": (lambda m, ids: m.table(shifted(ids)).sum(1), T),
    "some replaced": (lambda m, ids: m.table(replaced(ids)).sum(1), T),
    "unknown ones replaced": (lambda m, ids: m.table(torch.where(ids > 6, 0, ids)).sum(1), T),
    "clamped and numbered from 1": (lambda m, ids: m.table(ids.clamp(max=8) + 1).sum(1), T),
    "renamed": (lambda m, ids: m.table(m.renamed[ids]).sum(1), T),
    "flipped": (lambda m, ids: m.table(ids.flip(1)).sum(1), T),
    "a batch of copies": (lambda m, ids: m.table(ids[:, None].expand(-1, 2, -1)).sum((1, 2)), T),
    "scaled": (lambda m, ids: (m.table(ids) * C**0.5).sum(1), T),
}


@pytest.mark.parametrize("name", MOVED)
def test_all_of_the_score_is_relevance_of_tokens(name: str) -> None:
    function, length = MOVED[name]
    attribution = crp.CondAttribution(Bag(function))
    attr = attribution(IDS, [{"y": [1]}], LRP0, pairing="product")
    assert attr.heatmap.shape[0] == B
    assert attr.heatmap.shape[-1] == length
    assert torch.equal(attr.heatmap, attr.input_relevance.sum(-1))
    assert attr.heatmap.flatten(1).sum(1).tolist() == pytest.approx(attr.prediction[:, 1].tolist())
    for i in range(B):
        alone = attribution(IDS[i : i + 1], [{"y": [1]}], LRP0)
        assert torch.allclose(attr.heatmap[i], alone.heatmap[0])


def test_relevance_of_a_token_is_its_row_of_the_table_times_the_gradient() -> None:
    model = Bag(MOVED["as they are"][0])
    attr = crp.CondAttribution(model)(IDS, [{"y": [0]}], LRP0)
    expected = model.table(IDS) * model.score.weight[0]
    assert torch.allclose(attr.input_relevance, expected)
    single = crp.CondAttribution(Bag(MOVED["as they are"][0]).float())(IDS, [{"y": [0]}], LRP0)
    assert torch.allclose(single.input_relevance, expected.float(), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_samples_are_the_first_axis_of_the_ids(batch_size: int) -> None:
    sets = [{"y": [0]}, {"y": [1]}]
    attribution = crp.CondAttribution(Bag(MOVED["tokens first"][0]))
    attr = attribution(IDS, sets, LRP0, batch_size=batch_size)
    assert attr.samples == (0, 0, 1, 1, 2, 2)
    assert torch.allclose(attr.heatmap, attribution(IDS, sets, LRP0).heatmap)


def test_the_embedding_is_named_after_its_module() -> None:
    model = Bag(MOVED["as they are"][0])
    attribution = crp.CondAttribution(model)
    attr = attribution(IDS, [{"y": [1]}], LRP0, record_layer=["table"])
    assert torch.equal(attr.relevances["table"], attr.input_relevance)
    assert torch.equal(attr.activations["table"], model.table(IDS))
    half = attribution(IDS, [{"table": [0, 1], "y": [1]}], LRP0)
    assert torch.equal(half.input_relevance[..., 2:], torch.zeros(B, T, C - 2))


POSITIONS: dict[str, Callable[..., torch.Tensor]] = {
    "counted": lambda m, ids: torch.arange(ids.shape[1]).expand_as(ids),
    "from what is no padding": lambda m, ids: (ids.ne(1).int().cumsum(1) * ids.ne(1)).long(),
    "types of zeros": lambda m, ids: torch.zeros_like(ids),
    "like ids": lambda m, ids: torch.arange(ids.shape[1])[None].to(ids),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_made_inside_are_constants(name: str) -> None:
    model = Bag(lambda m, ids: (m.table(ids) + m.position(POSITIONS[name](m, ids))).sum(1))
    attr = crp.CondAttribution(model)(IDS, [{"y": [0]}], LRP0)
    assert torch.allclose(attr.input_relevance, model.table(IDS) * model.score.weight[0], atol=1e-8)


def test_positions_made_of_a_mask_are_constants() -> None:
    def embedded(m: Bag, both: Any) -> torch.Tensor:
        ids, mask = both
        position = (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 1)
        return ((m.table(ids) + m.position(position)) * mask[..., None]).sum(1)

    model, mask = Bag(embedded), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]])
    attr = crp.CondAttribution(model)({"ids": IDS, "mask": mask}, [{"y": [0]}], LRP0)
    expected = model.table(IDS) * mask[..., None] * model.score.weight[0]
    assert torch.allclose(attr.input_relevance, expected, atol=1e-8)


def test_ids_behind_a_floating_point_input_are_constants() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.image, self.table = nn.Linear(6, C, bias=False), nn.Embedding(12, C)
            self.double()

        def forward(self, image: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            return (self.image(image) * self.table(ids).sum(1)).sum(1, keepdim=True)

    attr = crp.CondAttribution(Both())((torch.rand(B, 6).double(), IDS), [{"y": [0]}], LRP0)
    assert attr.heatmap.sum(1).tolist() == pytest.approx(attr.prediction[:, 0].tolist())


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (
            nn.Conv2d(3, 2, 3),
            torch.ones(1, 3, 4, 4, dtype=torch.uint8),
            "floating point.*torch.uint8: use data.float",
        ),
        (
            nn.Conv2d(3, 2, 3),
            torch.ones(1, 3, 4, 4, dtype=torch.int64),
            "floating point.*torch.int64: use data.float",
        ),
        (
            nn.Conv2d(3, 2, 3),
            torch.ones(1, 3, 4, 4, dtype=torch.bool),
            "floating point.*torch.bool: use data.float",
        ),
        (
            Bag(lambda m, ids: F.one_hot(ids, 12).double() @ m.table.weight),
            IDS,
            r"got torch.int64: use data.float\(\). Integers can be token ids where the forward looks them up",
        ),
        (Bag(lambda m, ids: m.table(ids.flip(0)).sum(1)), IDS, "rearranged among samples before they are looked up"),
    ],
)
def test_what_are_no_ids_is_said(model: nn.Module, data: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        crp.CondAttribution(model)(data, [{"y": [0]}], LRP0)


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_ids_give_what_their_embeddings_give(family: str) -> None:
    transformers = pytest.importorskip("transformers")
    model = language_model(family, transformers)
    ids = torch.randint(3, WORDS, (2, 7), generator=torch.Generator().manual_seed(1))
    layer = LANGUAGE_MODELS[family][1]
    attribution = crp.CondAttribution(model, output=scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crp.CrpKitWarning)
        attr = attribution({"input_ids": ids}, [{"y": [1]}], "attnlrp", record_layer=[layer])
        embedded = model.get_submodule(layer)(ids).detach()
        expected = attribution({"inputs_embeds": embedded}, [{"y": [1]}], "attnlrp")
        masked = attribution({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, [{"y": [1]}], "attnlrp")
    assert attr.heatmap.shape == (2, 7)
    assert torch.allclose(attr.input_relevance, expected.input_relevance, atol=1e-9)
    assert torch.allclose(attr.relevances[layer], attr.input_relevance)
    assert torch.allclose(masked.heatmap, attr.heatmap, atol=1e-9)
