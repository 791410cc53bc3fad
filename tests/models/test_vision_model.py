"""What a model makes of images that are given as tensors."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from cvx_core import ClassScore, InputError, ModelError, VisionModel, get_explainer
from cvx_core.testing import models


def test_the_digest_of_a_tensor_is_of_all_its_values() -> None:
    x = models.inputs(2)
    one, two = models.convolutional().prepare(x)
    assert one.source.digest == hashlib.sha256(x[0].numpy().tobytes()).hexdigest()
    assert two.source.digest == hashlib.sha256(x[1].numpy().tobytes()).hexdigest()
    # The order of values in memory is not their order in the tensor.
    [other] = models.convolutional().prepare(x[0].mT.contiguous().mT)
    assert other.source.digest == one.source.digest


def test_a_forward_that_needs_more_than_the_image_names_the_wrapper() -> None:
    class Pair(torch.nn.Module):
        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return (first - second).mean((2, 3))

    with pytest.raises(ModelError, match=r"(?s)missing 1 required.*wrapper.*self\.net\(x"):
        VisionModel(Pair()).predict(torch.zeros(1, 3, 4, 4))


class Clips(nn.Module):
    """A network of video, (B, C, T, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv3d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean((2, 3, 4)))


class OneFrame(nn.Module):
    """The wrapper of the message."""

    def __init__(self, net: nn.Module, clip: torch.Tensor, t: int) -> None:
        super().__init__()
        self.net, self.clip, self.t = net, nn.Buffer(clip), t

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        clip = self.clip.repeat(len(x), 1, 1, 1, 1)
        clip[:, :, self.t] = x
        return self.net(clip)


def test_volumes_and_video_are_refused_with_a_wrapper_that_works() -> None:
    torch.manual_seed(0)
    net, clip = Clips().eval(), torch.randn(1, 3, 5, 12, 12)
    with pytest.raises(InputError, match="Volumes and video are out of scope") as caught:
        get_explainer("saliency").explain(VisionModel(net), clip)
    for line in ("self.clip.repeat(len(x), 1, 1, 1, 1)", "clip[:, :, self.t] = x"):
        assert line in caught.value.hint
    with pytest.raises(ModelError, match=r"(?s)failed.*volumes and video are out of scope"):
        VisionModel(net).logits(torch.randn(1, 3, 12, 12))
    frame = clip[:, :, 2]
    model = VisionModel(OneFrame(net, clip, 2))
    torch.testing.assert_close(model.logits(frame), net(clip).detach())
    [one] = get_explainer("saliency").explain(model, frame, ClassScore(1))
    leaf = clip.clone().requires_grad_()
    net(leaf)[0, 1].backward()
    expected = leaf.grad[0, :, 2].abs().amax(0)
    torch.testing.assert_close(torch.from_numpy(one.values.copy()), expected)


@pytest.mark.parametrize("error", [KeyError("maps"), SystemExit(0)])
def test_functions_of_the_user_that_fail_are_named(error: BaseException) -> None:
    def failing(*_: object) -> torch.Tensor:
        raise error

    class Failing(nn.Linear):
        forward = failing

    image, batch = np.zeros((8, 8, 3), np.uint8), torch.zeros(1, 3, 8, 8)
    net = models.convolutional().module
    for model, given, said in (
        (VisionModel(net, preprocess=failing), image, "The preprocess failed: "),
        (VisionModel(net, readout=failing), batch, "The readout failed on the Tensor that the mod"),
        (VisionModel(Failing(1, 1)), batch, "Failing failed on an input of shape "),
    ):
        with pytest.raises(ModelError, match=f"{said}.*{type(error).__name__}: ") as found:
            model.predict(given)
        assert found.value.hint
        assert ("sys.exit" in found.value.hint) == (
            isinstance(error, SystemExit) and said.startswith("Failing")
        )
