from cvx_core.testing.conformance import ModelSourceConformance


class TestTimm(ModelSourceConformance):
    component = "timm"
    model = "resnet18"
