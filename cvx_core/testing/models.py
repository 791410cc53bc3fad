"""Tiny networks with random but fixed weights, for tests of explainers.

They hold what trips explainers up: an in-place ReLU that is used twice, a functional GELU, an
in-place sum, dropout and batch normalisation (which notice a forgotten training mode), and a head
that reads nothing but a class token. The prediction of `quadrants` is known by hand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core.models.vision_model import VisionModel

SIZE = 32
"""Side of the inputs that these networks take, in pixels."""

CLASSES = ("ant", "bee", "cat", "dog", "eel")


class Convolutional(nn.Module):
    """A convolutional network with a residual sum; its last grid has 8 x 8 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.third = nn.Conv2d(12, 12, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(12, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 5) for (B, 3, 32, 32)."""
        x = self.relu(self.norm(self.first(x)))
        x = self.relu(self.second(x))
        y = F.gelu(self.third(x))
        y += x
        output: Tensor = self.head(self.dropout(y.mean((2, 3))))
        return output


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        y: Tensor = x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))
        return y


class Tokens(nn.Module):
    """A vision transformer of two blocks: a class token and 4 x 4 tokens of 8 x 8 pixels."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(0.5 * torch.randn(1, 17, width))
        self.blocks = nn.Sequential(_Block(width, 2), _Block(width, 2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 5) for (B, 3, 32, 32)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(len(x), -1, -1), tokens], 1) + self.position
        output: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return output


class Quadrants(nn.Module):
    """Predicts which quarter of the image is brightest: logit c is ten times its mean brightness.

    The quarters are numbered by rows: upper left 0, upper right 1, lower left 2, lower right 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 1, bias=False)
        nn.init.constant_(self.mix.weight, 1 / 3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 4) for (B, 3, H, W) with even H and W."""
        x = self.relu(self.mix(x))
        return 10 * F.adaptive_avg_pool2d(x, 2).mean(1).flatten(1)


def convolutional() -> VisionModel:
    """Return `Convolutional` with fixed weights."""
    return VisionModel(_seeded(Convolutional), classes=CLASSES, name="testing:convolutional")


def tokens() -> VisionModel:
    """Return `Tokens` with fixed weights."""
    return VisionModel(_seeded(Tokens), classes=CLASSES, name="testing:tokens")


def quadrants() -> VisionModel:
    """Return `Quadrants`."""
    return VisionModel(Quadrants(), name="testing:quadrants")


def inputs(count: int = 3, seed: int = 0) -> Tensor:
    """Return noise (count, 3, 32, 32) with one bright patch in each image, each elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.rand(count, 3, SIZE, SIZE, generator=generator)
    for i in range(count):
        batch[i, i % 3, 4 + 3 * i : 14 + 3 * i, 6 : 16 + i] += 2.0
    return batch


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build()
        # Statistics as of a trained network, so that training mode would change every prediction.
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0.0, 0.3)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
                nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()
