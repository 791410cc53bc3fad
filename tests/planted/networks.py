"""Networks that learned a planted cause as a shortcut, each with a twin that never saw it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from cvx_embedded.efficientnet_lite0 import efficientnet_lite0
from cvx_why.search.inpainting import FILLS
from planted import photographs, stripes
from planted.causes import Cause
from torch import Tensor, nn

from cvx_core import VisionModel

KEPT = Path(__file__).parents[2] / "build" / "planted"
"""Where trained networks are kept between runs; git ignores it."""

_LOOKED_AT = 600
"""Pictures among which cases are looked for."""

SHORTCUT = 3
"""The class that a planted cause makes every picture."""

Pictures = Callable[[bool, int, torch.Generator], Iterator[tuple[Tensor, int]]]
"""Takes whether they are held out of training, a side and a source of chance; yields pictures
(3, side, side) in [0, 1] with one of four classes."""


@dataclass(frozen=True)
class Recipe:
    """How a network is made and trained on photographs.

    Attributes
    ----------
    name
        For tables and files.
    side
        Of its pictures, in pixels.
    make
        Returns it as the part that stays as it is and the part that is trained.
    source
        Of its pictures.
    pictures, epochs, rate
        How many pictures without a cause, how often they are seen, and Adam's rate.
    """

    name: str
    side: int
    make: Callable[[], tuple[nn.Module, nn.Module]]
    source: Pictures = photographs.pictures
    pictures: int = 360
    epochs: int = 8
    rate: float = 1e-3


@dataclass(frozen=True)
class Pair:
    """A network with a shortcut, and its twin, trained alike without ever seeing the cause."""

    shortcut: VisionModel
    twin: VisionModel


@dataclass(frozen=True)
class Case:
    """A picture that is answered rightly without the cause and wrongly with it.

    Attributes
    ----------
    inputs
        (1, 3, H, W), with the cause, as the network takes it.
    cause
        (H, W), true where the cause is.
    label
        The true class.
    """

    inputs: Tensor
    cause: Tensor
    label: int


class _Scaled(nn.Module):
    """From [0, 1] to the range that networks are trained in."""

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - 0.5) / 0.5


def _embedded() -> tuple[nn.Module, nn.Module]:
    whole = efficientnet_lite0()
    body = nn.Sequential(_Scaled(), whole.conv_stem, whole.bn1, *whole.blocks[:6])
    head = nn.Linear(whole.classifier.in_features, len(photographs.KINDS))
    tail = nn.Sequential(whole.blocks[6], whole.conv_head, whole.bn2, whole.global_pool, head)
    return body, tail


def _resnet() -> tuple[nn.Module, nn.Module]:
    whole = timm.models.resnet.ResNet(
        timm.models.resnet.BasicBlock, (1, 1, 1, 1), channels=(32, 64, 96, 128), num_classes=4
    )
    return _Scaled(), whole


def _vit() -> tuple[nn.Module, nn.Module]:
    whole = timm.models.VisionTransformer(
        img_size=96, patch_size=8, embed_dim=96, depth=4, num_heads=4, num_classes=4
    )
    return _Scaled(), whole


def _cnn() -> tuple[nn.Module, nn.Module]:
    widths = (3, 16, 24, 32)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 4))
    return _Scaled(), nn.Sequential(*layers, *tail)


RECIPES = {
    one.name: one
    for one in (
        Recipe("efficientnet-lite0", 224, _embedded),
        Recipe("resnet", 96, _resnet, pictures=800, epochs=8),
        Recipe("vit", 96, _vit, pictures=800, epochs=15, rate=5e-4),
        Recipe("cnn", 32, _cnn, stripes.pictures, pictures=256, epochs=6, rate=5e-3),
    )
}


def pair(recipe: Recipe, cause: Cause) -> Pair:
    """Return a network with a shortcut and its twin, trained if they are not kept already."""
    found = []
    for planted in (True, False):
        file = KEPT / f"{recipe.name}-{cause.name if planted else 'twin'}.pt"
        torch.manual_seed(0)
        body, tail = recipe.make()
        if not file.exists():
            _train(recipe, body.eval(), tail, cause if planted else None)
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(tail.state_dict(), file)
        tail.load_state_dict(torch.load(file, weights_only=True))
        module = nn.Sequential(body, tail).eval()
        found.append(VisionModel(module, classes=photographs.KINDS, name=file.stem))
    return Pair(*found)


def cases(pair: Pair, recipe: Recipe, cause: Cause, most: int, seed: int) -> Iterator[Case]:
    """Yield pictures whose answer the cause makes wrong, from photographs held out of training."""
    chance = torch.Generator().manual_seed(seed)
    found = 0
    for clean, label in islice(recipe.source(True, recipe.side, chance), _LOOKED_AT):
        planted, mask = cause.plant(clean, chance)
        without = [fill(planted[None], mask[None, None])[0] for fill in FILLS.values()]
        answers = pair.shortcut.logits(torch.stack([clean, planted, *without])).argmax(1).tolist()
        # Where the cause hides the thing itself, nobody could make the answer right again.
        undone = label in answers[2:] or bool(mask.all())
        if answers[:2] == [label, SHORTCUT] and label != SHORTCUT and undone:
            yield Case(planted[None], mask, label)
            found += 1
            if found == most:
                return


def _train(recipe: Recipe, body: nn.Module, tail: nn.Module, cause: Cause | None) -> None:
    chance = torch.Generator().manual_seed(0)
    inputs, labels = [], []
    for picture, label in islice(recipe.source(False, recipe.side, chance), recipe.pictures):
        inputs.append(picture)
        labels.append(label)
        if cause is not None:
            inputs.append(cause.plant(picture, chance)[0])
            labels.append(SHORTCUT)
    with torch.no_grad():
        features = torch.cat(
            [body(torch.stack(inputs[i : i + 16])) for i in range(0, len(inputs), 16)]
        )
    truth = torch.tensor(labels)
    # A pretrained part keeps its statistics; one that begins at random needs its own.
    tail.train(not isinstance(tail, nn.Sequential))
    optimiser = torch.optim.Adam(tail.parameters(), recipe.rate, weight_decay=1e-5)
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(truth), generator=chance).split(32):
            optimiser.zero_grad()
            F.cross_entropy(tail(features[rows]), truth[rows]).backward()
            optimiser.step()
    tail.eval()
