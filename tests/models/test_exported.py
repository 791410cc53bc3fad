"""Programs of torch.export are explained at the input, or refused with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cvx_core as cvx
from cvx_core import CheckpointError, ModelError, VisionModel

X = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    return nn.Sequential(*layers).eval()


def exported(path: Path, *, dynamic: bool = True) -> Path:
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},) if dynamic else None
    program = torch.export.export(
        network(), (X.repeat(2 if dynamic else 1, 1, 1, 1),), dynamic_shapes=shapes
    )
    torch.export.save(program, path)
    return path


def test_a_program_is_explained_at_the_input(tmp_path: Path) -> None:
    program = torch.export.load(exported(tmp_path / "net.pt2")).module()
    for method in ("input-x-gradient", "occlusion"):
        [found] = cvx.explain(VisionModel(program), X, method, cvx.ClassScore(1))
        [expected] = cvx.explain(VisionModel(network()), X, method, cvx.ClassScore(1))
        assert np.allclose(found.values, expected.values, atol=1e-6)
        assert expected.values.any()


def test_a_program_for_one_batch_size_says_how_to_export_it(tmp_path: Path) -> None:
    path = exported(tmp_path / "net.pt2", dynamic=False)
    model = VisionModel(torch.export.load(path).module())
    with pytest.raises(ModelError) as caught:
        cvx.explain(model, X, "input-x-gradient", cvx.ClassScore(1))
    assert "dynamic_shapes" in caught.value.hint


def test_the_file_itself_is_refused_with_the_lines_that_work(tmp_path: Path) -> None:
    path = exported(tmp_path / "net.pt2")
    with pytest.raises(ModelError) as caught:
        cvx.load_model(str(path))
    assert f"torch.export.load({str(path)!r}).module()" in caught.value.hint
    code = tmp_path / "mine.py"
    code.write_text("import torch\ndef make():\n    return torch.nn.Linear(2, 2)\n")
    with pytest.raises(CheckpointError, match="program of torch") as refused:
        cvx.load_model(f"{code}:make", weights=path)
    assert "state_dict" in refused.value.hint
