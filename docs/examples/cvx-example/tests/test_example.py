"""Conformance of each component, and what it computes."""

import numpy as np
import pytest
import torch
from cvx_engine import Listener
from cvx_engine.testing.conformance import EngineConformance
from cvx_engine.testing.sample_work import SampleWork
from cvx_example.count import CountPrediction
from cvx_example.markdown import Markdown
from cvx_example.norm_grad import NormGrad
from cvx_example.random_order import RandomOrder
from cvx_example.smooth_relu import SmoothRelu
from cvx_example.stability import Stability
from PIL import Image
from torch import nn

import cvx_core as cvx
from cvx_core import explainers
from cvx_core.cli import main
from cvx_core.testing import models
from cvx_core.testing.conformance import (
    CheckConformance,
    CommandConformance,
    ExplainerConformance,
    ModelSourceConformance,
    RendererConformance,
    TaskConformance,
)
from cvx_core.testing.samples import sample_explanation


class TestNormGrad(ExplainerConformance):
    component = "norm-grad"


class TestSmoothRelu(ExplainerConformance):
    component = "smooth-relu"


class TestMarkdown(RendererConformance):
    component = "markdown"


class TestColors(ModelSourceConformance):
    component = "colors"
    model = "mean"


class TestCount(TaskConformance):
    component = "count"
    label = 50.0
    label_text = "50"

    def model(self):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
        net = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(8, 1, 1)).eval()
        return cvx.VisionModel(net, task="count")


class TestRunnerUp(CommandConformance):
    component = "runner-up"
    arguments = ("photo.png", "-m", "colors:mean", "-o", "out")


class TestRandomOrder(EngineConformance):
    component = "random-order"


class TestStability(CheckConformance):
    component = "stability"


@pytest.fixture
def dots(tmp_path):
    """An image with two red dots of 8 x 8 pixels."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[8:16, 8:16, 0] = pixels[40:48, 16:24, 0] = 255
    path = tmp_path / "dots.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def test_norm_grad_is_the_product_of_the_norms(dots):
    model = cvx.load_model("colors:mean")
    [found] = NormGrad("0").explain(model, dots, cvx.ClassScore("red"))
    # The gradient of a mean over 64 x 64 positions; a red position has the activation 1.
    assert found.values[8, 8] == pytest.approx(1 / 64**2)
    assert found.values[0, 0] == 0


def test_the_derivative_of_relu_is_a_sigmoid():
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4, 2, bias=False))
    x = torch.tensor([[[[-1.0, 0.0], [0.5, 2.0]]]])
    [found] = SmoothRelu(beta=2.0).explain(cvx.VisionModel(net), x.clone(), cvx.ClassScore(0))
    weight = net[2].weight[0].detach().reshape(2, 2)
    expected = x[0, 0] * weight * torch.sigmoid(2 * x[0, 0])
    np.testing.assert_allclose(found.values, expected.numpy(), rtol=1e-6)


def test_a_table_has_a_row_for_each_map_and_escapes_names():
    one = sample_explanation().replace(name="a|b.png")
    lines = Markdown().render([one, one]).text().splitlines()
    assert len(lines) == 4
    assert lines[2] == lines[3]
    assert lines[2].startswith(r"| a\|b.png | ")


def test_the_model_counts_dots(dots):
    [found] = cvx.load_model("colors:dots").predict(dots)
    assert found.total == pytest.approx(2.0)


def test_a_count_that_rounds_to_the_right_one_is_no_mistake():
    prediction = CountPrediction(np.array([[1.2, 0.0], [0.9, 0.0]]))
    assert cvx.find_mistakes(prediction, 2) == []
    [mistake] = cvx.find_mistakes(prediction, 4)
    assert mistake.type == "too few"
    assert mistake.margin == pytest.approx(1.9)
    seed, record = prediction.resolve(cvx.Margin(), 4)
    assert seed.tolist() == [-1.0] * 4
    assert record.score == pytest.approx(-2.1)


def test_a_label_that_is_not_a_number_is_an_error():
    prediction = CountPrediction(np.ones((2, 2)))
    with pytest.raises(cvx.TargetError, match="a number of objects"):
        prediction.resolve(cvx.Error(), "many")


def test_the_second_class_is_the_runner_up(dots, tmp_path, capfd):
    options = ["-m", "colors:mean", "-r", "markdown", "-o", str(tmp_path / "out")]
    assert main(["runner-up", dots, *options]) == 0
    assert capfd.readouterr().out.startswith(f"{dots}: red 34")
    table = (tmp_path / "out/explanations.md").read_text()
    assert "| why red rather than green? |" in table


def test_a_model_without_a_second_class_is_an_error(dots, capfd):
    assert main(["runner-up", dots, "-m", "colors:dots"]) == 2
    assert "has no second class" in capfd.readouterr().err


def test_the_order_of_the_blocks_depends_on_the_seed(tmp_path):
    class Order(Listener):
        def __init__(self):
            self.blocks = []

        def done(self, block, rows):
            self.blocks.append(block)

    orders = []
    for seed in (0, 0, 1):
        folder = tmp_path / str(len(orders))
        folder.mkdir()
        order = Order()
        RandomOrder(seed=seed, workers=1).run(SampleWork(folder, 60, {}), order)
        orders.append(order.blocks)
    first, same, other = orders
    assert first == same != other
    assert sorted(first) == sorted(other)


class Unstable(cvx.Explainer):
    """Values that change completely with the slightest change of the input."""

    def requirements(self):
        return cvx.Requirements("input")

    def attribute(self, request):
        recording = request.recording(self.requirements())
        values = torch.sin(1e6 * recording.activation("input").sum(1))
        return [cvx.Attribution(values) for _ in request.seeds(recording.logits)]


@pytest.mark.parametrize(
    ("explainer", "verdict"), [(SmoothRelu(), "passes"), (Unstable(), "fails")]
)
def test_a_map_that_changes_with_noise_fails(explainer, verdict):
    model, inputs = models.convolutional(), models.inputs(1)
    [found] = explainers.run(model, inputs, [explainer], checks=[Stability()])
    assert found.evidence["sanity"]["verdict"] == verdict
