from cvx_core.testing.conformance import RendererConformance


class TestFigure(RendererConformance):
    component = "figure"
