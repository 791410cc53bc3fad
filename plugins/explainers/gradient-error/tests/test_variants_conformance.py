from typing import ClassVar

import pytest

from cvx_core.testing.conformance import ExplainerConformance


class TestSaliency(ExplainerConformance):
    component = "saliency"


class TestInputXGradient(ExplainerConformance):
    component = "input-x-gradient"


class TestIntegratedGradients(ExplainerConformance):
    component = "integrated-gradients"
    parameters: ClassVar = {"steps": 8}


class TestSmoothGrad(ExplainerConformance):
    component = "smoothgrad"
    parameters: ClassVar = {"copies": 3}


class TestSignedSmoothGrad(ExplainerConformance):
    component = "smoothgrad"
    parameters: ClassVar = {"copies": 3, "output": "signed"}


@pytest.mark.filterwarnings("ignore:.*fails sanity checks")
class TestGuidedBackprop(ExplainerConformance):
    component = "guided-backprop"
    networks = ("convolutional",)


@pytest.mark.filterwarnings("ignore:.*fails sanity checks")
class TestDeconvnet(ExplainerConformance):
    component = "deconvnet"
    networks = ("convolutional",)
