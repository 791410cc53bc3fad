"""The report as a browser shows it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cvx_diagnose import Run, diagnose
from cvx_diagnose.analysis.error_groups.groups import find_error_groups
from cvx_diagnose.analysis.slices.search import Slices
from cvx_diagnose.report.feature_map import find_feature_map
from cvx_diagnose.report.page import IMAGES, PAGE, color_map, write_report
from cvx_engine.local import Local
from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from cvx_core import VisionModel
from cvx_core.testing.models import CLASSES

Tree = Callable[..., Path]
BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
QUICK: dict[str, Any] = {"block_size": 64, "engine": Local(workers=1)}
HOSTILE = "<img src=x onerror='window.hacked = 1'>&\"{{7*7}} </script> DATA SCRIPT.png".replace(
    "/", ""
)

FORMULA = '=1+2,"a.png'

needs_browser = pytest.mark.skipif(
    not (BROWSER.exists() and DRIVER.exists()),
    reason=f"{BROWSER} and {DRIVER} are needed to show the page (packages of Debian)",
)


@dataclass
class Page:
    """What the tests do with a page, in the words of its users."""

    driver: webdriver.Chrome

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, condition: Callable[[], object]) -> None:
        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: condition())

    def run(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1280,900",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield found
    found.quit()


@pytest.fixture
def show(driver: webdriver.Chrome) -> Iterator[Callable[[Run], Page]]:
    """Open a run's page; afterwards the console must be empty."""

    def opened(run: Run) -> Page:
        driver.get((run.folder / PAGE).as_uri())
        return Page(driver)

    driver.get_log("browser")  # type: ignore[no-untyped-call]
    yield opened
    assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]


@needs_browser
def test_the_page_shows_every_error_and_takes_names_for_text(
    model: VisionModel, tree: Tree, tmp_path: Path, show: Callable[[Run], Page]
) -> None:
    data = tree(5)
    (data / "bee/0.png").rename(data / "bee" / HOSTILE)
    (data / "cat/4.png").write_bytes(b"no image")
    run = diagnose(model, data, tmp_path / "run", budget=2.0, try_fix=True, **QUICK)
    assert run.summary is not None
    page = show(run)
    wrong = run.table(wrong=True).to_pylist()
    assert page.find("#advice li").text.startswith(run.summary["advice"][0]["text"])
    assert page.find("#title").text == "Errors of net"
    assert f"{len(wrong)} of {len(wrong)} errors" in page.find("#shown").text
    assert len(page.all("#errors .tile")) == len(wrong)
    losses = [f"loss {row['loss']:.2f}" for row in sorted(wrong, key=lambda row: -row["loss"])]
    assert [one.text.split(" · ")[0] for one in page.all("#errors .tile .soft")] == losses
    assert page.run("window.hacked") is None
    # All pictures of the first tile are there: the photograph, and on request the map over it.
    page.find("#errors").location_once_scrolled_into_view  # noqa: B018
    assert not page.find("#errors .tile .map").is_displayed()
    page.find("#maps").click()
    assert page.find("#errors .tile .map").is_displayed()
    loaded = (
        "[...document.querySelectorAll('#errors li:first-child img')].every(i => i.naturalWidth)"
    )
    page.wait(lambda: page.run(loaded))
    # The costliest was tested by removing regions.
    page.find("#errors .tile").click()
    assert page.find("#panel").is_displayed()
    assert "Effect of perturbing a region" in page.find("#facts").text
    page.find("#panel").send_keys(Keys.ARROW_RIGHT)
    assert page.find("#facts").text.count("No region was tested") == 1
    page.find("#close").click()
    page.find("#path").send_keys("onerror")
    page.wait(lambda: len(page.all("#errors .tile")) == 1)
    page.find("#errors .tile").click()
    assert "<img src=x onerror=" in page.find("#facts").text


@needs_browser
def test_a_number_in_the_table_of_confusions_shows_its_errors(
    model: VisionModel, tree: Tree, tmp_path: Path, show: Callable[[Run], Page]
) -> None:
    run = diagnose(model, tree(5), tmp_path / "run", budget=0.0, **QUICK)
    page = show(run)
    rows = [(row["label"], row["predicted"]) for row in run.table(wrong=True).to_pylist()]
    button = page.find("#matrix td button")
    count, (true, said) = (
        int(button.text),
        button.get_attribute("title").split(" misclassified as "),
    )  # type: ignore[union-attr]
    assert count == rows.count((CLASSES.index(true), CLASSES.index(said)))
    button.click()
    assert len(page.all("#errors .tile")) == count
    assert {one.text for one in page.all("#errors .tile .said")} == {f"{said} (true: {true})"}
    page.find("#filters button").click()
    page.wait(lambda: len(page.all("#errors .tile")) == len(rows))
    Select(page.find("#sort")).select_by_value("unsure")
    values = sorted(row["confidence"] for row in run.table(["confidence"], wrong=True).to_pylist())
    wanted = [f"{100 * value:.0f} % conf." for value in values]
    page.wait(
        lambda: [one.text.split(" · ")[1] for one in page.all("#errors .tile .soft")] == wanted
    )
    assert run.summary is not None
    count = run.summary["error_groups"][0]["count"]
    assert count < len(rows)
    Select(page.find("#group")).select_by_value("0")
    page.wait(lambda: len(page.all("#errors .tile")) == count)


