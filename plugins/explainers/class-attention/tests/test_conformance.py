from cvx_core.testing.conformance import ExplainerConformance


class TestClassAttention(ExplainerConformance):
    component = "class-attention"
