"""Class targets are explained on the class branch, sides of boxes on the box branch."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cvx_core as cvx

pytestmark = pytest.mark.skipif(
    find_spec("ultralytics") is None, reason="AGPL-3.0: whoever wants it installs it"
)

CONFIGURATIONS = ["yolov8n.yaml", "yolov10n.yaml", "yolo26n.yaml", "yolov8n-seg.yaml"]


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("target", ["predicted", "box 1 left", "box 0 bottom"])
def test_scores_and_sides_are_conserved(
    configuration: str, target: str, checkpoint: Callable[..., Path], images: list[Image.Image]
) -> None:
    model = cvx.load_model(f"ultralytics:{checkpoint(configuration)}", dtype=torch.float64)
    [made] = cvx.explain(model, images[0], "activation-error:rule=frozen", cvx.parse_target(target))
    branch = "cv3" if target == "predicted" else "cv2"
    rows = made.evidence["levels"]
    assert len(rows) == 3
    assert np.ptp(made.values) > 0
    names = [row["layer"] for row in rows]
    assert all(branch in name or "act" in name for name in names), names
    # A candidate is read from one level; the others have nothing to conserve.
    assert max(row["residual"] for row in rows if "residual" in row) < 1e-9
    parts = made.evidence["sum"] + made.evidence["constant_part"]
    assert parts == pytest.approx(made.evidence["total"], rel=1e-5)


def test_a_class_and_a_side_together_are_explained_as_each_alone(
    checkpoint: Callable[..., Path], images: list[Image.Image]
) -> None:
    model = cvx.load_model(f"ultralytics:{checkpoint('yolov8n.yaml')}")
    targets = [cvx.BoxScore(0, side="left"), cvx.ClassScore(2)]
    for method in ("class-attention", "activation-error:rule=frozen"):
        together = cvx.explain(model, images[0], method, [targets])
        for target, made in zip(targets, together, strict=True):
            [alone] = cvx.explain(model, images[0], method, target)
            assert np.allclose(made.values, alone.values, atol=1e-6)
            assert made.target.text == alone.target.text
            assert made.provenance["layer"] == alone.provenance["layer"]
        assert together[0].provenance["layer"] != together[1].provenance["layer"]


def test_a_network_is_left_as_it_was(
    checkpoint: Callable[..., Path], images: list[Image.Image]
) -> None:
    model = cvx.load_model(f"ultralytics:{checkpoint('yolov8n.yaml')}")
    head = model.module.model[-1]
    before, weights = set(vars(head)), model.digest()
    cvx.explain(model, images[0], "activation-error:rule=frozen", cvx.Predicted())
    assert set(vars(head)) == before
    assert model.digest() == weights
    assert not any(part._forward_hooks for part in model.module.modules())
