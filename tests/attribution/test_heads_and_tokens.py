"""Tokens and attention heads as concepts: hand arithmetic, hand-written masks, and gradients of the other heads cut."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import atlas_of, references_of
from torch import nn
from torchvision.models import VisionTransformer
from zennit.composites import EpsilonPlus

from crp_kit import CondAttribution, HeadConcept, TokenConcept, verify_atlas
from crp_kit.data import ShapesDataset, demo_preprocess
from crp_kit.errors import ConceptAxisError, ConceptRangeError, ConditionError

HEADS, TOKENS, CHANNELS = 4, 5, 24


class PackedAttention(nn.Module):
    """Attention with one linear layer for queries, keys and values, as timm has it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.joined = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, channels = x.shape
        packed = self.qkv(x).reshape(batch, tokens, 3, HEADS, channels // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = packed.unbind(0)
        mixed = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        out: torch.Tensor = self.proj(self.joined(mixed.transpose(1, 2).reshape(batch, tokens, channels)))
        return out


class Windows(nn.Module):
    """A layer between others that sees two windows of each sample, as if they were samples."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.inner, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        windows = self.inner(self.first(x).relu().reshape(-1, 2, 6))
        out: torch.Tensor = self.last(windows.reshape(x.shape).relu().mean(1))
        return out


@pytest.mark.parametrize("start", [None, "inner"])
def test_rows_of_samples_in_windows_are_those_of_each_sample_alone(start: str | None) -> None:
    x = torch.randn(2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    attribution = CondAttribution(Windows().double().eval())
    sets: list[Any] = [{"first": [1]}, {"inner": [2]}] if start is None else [{"first": [1]}, {"first": [1, 2]}]
    for one in sets if start is None else ():
        one["y"] = [0]
    options: dict[str, Any] = {"record_layer": ["first", "inner"], "start_layer": start}
    zipped = attribution(x, sets, "epsilon_plus", pairing="zip", **options)
    assert zipped.relevances["inner"].shape == zipped.activations["inner"].shape == (2, 2, 2, 6)
    for row, one in enumerate(sets):
        for pairing in ("zip", "product"):
            alone = attribution(x[row : row + 1], [one], "epsilon_plus", pairing=pairing, **options)
            assert torch.allclose(zipped.heatmap[row], alone.heatmap[0])
            for name in ("first", "inner"):
                assert torch.allclose(zipped.relevances[name][row], alone.relevances[name][0])
                assert torch.allclose(zipped.activations[name][row], alone.activations[name][0])


class Tiny(nn.Module):
    """Patches, two attention blocks with shortcuts, a mean over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, CHANNELS, 8, 8)
        self.first, self.second = PackedAttention(), PackedAttention()
        self.head = nn.Linear(CHANNELS, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.first(tokens)
        out: torch.Tensor = self.head((tokens + self.second(tokens)).mean(1))
        return out


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    model = VisionTransformer(16, 8, 2, HEADS, CHANNELS, 32, num_classes=6).double().eval()
    nn.init.normal_(model.heads.head.weight)
    return model


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return Tiny().double().eval()


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def hand_written(where: Callable[[int], Any]) -> Callable[..., torch.Tensor]:
    """Mask function that keeps the places of the ids."""

    def mask(ids: Sequence[int], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        kept = torch.zeros(shape)
        for one in ids:
            kept[where(one)] = 1
        return kept

    return mask


def grouped(head: int) -> Any:
    size = CHANNELS // HEADS
    return ..., slice(head * size, (head + 1) * size)


def packed(head: int) -> Any:
    size = CHANNELS // HEADS
    return ..., [part * CHANNELS + head * size + i for part in range(3) for i in range(size)]


ATTENTION = "encoder.layers.encoder_layer_0.self_attention.scaled_dot_product_attention"
BLOCK = "encoder.layers.encoder_layer_0"
CASES = {
    "heads on an axis of their own": ("vit", ATTENTION, HeadConcept(), HEADS, lambda head: head),
    "heads along the channels": ("tiny", "first.joined", HeadConcept(heads=HEADS), HEADS, grouped),
    "heads behind a packed projection": ("tiny", "second.qkv", HeadConcept(heads=HEADS, parts=3), HEADS, packed),
    "tokens": ("vit", BLOCK, TokenConcept(), TOKENS, lambda token: token),
    "tokens of heads": ("vit", ATTENTION, TokenConcept(axis=2), TOKENS, lambda token: (slice(None), token)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_condition_keeps_what_a_hand_written_mask_keeps(case: str, request: pytest.FixtureRequest) -> None:
    model, layer, concept, size, where = CASES[case]
    attribution, x = CondAttribution(request.getfixturevalue(model)), images()
    sets = [{layer: [1, size - 1], "y": [2]}, {layer: [0], "y": [1]}]
    options: Any = {"composite": EpsilonPlus(), "pairing": "product"}
    ours = attribution(x, sets, mask_map=concept, **options).input_relevance
    by_hand = attribution(x, sets, mask_map={layer: hand_written(where)}, **options).input_relevance
    assert float(ours.abs().max()) > 0
    assert torch.equal(ours, by_hand)


@pytest.mark.parametrize("case", CASES)
def test_the_heatmaps_of_all_concepts_sum_to_that_of_the_layer(case: str, request: pytest.FixtureRequest) -> None:
    model, layer, concept, size, _ = CASES[case]
    attribution, x = CondAttribution(request.getfixturevalue(model)), images(1)
    one_by_one = attribution(
        x, [{layer: [one], "y": [2]} for one in range(size)], EpsilonPlus(), mask_map=concept, exclude_parallel=True
    )
    everything = hand_written(lambda one: ...)
    whole = attribution(x, [{layer: [0], "y": [2]}], EpsilonPlus(), mask_map=everything)
    assert torch.allclose(one_by_one.heatmap.sum(0), whole.heatmap[0], rtol=1e-9, atol=1e-12)


def test_the_heatmaps_of_all_tokens_sum_to_the_unconditioned_one(vit: nn.Module) -> None:
    attribution, x = CondAttribution(vit), images(1)
    sets = [{BLOCK: [token], "y": [2]} for token in range(TOKENS)]
    found = attribution(x, sets, EpsilonPlus(), mask_map=TokenConcept()).heatmap.sum(0)
    assert torch.allclose(found, attribution(x, [{"y": [2]}], EpsilonPlus()).heatmap[0], rtol=1e-9, atol=1e-12)


def test_the_gradient_of_a_head_is_that_of_the_model_with_the_other_heads_held_fixed(tiny: Any) -> None:
    """Oracle without crp-kit: autograd, with the channels of the other heads and the shortcut detached by a hook."""
    x, head = images(1), 2
    keep = torch.zeros(CHANNELS, dtype=torch.bool)
    keep[grouped(head)[1]] = True

    def only_the_head(module: nn.Module, args: Any, value: torch.Tensor) -> torch.Tensor:
        return torch.where(keep, value, value.detach())

    leaf = x.clone().requires_grad_()
    tokens = tiny.patches(leaf).flatten(2).transpose(1, 2)
    handle = tiny.first.joined.register_forward_hook(only_the_head)
    tokens = tokens.detach() + tiny.first(tokens)
    handle.remove()
    out = tiny.head((tokens + tiny.second(tokens)).mean(1))
    (expected,) = torch.autograd.grad(out[0, 1], leaf)
    ours = CondAttribution(tiny)(
        x, [{"first.joined": [head], "y": [1]}], None, init_rel=1.0, mask_map=HeadConcept(heads=HEADS)
    )
    assert torch.allclose(ours.input_relevance, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_samples_of_a_batch_are_as_alone(case: str, request: pytest.FixtureRequest) -> None:
    model, layer, concept, _, _ = CASES[case]
    attribution, x = CondAttribution(request.getfixturevalue(model)), images(3)
    options: Any = {"mask_map": concept, "record_layer": [layer]}
    batch = attribution(x, [{layer: [1], "y": [2]}], EpsilonPlus(), pairing="product", **options)
    for sample in range(3):
        alone = attribution(x[sample : sample + 1], [{layer: [1], "y": [2]}], EpsilonPlus(), **options)
        assert torch.allclose(batch.heatmap[sample], alone.heatmap[0], rtol=1e-9, atol=1e-13)
        shares = concept.attribute(batch.relevances[layer])[sample]
        assert torch.allclose(shares, concept.attribute(alone.relevances[layer])[0], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("model", "apart", "together"),
    [
        ("vit", ATTENTION, ATTENTION.replace("scaled_dot_product_attention", "reshape")),
        ("tiny", "first.matmul_1", "first.joined"),
    ],
)
def test_a_head_is_the_same_apart_and_among_the_channels(
    model: str, apart: str, together: str, request: pytest.FixtureRequest
) -> None:
    attribution, x = CondAttribution(request.getfixturevalue(model)), images(1)
    for head in range(HEADS):
        found = [
            attribution(x, [{layer: [head], "y": [2]}], EpsilonPlus(), mask_map=concept).heatmap
            for layer, concept in ((apart, HeadConcept()), (together, HeadConcept(heads=HEADS)))
        ]
        assert float(found[0].abs().max()) > 0
        assert torch.allclose(found[0], found[1], rtol=1e-9, atol=1e-14)


def test_samples_among_tokens_are_refused(vit: nn.Module) -> None:
    layer = ATTENTION.replace("scaled_dot_product_attention", "reshape")
    with pytest.raises(
        ConditionError, match=r"reshape' has its samples inside of an axis of its output of shape \(10, 24\)"
    ):
        CondAttribution(vit)(images(2), [{layer: [0], "y": [1]}], EpsilonPlus(), mask_map=HeadConcept(heads=HEADS))


# ---------------------------------------------------------------------- hand arithmetic

RELEVANCE = torch.tensor([[[1.0, 2.0, 0.0, -4.0], [5.0, 0.0, -1.0, 0.0]]])
"""(row 1, token 2, channel 4)"""


def test_shares_and_references_of_tokens() -> None:
    assert TokenConcept().attribute(RELEVANCE, abs_norm=False).tolist() == [[-1.0, 4.0]]
    assert torch.allclose(TokenConcept().attribute(RELEVANCE), torch.tensor([[-0.2, 0.8]]))
    summed, highest = (TokenConcept().reference(RELEVANCE, aggregate=one) for one in ("sum", "max"))
    assert (summed.score.tolist(), highest.score.tolist()) == ([[-1.0, 4.0]], [[2.0, 5.0]])
    assert summed.position.tolist() == highest.position.tolist() == [[1, 0]]
    assert TokenConcept(axis=-1).attribute(RELEVANCE, abs_norm=False).tolist() == [[6.0, 2.0, -1.0, -4.0]]


def test_shares_and_references_of_heads() -> None:
    grouped_heads = HeadConcept(heads=2)
    assert grouped_heads.attribute(RELEVANCE, abs_norm=False).tolist() == [[8.0, -5.0]]
    assert grouped_heads.reference(RELEVANCE).position.tolist() == [[2, 0]]  # (token, channel) of a head: 1 2 5 0
    own_axis = RELEVANCE.reshape(1, 2, 2, 2)
    assert HeadConcept().attribute(own_axis, abs_norm=False).tolist() == [[-1.0, 4.0]]
    assert HeadConcept(axis=2).attribute(own_axis, abs_norm=False).tolist() == [[8.0, -5.0]]
    two_parts = HeadConcept(heads=2, parts=2)
    assert two_parts.attribute(RELEVANCE, abs_norm=False).tolist() == [[5.0, -2.0]]
    assert two_parts.mask([0], torch.Size([2, 4]), layer_name="qkv").tolist() == [[1.0, 0.0, 1.0, 0.0]]
    by_rows = HeadConcept(heads=2, axis=1)  # channels on axis 1: (row, channel, token)
    assert by_rows.mask([1], torch.Size([4, 2]), layer_name="conv").tolist() == [[0.0], [0.0], [1.0], [1.0]]


@pytest.mark.parametrize("concept", [TokenConcept(), TokenConcept(-1), HeadConcept(2), HeadConcept(2, parts=2)])
def test_a_position_counts_the_neurons_that_the_mask_keeps(concept: Any) -> None:
    values = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))
    reference = concept.reference(values, aggregate="max")
    for one in range(reference.score.shape[1]):
        kept = concept.mask([one], torch.Size([6, 8]), layer_name="x").expand(6, 8).bool()
        own = values[:, kept]
        assert torch.equal(own.gather(1, reference.position[:, one : one + 1])[:, 0], reference.score[:, one])
        assert torch.equal(own.amax(1), reference.score[:, one])


SHAPE = torch.Size([5, 24])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: TokenConcept().mask([5], SHAPE, layer_name="block"),
            ConceptRangeError,
            "token 5 of 'block' is out of range: it has 5 of them",
        ),
        (
            lambda: TokenConcept().mask(["cls"], SHAPE, layer_name="block"),
            ConditionError,
            "a token of 'block' is a whole number; got 'cls'",
        ),
        (
            lambda: TokenConcept().mask([0], torch.Size([24]), layer_name="head"),
            ConceptAxisError,
            r"'head' has no token axis: its output has 2 axes, and \(row, token, channel\) are three",
        ),
        (
            lambda: TokenConcept(axis=3).attribute(torch.ones(1, 5, 24)),
            ConceptAxisError,
            "axis 3 is no token axis of 'relevance', which has 3 axes",
        ),
        (lambda: TokenConcept(axis=0).attribute(torch.ones(1, 5, 24)), ConceptAxisError, "axis 0 is no token axis"),
        (
            lambda: HeadConcept(heads=4).mask([4], SHAPE, layer_name="proj"),
            ConceptRangeError,
            "head 4 of 'proj' is out of range: it has 4 of them",
        ),
        (
            lambda: HeadConcept(heads=5).mask([0], SHAPE, layer_name="proj"),
            ConceptAxisError,
            "the 24 channels of 'proj' are not 5 equal heads$",
        ),
        (
            lambda: HeadConcept(heads=6, parts=3).attribute(torch.ones(1, 5, 24)),
            ConceptAxisError,
            "the 24 channels of 'relevance' are not 6 equal heads in each of 3 parts",
        ),
        (
            lambda: HeadConcept().mask([0], SHAPE, layer_name="proj"),
            ConceptAxisError,
            r"'proj' has no head axis of its own: its output has 3 axes, .* say HeadConcept\(heads=...\)",
        ),
        (
            lambda: HeadConcept(axis=4).attribute(torch.ones(1, 4, 5, 6)),
            ConceptAxisError,
            "axis 4 is no head axis of 'relevance', which has 4 axes",
        ),
        (
            lambda: HeadConcept(heads=2, axis=0).attribute(torch.ones(2, 5, 24)),
            ConceptAxisError,
            "axis 0 is no channel axis",
        ),
        (lambda: HeadConcept(heads=0), ConditionError, "heads is a whole number of at least 1; got 0"),
        (lambda: HeadConcept(heads=2, parts=1.5), ConditionError, "parts is a whole number of at least 1; got 1.5"),  # type: ignore[arg-type]
        (lambda: HeadConcept(parts=3), ConditionError, "parts=3 are blocks of channels with heads in each: say heads="),
    ],
)
def test_what_is_no_head_or_token_is_told(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_the_text_of_a_concept_names_everything_that_it_was_made_with() -> None:
    assert repr(TokenConcept()) == "TokenConcept(axis=1)"
    assert repr(HeadConcept(heads=12, parts=3)) == "HeadConcept(heads=12, axis=None, parts=3)"


# ---------------------------------------------------------------------- atlases


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "concept", "size"),
    [(ATTENTION, HeadConcept(), HEADS), (BLOCK, TokenConcept(), 17)],
    ids=["head", "token"],
)
def test_an_atlas_of_heads_or_tokens(layer: str, concept: Any, size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VisionTransformer(64, 16, 1, HEADS, CHANNELS, 32, num_classes=8).eval()
    nn.init.normal_(model.heads.head.weight)
    data, attribution = ShapesDataset(6, split="test"), CondAttribution(model)
    options: Any = {"composite": "epsilon_plus", "preprocess": demo_preprocess, "verbose": False}
    path = tmp_path / "atlas.h5"
    with atlas_of(
        attribution, data, path, layers=layer, concepts={layer: concept}, k=3, batch_size=4, **options
    ) as atlas:
        assert atlas[layer].n_concepts == size
        assert atlas[layer].info.concept == repr(concept)
        top = atlas[layer].relevance.top(2)
        scores = []
        for image, label in map(data.__getitem__, range(len(data))):
            x = demo_preprocess(image)[None]
            attr = attribution(x, [{"y": [label]}], "epsilon_plus", record_layer=[layer])
            scores.append(float(concept.attribute(attr.relevances[layer])[0, 2]))
        order = sorted(range(len(scores)), key=lambda i: -scores[i])[:3]
        assert top.sample.tolist() == order
        assert top.score.tolist() == pytest.approx([scores[i] for i in order], rel=1e-4)
        del options["verbose"]
        references = references_of(
            atlas, data, layer, 2, attribution=attribution, k=2, concepts={layer: concept}, **options
        )
        x = torch.stack([demo_preprocess(data[int(i)][0]) for i in top.sample[:2]])
        sets = [{layer: [2], "y": [int(one)]} for one in top.target[:2]]
        expected = attribution(x, sets, "epsilon_plus", mask_map=concept, pairing="zip").heatmap
        assert torch.allclose(torch.stack(references.heatmaps), expected, rtol=1e-4, atol=1e-6)
    assert not verify_atlas(path)
