from cvx_core.testing.conformance import ExplainerConformance


class TestActivationError(ExplainerConformance):
    component = "activation-error"
