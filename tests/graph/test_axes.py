"""Along which axis nodes keep channels and samples: followed through each operation, whatever sizes are equal."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crp_kit import CondAttribution
from crp_kit.graph.axes.output_axes import MIXED, batch_axes, channel_axes
from crp_kit.graph.graph import Graph, Ref
from crp_kit.graph.recording.record import record
from crp_kit.graph.recording.shadow import make_shadow

Program = Callable[[torch.Tensor], torch.Tensor]
DISTINCT, EQUAL, ONES = (2, 3, 4, 5), (3, 3, 3, 3), (1, 1, 1, 1)
SEEDS = 50


class _Runs(nn.Module):
    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.program(x)


def graph_of(program: Program, x: torch.Tensor) -> Graph:
    return record(make_shadow(_Runs(program)), x).graph


def answers(program: Program, shape: tuple[int, ...]) -> tuple[int | None, int | None]:
    """Return the channel axis and the batch axis of what a program returns."""
    generator = torch.Generator().manual_seed(0)
    graph = graph_of(program, torch.randn(shape, generator=generator).double())
    return channel_axes(graph)[graph.output], batch_axes(graph)[graph.output]


def weight(*shape: int) -> torch.Tensor:
    return torch.linspace(0.5, 2, max(torch.Size(shape).numel(), 1), dtype=torch.float64).reshape(shape)


def written_into(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Return a buffer with one slice more than x, of which all but the first are x."""
    shape = list(x.shape)
    shape[dim] += 1
    buffer = torch.zeros(shape, dtype=x.dtype)
    buffer[(slice(None),) * dim + (slice(1, None),)] = x
    return buffer


def heads(x: torch.Tensor, count: int = 1) -> torch.Tensor:
    return x.flatten(2).transpose(1, 2).unflatten(2, (count, -1)).transpose(1, 2)


