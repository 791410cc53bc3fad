"""What images are compared with, by hand."""

import pytest
import torch

from cvx_core import OptionError
from cvx_core.images.baselines import BASELINES, make_baseline


def test_zero_is_the_network_s_zero_input() -> None:
    assert not make_baseline("zero", torch.ones(2, 3, 4, 4)).any()


def test_mean_is_the_colour_of_each_image_by_itself() -> None:
    """A channel of 0, 0, 0 and 4 has the mean 1; the other image's is its own."""
    batch = torch.tensor([[[[0.0, 0.0], [0.0, 4.0]]], [[[6.0, 6.0], [6.0, 6.0]]]])
    assert make_baseline("mean", batch).tolist() == [[[[1, 1], [1, 1]]], [[[6, 6], [6, 6]]]]


def test_blur_is_a_box_twice_with_edges_repeated() -> None:
    """A side of 16 makes a box of 3. One pixel of 81: (1, 2, 3, 2, 1) across and down, over 81."""
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 8, 8] = 81
    expected = torch.zeros(16, 16)
    tent = torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0])
    expected[6:11, 6:11] = tent[:, None] * tent
    torch.testing.assert_close(make_baseline("blur", image)[0, 0], expected)
    # an even image stays as it is, also at its edges
    torch.testing.assert_close(make_baseline("blur", image * 0 + 5), image * 0 + 5)


@pytest.mark.parametrize("name", BASELINES)
def test_the_image_stays_as_it_was(name: str) -> None:
    image = torch.rand(1, 3, 16, 16)
    before = image.clone()
    make_baseline(name, image).add_(1)
    assert torch.equal(image, before)


def test_another_name_is_refused() -> None:
    with pytest.raises(OptionError, match=r"baseline must be one of .*, got 'blurr'") as caught:
        make_baseline("blurr", torch.zeros(1, 3, 4, 4))
    assert "blur" in caught.value.hint
