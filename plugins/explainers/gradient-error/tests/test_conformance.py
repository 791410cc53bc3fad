from cvx_core.testing.conformance import ExplainerConformance


class TestGradientError(ExplainerConformance):
    component = "gradient-error"
