"""Detectors and segmenters of the dense coverage run, with random weights and few channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

import cvx_core as cvx
from cvx_core import VisionModel

CLASSES = 5
NAMES = {index: f"thing {index}" for index in range(CLASSES)}
SIDE = 64

ENCODERS = ("resnet18", "mobilenet_v2", "mit_b0")

DECODERS = (
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus",
    "PAN", "UPerNet", "Segformer", "DPT",
)  # fmt: skip

_UNSUPPORTED = {("UnetPlusPlus", "mit_b0"), ("Linknet", "mit_b0")}
"""What segmentation-models-pytorch itself refuses."""

ULTRALYTICS = (
    "yolov3-tiny", "yolov5n", "yolov6n", "yolov8n", "yolov8n-p2", "yolov8n-p6", "yolov8n-ghost",
    "yolov8n-seg", "yolov9t", "yolov9c-seg", "yolov10n", "yolo11n", "yolo11n-seg", "yolo12n",
    "yolo12n-seg", "yolo26n", "yolo26n-seg", "yolo26n-sem", "rtdetr-resnet50",
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """One network of the run.

    Attributes
    ----------
    source, name
        The package, and the network in it.
    build
        Builds it, and reads it as cvx does.
    side
        Of its input, in pixels.
    """

    source: str
    name: str
    build: Callable[[], VisionModel]
    side: int = SIDE


def networks() -> Iterator[Network]:
    """Yield the networks of all libraries that are installed."""
    yield from _torchvision()
    yield from _transformers()
    if find_spec("segmentation_models_pytorch"):
        yield from _smp()
    if find_spec("ultralytics"):
        for name in ULTRALYTICS:
            side = 128 if "rtdetr" in name or "p6" in name else 96
            build = partial(cvx.load_model, f"ultralytics:{name}.yaml")
            yield Network("ultralytics", name, build, side)


def _torchvision() -> Iterator[Network]:
    from torchvision import models

    for task in ("detection", "segmentation"):
        for name in models.list_models(module=getattr(models, task)):
            yield Network(
                "torchvision",
                name,
                partial(_of_torchvision, name, task),
                300 if name.startswith("ssd300") else SIDE,
            )


def _of_torchvision(name: str, task: str) -> VisionModel:
    from torchvision import models

    options = {"rpn_pre_nms_top_n_test": 60, "rpn_post_nms_top_n_test": 20}
    options = options if "rcnn" in name else {}
    module = models.get_model(
        name, weights=None, weights_backbone=None, num_classes=CLASSES, **options
    )
    return cvx.wrap(module) if task == "detection" else VisionModel(module, task=task)


def _smp() -> Iterator[Network]:
    import segmentation_models_pytorch as smp

    for name in DECODERS:
        for encoder in ("tu-vit_tiny_patch16_224",) if name == "DPT" else ENCODERS:
            if (name, encoder) not in _UNSUPPORTED:
                build = partial(_of_smp, getattr(smp, name), encoder)
                yield Network("smp", f"{name} {encoder}", build, 128 if name == "PAN" else SIDE)


def _of_smp(decoder: Any, encoder: str) -> VisionModel:
    options = {"dynamic_img_size": True} if "vit" in encoder else {}
    module = decoder(encoder, encoder_weights=None, classes=CLASSES, **options)
    return VisionModel(module, task="segmentation")


def _transformers() -> Iterator[Network]:
    for name in (*_DETECTORS, *_SEGMENTERS):
        yield Network("transformers", name, partial(_of_transformers, name))


def _of_transformers(name: str) -> VisionModel:
    import transformers as hf

    kind, options = (_DETECTORS | _SEGMENTERS)[name]
    config = getattr(hf, kind.rpartition("For")[0] + "Config")
    return cvx.wrap(getattr(hf, kind)(config(id2label=NAMES, **options(hf))))


def _stages(hf: Any, kind: str, *stages: int) -> Any:
    return getattr(hf, kind)(
        embedding_size=16,
        hidden_sizes=[16, 24, 32, 48],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=[f"stage{i}" for i in stages],
    )


def _hgnet(hf: Any) -> Any:
    ones = [1, 1, 1, 1]
    return hf.HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 16, 16, 16],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[16, 16, 16, 16],
        stage_num_blocks=ones,
        stage_numb_of_layers=ones,
        hidden_sizes=[16, 16, 16, 16],
        depths=ones,
        out_features=["stage2", "stage3", "stage4"],
    )


_QUERIES = {
    "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_queries": 9,
}  # fmt: skip
_OWN_BACKBONE = {
    "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None,
}  # fmt: skip
_RT = {
    "encoder_hidden_dim": 16, "decoder_in_channels": [16, 16, 16], "d_model": 16,
    "hidden_expansion": 0.5, **_QUERIES,
}  # fmt: skip
_TOKENS = {
    "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 96,
    "image_size": SIDE, "patch_size": 16,
}  # fmt: skip


def _detr(hf: Any) -> dict[str, Any]:
    backbone = _stages(hf, "ResNetConfig", 4)
    return {"backbone_config": backbone, "d_model": 16, **_OWN_BACKBONE, **_QUERIES}


def _deformable(hf: Any) -> dict[str, Any]:
    backbone = _stages(hf, "ResNetConfig", 2, 3, 4)
    points = {"encoder_n_points": 2, "decoder_n_points": 2, "num_feature_levels": 3}
    return {"backbone_config": backbone, "d_model": 32, **points, **_OWN_BACKBONE, **_QUERIES}


def _rt_detr(hf: Any) -> dict[str, Any]:
    backbone = _stages(hf, "RTDetrResNetConfig", 2, 3, 4)
    channels = {"encoder_in_channels": [24, 32, 48], "decoder_n_points": 2}
    return {"backbone_config": backbone, **channels, **_RT}


def _d_fine(hf: Any) -> dict[str, Any]:
    channels = {"encoder_in_channels": [16, 16, 16], "decoder_n_points": [2, 2, 2]}
    return {"backbone_config": _hgnet(hf), "hidden_dim": 16, **channels, **_RT}


def _swin(hf: Any) -> Any:
    return hf.SwinConfig(
        image_size=SIDE,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def _mask2former(hf: Any) -> dict[str, Any]:
    return {
        "backbone_config": _swin(hf), "feature_size": 32, "mask_feature_size": 32,
        "hidden_dim": 32, "encoder_feedforward_dim": 32, "dim_feedforward": 32,
        "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 9,
    }  # fmt: skip


def _hierarchy(_hf: Any) -> dict[str, Any]:
    return {
        "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 4, 8], "decoder_hidden_size": 32,
    }  # fmt: skip


def _upernet(hf: Any) -> dict[str, Any]:
    backbone = _stages(hf, "ResNetConfig", 1, 2, 3, 4)
    return {
        "backbone_config": backbone, "hidden_size": 16, "pool_scales": [1, 2],
        "auxiliary_in_channels": 32,
    }  # fmt: skip


def _beit(_hf: Any) -> dict[str, Any]:
    return {**_TOKENS, "out_indices": [1, 2, 3, 4], "pool_scales": [1, 2]}


def _dpt(_hf: Any) -> dict[str, Any]:
    return {
        **_TOKENS, "is_hybrid": False, "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 16, 24, 32], "fusion_hidden_size": 16,
    }  # fmt: skip


def _yolos(_hf: Any) -> dict[str, Any]:
    return {**_TOKENS, "image_size": [SIDE, SIDE], "num_detection_tokens": 9}


_Kinds = dict[str, tuple[str, Callable[[Any], dict[str, Any]]]]

_DETECTORS: _Kinds = {
    "detr": ("DetrForObjectDetection", _detr),
    "conditional_detr": ("ConditionalDetrForObjectDetection", _detr),
    "table-transformer": ("TableTransformerForObjectDetection", _detr),
    "deformable_detr": ("DeformableDetrForObjectDetection", _deformable),
    "rt_detr": ("RTDetrForObjectDetection", _rt_detr),
    "rt_detr_v2": ("RTDetrV2ForObjectDetection", _rt_detr),
    "d_fine": ("DFineForObjectDetection", _d_fine),
    "yolos": ("YolosForObjectDetection", _yolos),
}

_SEGMENTERS: _Kinds = {
    "segformer": ("SegformerForSemanticSegmentation", _hierarchy),
    "upernet": ("UperNetForSemanticSegmentation", _upernet),
    "beit": ("BeitForSemanticSegmentation", _beit),
    "dpt": ("DPTForSemanticSegmentation", _dpt),
    "mobilenet_v2": ("MobileNetV2ForSemanticSegmentation", lambda _: {"depth_multiplier": 0.5}),
    "mobilevit": ("MobileViTForSemanticSegmentation", lambda _: {}),
    "mask2former": ("Mask2FormerForUniversalSegmentation", _mask2former),
}


def image(side: int) -> torch.Tensor:
    """Return an image of noise (1, 3, side, side)."""
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)).double()
