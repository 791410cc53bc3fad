from importlib.util import find_spec

import pytest

from cvx_core.testing.conformance import ModelSourceConformance

pytestmark = pytest.mark.skipif(
    find_spec("ultralytics") is None, reason="AGPL-3.0: whoever wants it installs it"
)


class TestUltralytics(ModelSourceConformance):
    component = "ultralytics"
    model = "yolov8n.yaml"


class TestWithoutSuppression(ModelSourceConformance):
    component = "ultralytics"
    model = "yolo26n.yaml"


class TestClassifier(ModelSourceConformance):
    component = "ultralytics"
    model = "yolo26n-cls.yaml"