@needs_browser
@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (
            {
                "tide": {
                    "ap": 40.0,
                    "threshold": 0.3,
                    "counts": {"Cls": 3, "Miss": 1200},
                    "gains": {"Cls": 1.26, "Miss": 20.0},
                }
            },
            ["type errors AP lost", "Miss 1,200 20.0", "Cls 3 1.3"],
        ),
        (
            {
                "iou": {
                    "mean": 0.5,
                    "classes": [
                        {"class": 0, "pixels": 2000, "iou": 0.75},
                        {"class": 1, "pixels": 10, "iou": 0.25},
                    ],
                }
            },
            [
                "class true pixels IoU",
                f"{CLASSES[1]} 10 25.0 %",
                f"{CLASSES[0]} 2,000 75.0 %",
            ],
        ),
    ],
)
def test_types_of_error_and_classes_stand_in_a_table_the_worst_first(
    model: VisionModel,
    tree: Tree,
    tmp_path: Path,
    show: Callable[[Run], Page],
    numbers: dict[str, Any],
    expected: list[str],
) -> None:
    run = diagnose(model, tree(2), tmp_path / "run", budget=0.0, **QUICK)
    assert run.summary is not None
    assert not show(run).find("#error-types").is_displayed()
    write_report(run, {**run.summary, **numbers}, find_error_groups(run), Slices())
    assert [row.text for row in show(run).all("#table tr")] == expected


@needs_browser
def test_slices_that_got_worse_the_worst_group_and_moved_thresholds_are_shown(
    model: VisionModel, tree: Tree, tmp_path: Path, show: Callable[[Run], Page]
) -> None:
    data = tree(3)
    old = diagnose(model, data, tmp_path / "old", budget=0.0, **QUICK)
    run = diagnose(model, data, tmp_path / "run", budget=0.0, compare=old, **QUICK)
    assert run.summary is not None
    numbers = {"before": 0.9, "after": 0.4, "low": -0.6, "high": -0.4, "p": 0.01}
    fixed = {"fixed": 9, "broken": 1, "evaluated_on": 20, "weights": "class-thresholds.safetensors"}
    changed = {
        "comparison": {
            **run.summary["comparison"],
            "slices": [
                {"name": "dark images", "regressed": True, **numbers},
                {"name": "bright images", "regressed": False, **numbers},
            ],
            "worst_group": {"class": 1, **numbers},
        },
        "fixes": [
            {
                **{"name": "a threshold for each class", "tried": True, "measure": "mean IoU"},
                **{"offsets": {"ant": 1.25, "bee": -0.5}, **numbers, **fixed},
            }
        ],
    }
    write_report(run, {**run.summary, **changed}, find_error_groups(run), Slices())
    page = show(run)
    text = page.find("#changed").text
    assert f"Worst group: {CLASSES[1]}, accuracy 90.0 % to 40.0 %" in text
    assert "dark images: accuracy 90.0 % to 40.0 %" in text
    assert "bright images" not in text
    assert "ant 1.25, bee -0.5; " in page.find("#fixes").text


@needs_browser
def test_thousands_of_errors_make_a_few_tiles_at_a_time(
    model: VisionModel, tree: Tree, tmp_path: Path, show: Callable[[Run], Page]
) -> None:
    run = diagnose(model, tree(2), tmp_path / "run", budget=0.0, **QUICK)
    text = (run.folder / PAGE).read_text()
    before, mark, rest = text.partition('<script type="application/json" id="data">')
    document, end, after = rest.partition("</script>")
    known = json.loads(document)
    one = known["errors"][0]
    known["errors"] = [
        {**one, "id": k, "loss": k / 1000, "files": False, "map": False} for k in range(8000)
    ]
    (run.folder / PAGE).write_text(before + mark + json.dumps(known) + end + after)
    page = show(run)
    assert "8,000 of 8,000" in page.find("#shown").text
    assert len(page.all("#errors .tile")) <= 120
    first = len(page.all("#errors .tile"))
    page.run("scrollTo(0, document.body.scrollHeight)")
    page.wait(lambda: len(page.all("#errors .tile")) > first)


