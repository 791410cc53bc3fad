from cvx_core.testing.conformance import ModelSourceConformance


class TestEmbedded(ModelSourceConformance):
    component = "embedded"
    model = ""


class TestEmbeddedDetector(ModelSourceConformance):
    component = "embedded"
    model = "nanodet"


class TestEmbeddedSegmenter(ModelSourceConformance):
    component = "embedded"
    model = "selfie-segmenter"


class TestEmbeddedDense(ModelSourceConformance):
    component = "embedded"
    model = "efficientnet-lite0-dense"
