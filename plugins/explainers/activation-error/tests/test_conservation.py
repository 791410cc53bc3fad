"""Sum + other tokens + constants = the seeded output, at every layer of any architecture."""

from __future__ import annotations

from pathlib import Path

import cvx_embedded
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from cvx_core import Error, Explanation, Margin, VisionModel, get_explainer, load_model
from cvx_core.recording import Layout

SINGLE = 1e-4
"""Largest relative residual in float32: hundreds of layers of sums with 1e-7 each."""
DOUBLE = 1e-9
"""The same in float64."""


@pytest.fixture(scope="module")
def embedded() -> VisionModel:
    return load_model("embedded")


@pytest.fixture(scope="module")
def photographs(embedded: VisionModel) -> torch.Tensor:
    paths = sorted((Path(cvx_embedded.__file__).parent / "photos").glob("*.jpg"))
    return torch.stack([one.tensor for one in embedded.prepare(paths)])


def check(found: list[Explanation], totals: list[float], tolerance: float) -> None:
    """Compare the parts in the evidence with totals computed apart."""
    for one, total in zip(found, totals, strict=True):
        evidence, where = one.evidence, one.provenance["layer"]
        parts = (evidence["sum"], evidence["other_tokens"], evidence["constant_part"])
        largest = max(abs(total), abs(parts[0] + parts[1]), abs(parts[2]))
        assert evidence["total"] == pytest.approx(total, abs=tolerance * largest), where
        assert sum(parts) == pytest.approx(total, abs=tolerance * largest), where
        assert evidence["residual"] <= tolerance, where
        assert 0 <= evidence["non_pixel_share"] <= 1


def margins(model: VisionModel, batch: torch.Tensor, labels: list[int]) -> list[float]:
    """Return z_q - z_y."""
    z = model.logits(batch).double()
    return [float(row.max() - row[y]) for row, y in zip(z, labels, strict=True)]


def explained(
    model: VisionModel, batch: torch.Tensor, labels: list[int], layer: str
) -> list[Explanation]:
    """Return the margins' maps."""
    return get_explainer("activation-error", layer=layer, rule="frozen").explain(
        model, batch, Margin(), labels
    )


LABELS = [1, 784]  # goldfish, screwdriver: the network answers otherwise


@pytest.mark.parametrize(
    "layer", ["input", "bn1", "blocks.0.0.conv_pw", "blocks.2.1", "blocks.4.0.bn2", "bn2"]
)
def test_the_margin_is_conserved_in_the_real_network(
    embedded: VisionModel, photographs: torch.Tensor, layer: str
) -> None:
    """On the main path and inside a block, before and behind an activation."""
    found = explained(embedded, photographs, LABELS, layer)
    check(found, margins(embedded, photographs, LABELS), SINGLE)


@pytest.mark.slow
def test_the_margin_is_conserved_at_every_layer_of_the_real_network(
    embedded: VisionModel, photographs: torch.Tensor
) -> None:
    """All of them that have a grid."""
    one, totals = photographs[1:], margins(embedded, photographs, LABELS)[1:]
    places = Layout.of(embedded, one).layers
    assert len(places) > 100
    for place in places:
        check(explained(embedded, one, LABELS[1:], place.name), totals, SINGLE)


@pytest.mark.parametrize("layer", ["input", "blocks.3", "bn2"])
def test_the_error_is_the_loss_less_the_entropy_at_every_layer(
    embedded: VisionModel, photographs: torch.Tensor, layer: str
) -> None:
    """L - H(p), from the logits by PyTorch's own cross-entropy."""
    z = embedded.logits(photographs).double()
    loss = F.cross_entropy(z, torch.tensor(LABELS), reduction="none")
    entropy = torch.distributions.Categorical(logits=z).entropy()
    found = get_explainer("activation-error", layer=layer, rule="frozen").explain(
        embedded, photographs, Error(), LABELS
    )
    check(found, (loss - entropy).tolist(), SINGLE)


NETWORKS = {
    "vit": ("vit_tiny_patch16_224", {"img_size": 64, "depth": 3}),
    "registers": ("vit_little_patch16_reg4_gap_256", {"img_size": 64, "depth": 2}),
    "convnext": ("convnext_atto", {"depths": (1, 1, 2, 1)}),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4)},
    ),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, SINGLE), (torch.float64, DOUBLE)])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_margin_is_conserved_where_gates_are_smooth(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    """GELU, layer normalisation and attention; random weights, at the last grid and the pixels."""
    torch.manual_seed(0)
    architecture, config = NETWORKS[name]
    net = timm.create_model(architecture, num_classes=6, **config).eval()
    for module in net.modules():  # begun at 0 and 1, biases and scales would test nothing
        for parameter in module.parameters(recurse=False):
            if parameter.ndim == 1:
                nn.init.uniform_(parameter, 0.2, 1.0)
    model = VisionModel(net).to(dtype=dtype)
    batch = torch.randn(2, 3, 64, 64).to(dtype)
    labels = [int(c) for c in model.logits(batch).argmin(1)]
    totals = margins(model, batch, labels)
    for layer in ("auto", "input"):
        check(explained(model, batch, labels, layer), totals, tolerance)


def test_the_class_token_s_part_is_told_apart() -> None:
    """In a vision transformer it is no part of the map, and in the evidence."""
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=3, num_classes=6).eval()
    model, batch = VisionModel(net).to(dtype=torch.float64), torch.randn(1, 3, 64, 64).double()
    [one] = explained(model, batch, [int(model.logits(batch).argmin())], "auto")
    assert one.values.shape == (4, 4)
    assert abs(one.evidence["other_tokens"]) > 1e-6
    [pixels] = explained(model, batch, [int(model.logits(batch).argmin())], "input")
    assert pixels.evidence["other_tokens"] == 0
