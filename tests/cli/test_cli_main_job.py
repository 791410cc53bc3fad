"""The main job: real photographs, the real network, the four methods, real renderers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from cvx_core import load_explanations

if TYPE_CHECKING:
    from conftest import Cvx

METHODS = {
    "class-attention": ".predicted",
    "location-attention": "",  # the same whatever is asked
    "gradient-error": ".margin",
    "activation-error": ".margin",
}


def test_one_command_explains_a_photograph_with_all_four_methods(
    cvx: Cvx, photo: Callable[[str], Path]
) -> None:
    done = cvx("explain", photo("screwDriver3"), "--label", "screwdriver")
    assert (done.code, done.out, done.traced) == (0, "cvx-out/index.html\n", False)
    folder = "screwDriver3-d3f78b4c"
    pictures = {f"{folder}/{method}{target}.png" for method, target in METHODS.items()}
    assert done.files == {"run.json", "index.html", *pictures}
    for picture in pictures:
        data = (cvx.folder / "cvx-out" / picture).read_bytes()
        assert np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).std() > 10
    page = (cvx.folder / "cvx-out/index.html").read_text("utf-8")
    for method in METHODS:
        assert f'"{method}"' in page
    assert "screwDriver3.jpg: power drill 89." in done.err
    assert "wrong; label: screwdriver 3." in done.err


def test_without_a_label_the_error_methods_are_left_out_with_a_hint(
    cvx: Cvx, photo: Callable[[str], Path]
) -> None:
    done = cvx("explain", photo("fish9"), "-r", "json:arrays=false")
    assert done.code == 0
    [image] = done.run["images"]
    assert [one["explainer"] for one in image["explanations"]] == [
        "class-attention",
        "location-attention",
    ]
    assert "Skipped gradient-error and activation-error: ground truth required." in done.err
    assert "--label" in done.err
    assert image["prediction"]["predicted"]["name"] == "anemone fish"


def test_an_error_method_by_name_without_a_label_is_a_usage_error(
    cvx: Cvx, photo: Callable[[str], Path]
) -> None:
    done = cvx("explain", photo("fish9"), "-e", "gradient-error")
    assert (done.code, done.files) == (2, set())
    assert "gradient-error requires ground truth" in done.err


def test_an_unknown_class_of_a_thousand_suggests_the_nearest(
    cvx: Cvx, photo: Callable[[str], Path]
) -> None:
    done = cvx("explain", photo("fish9"), "-t", "anemone fihs")
    assert (done.code, done.files) == (2, set())
    assert "Did you mean 'anemone fish'" in done.err


def test_a_layer_that_is_not_there_is_said_once_and_ends_the_run(
    cvx: Cvx, photo: Callable[[str], Path]
) -> None:
    done = cvx("explain", photo("fish9"), photo("hammer7"), "-e", "class-attention:layer=blokcs.6")
    assert (done.code, done.traced) == (5, False)
    assert "blocks.6" in done.err
    assert [image["status"] for image in done.run["images"]] == ["failed", "pending"]


def test_saved_explanations_are_drawn_again_without_the_model(
    cvx: Cvx, photo: Callable[[str], Path]
) -> None:
    arguments = ["explain", photo("cathedral"), "--label", "church", "-e", "activation-error"]
    arguments += ["-e", "location-attention"]
    first = cvx(*arguments, "-r", "npz", "-r", "figure")
    saved = cvx.folder / "cvx-out/explanations.npz"
    explanation, _ = load_explanations(saved)
    assert explanation.target.predicted.name == "monastery"
    again = cvx("render", saved, "-r", "html", "-r", "figure", "-o", "again")
    assert (first.code, again.code, again.out) == (0, 0, "again/index.html\n")
    for name in ("activation-error.margin.png", "location-attention.png"):
        one, other = (
            cvx.folder / run / "cathedral-e5d6b75d" / name for run in ("cvx-out", "again")
        )
        assert one.read_bytes() == other.read_bytes()


def test_render_refuses_what_is_there_and_what_is_no_archive(cvx: Cvx) -> None:
    cvx.explain("red.png", "-r", "npz")
    saved = cvx.folder / "cvx-out/explanations.npz"
    assert cvx("render", saved, "-r", "stub-page", "-o", "again").code == 0
    page = cvx.folder / "again/index.html"
    page.write_text("mine")
    refused = cvx("render", saved, "-r", "stub-page", "-o", "again")
    assert (refused.code, page.read_text()) == (2, "mine")
    some = cvx("render", "red.png", saved, "-r", "stub-page", "-o", "again", "--force")
    assert (some.code, some.traced, page.read_text()) == (
        4,
        False,
        "red.png stub-any: why red fox?",
    )
    assert cvx("render", "red.png", "-r", "stub-page", "-o", "new").code == 3


@pytest.mark.parametrize("source", ["embedded", "torchvision"])
def test_models_lists_the_models_of_a_source(cvx: Cvx, source: str) -> None:
    done = cvx("models", source)
    assert done.code == 0
    assert all(line.startswith(f"{source}:") for line in done.out.splitlines())
    listed = json.loads(cvx("models", source, "--json").out)["models"]
    assert len(listed) == len(done.out.splitlines())
    assert {one["source"] for one in listed} == {source}


def test_models_without_a_source_lists_the_sources_and_a_wrong_one_suggests(cvx: Cvx) -> None:
    done = cvx("models")
    assert done.code == 0
    assert {line.split()[0] for line in done.out.splitlines()} >= {"embedded", "torchvision"}
    wrong = cvx("models", "torchvison")
    assert (wrong.code, wrong.out) == (6, "")
    assert "'torchvision'" in wrong.err


def test_random_weights_are_said_before_the_answers(cvx: Cvx, photo: Callable[[str], Path]) -> None:
    arguments = ["explain", photo("fish9"), "-e", "class-attention", "-r", "stub-map"]
    done = cvx(*arguments, "--weights", "random")
    assert done.code == 0
    assert "embedded:efficientnet-lite0 has random weights" in done.err.partition("fish9.jpg:")[0]
    assert "random" not in cvx(*arguments, "--force").err
