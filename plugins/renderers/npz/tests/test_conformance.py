from cvx_core.testing.conformance import RendererConformance


class TestNpz(RendererConformance):
    component = "npz"
