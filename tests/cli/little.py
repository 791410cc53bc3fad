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


class Quarters(torch.nn.Module):
    """A detector in the manner of DETR: in each quarter of an image, its mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = torch.nn.Linear(3, 4)
        with torch.no_grad():
            self.classes.weight.copy_(torch.eye(4)[:, :3] * 10)
            self.classes.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 3.0]))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return logits (B, 4, 4), the last meaning nothing, and boxes (B, 4, 4)."""
        means = torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(2).transpose(1, 2)
        low = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
        boxes = torch.cat([low, torch.full((4, 2), 0.5)], dim=1).expand(len(x), -1, -1)
        return {"logits": self.classes(means), "pred_boxes": boxes}


def detector() -> VisionModel:
    """Return a detector of coloured quarters."""
    return VisionModel(Quarters(), preprocess=Preprocess(8), classes=CLASSES, task="detection")


def segmenter() -> VisionModel:
    """Return a segmenter whose logits are each pixel's red, green and blue, times ten."""
    net = torch.nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        net.weight.copy_(10 * torch.eye(3)[:, :, None, None])
        net.bias.zero_()
    return VisionModel(net, preprocess=Preprocess(8), classes=CLASSES, task="segmentation")
