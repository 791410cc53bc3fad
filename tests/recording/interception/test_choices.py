"""Baselines of detectors that choose other candidates for another image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core import BoxScore, DetectionCandidates, VisionModel


class TwoStages(nn.Module):
    """Proposes a box of the two halves, the brighter first, and moves it by what it sees there."""

    def __init__(self, *, detach: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.propose = nn.Linear(16, 2, dtype=torch.float64)
        self.refine = nn.Linear(16, 3, dtype=torch.float64)
        self.detach = detach

    def forward(self, x: Tensor) -> DetectionCandidates:
        halves = x.view(len(x), 1, 2, 16)[:, 0]
        bright = halves.detach().sum(2) if self.detach else halves.sum(2)
        _, first = bright.topk(1, dim=1)
        chosen = halves.gather(1, first[..., None].expand(-1, -1, 16))
        scores, sides = self.refine(chosen).split([1, 2], dim=2)
        offset = self.propose(chosen).detach() if self.detach else 0 * self.propose(chosen)
        places = (offset + 4.0 * first[..., None]).relu() + sides.exp()
        logits = torch.cat([scores, -scores], dim=2)
        return DetectionCandidates(logits, torch.cat([places, places + 4], dim=2))


def image() -> Tensor:
    x = torch.rand(1, 1, 4, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x.view(2, 16)[1] += 1  # the second half is chosen, and of a black image the first
    return x


@pytest.mark.parametrize("detach", [True, False])
def test_the_baseline_has_the_candidates_of_the_image(detach: bool) -> None:
    x, module = image(), TwoStages(detach=detach)
    model = VisionModel(module, task="detection", classes=["cat", "dog"])
    assert model.output(torch.zeros_like(x)).candidates.boxes[0, 0, 0] < 4  # type: ignore[attr-defined]
    box = cvx.Box(*model.predict(x)[0].boxes_of(0)[0].tolist())  # type: ignore[attr-defined]
    [one] = cvx.explain(model, x, "deep-lift", target=BoxScore(box, 0, side="left"))
    sides = [module.refine(part)[1].exp() for part in (x.view(2, 16)[1], torch.zeros(16).double())]
    assert one.values.sum() == pytest.approx(float(sides[0] - sides[1]), rel=1e-5)
    assert one.evidence["residual"] < 1e-9
    assert not one.values.reshape(2, 16)[0].any()
    assert one.unit == "pixels"
