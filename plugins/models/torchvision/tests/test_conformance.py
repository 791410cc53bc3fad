from cvx_core.testing.conformance import ModelSourceConformance


class TestTorchvision(ModelSourceConformance):
    component = "torchvision"
    model = "resnet18"
