"""Small networks whose nodes have several outputs, several readers or values that are written in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

Join = Callable[[torch.Tensor, nn.Module], torch.Tensor]


class Joined(nn.Module):
    """A stem of eight channels, a function of it and of a branch, and a head."""

    def __init__(self, join: Join, *, into: int = 4, out: int = 4, features: int = 8) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 8, 3, bias=False)
            self.branch = nn.Conv2d(into, out, 1)
            self.head = nn.Linear(features, 3)
            self.join = join
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, (batch, class)."""
        joined = self.join(self.stem(x).relu(), self.branch)
        return self.head(joined.flatten(2).mean(2))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Tokens that are mixed by attention, with queries, keys and values from one layer."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem, self.qkv, self.branch = nn.Conv2d(3, 8, 3), nn.Linear(8, 24), nn.Linear(8, 8)
            self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, (batch, class)."""
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((tokens + self.branch(mixed)).mean(1))  # type: ignore[no-any-return]


def _chunk(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    left, right = x.chunk(2, 1)
    return torch.cat([left, branch(right).relu()], 1)


def _split(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    first, middle, last = x.split([1, 4, 3], 1)
    return torch.cat([last, branch(middle).relu(), first], 1)


def _tensor_split(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    left, middle, right = torch.tensor_split(x, (2, 6), 1)
    return torch.cat([branch(middle), left * 2 - right], 1)


def _unbind(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    left, right = x.unflatten(1, (2, 4)).unbind(1)
    return left + branch(right)


def _broadcast(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    pooled, whole = torch.broadcast_tensors(branch(x[:, :4]).mean((2, 3), keepdim=True), x[:, 4:])
    return pooled + whole


def _shuffled(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    """Two units of a ShuffleNet."""
    for _ in range(2):
        left, right = x.chunk(2, 1)
        x = torch.cat([left, branch(right).relu()], 1)
        x = x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)
    return x


def _residual(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    return branch((x + branch(x).relu()).relu()) + x


def _dense(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    more = torch.cat([x, branch(x).relu()], 1)
    return torch.cat([more, branch(more[:, 4:12]).relu(), x], 1)


def _in_place(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    x = x.clone()
    x[:, :4] += branch(x[:, 4:])
    x.relu_()[:, 2:3].mul_(2)
    return x


def _largest(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    values, _ = torch.cat([x[:, :4], branch(x[:, 4:])], 1).topk(5, 1)
    best, _ = x.max(1, keepdim=True)
    return torch.cat([values.sort(1)[0], best], 1)


def _same_twice(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    left, right = x.chunk(2, 1)
    right = branch(right)
    return torch.cat([right, left, right], 1) + torch.cat([left, right, left], 1)


def _hsplit(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    left, right = torch.hsplit(x, 2)
    return torch.cat([left, branch(right)], 1)


def _aminmax(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    low, high = torch.aminmax(torch.cat([x[:, :4], branch(x[:, 4:])], 1), dim=1, keepdim=True)
    return torch.cat([low, high], 1)


def _var_mean(x: torch.Tensor, branch: nn.Module) -> torch.Tensor:
    var, mean = torch.var_mean(x.flatten(2), 2, keepdim=True)
    return torch.cat([var, branch(mean[:, :4, None]).flatten(2)], 1)


NETS: dict[str, Callable[[], nn.Module]] = {
    "chunk": lambda: Joined(_chunk),
    "split": lambda: Joined(_split),
    "tensor_split": lambda: Joined(_tensor_split, features=6),
    "unbind": lambda: Joined(_unbind, features=4),
    "broadcast_tensors": lambda: Joined(_broadcast, features=4),
    "shuffle": lambda: Joined(_shuffled),
    "residual": lambda: Joined(_residual, into=8, out=8),
    "dense": lambda: Joined(_dense, into=8, out=8, features=32),
    "in place": lambda: Joined(_in_place),
    "largest values": lambda: Joined(_largest, features=6),
    "joined twice": lambda: Joined(_same_twice, features=12),
    "attention": Attention,
}
"""Networks of operations that are known."""
UNKNOWN: dict[str, Callable[[], nn.Module]] = {
    "hsplit": lambda: Joined(_hsplit),
    "aminmax": lambda: Joined(_aminmax, features=2),
    "var_mean": lambda: Joined(_var_mean, features=12),
}
"""Networks with operations of several outputs for which there may be no rule."""
