"""A user's own model: three classes, from the mean colour."""

import torch

from cvx_core import Preprocess, VisionModel

CLASSES = ["red fox", "green mamba", "blue jay"]


def make() -> VisionModel:
    """Return a network whose logits are the mean red, green and blue, times ten."""
    net = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3)
    )
    with torch.no_grad():
        net[2].weight.copy_(10 * torch.eye(3))
        net[2].bias.zero_()
    return VisionModel(net, preprocess=Preprocess(8), classes=CLASSES)


def unnamed() -> VisionModel:
    """Return the same network without class names."""
    named = make()
    return VisionModel(named.module, preprocess=named.preprocess)


def broken() -> None:
    """Raise, as code does."""
    raise RuntimeError("no weights today")


class Stubborn(torch.nn.Module):
    """A network that runs on nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Refuse."""
        raise RuntimeError("shapes do not match")


def stubborn() -> VisionModel:
    """Return a network that fails on every image."""
    return VisionModel(Stubborn(), preprocess=Preprocess(8), classes=CLASSES)
