"""Places and grids are found from shapes in one traced pass, whatever the modules are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core import ClassScore, DetectionCandidates, explain, get_explainer
from cvx_core.errors import LayerError
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Layout, Requirements
from cvx_core.recording.layer_selection.selection import (
    find_last_grid,
    find_levels,
    open_recording,
)
from cvx_core.recording.layers.layer import as_grid, fits, token_grid
from cvx_core.testing import models

Build = Callable[[Callable[[], Any]], Any]


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((64, 7, 7), (224, 224), ("maps", (7, 7), 0)),
        ((7, 7, 64), (224, 224), ("channels-last", (7, 7), 0)),
        ((64, 7, 10), (224, 320), ("maps", (7, 10), 0)),
        ((7, 10, 64), (224, 320), ("channels-last", (7, 10), 0)),
        ((64, 5, 5), (30, 30), ("maps", (5, 5), 0)),
        ((64, 1, 1), (224, 224), None),
        ((3, 49, 49), (224, 224), None),
        ((2, 64, 10), (224, 320), None),
        ((196, 24), (224, 224), ("tokens", (14, 14), 0)),
        ((197, 24), (224, 224), ("tokens", (14, 14), 1)),
        ((198, 24), (224, 224), ("tokens", (14, 14), 2)),
        ((201, 24), (224, 224), ("tokens", (14, 14), 5)),
        ((24, 196), (224, 224), ("channel-tokens", (14, 14), 0)),
        ((140, 24), (224, 160), ("tokens", (14, 10), 0)),
        ((141, 24), (224, 160), ("tokens", (14, 10), 1)),
        ((1, 24), (224, 224), None),
        ((10,), (224, 224), None),
    ],
)
def test_a_shape_is_read_as_the_grid_that_fits_the_input(
    shape: tuple[int, ...], size: tuple[int, int], expected: Any
) -> None:
    """`known` is what the patch embedding of stride 16 leaves; 49 is a number of tokens."""
    patches = {(size[0] // 16, size[1] // 16)}
    assert as_grid(shape, size, patches, {49}) == expected


def test_borders_may_cost_a_few_cells_but_proportions_stay() -> None:
    # Convolutions without padding: 299 x 299 becomes 8 x 8 (Inception), 200 x 300 becomes 5 x 8.
    assert fits((8, 8), (299, 299))
    assert fits((5, 8), (200, 300))
    assert not fits((8, 5), (200, 300))
    assert not fits((1, 1), (200, 300))
    assert not fits((300, 300), (200, 300))


def test_the_grid_with_the_fewest_extra_tokens_is_taken() -> None:
    assert token_grid(17, {(4, 4), (2, 2)}) == ((4, 4), 1)
    assert token_grid(16, {(4, 4), (2, 6)}) == ((4, 4), 0)
    assert token_grid(100, {(4, 4)}) is None
    assert token_grid(6, {(2, 2)}) == ((2, 2), 2)
    assert token_grid(7, {(2, 2)}) is None, "more extra tokens than half the grid"


class Registers(nn.Module):
    """A class token and four registers before 3 x 5 patches of 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 8, stride=8)
        self.extra = nn.Parameter(torch.randn(1, 5, 8))
        self.block, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = self.block(torch.cat([self.extra.expand(len(x), -1, -1), tokens], 1))
        return self.head(tokens.mean(1).tanh())


def test_class_and_register_tokens_are_told_from_the_grid(seeded: Build) -> None:
    model, x = VisionModel(seeded(Registers)), torch.rand(2, 3, 24, 40)
    with open_recording(model, x, Requirements("block")) as recording:
        place, raw = recording.layer("block"), recording.raw("block")
        assert (place.kind, place.grid, place.prefix) == ("tokens", (3, 5), 5)
        assert place.other_tokens(raw).shape == (2, 5, 8)
        cells = place.positions(raw)
        assert cells.shape == (2, 8, 3, 5)
        # Token 5 + 1 * 5 + 2 is the patch in row 1, column 2.
        assert torch.equal(cells[:, :, 1, 2], raw[:, 12])


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 4, stride=4), nn.LayerNorm(6)
        self.up, self.head = nn.Linear(6, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.norm(self.stem(x).permute(0, 2, 3, 1)))
        return self.head(F.gelu(x).mean((1, 2)))


