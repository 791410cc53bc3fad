"""Segmenters and detectors of transformers answer as transformers' own post-processing says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

import cvx_core as cvx
from cvx_core import DetectionPrediction, ModelError, SegmentationPrediction

SIDE = {"height": 64, "width": 96}
PHOTOGRAPH = Image.fromarray(
    np.random.default_rng(0).integers(0, 255, (20, 32, 3), dtype=np.uint8)
).resize((320, 200))
NAMES = {0: "cat", 1: "dog", 2: "owl"}
LAYERS: dict[str, Any] = {
    "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_queries": 7,
}  # fmt: skip


def resnet(kind: Any = hf.ResNetConfig, stages: tuple[int, ...] = (1, 2, 3, 4)) -> Any:
    return kind(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=[f"stage{i}" for i in stages],
    )


def of_detr(kind: str) -> Any:
    return getattr(hf, kind + "Config")(
        backbone_config=resnet(stages=(4,)),
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        d_model=16,
        id2label=NAMES,
        **LAYERS,
    )


def rt_detr() -> Any:
    return hf.RTDetrForObjectDetection(
        hf.RTDetrConfig(
            backbone_config=resnet(hf.RTDetrResNetConfig, (2, 3, 4)),
            encoder_in_channels=[8, 16, 16],
            encoder_hidden_dim=16,
            decoder_in_channels=[16, 16, 16],
            d_model=16,
            decoder_n_points=2,
            hidden_expansion=0.5,
            id2label=NAMES,
            **LAYERS,
        )
    )


def deformable_detr(**options: Any) -> Any:
    return hf.DeformableDetrForObjectDetection(
        hf.DeformableDetrConfig(
            backbone_config=resnet(stages=(2, 3, 4)),
            use_timm_backbone=False,
            use_pretrained_backbone=False,
            backbone=None,
            d_model=32,
            encoder_n_points=2,
            decoder_n_points=2,
            num_feature_levels=3,
            id2label=NAMES,
            **{**LAYERS, **options},
        )
    )


def d_fine() -> Any:
    return hf.DFineForObjectDetection(
        hf.DFineConfig(
            backbone_config=hf.HGNetV2Config(
                stem_channels=[3, 8, 8],
                stage_in_channels=[8, 16, 16, 16],
                stage_mid_channels=[8, 8, 8, 8],
                stage_out_channels=[16, 16, 16, 16],
                stage_num_blocks=[1, 1, 1, 1],
                stage_numb_of_layers=[1, 1, 1, 1],
                hidden_sizes=[16, 16, 16, 16],
                depths=[1, 1, 1, 1],
                out_features=["stage2", "stage3", "stage4"],
            ),
            encoder_in_channels=[16, 16, 16],
            encoder_hidden_dim=16,
            hidden_dim=16,
            decoder_in_channels=[16, 16, 16],
            d_model=16,
            decoder_n_points=[2, 2, 2],
            hidden_expansion=0.5,
            id2label=NAMES,
            **{**LAYERS, "decoder_layers": 2},
        )
    )


def yolos() -> Any:
    return hf.YolosForObjectDetection(
        hf.YolosConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=[64, 96],
            patch_size=16,
            num_detection_tokens=7,
            id2label=NAMES,
        )
    )


def segformer() -> Any:
    return hf.SegformerForSemanticSegmentation(
        hf.SegformerConfig(
            hidden_sizes=[8, 8, 16, 16],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=16,
            id2label=NAMES,
        )
    )


def upernet() -> Any:
    return hf.UperNetForSemanticSegmentation(
        hf.UperNetConfig(
            backbone_config=resnet(),
            hidden_size=16,
            pool_scales=[1, 2],
            auxiliary_in_channels=16,
            id2label=NAMES,
        )
    )


def mask2former() -> Any:
    return hf.Mask2FormerForUniversalSegmentation(
        hf.Mask2FormerConfig(
            backbone_config=hf.SwinConfig(
                image_size=64,
                embed_dim=8,
                depths=[1, 1, 1, 1],
                num_heads=[1, 1, 1, 1],
                window_size=2,
                out_features=["stage1", "stage2", "stage3", "stage4"],
            ),
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            encoder_feedforward_dim=32,
            dim_feedforward=32,
            encoder_layers=1,
            decoder_layers=2,
            num_attention_heads=2,
            num_queries=7,
            id2label=NAMES,
        )
    )


Kind = tuple[Callable[[], Any], Callable[[], Any]]

DETECTORS: dict[str, Kind] = {
    "detr": (
        lambda: hf.DetrForObjectDetection(of_detr("Detr")),
        lambda: hf.DetrImageProcessor(size=SIDE),
    ),
    "conditional-detr": (
        lambda: hf.ConditionalDetrForObjectDetection(of_detr("ConditionalDetr")),
        lambda: hf.ConditionalDetrImageProcessor(size=SIDE),
    ),
    "deformable-detr": (
        lambda: deformable_detr(decoder_layers=2),
        lambda: hf.DeformableDetrImageProcessor(size=SIDE),
    ),
    "two-stage": (
        lambda: deformable_detr(
            two_stage=True, with_box_refine=True, decoder_layers=2, two_stage_num_proposals=7
        ),
        lambda: hf.DeformableDetrImageProcessor(size=SIDE),
    ),
    "d-fine": (d_fine, lambda: hf.RTDetrImageProcessor(size=SIDE)),
    "rt-detr": (rt_detr, lambda: hf.RTDetrImageProcessor(size=SIDE)),
    "yolos": (yolos, lambda: hf.YolosImageProcessor(size=SIDE)),
}

SEGMENTERS: dict[str, Kind] = {
    "segformer": (segformer, lambda: hf.SegformerImageProcessor(size=SIDE)),
    "upernet": (upernet, lambda: hf.SegformerImageProcessor(size=SIDE)),
    "mask2former": (mask2former, lambda: hf.Mask2FormerImageProcessor(size=SIDE)),
}


def load(folder: Path, kind: Kind, seed: int = 1) -> tuple[cvx.VisionModel, Any, Any]:
    """Write a network with scattered answers, and return it read by cvx, bare and its processor."""
    torch.manual_seed(seed)
    network, processor = kind[0]().eval(), kind[1]()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "class" in name:
                parameter.mul_(4).add_(torch.randn_like(parameter))
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return cvx.load_model(f"transformers:{folder}"), network, processor


KEYS = ("scores", "labels", "boxes")


def in_order(rows: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    return sorted(rows, key=lambda row: [round(value) for value in row[:5]])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", DETECTORS)
def test_what_a_detector_keeps_is_what_transformers_reports(
    name: str, seed: int, tmp_path: Path
) -> None:
    model, network, processor = load(tmp_path, DETECTORS[name], seed)
    assert model.task.name == "detection"
    [answer] = model.predict(PHOTOGRAPH)
    assert isinstance(answer, DetectionPrediction)
    assert answer.settings.threshold == 0.5
    with torch.no_grad():
        output = network(**processor(images=PHOTOGRAPH, return_tensors="pt"))
    # The scores of random networks may all be small.
    for threshold in (0.5, 0.2, 0.02):
        kept = replace(answer, settings=replace(answer.settings, threshold=threshold)).kept
        [expected] = processor.post_process_object_detection(
            output, threshold=threshold, target_sizes=[(200, 320)]
        )
        ours = [(one.entry.index, *one.box, one.entry.probability) for one in kept]
        theirs = [
            (int(label), *box.tolist(), float(score))
            for score, label, box in zip(*(expected[k] for k in KEYS), strict=True)
        ]
        # In an order of their own, as queries of random networks tie; float32 there, float64 here.
        np.testing.assert_allclose(in_order(ours), in_order(theirs), atol=1e-3, rtol=0)
        scores = [one.entry.probability for one in kept]
        expected_scores = expected["scores"].sort(descending=True).values
        np.testing.assert_allclose(scores, expected_scores, atol=1e-6, rtol=0)
    assert kept


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_segmenters_pixels_are_classified_as_transformers_does(name: str, tmp_path: Path) -> None:
    model, network, processor = load(tmp_path, SEGMENTERS[name])
    assert model.task.name == "segmentation"
    assert model.classes == ("cat", "dog", "owl")
    [answer] = model.predict(PHOTOGRAPH)
    assert isinstance(answer, SegmentationPrediction)
    with torch.no_grad():
        output = network(**processor(images=PHOTOGRAPH, return_tensors="pt"))
    if name == "mask2former":
        expected = torch.einsum(
            "bqc,bqhw->bchw",
            output.class_queries_logits.softmax(-1)[..., :3],
            output.masks_queries_logits.sigmoid(),
        )[0]
        np.testing.assert_allclose(
            answer.probabilities, expected / expected.sum(0), atol=1e-6, rtol=0
        )
    else:
        expected = output.logits[0]
        # Copied weights may be laid out otherwise, and float32 is then added in another order.
        room = 1e-5 * float(expected.abs().max())
        np.testing.assert_allclose(answer.logits, expected, atol=room, rtol=0)
    assert (answer.predicted == expected.argmax(0).numpy()).all()


def test_the_class_that_means_nothing_is_named_and_never_answered(tmp_path: Path) -> None:
    model, _, _ = load(tmp_path, DETECTORS["detr"])
    assert model.classes == ("cat", "dog", "owl")
    [answer] = model.predict(PHOTOGRAPH)
    assert isinstance(answer, DetectionPrediction)
    assert answer.count == 4
    assert answer.name(3) == "nothing"
    assert (answer.scores[:, 3] == 0).all()
    _, record = answer.resolve(cvx.Contrast("dog", "nothing"))
    assert record.text == "why dog rather than nothing there?"


@pytest.mark.parametrize("name", ["detr", "segformer", "mask2former"])
def test_a_map_of_the_pixels_follows_from_the_answer(name: str, tmp_path: Path) -> None:
    model, _, _ = load(tmp_path, {**DETECTORS, **SEGMENTERS}[name])
    [one] = cvx.explain(model, PHOTOGRAPH, "gradient-error", target=cvx.Predicted())
    assert one.values.shape == (64, 96)
    assert np.abs(one.values).max() > 0


def test_a_folder_of_one_configuration_is_what_its_architecture_says(tmp_path: Path) -> None:
    config = segformer().config
    hf.SegformerForImageClassification(config).save_pretrained(tmp_path / "classifier")
    hf.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "segmenter")
    for folder, task in (("classifier", "classification"), ("segmenter", "segmentation")):
        assert cvx.load_model(f"transformers:{tmp_path / folder}").task.name == task


def test_a_network_that_wants_a_task_in_words_is_refused_with_the_way_out(tmp_path: Path) -> None:
    config = hf.OneFormerConfig(backbone_config=resnet(), hidden_dim=32, num_queries=7)
    config.architectures = ["OneFormerForUniversalSegmentation"]
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="requires task_inputs besides the image"):
        cvx.load_model(f"transformers:{tmp_path}", weights="random")


def test_a_network_that_was_loaded_from_a_folder_brings_its_image_processor(
    tmp_path: Path,
) -> None:
    config = hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], id2label={0: "cat", 1: "dog"}
    )
    hf.ResNetForImageClassification(config).save_pretrained(tmp_path)
    loaded = hf.ResNetForImageClassification.from_pretrained(tmp_path)
    assert cvx.wrap(loaded).preprocess is None
    hf.ConvNextImageProcessor(size={"shortest_edge": 64}).save_pretrained(tmp_path)
    found = cvx.wrap(hf.ResNetForImageClassification.from_pretrained(tmp_path))
    assert found.classes == ("cat", "dog")
    prepared = found.prepare(np.zeros((40, 50, 3), np.uint8))
    assert prepared[0].tensor.shape == (3, 64, 64)


def test_ones_own_detector_is_wrapped_in_one_line() -> None:
    torch.manual_seed(0)
    network = rt_detr().eval()
    model = cvx.wrap(network)
    assert model.task.name == "detection"
    assert model.classes == ("cat", "dog", "owl")
    assert model.module is network
    assert cvx.wrap(network.model).task.name == "classification"  # the backbone has no head


@pytest.mark.parametrize(
    ("config", "prompt"),
    [
        (lambda: hf.SamConfig(), "points or boxes"),
        (lambda: hf.OwlViTConfig(), "words"),
    ],
)
def test_promptable_networks_are_refused_in_words(
    config: Callable[[], Any], prompt: str, tmp_path: Path
) -> None:
    config().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=prompt) as caught:
        cvx.load_model(f"transformers:{tmp_path}", weights="random")
    assert "file.py:FACTORY" in caught.value.hint


class Prompted(torch.nn.Module):
    """What the message says to write: a SAM with a fixed point."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        point = torch.tensor([[[[32.0, 32.0]]]], dtype=x.dtype).expand(len(x), -1, -1, -1)
        masks = self.net(pixel_values=x, input_points=point, multimask_output=False).pred_masks
        return masks[:, 0]


def small_sam() -> Any:
    sizes = {"hidden_size": 16, "num_attention_heads": 2}
    return hf.SamModel(
        hf.SamConfig(
            vision_config={
                **sizes, "image_size": 64, "patch_size": 16, "num_hidden_layers": 2,
                "output_channels": 16, "mlp_dim": 32, "window_size": 2, "global_attn_indexes": [1],
                "num_pos_feats": 8,
            },
            prompt_encoder_config={
                "hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4,
            },
            mask_decoder_config={
                **sizes, "mlp_dim": 32, "num_hidden_layers": 1, "iou_head_hidden_dim": 16,
            },
        )
    )  # fmt: skip


def test_a_promptable_network_with_its_prompt_fixed_is_a_segmenter() -> None:
    torch.manual_seed(0)
    sam = small_sam()
    with pytest.raises(ModelError, match="points or boxes"):
        cvx.wrap(sam)
    model = cvx.VisionModel(
        Prompted(sam.eval()), task="segmentation", classes=["background", "object"]
    )
    [one] = cvx.explain(
        model, torch.rand(1, 3, 64, 64), "class-attention", cvx.ClassScore("object")
    )
    assert one.values.any()
