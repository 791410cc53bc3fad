from cvx_core.testing.conformance import ExplainerConformance


class TestLocationAttention(ExplainerConformance):
    component = "location-attention"