def test_channels_last_cells_are_turned_to_maps(seeded: Build) -> None:
    model, x = VisionModel(seeded(ChannelsLast)), torch.rand(2, 3, 16, 24)
    with open_recording(model, x, Requirements("auto", "stem")) as recording:
        place = recording.layer("auto")
        assert (place.name, place.kind, place.grid) == ("up", "channels-last", (4, 6))
        assert recording.activation("auto").shape == (2, 12, 4, 6)
        assert torch.equal(recording.activation("auto")[0, :, 1, 2], recording.raw("auto")[0, 1, 2])
        assert recording.activation("stem").shape == (2, 6, 4, 6)


def test_each_input_size_has_its_own_layout(seeded: Build) -> None:
    model = VisionModel(seeded(ChannelsLast))
    small, large = (Layout.of(model, torch.rand(1, 3, side, side)) for side in (16, 32))
    assert [layout.find("up").grid for layout in (small, large)] == [(4, 4), (8, 8)]
    assert Layout.of(model, torch.rand(5, 3, 16, 16)) is small, "traced once for each size"


def test_the_layout_is_traced_under_inference_mode_too(seeded: Build) -> None:
    with torch.inference_mode():
        layout = Layout.of(VisionModel(seeded(ChannelsLast)), torch.rand(1, 3, 16, 16))
    assert layout.find("up").grid == (4, 4)


def test_names_lead_to_places_and_errors_to_names() -> None:
    model, x = models.convolutional(), models.inputs(1)
    layout = Layout.of(model, x)
    assert layout.find("input").kind == "input"
    assert layout.find("relu#0").grid == (16, 16)
    assert layout.find("relu#1").grid == (8, 8)
    assert layout.find("relu").name == "relu#1", "without a number: the last call"
    with pytest.raises(LayerError, match=r"(?s)no layer 'thrid'.*Did you mean 'third'"):
        layout.find("thrid")
    with pytest.raises(
        LayerError, match=r"(?s)'head' has shape \(5\).*not a grid.*Layers with a grid:.*third"
    ):
        layout.find("head")
    with pytest.raises(LayerError, match=r"no layer 'relu#7'"):
        layout.find("relu#7")


def test_modules_that_return_one_tensor_are_one_place(seeded: Build) -> None:
    net = seeded(
        lambda: nn.ModuleDict(
            {"body": nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Sequential(nn.ReLU()))}
        )
    )

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.head = net, nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.net["body"](x).mean((2, 3)))

    model, x = VisionModel(seeded(Model)), torch.rand(2, 3, 8, 8)
    layout = Layout.of(model, x)
    assert [place.name for place in layout.layers] == ["net.body.0", "net.body"]
    assert layout.find("net.body.1.0").name == "net.body"
    with open_recording(
        model, x, Requirements("net.body", "net.body.1", "net.body.1.0")
    ) as recording:
        assert torch.equal(recording.raw("net.body"), recording.raw("net.body.1.0"))


