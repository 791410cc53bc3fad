"""The person segmenter answers as the reference implementation does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cvx_embedded.selfie_segmenter import PREPROCESS, SelfieSegmenter, selfie_segmenter
from PIL import Image

from cvx_core.images.geometry import measure

DATA = Path(__file__).parent / "data/selfie-segmenter"
SHARE = {"camera": 0.328, "chelsea": 0.923, "horse": 0.034}
"""Of pixels called a person. One is there in `camera` alone."""


@pytest.fixture(scope="module")
def network() -> SelfieSegmenter:
    return selfie_segmenter()


def photograph(name: str) -> torch.Tensor:
    return PREPROCESS(Image.open(DATA / f"{name}.png"))[None]


@pytest.mark.parametrize("name", SHARE)
def test_logits_are_the_references_in_float64(name: str) -> None:
    with torch.no_grad():
        logits = selfie_segmenter().double()(photograph(name).double())
    assert logits.shape == (1, 1, 256, 256)
    # They reach 740, where the reference's float32 has steps of 6e-5.
    with np.load(DATA / "reference.npz") as reference:
        np.testing.assert_allclose(
            logits.ravel()[::5], reference[f"{name}_logits"], atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("name", SHARE)
def test_the_map_of_persons_is_the_references_in_float32(
    name: str, network: SelfieSegmenter
) -> None:
    with torch.no_grad():
        person = network(photograph(name)).sigmoid()
    with np.load(DATA / "reference.npz") as reference:
        np.testing.assert_allclose(
            person.ravel()[::5], reference[f"{name}_person"], atol=1e-4, rtol=0
        )
    assert (person > 0.5).double().mean().item() == pytest.approx(SHARE[name], abs=1e-3)


def test_the_network_sees_the_whole_photograph_from_0_to_1() -> None:
    assert measure(PREPROCESS, (640, 415)).extent == (0, 0, 640, 415)
    assert PREPROCESS(Image.new("RGB", (8, 4), (255, 0, 51)))[:, 0, 0].tolist() == pytest.approx(
        [1, 0, 0.2]
    )


def test_each_pixel_has_a_logit_at_other_sizes(network: SelfieSegmenter) -> None:
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 130, 100)).shape == (2, 1, 130, 100)
