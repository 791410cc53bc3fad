from cvx_core.testing.conformance import ModelSourceConformance


class TestEmbedded(ModelSourceConformance):
    component = "embedded"
    model = ""