def partitioned(x: torch.Tensor, size: int = 1) -> torch.Tensor:
    """Return windows of a map in the batch axis, (batch * window, token, channel), as Swin has them."""
    b, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).view(b, h // size, size, w // size, size, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, c)


def with_class_token(x: torch.Tensor) -> torch.Tensor:
    x = partitioned(x).unflatten(0, (len(x), -1)).flatten(1, 2)
    return torch.cat([weight(1, 1, x.shape[2]).expand(len(x), -1, -1), x], 1)


# (program of x of shape (batch, channel, height, width), channel axis of its result, batch axis)
KNOWN: dict[str, tuple[Program, int | None, int | None]] = {
    "as it is": (lambda x: x * 2, 1, 0),
    "index with None and an integer": (lambda x: x[:, None, :, :, 0], 2, 0),
    "index with an ellipsis": (lambda x: x[..., 0, :], 1, 0),
    "index with an ellipsis and None": (lambda x: x[..., None, 0], 1, 0),
    "index of the last axis": (lambda x: x.permute(0, 2, 3, 1)[:, 0], 2, 0),
    "index with integers alone": (lambda x: x[:, :, 0, 0], 1, 0),
    "slices": (lambda x: x[:, :2, ::2], 1, 0),
    "index tensor on the width": (lambda x: x[:, :, :, torch.tensor([0, 0])], 1, 0),
    "index tensor on the channels": (lambda x: x[:, torch.tensor([0, 0, 0, 0])], 1, 0),
    "index list on the map": (lambda x: x[:, :, [0, 0]], 1, 0),
    "index array of NumPy on the channels": (lambda x: x[:, np.zeros(4, int)], 1, 0),
    "index of NumPy's integer": (lambda x: x[:, :, np.int64(0)], 1, 0),
    "mask of the map": (lambda x: x[:, :, torch.ones(x.shape[2:], dtype=torch.bool)], 1, 0),
    "mask of the height, that depends on the input": (lambda x: x[:, :, (x[0, 0, :, 0] > -9)], 1, 0),
    "index tensors apart": (lambda x: x[:, :, torch.tensor([0, 0])][torch.arange(len(x)), :, :, 0], 1, 0),
    "own position of each sample": (lambda x: x[torch.arange(len(x)), :, 0], 1, 0),
    "an integer that torch takes first": (lambda x: x[:, :, 0, torch.tensor([0, 0])], 1, 0),
    "flatten of the map": (lambda x: x.flatten(2), 1, 0),
    "view of the map": (lambda x: x.view(x.shape[0], x.shape[1], -1).transpose(1, 2), 2, 0),
    "flatten of the pooled map": (lambda x: x.mean((2, 3), keepdim=True).flatten(1), 1, 0),
    "reshape of the pooled map": (lambda x: F.adaptive_avg_pool2d(x, 1).reshape(x.shape[0], -1), 1, 0),
    "tokens": (lambda x: x.flatten(2).transpose(1, 2), 2, 0),
    "tokens first": (lambda x: x.flatten(2).permute(2, 0, 1), 2, 1),
    "permute by a list": (lambda x: torch.permute(x, dims=[0, -1, -2, -3]), 3, 0),
    "permute by negative axes": (lambda x: x.permute(0, -2, 1, -1), 2, 0),
    "movedim": (lambda x: x.movedim(1, -1), 3, 0),
    "movedim of two": (lambda x: torch.movedim(x, (1, 0), (0, 2)), 0, 2),
    "swapaxes": (lambda x: torch.swapaxes(x, 1, 3), 3, 0),
    "mT": (lambda x: x.movedim(1, 2).mT, 3, 0),
    "rot90 of the map": (lambda x: torch.rot90(x, 1, (2, 3)), 1, 0),
    "rot90 with the channels": (lambda x: torch.rot90(x, 1, (1, 2)), 2, 0),
    "rot90 twice": (lambda x: torch.rot90(x, 2, (1, 2)), 1, 0),
    "roll of the channels": (lambda x: x.roll(1, 1), 1, 0),
    "roll of the map": (lambda x: torch.roll(x, shifts=(1, 1), dims=(2, 3)), 1, 0),
    "flip": (lambda x: x.flip(1, 3), 1, 0),
    "diagonal of the map": (lambda x: x.diagonal(dim1=2, dim2=3), 1, 0),
    "diagonal with the channels": (lambda x: torch.diagonal(x, 0, 1, 2), 2, 0),
    "triangle": (lambda x: x.tril(), 1, 0),
    "unsqueeze": (lambda x: x.unsqueeze(1), 2, 0),
    "unsqueeze at the end": (lambda x: x.unsqueeze(-1), 1, 0),
    "unsqueeze and squeeze": (lambda x: x.unsqueeze(1).squeeze(1), 1, 0),
    "unflatten of the height": (lambda x: x.unflatten(2, (1, -1)), 1, 0),
    "expand of a channel to some": (lambda x: x[:, :1].expand(-1, 4, -1, -1), 1, 0),
    "expand of the map": (lambda x: x.mean((2, 3), keepdim=True).expand_as(x), 1, 0),
    "expand with an axis in front of channels": (lambda x: x.unsqueeze(1).expand(-1, 2, -1, -1, -1), 2, 0),
    "broadcast_to": (lambda x: torch.broadcast_to(x[:, :, :1], x.shape), 1, 0),
    "broadcast against more axes": (lambda x: x.mean((2, 3)).unsqueeze(1) * weight(4, 1), 2, 0),
    "sum of a constant with as many axes": (lambda x: x + weight(*x.shape[1:]), 1, 0),
    "repeat of channels": (lambda x: x.repeat(1, 2, 1, 1), 1, 0),
    "repeat with an axis in front": (lambda x: x[0].repeat(1, 1, 1, 1), 1, MIXED),
    "tile": (lambda x: x.tile((2, 1)), 1, 0),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, dim=1), 1, 0),
    "cat of channels": (lambda x: torch.cat([x, x * 2], 1), 1, 0),
    "cat of the map": (lambda x: torch.cat((x, x), dim=-1), 1, 0),
    "cat with a constant": (lambda x: torch.cat([x, torch.ones_like(x)], axis=1), 1, 0),
    "hstack": (lambda x: torch.hstack([x, x]), 1, 0),
    "dstack": (lambda x: torch.dstack([x, x]), 1, 0),
    "stack": (lambda x: torch.stack([x, x], dim=1), 2, 0),
    "stack at the end": (lambda x: torch.stack([x, x], dim=-1), 1, 0),
    "stack and sum": (lambda x: torch.stack([x, x]).sum(0), 1, 0),
    "chunk": (lambda x: x.repeat(1, 2, 1, 1).chunk(2, 1)[1], 1, 0),
    "split": (lambda x: x.split(1, 2)[0], 1, 0),
    "tensor_split of channels": (lambda x: torch.tensor_split(x.repeat(1, 2, 1, 1), 2, dim=1)[1], 1, 0),
    "tensor_split of the map": (lambda x: x.tensor_split(1, -1)[0], 1, 0),
    "unbind": (lambda x: x.unbind(2)[0], 1, 0),
    "unbind of the last": (lambda x: x.movedim(1, 3).unbind(1)[0], 2, 0),
    "select": (lambda x: x.select(2, 0), 1, 0),
    "narrow": (lambda x: x.narrow(1, 0, 1), 1, 0),
    "index_select": (lambda x: x.index_select(2, torch.tensor([0])), 1, 0),
    "gather of the map": (lambda x: x.gather(3, torch.zeros(x.shape, dtype=torch.long)), 1, 0),
    "take_along_dim": (lambda x: torch.take_along_dim(x, torch.zeros(x.shape, dtype=torch.long), 2), 1, 0),
    "sort of the map": (lambda x: x.sort(-1)[0], 1, 0),
    "topk of tokens": (lambda x: x.flatten(2).topk(1).values, 1, 0),
    "Tensor.unfold of the map": (lambda x: x.unfold(2, 1, 1).unfold(3, 1, 1), 1, 0),
    "pad": (lambda x: F.pad(x, (1, 1, 0, 1)), 1, 0),
    "pad of channels": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), 1, 0),
    "mean of the height": (lambda x: x.mean(2), 1, 0),
    "mean of axes that are kept": (lambda x: x.mean(dim=(2, 3), keepdim=True), 1, 0),
    "sum of the middle": (lambda x: x.movedim(1, 3).sum(1), 2, 0),
    "amax": (lambda x: torch.amax(x, (-1, -2)), 1, 0),
    "max of an axis": (lambda x: x.max(dim=3).values, 1, 0),
    "std": (lambda x: x.std(3, unbiased=False), 1, 0),
    "logsumexp": (lambda x: x.logsumexp(3), 1, 0),
    "norm": (lambda x: torch.linalg.vector_norm(x, dim=3), 1, 0),
    "maximum": (lambda x: torch.maximum(x, x * 2), 1, 0),
    "max with another": (lambda x: torch.max(x, x * 2), 1, 0),
    "sin, which is no known operation": (lambda x: torch.sin(x), 1, 0),
    "where": (lambda x: torch.where(x > 0, x, 0.0), 1, 0),
    "softmax of the channels": (lambda x: x.softmax(1), 1, 0),
    "pooling": (lambda x: F.max_pool2d(x, 1), 1, 0),
    "pooling of tokens": (lambda x: F.avg_pool1d(x.flatten(2), 1), 1, 0),
    "interpolate": (lambda x: F.interpolate(x, scale_factor=2), 1, 0),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x.repeat_interleave(4, 1), 2), 1, 0),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(F.interpolate(x, scale_factor=2), 2), 1, 0),
    "channel_shuffle": (lambda x: F.channel_shuffle(x.repeat(1, 2, 1, 1), 2), 1, 0),
    "channel shuffle by hand": (
        lambda x: x.repeat(1, 2, 1, 1).unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2),
        1,
        0,
    ),
    "patches and back": (lambda x: F.fold(F.unfold(x, 1), x.shape[2:], 1), 1, 0),
    "convolution": (lambda x: F.conv2d(x, weight(6, x.shape[1], 1, 1)), 1, 0),
    "transposed convolution": (lambda x: F.conv_transpose2d(x, weight(x.shape[1], 6, 2, 2)), 1, 0),
    "dynamic convolution": (
        lambda x: F.conv2d(
            x.flatten(0, 1)[None], weight(len(x) * 2, x.shape[1], 1, 1), groups=len(x)
        ).unflatten(1, (len(x), 2))[0],
        1,
        0,
    ),
    "linear layer of the last axis": (lambda x: F.linear(x, weight(6, x.shape[-1])), 3, 0),
    "linear layer, back": (lambda x: F.linear(x.movedim(1, 3), weight(6, x.shape[1])).movedim(3, 1), 1, 0),
    "matrix product of tokens": (lambda x: x @ weight(x.shape[3], 6), 1, 0),
    "matrix product of channels": (lambda x: x.movedim(1, 3) @ weight(x.shape[1], 6), 3, 0),
    "matrix product from the left": (lambda x: weight(6, x.shape[2]) @ x, 1, 0),
    "matrix product of channels from the left": (lambda x: weight(6, x.shape[1]) @ x.flatten(2), 1, 0),
    "bmm": (lambda x: torch.bmm(x.flatten(2), weight(len(x), x[0, 0].numel(), 2)), 1, 0),
    "einsum of channels": (lambda x: torch.einsum("bchw,oc->bohw", x, weight(6, x.shape[1])), 1, 0),
    "einsum of the map": (lambda x: torch.einsum("bchw,hw->bc", x, weight(*x.shape[2:])), 1, 0),
    "einsum that moves axes": (lambda x: torch.einsum("bchw->bhwc", x), 3, 0),
    "einsum without an output": (lambda x: torch.einsum("dcba", x), 2, 3),
    "einsum with an ellipsis": (lambda x: torch.einsum("bc...->b...c", x), 3, 0),
    "einsum with sublists": (lambda x: torch.einsum(x, [0, 1, 2, 3], weight(6, x.shape[3]), [9, 3], [0, 9, 1]), 2, 0),
    "einsum with an implied ellipsis": (lambda x: torch.einsum("...w,wk", x, weight(x.shape[3], 4)), 1, 0),
    "tensordot": (lambda x: torch.tensordot(x, weight(x.shape[3], 6), dims=1), 1, 0),
    "tensordot of channels": (lambda x: torch.tensordot(x, weight(6, x.shape[1]), dims=([1], [1])), 3, 0),
    "tensordot from the left": (lambda x: torch.tensordot(weight(6, x.shape[2]), x, ([1], [2])), 2, 1),
    "gate over the map": (lambda x: x * x.mean(1, keepdim=True).sigmoid(), 1, 0),
    "gate over the channels": (lambda x: x * x.mean((2, 3))[:, :, None, None].sigmoid(), 1, 0),
    "gate over the width, by channels": (lambda x: x * x.mean((2, 3), keepdim=True).transpose(1, 3)[..., :1], 1, 0),
    "buffer with more channels": (lambda x: written_into(x, 1), 1, 0),
    "buffer with more rows": (lambda x: written_into(x, 2), 1, 0),
    "attention of one head": (lambda x: F.scaled_dot_product_attention(*[x.flatten(2).transpose(1, 2)] * 3), 2, 0),
    "attention with heads, joined": (
        lambda x: F.scaled_dot_product_attention(*[heads(x.repeat(1, 2, 1, 1), 2)] * 3).transpose(1, 2).flatten(2),
        2,
        0,
    ),
    "windows in the batch axis": (partitioned, 2, 0),
    "one-token classifier": (lambda x: with_class_token(x)[:, 0], 1, 0),
    "type of another": (lambda x: x.to(x.flatten(2).transpose(1, 2)), 1, 0),
    "shape of another": (lambda x: x.flatten(2).view_as(x.flatten(2) * 2), 1, 0),
    "channels as queries of a similarity": (lambda x: x.flatten(2) @ x.flatten(2).mT, None, 0),
    "mean of channels": (lambda x: x.mean(1), None, 0),
    "one channel": (lambda x: x[:, 0], None, 0),
    "channels in the batch axis": (lambda x: x.repeat(1, 2, 1, 1).flatten(0, 1)[:, None], None, 0),
    "channels mixed with the height": (lambda x: F.pad(x, (0, 0, 0, 1)).flatten(1, 2), None, 0),
    "sort of channels": (lambda x: x.sort(1)[0], None, 0),
    "gather of channels": (lambda x: x.gather(1, torch.zeros(x.shape, dtype=torch.long)), None, 0),
    "memory in steps": (lambda x: x.as_strided(x.shape, x.stride()), None, None),
    "heads": (lambda x: heads(x.repeat(1, 2, 1, 1), 2), None, 0),
    "one sample": (lambda x: x[0], 0, MIXED),
    "samples summed": (lambda x: x.sum(0), 0, MIXED),
    "samples in reverse": (lambda x: x.flip(0), 1, MIXED),
    "samples beside tokens": (lambda x: F.pad(x, (0, 1)).permute(2, 3, 0, 1).flatten(1, 2), 2, MIXED),
    "samples twice": (lambda x: torch.cat([x, x]), 1, MIXED),
    "samples twice and divided": (lambda x: torch.cat([x, x]).chunk(2)[1], 1, 0),
    "samples that meet their sum": (lambda x: x / x.sum(), 1, MIXED),
    "samples compared": (lambda x: (x.flatten(1) @ x.flatten(1).T)[:, None], None, MIXED),
}  # fmt: skip
OPEN_AT_ONES = {
    "view of the map": "a view of single elements",
    "channels mixed with the height": "nothing is beside a channel in its axis",
    "channels in the batch axis": "nothing is beside a channel in its axis",
    "heads": "heads of one channel are the channels",
    "windows in the batch axis": "a view of single elements",
    "one-token classifier": "a view of single elements",
    "gate over the width, by channels": "neither operand is broadcast",
}


