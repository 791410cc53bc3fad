from cvx_core.testing.conformance import RendererConformance


class TestHtml(RendererConformance):
    component = "html"