class UsesBeforeReturning(nn.Module):
    """A backbone that pools its map itself and returns both, as those of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.conv(x)
        return {"last_hidden_state": x, "pooled": x.mean((2, 3))}


def test_a_tensor_is_recorded_where_it_is_made(seeded: Build) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = UsesBeforeReturning(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.backbone(x)["pooled"])

    model, x = VisionModel(seeded(Model)), torch.rand(1, 3, 4, 4)
    with open_recording(model, x, Requirements("auto")) as recording:
        assert recording.layer("auto").name == "backbone"
        seed = torch.tensor([[1.0, 0, 0]])
        [gradient] = recording.gradients(seed, "auto")
        # The mean of 16 cells, then a weight for each channel.
        weights = model.module.head.weight[0].detach() / 16
        torch.testing.assert_close(gradient, weights.view(1, 4, 1, 1).expand_as(gradient))


class Siamese(nn.Module):
    """Compares an image with one that is fixed, whose turn in the shared backbone comes second."""

    def __init__(self, second: str) -> None:
        super().__init__()
        convolutions = nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1)
        self.backbone = nn.Sequential(*convolutions, nn.ReLU(inplace=True))
        self.head, self.second = nn.Linear(12, 2), second
        self.register_buffer("fixed", torch.randn(1, 3, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        other = {"fixed": self.fixed.expand_as(x), "zeros": torch.zeros_like(x), "flip": x.flip(3)}
        pair = [self.backbone(x).mean((2, 3)), self.backbone(other[self.second]).mean((2, 3))]
        return self.head(torch.cat(pair, 1))


@pytest.mark.parametrize("second", ["fixed", "zeros"])
def test_a_layer_that_is_the_same_for_every_image_is_not_selected(
    seeded: Build, second: str
) -> None:
    model, x = VisionModel(seeded(lambda: Siamese(second))), torch.rand(2, 3, 16, 16)
    found = find_last_grid(model, x)
    assert found.name == "backbone#0"
    assert Layout.of(model, x).find("backbone").name == "backbone#0", "the call with the image"
    for method in ("grad-cam", "energy", "activation-error", "score-cam", "eigen-cam"):
        one, other = get_explainer(method).explain(model, x, ClassScore(0))
        assert abs(one.values - other.values).max() > 1e-4, method
    with pytest.raises(LayerError, match=r"(?s)'backbone#1' is the same.*grid: backbone#0\.$"):
        Layout.of(model, x).find("backbone#1")


def test_of_two_calls_with_the_image_both_are_layers(seeded: Build) -> None:
    model, x = VisionModel(seeded(lambda: Siamese("flip"))), torch.rand(2, 3, 16, 16)
    layout = Layout.of(model, x)
    assert [layout.find(f"backbone#{k}").name for k in (0, 1)] == ["backbone#0", "backbone#1"]
    with pytest.raises(LayerError, match=r"no layer 'backbone#2'(?s:.*)backbone#0, backbone#1\."):
        layout.find("backbone#2")


class Choosing(nn.Module):
    """Names that mislead: what follows `last` leads around it, or is not read at all."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.sum, self.head = nn.Identity(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x).relu()
        two = self.two(one)
        if self.way == "residual":
            return self.head((self.last(two) + two).mean((2, 3)))
        if self.way == "summed":
            return self.head(self.sum(self.last(two) + two).mean((2, 3)))
        if self.way == "unread":
            self.last(two)
            return self.head(two.mean((2, 3)))
        return self.head(torch.cat([self.last(one)[:, :2], two[:, 2:]], 1).mean((2, 3)))


@pytest.mark.parametrize(
    ("way", "place", "reason"),
    [
        ("residual", "two", "all paths to the output pass"),
        ("summed", "sum", "all paths to the output pass"),
        ("unread", "two", "all paths to the output pass"),
    ],
)
def test_the_last_grid_is_the_one_that_everything_passes(
    seeded: Build, way: str, place: str, reason: str
) -> None:
    model = VisionModel(seeded(lambda: Choosing(way)))
    found = find_last_grid(model, torch.rand(1, 3, 6, 6))
    assert found.name == place
    assert reason in found.reason
    assert "(6 x 6 positions)" in found.reason


def test_two_ways_that_part_at_the_beginning_meet_nowhere_later(seeded: Build) -> None:
    """Both branches read `one`, so that it is the only grid that everything passes."""
    model = VisionModel(seeded(lambda: Choosing("parallel")))
    found = find_last_grid(model, torch.rand(1, 3, 6, 6))
    assert found.name == "one"


def test_where_nothing_is_passed_by_everything_the_reason_says_so(seeded: Build) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.left(x).relu().mean((2, 3)) + self.right(x).relu().amax((2, 3))

    model, x = VisionModel(seeded(Two)), torch.rand(1, 3, 6, 6)
    found = find_last_grid(model, x)
    assert found.name == "right"
    assert "other paths bypass it" in found.reason


