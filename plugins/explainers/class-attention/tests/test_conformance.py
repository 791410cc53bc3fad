from cvx_core.testing.conformance import ExplainerConformance


class TestClassAttention(ExplainerConformance):
    component = "class-attention"


class TestAgreement(ExplainerConformance):
    component = "class-attention"
    parameters = {"weighting": "agreement"}  # noqa: RUF012


class TestGradCam(ExplainerConformance):
    component = "grad-cam"


class TestGradCamPlusPlus(ExplainerConformance):
    component = "grad-cam-plus-plus"


class TestXGradCam(ExplainerConformance):
    component = "xgrad-cam"


class TestHiResCam(ExplainerConformance):
    component = "hires-cam"


class TestLayerCam(ExplainerConformance):
    component = "layer-cam"


class TestScoreCam(ExplainerConformance):
    component = "score-cam"


class TestAblationCam(ExplainerConformance):
    component = "ablation-cam"


class TestFullGrad(ExplainerConformance):
    component = "full-grad"


class TestFullGradSaliency(ExplainerConformance):
    component = "full-grad"
    parameters = {"output": "saliency"}  # noqa: RUF012


class TestGenericAttention(ExplainerConformance):
    component = "generic-attention"
    networks = ("tokens",)


class TestLeGrad(ExplainerConformance):
    component = "legrad"
    networks = ("tokens",)
