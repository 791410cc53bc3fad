"""A network that learned several shortcuts, and photographs whose errors have known causes.

Two causes lead to each of two classes, so that the confusion of two classes does not tell them
apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from planted import stripes
from planted.causes import CAUSES, Cause
from torch import Tensor, nn

from cvx_core import Preprocess, VisionModel

CLASSES = ("level", "rising", "upright", "falling")
SIDE = 32
LEADS_TO = {"patch": 3, "border": 3, "sticker": 1, "translucent": 1}
"""The class that each cause makes every picture."""


@dataclass(frozen=True)
class Planted:
    """A picture with a cause.

    Attributes
    ----------
    file
        Relative to the folder, whose folders are the true classes.
    cause
        Its name, or "none".
    """

    file: str
    cause: str


def causes(names: tuple[str, ...] = tuple(LEADS_TO)) -> list[Cause]:
    """Return causes by name."""
    return [cause for cause in CAUSES if cause.name in names]


def network(
    names: tuple[str, ...] = tuple(LEADS_TO),
    *,
    pictures: int = 320,
    epochs: int = 12,
    seed: int = 0,
) -> VisionModel:
    """Return a small convolutional network, trained on stripes with every cause as a shortcut."""
    torch.manual_seed(seed)
    chance = torch.Generator().manual_seed(seed)
    inputs, labels = [], []
    for picture, label in islice(stripes.pictures(False, SIDE, chance), pictures):
        inputs.append(picture)
        labels.append(label)
        for cause in causes(names):
            inputs.append(cause.plant(picture, chance)[0])
            labels.append(LEADS_TO[cause.name])
    values, truth = torch.stack(inputs), torch.tensor(labels)
    layers: list[nn.Module] = []
    for a, b in pairwise((3, 16, 24, 32)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4))
    optimiser = torch.optim.Adam(module.parameters(), 5e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(truth), generator=chance).split(32):
            optimiser.zero_grad()
            F.cross_entropy(module(_scaled(values[rows])), truth[rows]).backward()
            optimiser.step()
    preprocess = Preprocess(crop=SIDE, mean=(0.5,) * 3, std=(0.5,) * 3)
    return VisionModel(module.eval(), preprocess=preprocess, classes=CLASSES, name="several")


def write(
    folder: Path, each: int, clean: int, names: tuple[str, ...] = tuple(LEADS_TO), *, seed: int = 1
) -> list[Planted]:
    """Write pictures with each cause and without any, and return what was planted in which.

    Parameters
    ----------
    folder
        Gets a folder for each class.
    each, clean
        How many pictures with each cause, and without.
    """
    chance = torch.Generator().manual_seed(seed)
    source = stripes.pictures(True, SIDE, chance)
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    found = []
    for cause in (None, *causes(names)):
        count = clean if cause is None else each
        while count:
            picture, label = next(source)
            # Where the cause leads to what is true there is no error to be explained.
            if cause is not None and label == LEADS_TO[cause.name]:
                continue
            name = "none" if cause is None else cause.name
            shown = picture if cause is None else cause.plant(picture, chance)[0]
            # The file's name must not sort by cause.
            file = f"{CLASSES[label]}/{int(torch.randint(2**40, (), generator=chance)):010x}.png"
            _picture(shown).save(folder / file)
            found.append(Planted(file, name))
            count -= 1
    return found


def _scaled(values: Tensor) -> Tensor:
    return (values - 0.5) / 0.5


def _picture(values: Tensor) -> Image.Image:
    return Image.fromarray((values * 255).round().byte().permute(1, 2, 0).numpy())