@pytest.mark.parametrize("shape", [DISTINCT, EQUAL], ids=["sizes that differ", "equal sizes"])
def test_axes_are_those_that_the_operation_says(shape: tuple[int, ...]) -> None:
    axes = {name: answers(program, shape) for name, (program, _, _) in KNOWN.items()}
    assert axes == {name: (channel, batch) for name, (_, channel, batch) in KNOWN.items()}


def test_axes_of_sizes_that_are_all_one_are_the_same_or_unknown() -> None:
    """A reshape of single elements may be any of several; every other operation says where an axis goes."""
    answered = {name: (answers(program, ONES)[0], channel) for name, (program, channel, _) in KNOWN.items()}
    unlike = {name: pair for name, pair in answered.items() if pair[0] != pair[1]}
    assert {name: pair for name, pair in unlike.items() if name not in OPEN_AT_ONES or None not in pair} == {}


@pytest.mark.parametrize("weights", [False, True], ids=["values", "averaged weights"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_flat_features_behind_attention_are_known_for_one_sample_as_for_two(batch_first: bool, weights: bool) -> None:
    """Where a view of (token, sample, channel) puts a single sample cannot be seen, so that nothing follows from it."""
    attention = nn.MultiheadAttention(4, 2, batch_first=batch_first).double()

    def program(x: torch.Tensor) -> torch.Tensor:
        tokens = x if batch_first else x.transpose(0, 1)
        values, scores = attention(tokens, tokens, tokens)
        return (scores if weights else values if batch_first else values.transpose(0, 1)).flatten(1)

    assert [answers(program, (samples, 3, 4))[0] for samples in (1, 2)] == [1, 1]


# ---------------------------------------------------------------------- chains of operations, against marked values


def _dims(shape: torch.Size, rng: random.Random, count: int) -> list[int]:
    return rng.sample(range(len(shape)), count)


def _merge(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    start = rng.randrange(x.ndim - 1)
    shape = [*x.shape[:start], x.shape[start] * x.shape[start + 1], *x.shape[start + 2 :]]
    return rng.choice([lambda: x.reshape(shape), lambda: x.flatten(start, start + 1)])()


def _split(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    axis = rng.randrange(x.ndim)
    divisors = [n for n in range(1, x.shape[axis] + 1) if x.shape[axis] % n == 0]
    return x.unflatten(axis, (rng.choice(divisors), -1))


def _indexed(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    index: list[object] = []
    for axis, size in enumerate(x.shape):
        if rng.random() < 0.2:
            index.append(None)
        tensor = torch.tensor([rng.randrange(size) for _ in range(rng.randint(1, 3))])
        integer = rng.randrange(size) if axis > 0 else slice(None)
        index.append(rng.choice([slice(None)] * 4 + [slice(None, max(1, size - 1)), integer, tensor]))
    tensors = [i for i, one in enumerate(index) if isinstance(one, torch.Tensor)]
    for i in tensors[1:]:
        index[i] = slice(None)
    if rng.random() < 0.3 and index[-1] == slice(None):
        index[-1] = ...
    return x[tuple(index)]


def _cat(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    return torch.cat([x, -x], rng.randrange(x.ndim))


def _letters(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    letters = "abcdefg"[: x.ndim]
    output = "".join(rng.sample(letters, x.ndim - (x.ndim > 3 and rng.random() < 0.3)))
    return torch.einsum(f"{letters}->{output}", x)


def _into_buffer(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    return written_into(x, rng.randrange(x.ndim))


CHAINED: list[Callable[[torch.Tensor, random.Random], torch.Tensor]] = [
    lambda x, rng: x.permute(rng.sample(range(x.ndim), x.ndim)),
    lambda x, rng: x.transpose(*_dims(x.shape, rng, 2)),
    lambda x, rng: x.movedim(*_dims(x.shape, rng, 2)),
    lambda x, rng: torch.movedim(x, _dims(x.shape, rng, 2), _dims(x.shape, rng, 2)),
    lambda x, rng: x.unsqueeze(rng.randrange(x.ndim + 1)),
    lambda x, rng: x.squeeze(rng.randrange(x.ndim)) if x.ndim > 2 else x,
    lambda x, rng: x.flip(_dims(x.shape, rng, 1)),
    lambda x, rng: x.roll(1, rng.randrange(x.ndim)),
    lambda x, rng: x.rot90(rng.randrange(4), _dims(x.shape, rng, 2)),
    lambda x, rng: x.diagonal(0, *_dims(x.shape, rng, 2)) if x.ndim > 2 else x,
    lambda x, rng: x.repeat([rng.choice([1, 1, 2]) for _ in range(x.ndim + rng.randint(0, 1))]),
    lambda x, rng: x.repeat_interleave(2, rng.randrange(x.ndim)),
    lambda x, rng: torch.stack([x, x * 2], rng.randrange(x.ndim + 1)),
    lambda x, rng: x.chunk(2, rng.randrange(x.ndim))[0],
    lambda x, rng: torch.tensor_split(x, 2, rng.randrange(x.ndim))[0] if min(x.shape) > 1 else x,
    lambda x, rng: x.sum(_dims(x.shape, rng, 1), keepdim=rng.random() < 0.5) if x.ndim > 2 else x,
    lambda x, rng: x.mean(rng.randrange(x.ndim)) if x.ndim > 2 else x,
    lambda x, rng: x * weight(*x.shape[rng.randrange(x.ndim) :]) + 3,
    lambda x, rng: x + x.sum(rng.randrange(x.ndim), keepdim=True),
    lambda x, rng: F.pad(x, (1, 0) * rng.randint(1, x.ndim)),
    lambda x, rng: x.unfold(rng.randrange(x.ndim), 1, 1),
    lambda x, rng: x.index_select(axis := rng.randrange(x.ndim), torch.arange(x.shape[axis]).flip(0)),
    lambda x, rng: torch.tensordot(weight(2, x.shape[axis := rng.randrange(x.ndim)]), x, ([1], [axis])),
    lambda x, rng: x @ weight(x.shape[-1], 2),
    lambda x, rng: x.unsqueeze(rng.randrange(x.ndim + 1)).expand(-1, *[-1] * x.ndim),
    lambda x, rng: x.sort(rng.randrange(x.ndim))[0],
    _merge, _split, _indexed, _cat, _letters, _into_buffer,
]  # fmt: skip


def chain(seed: int) -> Program:
    """Return a program of some random operations, the same for each call."""

    def run(x: torch.Tensor) -> torch.Tensor:
        rng = random.Random(seed)
        for _ in range(rng.randint(1, 5)):
            x = rng.choice(CHAINED)(x, rng)
            if x.numel() > 4000 or x.ndim > 7:
                break
        return x

    return run


def marked(program: Program, x: torch.Tensor, axis: int) -> torch.Tensor:
    """Return which elements of a result change with each position along an axis of x: (position, *result)."""
    before, changes = program(x), []
    for position in range(x.shape[axis]):
        index = [slice(None)] * x.ndim
        index[axis] = slice(position, position + 1)
        other = x.clone()
        other[tuple(index)] = torch.rand(other[tuple(index)].shape, dtype=x.dtype) - 2.5
        changes.append(program(other) != before)
    return torch.stack(changes)


def reach(marks: torch.Tensor, axis: int) -> torch.Tensor:
    """Return which positions along an axis of the result hold each marked position: (marked, position)."""
    others = [other for other in range(1, marks.ndim) if other != axis + 1]
    return marks.long().sum(others) > 0 if others else marks


def enumerates(marks: torch.Tensor, axis: int) -> bool:
    """Return whether along an axis lie groups of channels that have nothing in common, and along no other axis do."""
    marks = marks[marks.flatten(1).any(1)]  # the channels that are still there
    groups = {frozenset(row.nonzero().flatten().tolist()) for row in reach(marks, axis).T} - {frozenset()}
    apart = all(one == other or not one & other for one, other in itertools.product(groups, groups))
    others = [reach(marks, other) for other in range(marks.ndim - 1) if other != axis]
    return apart and all(bool((rows == rows.any(0)).all()) for rows in others)


def in_order(marks: torch.Tensor, axis: int, batch: int) -> bool:
    """Return whether the samples lie in order along an axis, each with as many positions if it is the first one."""
    rows = reach(marks, axis)
    each, rest = divmod(rows.shape[1], batch)
    own = torch.eye(batch, dtype=torch.bool).repeat_interleave(each, 1)
    return not rest and (axis == 0 or each == 1) and not bool((rows & ~own).any())


@pytest.mark.parametrize("shape", [DISTINCT, EQUAL, (2, 2, 2, 2), (2, 1, 1, 1), (2, 1, 3, 1), (3, 4, 1, 1)], ids=str)
def test_axes_behind_chains_of_operations_are_where_marked_values_are(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1)).double()
    known = {"channels": 0, "samples": 0}
    for seed in range(SEEDS):
        program = chain(seed)
        graph = graph_of(program, x)
        if graph.output == Ref(0):
            continue
        channel, batch = channel_axes(graph)[graph.output], batch_axes(graph)[graph.output]
        names = [node.op for node in graph]
        if channel is not None and len(graph.shape(graph.output)) > 2 and not {"matmul", "tensordot"} & set(names):
            known["channels"] += 1
            assert enumerates(marked(program, x, 1), channel), (seed, names, channel)
        if batch is not None and batch != MIXED:
            known["samples"] += 1
            assert in_order(marked(program, x, 0), batch, shape[0]), (seed, names, batch)
    assert min(known.values()) > SEEDS / 4, known


def test_channels_of_a_batch_norm_behind_joined_axes_are_its_own() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(1, 2), nn.BatchNorm1d(6), nn.Flatten(), nn.Linear(24, 2)).double().eval()
    attribution, x = CondAttribution(model), torch.randn(2, 2, 3, 4).double()
    whole = attribution(x, [{"y": [1]}], "epsilon_plus").input_relevance
    parts = [attribution(x, [{"1": [channel], "y": [1]}], "epsilon_plus").input_relevance for channel in range(6)]
    assert torch.allclose(sum(parts), whole, atol=1e-12)
    assert torch.equal(parts[4].nonzero()[:, 1:3].unique(dim=0), torch.tensor([[1, 1]]))


def test_channels_of_a_batch_norm_behind_a_linear_layer_on_another_axis_are_its_own() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(20, 2)).double().eval()
    attribution, x = CondAttribution(model, feature_axis="none"), torch.randn(2, 4, 3).double()
    parts = [attribution(x, [{"1": [channel], "y": [1]}], "epsilon_plus").input_relevance for channel in range(4)]
    whole = attribution(x, [{"y": [1]}], "epsilon_plus").input_relevance
    assert torch.allclose(sum(parts), whole, atol=1e-12)
    assert torch.equal(parts[2].nonzero()[:, 1].unique(), torch.tensor([2]))
