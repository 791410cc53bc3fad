from typing import ClassVar

from cvx_core.testing.conformance import ExplainerConformance


class TestActivationError(ExplainerConformance):
    component = "activation-error"


class TestLrpEpsilon(ExplainerConformance):
    component = "lrp-epsilon"


class TestLrpGamma(ExplainerConformance):
    component = "lrp-gamma"


class TestLrpZPlus(ExplainerConformance):
    component = "lrp-z-plus"


class TestLrpAlphaBeta(ExplainerConformance):
    component = "lrp-alpha-beta"


class TestLrpFlat(ExplainerConformance):
    component = "lrp-flat"


class TestEpsilonPlus(ExplainerConformance):
    component = "epsilon-plus"


class TestEpsilonPlusFlat(ExplainerConformance):
    component = "epsilon-plus-flat"


class TestEpsilonAlpha2Beta1(ExplainerConformance):
    component = "epsilon-alpha2-beta1"


class TestEpsilonAlpha2Beta1Flat(ExplainerConformance):
    component = "epsilon-alpha2-beta1-flat"


class TestEpsilonGammaBox(ExplainerConformance):
    component = "epsilon-gamma-box"
    parameters: ClassVar = {"low": 0.0, "high": 3.0}


class TestActivationPatching(ExplainerConformance):
    component = "activation-patching"


class TestDeepLift(ExplainerConformance):
    component = "deep-lift"


class TestExcitationBackprop(ExplainerConformance):
    component = "excitation-backprop"


class TestContrastiveExcitationBackprop(ExplainerConformance):
    component = "contrastive-excitation-backprop"


class TestAttnLrp(ExplainerConformance):
    component = "attn-lrp"


class TestCpLrp(ExplainerConformance):
    component = "cp-lrp"
