"""The public names: frozen on purpose, each documented, none imported before it is used."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import cvx_core

PUBLIC = [
    "Artifact",
    "Attribution",
    "Box",
    "BoxMistake",
    "BoxScore",
    "Check",
    "CheckpointError",
    "ClassEntry",
    "ClassScore",
    "ClassificationPrediction",
    "Comparison",
    "Component",
    "ComponentScore",
    "ConflictError",
    "Contrast",
    "CvxError",
    "CvxWarning",
    "Detection",
    "DetectionCandidates",
    "DetectionPrediction",
    "Distribution",
    "Error",
    "ExplainRequest",
    "Explainer",
    "Explanation",
    "Explanations",
    "Frame",
    "GroundTruthBox",
    "GroundTruthBoxes",
    "GroundTruthMask",
    "InputError",
    "Judgement",
    "Kind",
    "LayerError",
    "Lost",
    "Margin",
    "MaskRegion",
    "Metadata",
    "MethodError",
    "Missed",
    "Mistake",
    "MistakeTarget",
    "ModelEntry",
    "ModelError",
    "ModelSource",
    "OptionError",
    "OutputError",
    "PixelMistake",
    "PixelScore",
    "PluginError",
    "Polygon",
    "Predicted",
    "Prediction",
    "Preprocess",
    "Recording",
    "Region",
    "RegionScore",
    "Renderer",
    "Requirements",
    "SegmentationPrediction",
    "Target",
    "TargetError",
    "TargetRecord",
    "UnknownComponentError",
    "UsageError",
    "VisionModel",
    "__version__",
    "compare",
    "contrast",
    "did_you_mean",
    "explain",
    "find_mistakes",
    "get_component",
    "get_explainer",
    "get_renderer",
    "get_task",
    "hookimpl",
    "install_command",
    "is_file",
    "iter_explain",
    "layers",
    "list_models",
    "load_explanations",
    "load_model",
    "lost_stage",
    "mean",
    "parse_target",
    "printable",
    "product",
    "read_bytes",
    "read_ground_truth",
    "read_mask",
    "read_text",
    "rectify",
    "register",
    "segmentation_mistakes",
    "smooth",
    "without_stage",
    "wrap",
    "write_atomic",
]


def test_the_public_names_change_only_on_purpose() -> None:
    assert sorted(cvx_core.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_importable_and_documented(name: str) -> None:
    thing = getattr(cvx_core, name)
    assert getattr(cvx_core, name) is thing
    if inspect.isclass(thing) or inspect.isfunction(thing):
        own = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
        assert own
        assert not own.startswith(f"{name}("), "the generated signature is no documentation"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_method_is_documented(name: str) -> None:
    thing = getattr(cvx_core, name)
    if inspect.isclass(thing):
        for method, function in inspect.getmembers(thing, inspect.isfunction):
            if not method.startswith("_") and function.__module__.startswith("cvx_core"):
                assert inspect.getdoc(function), f"{name}.{method}"


def test_dir_offers_the_public_names_before_they_are_used() -> None:
    assert set(PUBLIC) <= set(dir(cvx_core))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = cvx_core.nonsense


@pytest.mark.parametrize(
    ("name", "light"),
    [("Component", True), ("hookimpl", True), ("UsageError", True), ("VisionModel", False)],
)
def test_a_name_is_imported_when_it_is_used_and_not_before(name: str, light: bool) -> None:
    code = (
        "import sys, cvx_core\n"
        "assert 'torch' not in sys.modules\n"
        f"cvx_core.{name}\n"
        "print('torch' not in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(light)


@pytest.mark.parametrize("name", ["diagnose", "score", "why"])
def test_the_function_of_a_command_is_typed(name: str) -> None:
    stub = ast.parse(Path(cvx_core.__file__).with_suffix(".pyi").read_text())
    assigned = [ast.unparse(one) for one in stub.body if isinstance(one, ast.Assign)]
    assert f"{name} = _{name}.{name}" in assigned


@pytest.mark.parametrize("name", ["diagnose", "score", "why"])
def test_the_function_of_a_command_is_offered_without_the_command_line(name: str) -> None:
    code = (
        "import sys, cvx_core\n"
        f"assert {name!r} in dir(cvx_core)\n"
        f"assert cvx_core.{name}.__name__ == {name!r}\n"
        "print([m for m in sys.modules if m == 'click' or m.startswith('cvx_core.cli')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_failure_in_our_tree_names_its_exit_code() -> None:
    from cvx_core.errors import CvxError

    def below(error: type[CvxError]) -> list[type[CvxError]]:
        return [error, *(e for child in error.__subclasses__() for e in below(child))]

    codes = {error.__name__: error.exit_code for error in below(CvxError)}
    assert codes["CvxError"] == codes["OutputError"] == 1
    assert {codes[n] for n in ("UsageError", "OptionError", "TargetError", "MethodError")} == {2}
    assert codes["InputError"] == 3
    assert {codes[n] for n in ("ModelError", "CheckpointError", "LayerError")} == {5}
    assert {codes[n] for n in ("PluginError", "UnknownComponentError", "ConflictError")} == {6}
