"""The planted benchmark: a small part of it always, the whole with ``-m planted``."""

from __future__ import annotations

import argparse
import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from cvx_score.measures import localization as places
from hypothesis import assume, given, strategies as st
from hypothesis.extra.numpy import arrays
from planted import defaults, networks, spread
from planted.causes import CAUSES, SPREAD
from planted.measures import hit, rank_accuracy, relevance_mass
from planted.methods import METHODS
from planted.scoring import Row, score
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]


def test_measures_of_a_map_that_is_worked_out_by_hand() -> None:
    cause = torch.zeros(4, 4, dtype=torch.bool)
    cause[0, :2] = True
    values = torch.zeros(4, 4)
    values[0, 0], values[0, 1], values[3, 3] = 2.0, 1.0, 3.0
    assert not hit(values, cause)
    assert relevance_mass(values, cause) == pytest.approx(0.5)
    # The two largest are those of the corner and of one of the cause's pixels.
    assert rank_accuracy(values, cause) == pytest.approx(0.5)
    assert hit(values, cause, tolerance=3)
    assert not hit(-values, cause, tolerance=3)


@given(
    # Few values, so that many are equal; a float32 holds their sums exactly.
    arrays(np.float32, (5, 7), elements=st.integers(-3, 6).map(float)),
    arrays(np.bool_, (5, 7)),
)
def test_measures_are_those_of_cvx_score(
    values: npt.NDArray[np.float32], cause: npt.NDArray[np.bool_]
) -> None:
    assume(cause.any() and values.max() > 0 and np.ptp(values) > 0)
    ours = torch.from_numpy(values), torch.from_numpy(cause)
    assert relevance_mass(*ours) == pytest.approx(places.relevance_mass(values, cause))
    assert rank_accuracy(*ours) == pytest.approx(places.rank_accuracy(values, cause))
    # Which of equal peaks is meant is left to each.
    if (values == values.max()).sum() == 1:
        assert hit(*ours) == places.pointing(values, cause, tolerance=0)


def test_figures_of_why_hold_for_its_code_and_others_for_ever() -> None:
    code = runpy.run_path(str(ROOT / "tests" / "planted" / "__main__.py"))["code"]
    assert len(code("cvx why")) == 12
    assert code("chance") == ""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have networks trained here."""
    before, networks.KEPT = networks.KEPT, tmp_path_factory.mktemp("networks")
    yield
    networks.KEPT = before


@pytest.fixture(scope="module")
def row(kept: None) -> Row:
    """What ``cvx why`` reaches on three pictures with the small network."""
    recipe = networks.RECIPES["cnn"]
    both = networks.pair(recipe, CAUSES[0])
    cases = networks.cases(both, recipe, CAUSES[0], 3, seed=5)
    return score(both, cases, {"cvx why": METHODS["cvx why"]})["cvx why"]


def test_why_finds_a_planted_patch_and_its_fix_within_the_budget(row: Row) -> None:
    assert row["cases"] == 3
    assert row["hit"] == 1
    assert row["verified"] == 1
    assert row["rank accuracy"] >= 0.9
    assert row["right after the fix"] == 1
    # The first of three cases takes nine more, for the analysis of the network.
    assert row["passes"] <= 20 + 9 / 3


def test_why_blames_nothing_in_the_twin_that_never_learned_it(row: Row) -> None:
    assert row["false alarm"] == 0
    assert row["false alarm, as asked"] == 0


@pytest.mark.parametrize("name", ["watermark", "quadrant"])
def test_why_finds_a_cause_that_is_spread_out_or_says_so(kept: None, name: str) -> None:
    [cause] = [one for one in SPREAD if one.name == name]
    row = spread.mean("cnn", cause, 3, seed=5)
    assert row["cases"] == 3
    assert row["found"] == 1
    assert row["peak"] == (name == "quadrant")


FAMILIES = {
    "class-attention": ("grad-cam", "grad-cam-plus-plus", "hires-cam", "layer-cam", "xgrad-cam"),
    "activation-error": (
        "activation-error:rule=frozen", "attn-lrp", "epsilon-alpha2-beta1", "epsilon-gamma-box",
        "epsilon-plus", "epsilon-plus-flat", "excitation-backprop", "full-grad", "lrp-alpha-beta",
        "lrp-epsilon", "lrp-flat", "lrp-gamma", "lrp-z-plus",
    ),
    "gradient-error": (
        "guided-backprop", "input-x-gradient", "integrated-gradients", "saliency", "smoothgrad",
    ),
}  # fmt: skip
"""Other members of the family of each default that take as many passes or fewer."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:.*fails sanity checks")
def test_no_other_member_of_a_family_is_better_than_its_default(kept: None) -> None:
    """Peaks and rank accuracies of the same cases, beyond chance."""
    names = [*FAMILIES, *(name for others in FAMILIES.values() for name in others)]
    asked = argparse.Namespace(
        networks=["cnn", "resnet"], causes=["patch"], methods=names, cases=12, seed=5, most=10**6
    )
    measured = dict(defaults.planted(asked))
    assert len(measured) == 2
    for title, rows in measured.items():
        for default, others in FAMILIES.items():
            for other in others:
                if other not in rows:  # not for this network
                    continue
                pairs = list(zip(rows[default], rows[other], strict=True))
                for measure in ("peak", "rank accuracy"):
                    gains = np.array([b[measure] - a[measure] for a, b in pairs])
                    told = f"{title}: {other} beside {default}, {measure} {gains.mean():+.2f}"
                    if gains.any():
                        better = stats.wilcoxon(gains, alternative="greater").pvalue
                        assert better > 0.05 / len(names), told


@pytest.mark.planted
@pytest.mark.timeout(0)
def test_the_whole_benchmark_meets_its_targets() -> None:
    subprocess.run([sys.executable, "tests/planted"], cwd=ROOT, check=True)
    of_real_networks = [
        json.loads(file.read_text())["cvx why"]
        for file in networks.KEPT.glob("scores-efficientnet-lite0-*.json")
    ]
    cases = sum(row["cases"] for row in of_real_networks)

    def mean(measure: str) -> float:
        return sum(row[measure] * row["cases"] for row in of_real_networks) / cases

    assert mean("hit, tolerant") >= 0.98
    assert mean("hit") >= 0.95
    assert mean("rank accuracy") >= 0.8
    assert mean("false alarm") <= 0.05
    assert mean("right after the fix") >= 0.98
    assert mean("passes") <= 20
