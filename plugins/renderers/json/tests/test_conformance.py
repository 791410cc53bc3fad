from cvx_core.testing.conformance import RendererConformance


class TestJson(RendererConformance):
    component = "json"
