"""The networks of the coverage run: which, and how each is built with random weights.

torchvision's classifiers are all there are. Of timm there is at least one network of each module
that has classifiers, mostly the smallest, and a second where a module holds several designs. Of
transformers there are small configurations of the image classifiers that take pixels alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 10

TIMM = (Path(__file__).parent / "timm.txt").read_text().split()

_WIDTH = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3}
_TOKENS = {**_WIDTH, "intermediate_size": 96, "image_size": 96, "patch_size": 16}
_STAGES = {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 24, 32, 48]}
_WINDOWS = {"image_size": 96, "embed_dim": 24, "depths": [2, 2, 2], "num_heads": [2, 4, 8]}

TRANSFORMERS: dict[str, dict[str, Any]] = {
    "beit": _TOKENS,
    "bit": {**_STAGES, "embedding_size": 16, "num_groups": 4},
    "clip": {"vision_config": _TOKENS},
    "convnext": _STAGES,
    "convnextv2": _STAGES,
    "cvt": {"embed_dim": [16, 24, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
    "data2vec-vision": _TOKENS,
    "deit": {**_TOKENS, "architectures": ["DeiTForImageClassification"]},
    "dinov2": {**_TOKENS, "mlp_ratio": 2},
    "dinov2_with_registers": {**_TOKENS, "mlp_ratio": 2},
    "donut-swin": {**_WINDOWS, "window_size": 6},
    "efficientnet": {"width_coefficient": 0.5, "depth_coefficient": 0.5, "image_size": 96,
                     "hidden_dim": 640},
    "focalnet": {"image_size": 96, "embed_dim": 24, "depths": [1, 1, 2, 1]},
    "hgnet_v2": {},
    "hiera": {"embed_dim": 24, "depths": [1, 1, 2, 1],
              "num_heads": [1, 2, 4, 8]},
    "ijepa": _TOKENS,
    "levit": {"architectures": ["LevitForImageClassification"], "image_size": 128,
              "hidden_sizes": [48, 72, 96], "num_attention_heads": [2, 3, 4],
              "depths": [2, 2, 2], "key_dim": [8, 8, 8]},
    "metaclip_2": {"vision_config": _TOKENS},
    "mobilenet_v1": {"image_size": 96, "depth_multiplier": 0.5},
    "mobilenet_v2": {"image_size": 96, "depth_multiplier": 0.5},
    "mobilevit": {"image_size": 128, "hidden_sizes": [32, 48, 64],
                  "neck_hidden_sizes": [8, 16, 24, 32, 48, 64, 96]},
    "mobilevitv2": {"image_size": 128, "width_multiplier": 0.5},
    "poolformer": {**_STAGES, "depths": [1, 1, 2, 1]},
    "pp_lcnet": {},
    "pvt": {"image_size": 96, **_STAGES, "num_attention_heads": [1, 2, 4, 8],
            "hidden_sizes": [16, 32, 48, 64]},
    "pvt_v2": {"image_size": 96, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1],
               "num_attention_heads": [1, 2, 4, 8]},
    "regnet": {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1],
               "groups_width": 8},
    "resnet": {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]},
    "segformer": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1],
                  "num_attention_heads": [1, 2, 4, 8]},
    "siglip": {"vision_config": _TOKENS},
    "swiftformer": {"embed_dims": [16, 24, 32, 48], "depths": [1, 1, 2, 1], "image_size": 96},
    "swin": {**_WINDOWS, "window_size": 6},
    "swinv2": {**_WINDOWS, "window_size": 6},
    "textnet": {},
    "vit": _TOKENS,
    "vit_msn": _TOKENS,
}  # fmt: skip
"""Small configurations by model type. Left out, as they don't take pixels (B, 3, H, W) alone:
imagegpt, perceiver, shieldgemma2, siglip2; dinat needs a package of its own, and timm_wrapper
holds a network of timm."""

_SIDES = {"clip": 96, "siglip": 96, "metaclip_2": 96, "textnet": 128}


@dataclass(frozen=True)
class Network:
    """One network of the run.

    Attributes
    ----------
    source, name
        The package and the name by which it builds the network.
    build
        Builds it with random weights, in evaluation mode, and gives the input's shape (C, H, W).
    """

    source: str
    name: str
    build: Callable[[], tuple[nn.Module, tuple[int, int, int]]]

    @property
    def id(self) -> str:
        """As in ``torchvision:resnet18``."""
        return f"{self.source}:{self.name}"


def networks() -> Iterator[Network]:
    """Yield all networks of the run, by source and name."""
    from torchvision import models

    for name in sorted(models.list_models(module=models)):
        yield Network("torchvision", name, lambda name=name: _torchvision(name))
    for name in sorted(TIMM):
        yield Network("timm", name, lambda name=name: _timm(name))
    for name in sorted(TRANSFORMERS):
        yield Network("transformers", name, lambda name=name: _transformers(name))


def _torchvision(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    from torchvision.models import get_model

    # Both spend half a minute on truncated normals, and `awake` draws the weights anyway.
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    side = 299 if name == "inception_v3" else 224
    net = get_model(name, weights=None, num_classes=CLASSES, **options)
    return awake(net, (3, side, side)), (3, side, side)


def _timm(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    from timm import create_model

    net = create_model(name, pretrained=False, num_classes=CLASSES)
    shape = tuple(net.default_cfg.get("input_size", (3, 224, 224)))
    return awake(net, shape), shape


def _transformers(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    from transformers import AutoConfig, AutoModelForImageClassification

    config = AutoConfig.for_model(name, num_labels=CLASSES, **TRANSFORMERS[name])
    side = _SIDES.get(name) or getattr(config, "image_size", None) or 96
    side = side if isinstance(side, int) else side[0]
    net = AutoModelForImageClassification.from_config(config)
    return awake(net, (3, side, side)), (3, side, side)


def awake(net: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """Give a network with fresh weights scales, a head and statistics as a trained one has them.

    Many networks start with each residual branch, or the head, at zero: their answer is then
    the same whatever they see, and every check holds. Batch statistics of zero and one let the
    activations of deep networks vanish or explode, and so do the small weights that suit a long
    training; here the statistics are those of noise.
    """
    for parameter in net.parameters():
        if parameter.is_floating_point() and (parameter.ndim == 1 or not parameter.any()):
            with torch.no_grad():
                parameter.add_(0.1 * torch.randn_like(parameter))
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            weight, fan_in = module.weight.data, module.weight[0].numel()
            if weight.std() < 0.5 * fan_in**-0.5:
                nn.init.normal_(weight, 0.0, fan_in**-0.5)
    normal = [m for m in net.modules() if isinstance(getattr(m, "running_mean", None), Tensor)]
    if normal:
        for module in normal:
            module.momentum = 1.0
        with torch.no_grad():
            net.train()(torch.randn(2, *shape))
    return net.eval()