@needs_browser
def test_a_brush_on_the_map_lists_its_errors_and_a_click_opens_one(
    model: VisionModel, tree: Tree, tmp_path: Path, show: Callable[[Run], Page]
) -> None:
    run = diagnose(model, tree(5), tmp_path / "run", budget=0.0, **QUICK)
    wrong = set(run.table(["id"], wrong=True)["id"].to_pylist())
    found = find_feature_map(run, wrong)
    assert found is not None
    assert set(found.errors) == wrong
    assert len(found.correct) == len(run.table(["id"], wrong=False))
    page = show(run)
    canvas = page.find("#points")
    width, height = canvas.size["width"], canvas.size["height"]

    def drag(start: tuple[int, int], end: tuple[int, int]) -> None:
        """Drag from one place of the map to another, in its own numbers."""
        (x, y), (to_x, to_y) = (
            (
                12 + at[0] * (width - 24) / 1000 - width / 2,
                height / 2 - 12 - at[1] * (height - 24) / 1000,
            )
            for at in (start, end)
        )
        steps = ActionChains(page.driver).move_to_element_with_offset(canvas, round(x), round(y))
        steps.click_and_hold().move_by_offset(round(to_x - x), round(to_y - y)).release().perform()

    number, (x, y) = min(found.errors.items(), key=lambda one: one[1])
    drag((x - 30, -10), (500, 1010))
    inside = [one for one, (at, _) in found.errors.items() if at <= 500]
    assert 0 < len(inside) < len(wrong)
    page.wait(lambda: len(page.all("#errors .tile")) == len(inside))
    drag((x, y), (x, y))
    path = run.table(["id", "path"], wrong=True).to_pylist()
    assert next(one["path"] for one in path if one["id"] == number) in page.find("#facts").text
    page.find("#close").click()
    page.find("#filters button").click()
    page.wait(lambda: len(page.all("#errors .tile")) == len(wrong))


@needs_browser
def test_what_is_selected_is_saved_as_a_table_without_formulas(
    model: VisionModel, tree: Tree, tmp_path: Path, show: Callable[[Run], Page]
) -> None:
    data = tree(3)
    (data / "bee/0.png").rename(data / FORMULA)
    files = [FORMULA, "cat/0.png", "cat/1.png", "dog/0.png"]
    with (data / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [("path", "label"), *((file, CLASSES[k % 2]) for k, file in enumerate(files * 2))]
        )
    run = diagnose(model, data / "list.csv", tmp_path / "run", budget=0.0, **QUICK)
    wrong = run.table(["id", "path"], wrong=True).to_pylist()
    page = show(run)
    assert not page.find("#save").is_enabled()
    page.run("(window.saved = [], URL.createObjectURL = (blob) => (saved.push(blob), '#'))")
    page.find("#errors .pick input").click()
    assert page.find("#save").text == "Save 1 selected error as CSV"
    page.find("#select-shown").click()
    assert page.find("#save").text == f"Save {len(wrong)} selected errors as CSV"
    page.find("#save").click()
    text = page.driver.execute_async_script("saved[0].text().then(arguments[0])")  # type: ignore[no-untyped-call]
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    paths = {int(row["id"]): row["path"] for row in rows}
    assert paths == {
        one["id"]: f"'{one['path']}" if one["path"].startswith("=") else one["path"]
        for one in wrong
    }
    page.find("#select-none").click()
    assert not page.find("#save").is_enabled()
    assert not any(box.is_selected() for box in page.all(".pick input"))


def test_a_map_is_red_where_it_speaks_for_the_wrong_answer() -> None:
    drawn = Image.open(io.BytesIO(color_map(np.array([[2.0, -2.0, 0.0]], np.float32))))
    pixels = np.asarray(drawn).astype(int)[0]
    assert pixels.shape == (3, 4)
    assert pixels[0, 0] > pixels[0, 2]
    assert pixels[1, 2] > pixels[1, 0]
    assert pixels[2, 3] == 0


def test_pictures_are_there_for_the_errors_alone(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    run = diagnose(model, tree(3), tmp_path / "run", budget=0.0, **QUICK)
    wrong = run.table(["id"], wrong=True)["id"].to_pylist()
    found = {file.name for file in (run.folder / IMAGES).iterdir()}
    assert found == {f"{number}.{suffix}" for number in wrong for suffix in ("jpg", "png")}
    assert "http" not in (run.folder / PAGE).read_text().replace(
        "http://www.w3.org/2000/svg", ""
    ).replace("http-equiv", "")
