import pytest

from cvx_core.testing.conformance import ModelSourceConformance

pytest.importorskip("ultralytics", reason="AGPL-3.0: whoever wants it installs it")


class TestUltralytics(ModelSourceConformance):
    component = "ultralytics"
    model = "yolov8n.yaml"


class TestWithoutSuppression(ModelSourceConformance):
    component = "ultralytics"
    model = "yolo26n.yaml"


class TestClassifier(ModelSourceConformance):
    component = "ultralytics"
    model = "yolo26n-cls.yaml"
