"""``cvx explain``: what it asks, where it writes, and what one failure costs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dispositions import reset_signals
from PIL import Image

if TYPE_CHECKING:
    from conftest import Cvx

HERE = Path(__file__).parent
LITTLE = str(HERE / "little.py")


def folder_of(path: Path) -> str:
    return f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"


def test_each_image_gets_a_folder_named_by_stem_and_content(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "green.png", "-r", "stub-map", "-r", "stub-page")
    assert (done.code, done.traced) == (0, False)
    red, green = (folder_of(cvx.folder / name) for name in ("red.png", "green.png"))
    assert done.files == {
        "run.json",
        "index.html",
        f"{red}/stub-any.predicted.map",
        f"{green}/stub-any.predicted.map",
    }
    assert (cvx.folder / "cvx-out/index.html").read_text().splitlines() == [
        "red.png stub-any: why red fox?",
        "green.png stub-any: why green mamba?",
    ]


def test_a_composition_is_an_explainer(cvx: Cvx) -> None:
    text = "mean(saliency, smooth(saliency, n=2))"
    chosen = ["-m", f"{LITTLE}:make", "-e", text, "-r", "json", "-r", "figure"]
    done = cvx("explain", "red.png", *chosen)
    assert done.code == 0, done.err
    assert done.run["arguments"]["explainers"] == [text]
    [figure] = [name for name in done.files if name.endswith(".png")]
    assert Path(figure).name.startswith("mean-saliency-smooth-saliency-n-2")
    [file] = [name for name in done.files - {"run.json"} if name.endswith(".json")]
    document = json.loads((done.folder / "cvx-out" / file).read_text())
    parameters = document["explanations"][0]["provenance"]["parameters"]
    assert [part["method"] for part in parameters["parts"]] == ["saliency", "smooth(saliency)"]
    assert parameters["parts"][1]["parts"][0]["method"] == "saliency"


def test_standard_output_names_the_page_to_open_and_nothing_else(cvx: Cvx) -> None:
    done = cvx.explain("red.png")
    assert done.out == "cvx-out/index.html\n"
    assert "red.png: red fox" in done.err


def test_without_a_page_every_picture_is_named(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "-r", "stub-map")
    assert done.out == f"cvx-out/{folder_of(cvx.folder / 'red.png')}/stub-any.predicted.map\n"


def test_a_page_of_plain_text_is_printed(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "-r", "stub-text")
    assert done.out == "red.png stub-any: why red fox?\n"
    assert "explanations.txt" in done.files


def test_json_prints_the_run_document_and_quiet_says_nothing(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "--label", "red fox", "--json", "--quiet", "--seed", "7")
    assert json.loads(done.out) == done.run
    assert done.err == "imported with a bang\n"
    run = done.run
    assert (run["schema"], run["status"]) == ("cvx.run/2", "finished")
    assert run["arguments"]["seed"] == 7
    assert run["versions"]["plugins"] == {"cvx-stub": "1.0"}
    assert len(run["model"]["weights_sha256"]) == 16
    [image] = run["images"]
    assert image["status"] == "explained"
    assert image["seconds"] > 0
    assert image["prediction"]["predicted"]["name"] == "red fox"
    assert image["prediction"]["correct"] is True
    [explanation] = image["explanations"]
    assert explanation["files"] == [f"{image['folder']}/stub-any.predicted.map"]
    assert set(run["files"]) == done.files


def test_one_unreadable_image_costs_that_image_alone(cvx: Cvx) -> None:
    done = cvx.explain("broken.png", "red.png", "missing.png", "empty.png")
    assert (done.code, done.traced) == (4, False)
    for name in ("broken.png is", "File not found: missing.png", "empty.png is empty"):
        assert name in done.err
    assert [image["status"] for image in done.run["images"]] == [
        "unreadable",
        "explained",
        "unreadable",
        "unreadable",
    ]
    assert done.run["images"][2]["failures"][0]["kind"] == "InputError"


@pytest.mark.parametrize("names", [["missing.png"], ["broken.png", "empty.png"]])
def test_no_readable_image_is_exit_code_3(cvx: Cvx, names: list[str]) -> None:
    done = cvx.explain(*names)
    assert (done.code, done.out, done.traced) == (3, "", False)


def test_an_explainer_that_fails_on_one_image_costs_that_map_alone(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "dark.png", "-e", "stub-any", "-e", "stub-dark")
    assert (done.code, done.traced) == (4, False)
    red, dark = done.run["images"]
    assert (red["status"], dark["status"]) == ("explained", "partly")
    assert [one["explainer"] for one in dark["explanations"]] == ["stub-any"]
    [failure] = dark["failures"]
    assert (failure["part"], failure["exit_code"]) == ("explainer", 6)
    assert "too dark\\x1b[31m to see" in done.err
    assert "ZeroDivisionError" in done.err


def test_a_method_without_an_answer_is_asked_once_and_is_a_usage_error(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "green.png", "-e", "stub-never")
    assert (done.code, done.err.count("has no answer"), done.err.count("asked")) == (2, 1, 1)
    assert done.run["status"] == "failed"


def test_a_method_without_an_answer_leaves_the_others_theirs(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "green.png", "dark.png", "-e", "stub-never", "-e", "stub-any")
    assert done.code == 4
    assert [image["status"] for image in done.run["images"]] == ["partly"] * 3
    # On the first image only: together with the other, and then alone to find out who failed.
    assert done.err.count("asked") == 2


def test_a_renderer_that_fails_costs_its_pictures_alone(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "-r", "stub-breaks", "-r", "stub-page")
    assert (done.code, done.traced) == (6, False)
    assert "The renderer Breaks failed: RuntimeError: no ink" in done.err
    assert done.files == {"run.json", "index.html"}


def test_a_renderer_can_not_leave_the_folder(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "-r", "stub-escapes")
    assert done.code == 6
    assert done.files == {"run.json"}
    assert not (cvx.folder / "escaped.txt").exists()


@pytest.mark.parametrize(
    ("factory", "said"),
    [("broken", "no weights today"), ("stubborn", "shapes do not match"), ("maek", "'make'")],
)
def test_a_model_that_fails_is_exit_code_5(cvx: Cvx, factory: str, said: str) -> None:
    done = cvx.explain("red.png", "-m", f"{LITTLE}:{factory}")
    assert (done.code, done.traced) == (5, False)
    assert said in done.err


def test_targets_are_asked_once_each_and_their_names_are_in_the_files(cvx: Cvx) -> None:
    targets = ["green mamba", "1", "red fox vs 2", "distribution"]
    done = cvx.explain("red.png", *(word for text in targets for word in ("-t", text)))
    assert {Path(file).name for file in done.files} == {
        "run.json",
        "index.html",
        "stub-any.class-green-mamba.map",
        "stub-any.contrast-red-fox-vs-blue-jay.map",
        "stub-any.distribution.map",
    }


def test_a_map_that_is_the_same_for_every_target_is_drawn_once(cvx: Cvx) -> None:
    done = cvx.explain(
        "red.png", "-t", "0", "-t", "1", "-e", "stub-same", "-e", "stub-any", "-r", "stub-map"
    )
    assert done.code == 0, done.err
    names = sorted(Path(file).name for file in done.files if file.endswith(".map"))
    assert names == [
        "stub-any.class-green-mamba.map",
        "stub-any.class-red-fox.map",
        "stub-same.map",
    ]
    assert "stub-same does not depend on the target and is drawn once." in done.err


def test_one_explainer_with_two_parameters_writes_side_by_side(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "-e", "stub-any", "-e", "stub-any:gain=2")
    assert {Path(file).name for file in done.files if file.endswith(".map")} == {
        "stub-any.predicted.map",
        "stub-any-gain-2.predicted.map",
    }
    assert "stub-any:gain=2: why" in (cvx.folder / "cvx-out/index.html").read_text()


@pytest.mark.parametrize("arguments", [["-e", "stub-label"], ["-t", "error"], ["-t", "margin"]])
def test_a_question_about_the_error_needs_the_label(cvx: Cvx, arguments: list[str]) -> None:
    done = cvx.explain("red.png", *arguments)
    assert (done.code, done.traced, done.files) == (2, False, set())
    assert "--label" in done.err


def test_labels_are_given_once_or_once_for_each_image(cvx: Cvx) -> None:
    both = ["red.png", "green.png", "-e", "stub-label"]
    done = cvx.explain(*both, "--label", "blue jay")
    assert [image["label"] for image in done.run["images"]] == ["blue jay"] * 2
    done = cvx.explain(*both, "--label", "blue jay", "--label", "red fox", "--force")
    assert [image["label"] for image in done.run["images"]] == ["blue jay", "red fox"]
    three = [word for text in ("0", "1", "2") for word in ("--label", text)]
    done = cvx.explain(*both, *three, "--force")
    assert done.code == 2
    assert "3 labels for 2 images" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-e", "stub-anny"], 6, "'stub-any'"),
        (["-e", "stub-any:gian=2"], 2, "'gain'"),
        (["-e", "stub-any:name=2"], 2, "no parameter 'name'"),
        (["-r", "stub-mapp"], 6, "'stub-map'"),
        (["-t", "red fix"], 2, "'red fox'"),
        (["--label", "blue ja"], 2, "'blue jay'"),
        (["-m", "embeded"], 5, "'embedded'"),
        (["-m", "embeded:x"], 6, "'embedded'"),
        (["--dtype", "float8"], 2, "'float16'"),
        (["--device", "cuda:99"], 5, "--device cpu"),
    ],
)
def test_an_unknown_name_suggests_the_nearest_and_writes_nothing(
    cvx: Cvx, arguments: list[str], code: int, said: str
) -> None:
    done = cvx.explain("red.png", *arguments)
    assert (done.code, done.out, done.traced, done.files) == (code, "", False, set())
    assert said in done.err


def test_an_index_beyond_the_classes_is_refused_before_anything_is_written(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "-m", f"{LITTLE}:unnamed", "-t", "3")
    assert (done.code, done.files) == (2, set())
    assert "3 classes" in done.err
    assert cvx.explain("red.png", "-m", f"{LITTLE}:unnamed", "-t", "2").code == 0


def test_what_is_there_stays_unless_forced(cvx: Cvx) -> None:
    page = cvx.folder / "cvx-out/index.html"
    page.parent.mkdir()
    page.write_text("mine")
    done = cvx.explain("red.png", "-m", "a-model-that-is-never-loaded")
    assert (done.code, done.traced) == (2, False)
    assert "--force" in done.err
    assert (page.read_text(), done.files) == ("mine", {"index.html"})
    assert cvx.explain("red.png", "--force").code == 0
    assert page.read_text() != "mine"


def test_a_single_picture_that_is_there_stays_too(cvx: Cvx) -> None:
    there = cvx.folder / "cvx-out" / folder_of(cvx.folder / "red.png") / "stub-any.predicted.map"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    done = cvx.explain("green.png", "red.png")
    assert done.code == 2
    assert [path for path in (cvx.folder / "cvx-out").rglob("*") if path.is_file()] == [there]


def test_an_output_that_is_a_file_is_refused(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "-o", "green.png")
    assert (done.code, done.traced) == (1, False)
    assert "Not a folder" in done.err


def test_one_image_given_twice_is_explained_once(cvx: Cvx) -> None:
    shutil.copy(cvx.folder / "red.png", cvx.folder / "copy.png")
    done = cvx.explain("red.png", "red.png", "copy.png")
    assert done.code == 0
    assert [image["status"] for image in done.run["images"]] == [
        "explained",
        "duplicate",
        "duplicate",
    ]
    assert len([file for file in done.files if file.endswith(".map")]) == 1


def test_a_copy_of_an_image_that_can_t_be_explained_has_the_same_fate(cvx: Cvx) -> None:
    """Neither of two unreadable files is called a duplicate, nor one whose maps are missing."""
    for name in ("one.png", "two.png"):
        (cvx.folder / name).write_bytes(b"no image")
    shutil.copy(cvx.folder / "dark.png", cvx.folder / "copy.png")
    images, methods = ("one.png", "two.png", "dark.png", "copy.png"), ("stub-any", "stub-dark")
    done = cvx.explain(*images, *(part for name in methods for part in ("-e", name)))
    found = [(image["status"], bool(image["failures"])) for image in done.run["images"]]
    assert found == [("unreadable", True), ("unreadable", True), ("partly", True), ("partly", True)]
    assert done.code == 4


def test_one_image_with_two_labels_is_refused(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "red.png", "--label", "0", "--label", "1")
    assert done.code == 2


def test_hostile_file_names_are_inert_in_folders_and_on_the_terminal(cvx: Cvx) -> None:
    names = [b"\x1b[31mred\r\n.png", b"\xff\xfe.png", "…".encode() + b".png", b"--.png"]
    source = (cvx.folder / "red.png").read_bytes()
    for number, name in enumerate(names):
        (cvx.folder / os.fsdecode(name)).write_bytes(source + bytes([number]))
    done = cvx(
        *["explain", "-m", f"{LITTLE}:make", "-e", "stub-any", "-r", "stub-map", "--"],
        *[*names, b"nope\x1b[2J.png"],
    )
    assert done.code == 4
    assert "\x1b" not in done.err
    assert "\x1b" not in done.out
    assert "nope\\x1b[2J.png" in done.err
    folders = {Path(file).parts[0].rpartition("-")[0] for file in done.files if "/" in file}
    assert folders == {"31mred", "image"}
    assert done.run["images"][1]["file"] == "\udcff\udcfe.png"
    assert len(done.run["images"]) == 5


def test_two_runs_into_one_folder_do_not_mix(cvx: Cvx) -> None:
    command = cvx.command(
        *["explain", "red.png", "green.png", "-m", f"{LITTLE}:make", "-e", "stub-any"],
        *["-r", "stub-map", "-r", "stub-page"],
    )
    both = [
        subprocess.Popen(
            command,
            cwd=cvx.folder,
            env=cvx.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=240)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes[0] == 0
    assert codes[1] in (1, 2), errors
    assert not any("Traceback" in error for error in errors)
    run = json.loads((cvx.folder / "cvx-out/run.json").read_bytes())
    assert run["status"] == "finished"
    assert len((cvx.folder / "cvx-out/index.html").read_text().splitlines()) == 2
    assert not [path for path in (cvx.folder / "cvx-out").rglob("*") if path.suffix == ".tmp"]


def test_ctrl_c_keeps_what_was_finished_and_says_how_to_go_on(cvx: Cvx) -> None:
    process = subprocess.Popen(
        cvx.command(
            *["explain", "red.png", "dark.png", "-m", f"{LITTLE}:make", "-e", "stub-waits"],
            *["-r", "stub-map"],
        ),
        cwd=cvx.folder,
        env=cvx.environment(),
        preexec_fn=reset_signals,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    while "waiting" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "--resume" in rest
    assert "Traceback" not in rest
    run = json.loads((cvx.folder / "cvx-out/run.json").read_bytes())
    assert run["status"] == "interrupted"
    assert [image["status"] for image in run["images"]] == ["explained", "pending"]
    assert (cvx.folder / "cvx-out" / run["files"][1]).is_file()


def test_verbose_adds_the_traceback_to_an_error(cvx: Cvx) -> None:
    done = cvx.explain("red.png", "-m", f"{LITTLE}:broken", "-v")
    assert done.code == 5
    assert done.traced
    assert "no weights today" in done.err


def test_the_sanity_check_is_told_in_words_and_in_the_run_s_document(cvx: Cvx) -> None:
    """The stub's map is the image, whatever the network has learned."""
    ramp = Image.linear_gradient("L").rotate(30)
    ramp.convert("RGB").save(cvx.folder / "ramp.png")
    done = cvx.explain("ramp.png", "--sanity")
    assert done.code == 0, done.err
    assert "ramp.png, stub-any: Sanity check: fails. The map hardly depends on" in done.err
    assert done.run["arguments"]["sanity"] is True
    assert done.run["images"][0]["explanations"][0]["sanity"] == "fails"
    done = cvx.explain("ramp.png", "--force")
    assert "sanity" not in done.err
    assert done.run["images"][0]["explanations"][0]["sanity"] is None
