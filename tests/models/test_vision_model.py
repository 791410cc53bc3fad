"""What a model makes of images that are given as tensors."""

from __future__ import annotations

import hashlib

from cvx_core.testing import models


def test_the_digest_of_a_tensor_is_of_all_its_values() -> None:
    x = models.inputs(2)
    one, two = models.convolutional().prepare(x)
    assert one.source.digest == hashlib.sha256(x[0].numpy().tobytes()).hexdigest()
    assert two.source.digest == hashlib.sha256(x[1].numpy().tobytes()).hexdigest()
    # The order of values in memory is not their order in the tensor.
    [other] = models.convolutional().prepare(x[0].mT.contiguous().mT)
    assert other.source.digest == one.source.digest
