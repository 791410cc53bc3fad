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

PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tensordot": lambda a, b: torch.tensordot(a[0], b[0], dims=1)[None],
    "inner": lambda a, b: torch.inner(a[0], b[0])[None],
    "vecdot": torch.linalg.vecdot,
    "outer": lambda a, b: torch.outer(a[0, 0], b[0, 0])[None],
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.5),
    "addmm": lambda a, b: torch.addmm(a[0], a[0], b[0], beta=2, alpha=0.5)[None],
    "baddbmm": lambda a, b: torch.baddbmm(a, a, b),
    "addbmm": lambda a, b: torch.addbmm(a[0], a, b)[None],
    "conv_transpose": lambda a, b: F.conv_transpose2d(a[:1, None], b[:1, None, :2, :2])[:, 0],
}


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
