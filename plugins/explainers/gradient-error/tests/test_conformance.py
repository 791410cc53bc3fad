import numpy as np
import torch

from cvx_core import ClassScore
from cvx_core.testing import models
from cvx_core.testing.conformance import ExplainerConformance


class TestGradientError(ExplainerConformance):
    component = "gradient-error"

    def test_the_map_lies_on_what_the_prediction_reads(self) -> None:
        """Of one class; of a margin, the darkness of the rival's quarter is part of the reason."""
        model = models.quadrants().to(dtype=torch.float64)
        noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        for quarter in range(4):
            batch = torch.zeros(1, 3, 16, 16)
            top, left = 8 * (quarter // 2), 8 * (quarter % 2)
            batch[:, :, top : top + 8, left : left + 8] = 0.5 + noise
            [one] = self.explain(model, batch, ClassScore(quarter))
            shares = np.abs(one.heatmap((2, 2)))
            assert shares.ravel()[quarter] > 0.5 * shares.sum()


class TestTheRawGradient(ExplainerConformance):
    component = "gradient-error"
    parameters = {"steps": 1}  # noqa: RUF012
