"""The classifier's head at every cell."""

from __future__ import annotations

import pytest
import torch
from cvx_embedded import photographs
from cvx_embedded.efficientnet_lite0 import (
    PREPROCESS,
    efficientnet_lite0,
    efficientnet_lite0_dense,
)
from PIL import Image


@pytest.fixture(scope="module")
def fish() -> torch.Tensor:
    return PREPROCESS(Image.open(photographs()[0].path))[None].double()


@pytest.mark.parametrize("weights", [True, False])
def test_the_mean_over_cells_is_the_classifiers_answer(fish: torch.Tensor, weights: bool) -> None:
    classifier = efficientnet_lite0(weights=weights).double()
    dense = efficientnet_lite0_dense(weights=weights).double()
    with torch.no_grad():
        cells = dense(fish)
        assert cells.shape == (1, 1000, 7, 7)
        torch.testing.assert_close(cells.mean(dim=(2, 3)), classifier(fish), atol=1e-12, rtol=0)


def test_a_cells_logit_is_the_class_activation_map_there_and_the_bias(fish: torch.Tensor) -> None:
    classifier = efficientnet_lite0().double()
    with torch.no_grad():
        found: list[torch.Tensor] = []
        with classifier.get_submodule("bn2").register_forward_hook(
            lambda _module, _inputs, output: found.append(output)
        ):
            classifier(fish)
        [features] = found
        head = classifier.get_submodule("classifier")
        maps = torch.einsum("kc,bchw->bkhw", head.weight, features)
        expected = maps + head.bias[None, :, None, None]
        torch.testing.assert_close(
            efficientnet_lite0_dense().double()(fish), expected, atol=1e-12, rtol=0
        )


def test_larger_images_have_more_cells() -> None:
    with torch.no_grad():
        assert efficientnet_lite0_dense()(torch.zeros(1, 3, 320, 256)).shape == (1, 1000, 10, 8)
