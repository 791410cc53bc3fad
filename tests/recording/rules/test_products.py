"""Products of two tensors that both depend on the input, under whatever name: half to each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.conservation import constant_part
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.recording.rules.products import product, product_and_more
from cvx_core.recording.rules.table import FROZEN_GATES

PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mul": torch.mul,
    "multiply": torch.multiply,
    "matmul": torch.matmul,
    "bmm": torch.bmm,
    "mm": lambda a, b: torch.mm(a[0], b[0])[None],
    "mv": lambda a, b: torch.mv(a[0], b[0, 0])[None],
    "dot": lambda a, b: torch.dot(a[0, 0], b[0, 1])[None, None],
    "inner": lambda a, b: torch.inner(a[0], b[0])[None],
    "outer": lambda a, b: torch.outer(a[0, 0], b[0, 0])[None],
    "ger": lambda a, b: torch.ger(a[0, 0], b[0, 0])[None],
    "vdot": lambda a, b: torch.vdot(a[0, 0], b[0, 1])[None, None],
    "linalg_vecdot": torch.linalg.vecdot,
    "kron": lambda a, b: torch.kron(a[0, :2, :2], b[0])[None],
    "tensordot": lambda a, b: torch.tensordot(a[0], b[0], dims=1)[None],
    "linear": lambda a, b: F.linear(a, b[0]),
    "conv1d": lambda a, b: F.conv1d(a, b[:, :, :2]),
    "conv2d": lambda a, b: F.conv2d(a[:1, None], b[:1, None, :2, :2]),
    "conv3d": lambda a, b: F.conv3d(a[None, None, :1], b[None, None, :1, :2, :2]),
    "conv_transpose1d": lambda a, b: F.conv_transpose1d(a, b[0, :, None, :2]),
    "conv_transpose2d": lambda a, b: F.conv_transpose2d(a[:1, None], b[:1, None, :2, :2]),
    "conv_transpose3d": lambda a, b: F.conv_transpose3d(
        a[None, None, :1], b[None, None, :1, :2, :2]
    ),
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.5),
    "addmm": lambda a, b: torch.addmm(a[0], a[0], b[0], beta=2, alpha=0.5)[None],
    "baddbmm": lambda a, b: torch.baddbmm(a, a, b),
    "addbmm": lambda a, b: torch.addbmm(a[0], a, b)[None],
}


def test_every_product_that_has_a_rule_is_tried() -> None:
    rules = (product, product_and_more)
    assert {name for name, rule in FROZEN_GATES.items() if rule in rules} == set(PRODUCTS)


class _Product(nn.Module):
    def __init__(self, combine: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.combine = combine
        self.left, self.right = nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 1)
        self.weights = nn.Parameter(torch.randn(64))

    def forward(self, x: Tensor) -> Tensor:
        found = self.combine(self.left(x)[:, 0], self.right(x)[:, 0]).flatten(1)
        weights = self.weights[: found.shape[1]]
        return torch.stack([(found * weights).sum(1), found.sum(1)], dim=1)


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_conserved(name: str) -> None:
    torch.manual_seed(0)
    model = VisionModel(_Product(PRODUCTS[name]).double())
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    seed = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    with open_recording(model, x, Requirements("input", gates="frozen", tape=True)) as recording:
        total = float((seed * recording.logits.detach()).sum())
        [gradient] = recording.gradients(seed, "input")
        constant = float((seed * constant_part(recording, "input")).sum())
        assert torch.equal(recording.logits.detach(), model.logits(x)) or name.startswith("add")
    part = float((gradient * x).sum())
    assert abs(part) > 1e-3, "the product must pass something on"
    assert part + constant == pytest.approx(total, abs=1e-12)
