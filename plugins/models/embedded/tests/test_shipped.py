"""The weights in the package are the published ones, and licensed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import cvx_embedded
import pytest
import torch
from cvx_embedded.efficientnet_lite0 import efficientnet_lite0, efficientnet_lite0_dense
from cvx_embedded.nanodet import nanodet
from cvx_embedded.selfie_segmenter import selfie_segmenter
from torch import nn

FOLDER = Path(cvx_embedded.__file__).parent / "weights"


def test_every_file_is_the_one_that_its_page_names() -> None:
    result = dict(
        re.findall(r"^\| `(\S+)` \| `(\w{64})` \|", (FOLDER / "README.md").read_text(), re.M)
    )
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in FOLDER.glob("*.safetensors")
    }
    assert result == found


def test_every_licence_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"\((LICENSE-[\w-]+)\)", (FOLDER / "README.md").read_text()))
    assert named == {path.name for path in FOLDER.glob("LICENSE*")}
    assert "Apache License" in (FOLDER / "LICENSE-nanodet").read_text()
    assert "Apache License" in (FOLDER / "LICENSE-selfie-segmenter").read_text()
    assert "MIT License" in (FOLDER / "LICENSE-human-models").read_text()


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (nanodet, 3_786_068),
        (selfie_segmenter, 106_401),
        (efficientnet_lite0, 4_652_008),
        (efficientnet_lite0_dense, 4_652_008),
    ],
)
def test_a_network_has_its_parameters_and_is_ready_for_evaluation(
    build: Callable[..., nn.Module], parameters: int
) -> None:
    network = build()
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("build", [nanodet, selfie_segmenter, efficientnet_lite0_dense])
def test_random_weights_are_the_same_each_time(build: Callable[..., nn.Module]) -> None:
    before = torch.get_rng_state()
    one, two, trained = (list(build(weights=w).parameters()) for w in (False, False, True))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, trained, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