def test_a_network_without_a_grid_points_to_the_input(seeded: Build) -> None:
    model = VisionModel(seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 3))))
    with pytest.raises(LayerError, match=r"(?s)no layer with a spatial grid.*layer=input"):
        open_recording(model, torch.rand(1, 3, 4, 4), Requirements("auto")).__enter__()


def test_the_last_block_of_a_vision_transformer_hands_on_its_class_token_alone() -> None:
    """Its patch tokens have no gradient, so the block before it is chosen, 4 x 4 and one token."""
    model, x = models.tokens(), models.inputs(1)
    place = find_last_grid(model, x)
    assert (place.name, place.grid, place.prefix) == ("blocks.1.norm1", (4, 4), 1) or (
        place.name.startswith("blocks.0")
    )
    with open_recording(model, x, Requirements("auto", "blocks")) as recording:
        seed = torch.ones_like(recording.logits)
        auto, last = recording.gradients(seed, "auto", "blocks")
        assert place.positions(auto).any()
        assert not place.positions(last).any()


class Pyramid(nn.Module):
    """A ResNet with a feature pyramid, whose levels are averaged and read together."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

        self.backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
        self.head = nn.Linear(256, 5)

    def forward(self, x: Tensor) -> Tensor:
        levels = self.backbone(x).values()
        return self.head(sum(level.mean((2, 3)) for level in levels))


def test_each_level_of_a_feature_pyramid_is_a_place(seeded: Build) -> None:
    model, x = VisionModel(seeded(Pyramid)), torch.rand(1, 3, 64, 64)
    layout = Layout.of(model, x)
    # Strides of 4, 8, 16 and 32.
    grids = [layout.find(f"backbone.fpn.layer_blocks.{k}").grid for k in range(4)]
    assert grids == [(16, 16), (8, 8), (4, 4), (2, 2)]
    found = find_last_grid(model, x)
    assert found.grid == (16, 16)
    assert "other paths bypass it" in found.reason, "the other levels are read too"
    with open_recording(
        model, x, Requirements(*(f"backbone.fpn.layer_blocks.{k}" for k in range(4)))
    ) as r:
        seed = torch.ones_like(r.logits)
        shapes = [r.gradient(seed, name).shape for name in r.requirements.layers]
    assert shapes == [(1, 256, h, w) for h, w in grids]


def test_a_hybrid_has_cells_first_and_tokens_behind_them(seeded: Build) -> None:
    """A convolutional stem of stride 4, patches of 8 of its cells, and a class token."""
    import timm

    options = {"img_size": 64, "depth": 2, "embed_dim": 24, "num_heads": 2, "num_classes": 5}
    model = VisionModel(seeded(lambda: timm.create_model("vit_tiny_r_s16_p8_224", **options)))
    layout = Layout.of(model, torch.rand(1, 3, 64, 64))
    stem, patches = layout.find("patch_embed.backbone"), layout.find("patch_embed.proj")
    assert [(place.kind, place.grid, place.prefix) for place in (stem, patches)] == [
        ("maps", (16, 16), 0),
        ("maps", (2, 2), 0),
    ]
    found = find_last_grid(model, torch.rand(1, 3, 64, 64))
    assert (found.name, found.kind, found.grid, found.prefix) == ("blocks.0", "tokens", (2, 2), 1)


class Queries(nn.Module):
    """Three queries of 16 features that read a grid of 4 x 4 positions, as a decoder's do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.queries = nn.Parameter(torch.randn(3, 16))
        self.read, self.mix, self.norm = nn.Identity(), nn.Linear(16, 16), nn.LayerNorm(16)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2)
        weights = (self.queries @ tokens / 4).softmax(-1)
        read = self.read(weights @ tokens.transpose(1, 2))
        return self.head(self.norm(self.mix(read))).mean(1)


