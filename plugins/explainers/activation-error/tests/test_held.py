"""Where the signal itself goes through what is held, the evidence names it, or the error does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core import ClassScore, Explanation, MethodError, VisionModel, get_explainer

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.5


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def around(function: Callable[[Tensor], Tensor], channels: int = 4) -> nn.Module:
    """Convolution, function, mean and linear layer: linear behind the function."""
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {
        "stem": nn.Conv2d(3, 4, 3),
        "middle": Function(function),
        "mean": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "head": nn.Linear(channels, 3),
    }
    net = nn.Sequential()
    for name, layer in layers.items():
        net.add_module(name, layer)
    return net.double().eval()


def of(net: nn.Module, method: str = "activation-error") -> list[Explanation]:
    model = VisionModel(net)
    rule = {"rule": "frozen"} if method == "activation-error" else {}
    explainer = get_explainer(method, layer="input", **rule)
    return explainer.explain(model, IMAGES.double(), ClassScore(0))


def spread(x: Tensor) -> Tensor:
    return x.std(1, keepdim=True)


ADDED: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    # What the network computes, and what of it is signal that is held.
    "softplus": (lambda x: x + F.softplus(x), F.softplus),
    "sigmoid": (lambda x: x - 3 * x.sigmoid(), lambda x: -3 * x.sigmoid()),
    "exp": (lambda x: x.clone().add_(x.exp(), alpha=2), lambda x: 2 * x.exp()),
    "logsumexp": (
        lambda x: x - x.logsumexp(1, keepdim=True),
        lambda x: -x.logsumexp(1, keepdim=True).expand_as(x),
    ),
    "std": (lambda x: x + spread(x).mT.mT, lambda x: spread(x).expand_as(x)),
    "log_softmax": (
        lambda x: F.log_softmax(x, 1),
        lambda x: -x.logsumexp(1, keepdim=True).expand_as(x),
    ),
    "cos": (lambda x: torch.where(x > 0, x, x.cos()), lambda x: torch.where(x > 0, 0, x.cos())),
}


@pytest.mark.parametrize("name", ADDED)
def test_signal_that_is_held_is_named_with_what_it_carries(name: str) -> None:
    """Behind the function all is linear: it carries the head's weights times its mean."""
    function, part = ADDED[name]
    net = around(function)
    stem, head = net.get_submodule("stem"), net.get_submodule("head")
    with torch.no_grad():
        expected = part(stem(IMAGES.double())).mean((2, 3)) @ head.weight[0]
    for one, carried in zip(of(net), expected.tolist(), strict=True):
        [row] = one.evidence["held"]
        assert (row["module"], row["function"]) == ("middle", name)
        assert row["carries"] == pytest.approx(carried, rel=1e-9)
        assert one.evidence["residual"] < 1e-12
        assert "unconserved" not in one.evidence


def test_what_is_joined_to_the_signal_counts_alone_and_not_the_constants_beside_it() -> None:
    net = around(lambda x: torch.cat([x, spread(x), torch.ones_like(x[:, :1])], 1), channels=6)
    stem, head = net.get_submodule("stem"), net.get_submodule("head")
    with torch.no_grad():
        expected = spread(stem(IMAGES.double())).mean((1, 2, 3)) * head.weight[0, 4]
    for one, carried in zip(of(net), expected.tolist(), strict=True):
        [row] = one.evidence["held"]
        assert row["carries"] == pytest.approx(carried, rel=1e-9)


def test_two_functions_are_two_rows_the_larger_first() -> None:
    [one, _] = of(around(lambda x: x + 9 * F.softplus(x) - x.sigmoid()))
    rows = one.evidence["held"]
    assert {row["function"] for row in rows} == {"softplus", "sigmoid"}
    assert abs(rows[0]["carries"]) >= abs(rows[1]["carries"])


def test_what_is_added_before_it_meets_the_signal_names_both() -> None:
    [one, _] = of(around(lambda x: x + (F.softplus(x) + x.sigmoid())))
    [row] = one.evidence["held"]
    assert row["function"] == "softplus, sigmoid"


def test_a_module_of_the_network_s_own_is_called_by_its_class() -> None:
    class Own(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + F.softplus(x))

    [one, _] = of(Own(around(lambda x: x)))
    assert one.evidence["held"][0]["module"] == "Own, outside its modules"


@pytest.mark.parametrize(
    "function",
    [
        torch.tanh,
        lambda x: x.pow(2),
        lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
        lambda x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True),
        lambda x: x * (x > 0),
        lambda x: x / (1 + torch.exp(-x)),
        lambda x: torch.softmax(x, 1) * x,
    ],
)
def test_a_gate_and_a_scale_are_no_signal(function: Callable[[Tensor], Tensor]) -> None:
    """Nor is anything run that would tell: one forward pass and one replay."""
    for one in of(around(function)):
        assert "held" not in one.evidence
        assert one.evidence["forwards"] == 2


ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "softplus": F.softplus,
    "sigmoid": lambda x: x.sigmoid_(),
    "exp": torch.exp,
    "logsumexp": lambda x: x.logsumexp(1, keepdim=True),
    "std": spread,
}


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("method", ["activation-error", "lrp-epsilon"])
def test_where_nothing_is_left_the_error_names_function_and_module(method: str, name: str) -> None:
    channels = 1 if name in ("logsumexp", "std") else 4
    with pytest.raises(MethodError, match=f"ends in frozen functions, {name} in middle") as refused:
        of(around(ENDS[name], channels), method)
    assert "own gradient" in str(refused.value), "the way out"


def test_a_sigmoid_in_place_gates_as_any_other() -> None:
    """It must not halve what it is multiplied with."""

    def in_place(x: Tensor) -> Tensor:
        gate = x.mean((2, 3), keepdim=True)
        return x * gate.sigmoid_()

    [one, _], [other, _] = (
        of(around(f)) for f in (in_place, lambda x: x * x.mean((2, 3), keepdim=True).sigmoid())
    )
    assert (one.values == other.values).all()
    assert one.evidence["constant_part"] == other.evidence["constant_part"]
