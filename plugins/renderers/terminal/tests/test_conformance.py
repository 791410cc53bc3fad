from cvx_core.testing.conformance import RendererConformance


class TestTerminal(RendererConformance):
    component = "terminal"