def test_the_features_of_queries_are_no_grid() -> None:
    # (3, 16) reads as 3 channels of 4 x 4 positions, too: linear layers say what is what.
    layout = Layout.of(VisionModel(Queries().eval()), torch.rand(1, 3, 16, 16))
    assert [layer.name for layer in layout.layers] == ["stem"]


def test_maps_with_as_many_rows_as_there_are_tokens_are_no_attention(seeded: Build) -> None:
    class Net(nn.Module):
        """Convolutions on 4 x 4 positions, and attention among 2 x 2."""

        def __init__(self) -> None:
            super().__init__()
            self.fine, self.coarse = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 2, 2)
            self.norm, self.softmax, self.head = nn.LayerNorm(8), nn.Softmax(-1), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.norm(self.coarse(self.fine(x).relu()).flatten(2).transpose(1, 2))
            weights = self.softmax((tokens @ tokens.mT)[:, None].expand(-1, 2, -1, -1))
            return self.head((weights[:, 0] @ tokens).mean(1))

    layout = Layout.of(VisionModel(seeded(Net)), torch.randn(1, 3, 16, 16))
    grids = {layer.name: layer.grid for layer in layout.layers}
    assert grids["fine"] == (4, 4)
    assert "softmax" not in grids  # (2, 4, 4) of two heads


class Detector(nn.Module):
    """A class token before 3 x 5 patches, and detection tokens behind them, which are read."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 8, stride=8)
        self.first = nn.Parameter(torch.randn(1, 1, 8))
        self.last = nn.Parameter(torch.randn(1, extra, 8))
        self.dropout = nn.Dropout(0.1)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.final = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> DetectionCandidates:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        around = (one.expand(len(x), -1, -1) for one in (self.first, self.last))
        tokens = self.dropout(torch.cat([next(around), tokens, next(around)], 1))
        read = self.head(self.final(self.block(tokens))[:, 16:])
        return DetectionCandidates(read[..., :4], read[..., 4:])


@pytest.mark.parametrize("extra", [1, 7, 30])
def test_tokens_behind_the_grid_are_told_from_it(seeded: Build, extra: int) -> None:
    model = VisionModel(seeded(lambda: Detector(extra)), task="detection")
    x = torch.rand(2, 3, 24, 40)
    with open_recording(model, x, Requirements("block")) as recording:
        place, raw = recording.layer("block"), recording.raw("block")
        assert (place.grid, place.prefix, place.suffix) == ((3, 5), 1, extra)
        assert place.tokens == raw.shape[1] == 16 + extra
        assert torch.equal(place.positions(raw)[:, :, 1, 2], raw[:, 1 + 5 + 2])
        assert torch.equal(place.other_tokens(raw), torch.cat([raw[:, :1], raw[:, 16:]], 1))
        values, others = place.split(raw[..., 0])
    torch.testing.assert_close(values, raw[:, 1:16, 0].view(2, 3, 5))
    torch.testing.assert_close(others, raw[:, 0, 0] + raw[:, 16:, 0].sum(1))
    # Behind the last attention no position is read.
    assert [one.name for one in find_levels(model, x)] == ["block"]


def test_the_attention_of_detection_tokens_is_shown(seeded: Build) -> None:
    network = seeded(lambda: Detector(7))
    model, x = VisionModel(network, task="detection"), torch.rand(1, 3, 24, 40)
    tokens = network.embed(x).flatten(2).transpose(1, 2)
    tokens = network.block(torch.cat([network.first, tokens, network.last], 1))
    _, weights = network.final.self_attn(tokens, tokens, tokens)
    expected = weights[0, 16:, 1:16].mean(0).view(3, 5).detach()
    [one] = explain(model, x, "class-token-attention", target=0)
    torch.testing.assert_close(torch.from_numpy(one.values), expected)
    assert one.provenance["query_token"] == "mean of the tokens 16 to 22 of 23"
    [one] = explain(model, x, "class-attention", target=0)
    assert one.values.any()
    assert one.provenance["layer"] == "embed"
