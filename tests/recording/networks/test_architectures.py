"""Published architectures with random weights: place, conservation, answer and state, unconfigured.

The set is small on purpose: one of each way to build a network. The numbers of parameters are cut
where the constructors allow it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from zoo.networks import TRANSFORMERS, awake

from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.testing.kits.explainers import assert_state, state_of

Residual = Callable[..., float]


def torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models import get_model

        # Inception spends seconds on truncated normals, and the weights are random anyway.
        return get_model(name, weights=None, num_classes=10, **options)

    return build


def timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from timm import create_model

        return create_model(name, pretrained=False, num_classes=10, **options)

    return build


def transformers(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from transformers import AutoConfig, AutoModelForImageClassification

        config = AutoConfig.for_model(name, num_labels=10, **options)
        return AutoModelForImageClassification.from_config(config)

    return build


VIT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 64,
    "patch_size": 16,
}
SWIN = {
    "img_size": 64,
    "embed_dim": 24,
    "depths": (2, 2),
    "num_heads": (2, 4),
    "window_size": 4,
}
# name: how it is built, the input's side, the grid that everything passes last
FAST: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, int]]] = {
    "torchvision resnet18": (torchvision("resnet18"), 64, (2, 2)),
    "torchvision mobilenet_v3_small": (torchvision("mobilenet_v3_small"), 64, (2, 2)),
    "torchvision squeezenet1_1": (torchvision("squeezenet1_1"), 64, (3, 3)),
    "torchvision shufflenet_v2_x0_5": (torchvision("shufflenet_v2_x0_5"), 64, (2, 2)),
    "torchvision googlenet": (
        torchvision("googlenet", aux_logits=False, init_weights=False),
        64,
        (2, 2),
    ),
    "timm densenet": (timm("densenet121", growth_rate=8, block_config=(2, 2, 2)), 64, (4, 4)),
    "timm efficientnet_lite0": (timm("efficientnet_lite0"), 64, (2, 2)),
    "timm resnetv2 with group norm": (timm("resnetv2_50", layers=(1, 1, 1, 1)), 64, (2, 2)),
    "timm convnext": (timm("convnext_atto", depths=(1, 1, 1, 1)), 64, (2, 2)),
    "timm vit": (
        timm("vit_tiny_patch16_224", img_size=64, depth=2, embed_dim=24, num_heads=2),
        64,
        (4, 4),
    ),
    "timm vit with registers": (
        timm("vit_small_patch14_reg4_dinov2", img_size=56, depth=2, embed_dim=24, num_heads=2),
        56,
        (4, 4),
    ),
    "timm deit, distilled": (
        timm("deit_tiny_distilled_patch16_224", img_size=64, depth=2, embed_dim=24, num_heads=2),
        64,
        (4, 4),
    ),
    "timm swin": (timm("swin_tiny_patch4_window7_224", **SWIN), 64, (8, 8)),
    "timm mixer": (timm("mixer_s32_224", img_size=128), 128, (4, 4)),
    "timm poolformer": (timm("poolformer_s12"), 64, (2, 2)),
    "timm mobilevit": (timm("mobilevit_xxs"), 64, (2, 2)),
    "timm coatnet": (timm("coatnet_nano_rw_224", img_size=64), 64, (2, 2)),
    "transformers vit": (transformers("vit", **VIT), 64, (4, 4)),
    "transformers dinov2": (
        transformers("dinov2", **{**VIT, "patch_size": 8, "image_size": 32}, mlp_ratio=2),
        32,
        (4, 4),
    ),
    "transformers convnext": (
        transformers("convnext", depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32]),
        64,
        (2, 2),
    ),
    "transformers resnet": (
        transformers("resnet", embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
        64,
        (2, 2),
    ),
    "transformers swin": (
        transformers(
            "swin", image_size=64, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4
        ),
        64,
        (8, 8),
    ),
    "transformers beit": (transformers("beit", **TRANSFORMERS["beit"]), 96, (6, 6)),
    "transformers focalnet": (transformers("focalnet", **TRANSFORMERS["focalnet"]), 96, (3, 3)),
    "transformers mobilevitv2": (
        transformers("mobilevitv2", **TRANSFORMERS["mobilevitv2"]),
        128,
        (4, 4),
    ),
    "transformers pvt": (transformers("pvt", **TRANSFORMERS["pvt"]), 96, (3, 3)),
    "transformers regnet": (transformers("regnet", **TRANSFORMERS["regnet"]), 96, (3, 3)),
    "transformers segformer": (transformers("segformer", **TRANSFORMERS["segformer"]), 96, (3, 3)),
}
SLOW: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, int]]] = {
    "torchvision resnet50": (torchvision("resnet50"), 96, (3, 3)),
    "torchvision vgg11_bn": (torchvision("vgg11_bn"), 64, (7, 7)),
    "torchvision densenet121": (torchvision("densenet121"), 64, (2, 2)),
    "torchvision efficientnet_v2_s": (torchvision("efficientnet_v2_s"), 64, (2, 2)),
    "torchvision swin_v2_t": (torchvision("swin_v2_t"), 64, (2, 2)),
    "torchvision maxvit_t": (torchvision("maxvit_t"), 224, (7, 7)),
    "torchvision vit_b_16": (torchvision("vit_b_16", image_size=64), 64, (4, 4)),
    "torchvision regnet_y_400mf": (torchvision("regnet_y_400mf"), 64, (2, 2)),
    "timm xcit": (timm("xcit_nano_12_p16_224", img_size=64), 64, (4, 4)),
    "timm edgenext": (timm("edgenext_xx_small"), 64, (2, 2)),
    "timm hrnet": (timm("hrnet_w18_small"), 64, (2, 2)),
    "timm beit": (timm("beit_base_patch16_224", img_size=64, depth=2), 64, (4, 4)),
    "timm eva02": (timm("eva02_tiny_patch14_224", img_size=56), 56, (4, 4)),
    "timm cait": (timm("cait_xxs24_224", img_size=64, depth=3), 64, (4, 4)),
    "timm levit": (timm("levit_128s"), 224, (4, 4)),
    "timm volo": (timm("volo_d1_224", img_size=64), 64, (4, 4)),
    "timm maxvit": (timm("maxvit_rmlp_pico_rw_256", img_size=64), 64, (2, 2)),
    "timm resnest": (timm("resnest14d"), 64, (2, 2)),
    "timm nfnet": (timm("nf_regnet_b0"), 64, (2, 2)),
}
CASES = [
    *(pytest.param(name, id=name) for name in FAST),
    *(pytest.param(name, id=name, marks=pytest.mark.slow) for name in SLOW),
]


@pytest.mark.parametrize("name", CASES)
def test_an_architecture_needs_no_configuration(
    name: str, seeded: Callable[..., Any], residual: Residual
) -> None:
    build, side, grid = {**FAST, **SLOW}[name]
    net = seeded(lambda: awake(build(), (3, side, side)))
    model, x = (
        VisionModel(net),
        torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1)),
    )
    plain = model.logits(x)
    assert float(plain.std()) > 0, "the network itself answers the same whatever it sees"
    net.train()
    before = state_of(net)
    for gates in ("native", "frozen"):
        with open_recording(model, x, Requirements("auto", gates=gates)) as recording:
            # The same functions; a replaced formula rounds differently in float32.
            torch.testing.assert_close(recording.logits.detach(), plain, rtol=1e-4, atol=1e-4)
            place = recording.layer("auto")
            [gradient] = recording.gradients(torch.ones_like(plain), "auto")
            cells = place.positions(gradient * recording.raw("auto")).sum(1)
            assert torch.isfinite(cells).all()
            assert float(cells[0].std()) > 0
    assert place.grid == grid, place
    assert residual(model, x, "auto") <= 1e-4
    assert_state(before, state_of(net))
    net.eval().double()
    model = VisionModel(net)
    for where in ("input", "auto"):
        assert residual(model, x.double(), where) <= 1e-9
