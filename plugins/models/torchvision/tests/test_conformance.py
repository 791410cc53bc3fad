from cvx_core.testing.conformance import ModelSourceConformance


class TestTorchvision(ModelSourceConformance):
    component = "torchvision"
    model = "resnet18"


class TestTorchvisionDetector(ModelSourceConformance):
    component = "torchvision"
    model = "ssdlite320_mobilenet_v3_large"


class TestTorchvisionSegmenter(ModelSourceConformance):
    component = "torchvision"
    model = "lraspp_mobilenet_v3_large"
