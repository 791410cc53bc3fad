"""The page as a browser shows it, driven through its keyboard and its pointer."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cvx_html.images import fit
from cvx_html.page_data import CANVAS
from cvx_html.renderer import Html
from PIL import Image
from sample_predictions import sample_of_a_detector
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from cvx_core.explanations import heatmap as display
from cvx_core.explanations.colormaps import VIK
from cvx_core.explanations.explanation import Explanation
from cvx_core.tasks.classification.prediction import ClassificationPrediction
from cvx_core.tasks.targets import ClassScore, Predicted
from cvx_core.testing.samples import sample_explanation

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")

pytestmark = pytest.mark.skipif(
    not (BROWSER.exists() and DRIVER.exists()),
    reason=f"{BROWSER} and {DRIVER} are needed to show the page (packages of Debian)",
)

HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
    "\"'\n\u202e{{7*7}} مرحبا 🐱 " + "x" * 300
)


@dataclass
class Page:
    """What the tests do with a page, in the words of its users."""

    driver: webdriver.Chrome
    folder: Path

    def open(self, explanations: list[Explanation]) -> None:
        path = Html().render(explanations).write(self.folder / "page", overwrite=True)
        self.driver.get(path.as_uri())

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def choose(self, group: str, value: str | int) -> None:
        # The radio buttons are drawn as their labels.
        self.find(f"label:has(input[name='{group}'][value='{value}'])").click()

    def canvas(self) -> npt.NDArray[np.uint8]:
        """Return the large map's pixels, uint8 (height, width, 4)."""
        uri = self.driver.execute_script("return document.getElementById('map').toDataURL()")
        with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as picture:
            return np.array(picture.convert("RGBA"))

    def wait(self, condition: Any) -> None:
        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: condition())

    def complaints(self) -> list[str]:
        """Return what the console said, and what this page asked of anything but itself."""
        said = [
            entry["message"]
            for entry in self.driver.get_log("browser")  # type: ignore[no-untyped-call]
            # Advice about the tests' own reading of canvases.
            if "willReadFrequently" not in entry["message"]
        ]
        here = self.folder.as_uri()
        for entry in self.driver.get_log("performance"):  # type: ignore[no-untyped-call]
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url, by = message["params"]["request"]["url"], message["params"]["documentURL"]
                if by.startswith(here) and not url.startswith(("data:", here)):
                    said.append(f"request: {url}")
        return said


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
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield found
    found.quit()


@pytest.fixture
def page(driver: webdriver.Chrome, tmp_path: Path) -> Iterator[Page]:
    """Return a page; afterwards the console must be empty and the network untouched."""
    shown = Page(driver, tmp_path)
    shown.complaints()
    yield shown
    assert shown.complaints() == []


def _targets() -> list[Explanation]:
    """Two targets of one method, one of another."""
    scores = ClassificationPrediction(
        np.array([3.0, 1.0, -1.0]), ("power drill", "screwdriver", "hammer")
    )
    return [
        sample_explanation(method="one").replace(target=Predicted().resolve(scores, 1)[1]),
        sample_explanation(method="one", seed=1).replace(
            target=ClassScore(2).resolve(scores, 1)[1]
        ),
        sample_explanation(method="two", seed=2, cells=(12, 20), signed=False),
    ]


@pytest.mark.parametrize(
    "explanation",
    [
        pytest.param(sample_explanation(), id="signed cells"),
        pytest.param(sample_explanation(signed=False, cells=(14, 10)), id="unsigned cells"),
        pytest.param(sample_explanation(cells=(160, 160), size=(700, 500)), id="smoothed pixels"),
        pytest.param(
            sample_explanation(cells=(9, 9), extent=(-40.0, -30.0, 200.0, 300.0)), id="padded"
        ),
        pytest.param(
            sample_explanation(cells=(900, 900), size=(64, 48)), id="finer than the screen"
        ),
    ],
)
def test_the_page_draws_what_the_core_draws(page: Page, explanation: Explanation) -> None:
    page.open([explanation])
    height, width = explanation.image.shape[:2]
    shown = display.show(explanation, fit((width, height), CANVAS, enlarge=True))
    drawn = page.canvas()
    alpha = np.round(255 * display.opacity(shown)).astype(int)
    assert np.abs(drawn[:, :, 3] - alpha).max() <= 1
    # A canvas keeps colours multiplied with their opacity in eight bits, so only opaque ones
    # can be read back; neighbouring colours of the tables differ by up to 4.
    opaque = alpha > 150
    assert opaque.any()
    expected = display.colors(shown, explanation.signed)[opaque].astype(int)
    assert np.abs(drawn[opaque][:, :3] - expected).max() <= 5


def test_the_key_shows_the_side_of_the_colours_on_which_the_map_lies(page: Page) -> None:
    sample = sample_explanation(cells=(2, 2))
    values = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)
    for signed, (low, high) in (
        (values - 1, ("-2", "2")),
        (values, ("0", "3")),
    ):
        page.open([sample.replace(values=signed)])
        assert (page.find("#low").text, page.find("#high").text) == (low, high)
    left = "document.getElementById('colours').getContext('2d').getImageData(0, 0, 1, 1).data"
    first = page.driver.execute_script(f"return Array.from({left})")  # type: ignore[no-untyped-call]
    assert first[:3] == VIK[128].tolist(), "nothing, the middle of the colours"


def test_a_detectors_boxes_are_listed_and_outlined_and_the_one_asked_about_is_marked(
    page: Page,
) -> None:
    page.open([sample_of_a_detector(asked=k, classes=("cat", HOSTILE[:40])) for k in (0, 1)])
    assert "Prediction: 2 objects" in page.find("#prediction").text
    assert "label" not in page.find("#prediction").text
    lines = [item.text.replace("\n", " ") for item in page.all("#top li")]
    assert lines[0] == "box 0: cat (target) 90.0 %"
    assert lines[1].startswith("box 1: </script>")
    stage = page.find("#stage").rect

    def sides(element: WebElement) -> list[float]:
        rect = element.rect
        x, y = rect["x"] - stage["x"], rect["y"] - stage["y"]
        across, down = stage["width"] / 320, stage["height"] / 240
        right, bottom = x + rect["width"], y + rect["height"]
        return [x / across, y / down, right / across, bottom / down]

    # To a pixel of the screen, which is less than one of the photograph.
    boxes = [sides(box) for box in page.all("#boxes div")]
    assert boxes[0] == pytest.approx([20, 30, 120, 200], abs=1)
    assert boxes[1] == pytest.approx([150, 60, 290, 180], abs=1)
    assert sides(page.find("#target-box")) == pytest.approx(boxes[0], abs=1)
    page.choose("target", "box 1")
    assert sides(page.find("#target-box")) == pytest.approx(boxes[1], abs=1)
    assert "(target)" in page.all("#top li")[1].text
    assert len(page.all("#image-list label")) <= 1, "both maps are of one image"


def test_where_there_is_no_box_none_is_outlined(page: Page) -> None:
    page.open(_targets())
    assert page.all("#boxes div") == []
    assert not page.find("#target-box").is_displayed()


def test_the_first_screen_shows_the_prediction_and_whether_it_is_correct(
    page: Page,
) -> None:
    page.open(_targets())
    text = page.find("#prediction").text
    assert "power drill 86.7 %" in text
    assert "wrong" in text
    assert "Label: screwdriver 11.7 %" in text
    assert page.find("#top li").text.split("\n")[0] == "power drill"
    assert [tile.text.split("\n")[0] for tile in page.all("#methods .tile")] == [
        "image",
        "one",
        "two",
    ]


def test_another_method_is_another_image_with_its_own_evidence(page: Page) -> None:
    page.open(_targets())
    before, table = page.canvas(), page.find("#evidence").text
    page.choose("method", 1)
    assert not np.array_equal(page.canvas(), before)
    assert page.find("#evidence").text != table
    assert page.find("#evidence-of").text.startswith("two:")


def test_evidence_that_is_a_list_of_records_is_a_table(page: Page) -> None:
    """A column that says the same in every record is said once; nothing widens the page."""
    records = [
        {"layer": HOSTILE, "grid": [112, 112], "total": 3.25, "cells": -1.23456},
        {"layer": "blocks.1", "grid": [56, 56], "total": 3.25, "cells": None},
    ]
    page.open([sample_explanation(evidence={"sum": 1.0, "layer_profile": records})])
    assert "layer profile (total 3.25)" in page.find("#evidence").text
    heads = [cell.text for cell in page.all("#evidence .records thead th")]
    assert heads == ["layer", "grid", "cells"]
    cells = [cell.text for cell in page.all("#evidence .records tbody td")]
    assert cells[1:3] == ["112 \N{MULTIPLICATION SIGN} 112", "-1.235"]
    assert cells[3:] == ["blocks.1", "56 \N{MULTIPLICATION SIGN} 56", "\N{EN DASH}"]
    assert page.driver.execute_script("return window.hacked") is None
    root = "document.documentElement"
    assert page.driver.execute_script(f"return {root}.scrollWidth <= {root}.clientWidth")


def test_another_target_is_another_image(page: Page) -> None:
    page.open(_targets())
    before = page.canvas()
    radios = page.all("#targets input")
    assert len(radios) == 2
    radios[1].click()
    assert not np.array_equal(page.canvas(), before)
    assert "hammer" in page.find("#evidence-of").text
    page.choose("method", 1)
    page.choose("method", 0)
    assert "hammer" in page.find("#evidence-of").text


def test_the_thumbnails_show_the_image_and_the_maps(page: Page) -> None:
    page.open(_targets())
    script = """return [...document.querySelectorAll('#methods canvas')].map((canvas) => {
        const { width, height } = canvas;
        const middle = canvas.getContext('2d').getImageData(width / 2, height / 3, 1, 1);
        return [...middle.data];
    })"""
    page.wait(lambda: all(pixel[3] == 255 for pixel in page.driver.execute_script(script)))
    photo, *maps = page.driver.execute_script(script)
    assert all(pixel != photo for pixel in maps)


@pytest.mark.parametrize("cell", [(0, 0), (3, 5), (4, 8)])
def test_the_value_under_the_pointer_is_the_maps(page: Page, cell: tuple[int, int]) -> None:
    explanation = sample_explanation(cells=(5, 9), extent=(20.0, 0.0, 290.0, 235.0))
    page.open([explanation])
    canvas = page.find("#map")
    height, width = explanation.image.shape[:2]
    left, top, right, bottom = explanation.extent
    x = left + (cell[1] + 0.5) * (right - left) / 9 - width / 2
    y = top + (cell[0] + 0.5) * (bottom - top) / 5 - height / 2
    scale = canvas.size["width"] / width
    ActionChains(page.driver).move_to_element_with_offset(
        canvas, round(x * scale), round(y * scale)
    ).perform()
    assert f"row {cell[0]}, column {cell[1]}" in page.find("#readout").text
    assert np.float32(page.find("#value").text) == explanation.values[cell]


def test_beside_the_map_the_pointer_finds_no_value(page: Page) -> None:
    page.open([sample_explanation()])
    canvas = page.find("#map")
    ActionChains(page.driver).move_to_element_with_offset(
        canvas, 5 - canvas.size["width"] // 2, 0
    ).perform()
    assert page.all("#value") == []


def test_the_keyboard_reads_every_value_and_says_it_aloud(page: Page) -> None:
    explanation = sample_explanation(cells=(7, 15))
    page.open([explanation])
    canvas = page.find("#map")

    def read(*keys: str) -> tuple[str, np.float32]:
        canvas.send_keys(*keys)
        text = page.find("#readout").text
        return text.split(":")[0], np.float32(page.find("#value").text)

    row, column = np.unravel_index(np.abs(explanation.values).argmax(), (7, 15))
    assert read(Keys.ENTER) == (f"row {row}, column {column}", explanation.values[row, column])
    assert page.find("#readout").get_attribute("aria-live") == "polite"
    assert page.find("#cursor").is_displayed()
    assert read(Keys.HOME) == (f"row {row}, column 0", explanation.values[row, 0])
    assert read(Keys.ARROW_RIGHT) == (f"row {row}, column 1", explanation.values[row, 1])
    assert read(Keys.ARROW_DOWN)[1] == explanation.values[row + 1, 1]
    assert read(Keys.ARROW_UP, Keys.ARROW_LEFT)[1] == explanation.values[row, 0]
    assert read(Keys.ARROW_LEFT)[1] == explanation.values[row, 0]
    assert read(Keys.END)[1] == explanation.values[row, 14]
    assert read(Keys.HOME, Keys.SHIFT, Keys.ARROW_RIGHT)[1] == explanation.values[row, 10]


def test_the_slider_goes_from_the_image_alone_to_the_map_alone(page: Page) -> None:
    explanation = sample_explanation()
    page.open([explanation])
    inside = np.isfinite(display.show(explanation, (640, 480)).values)
    slider = page.find("#blend")
    slider.send_keys(Keys.HOME)
    page.wait(lambda: not page.canvas()[:, :, 3].any())
    slider.send_keys(Keys.END)
    page.wait(lambda: (page.canvas()[inside][:, 3] == 255).all())
    assert not page.canvas()[~inside].any()
    assert slider.get_attribute("aria-valuetext") == "map only"


def test_display_notes_are_beside_the_image(page: Page) -> None:
    page.open([sample_explanation(cells=(100, 100), label=0)])
    note, drawing = page.find("#notes").text.split("\n")
    assert note.startswith(
        "The prediction is correct, so the margin and its map are zero. Target 'error' shows"
    )
    assert "positions; smoothed for display" in drawing
    assert drawing.endswith("dashed frame: the network's input")
    page.open([sample_explanation(extent=(0.0, 0.0, 320.0, 240.0))])
    assert "frame" not in page.find("#notes").text
    assert "logits" in page.find(".ends").text


def test_everything_can_be_reached_with_the_tab_key(page: Page) -> None:
    several = [*_targets(), sample_explanation(method="one", name="b.jpg", label=0)]
    page.open(several)
    reached = set()
    for _ in range(14):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        active = page.driver.switch_to.active_element
        reached.add(active.get_attribute("id") or active.get_attribute("name") or active.tag_name)
    assert reached >= {
        "filter", "view", "image", "map", "blend", "method", "target", "summary",
    }  # fmt: skip


def test_images_are_switched_filtered_and_overlooked(page: Page) -> None:
    right = sample_explanation(method="one", name="right.jpg", label=0, size=(90, 120))
    page.open([*_targets(), right])
    page.choose("image", 1)
    assert page.find("#name").text == "right.jpg"
    assert "✓ correct" in page.find("#prediction").text
    page.choose("filter", "false")
    assert [item.is_displayed() for item in page.all("#image-list label")] == [True, False]
    page.choose("view", "all")
    assert [card.is_displayed() for card in page.all("#cards li")] == [True, False]
    page.choose("filter", "all")
    page.all("#cards button")[1].click()
    assert page.find("#name").text == "right.jpg"
    assert page.find("#stage").is_displayed()


def test_hostile_names_run_nothing_and_are_shown_as_text(page: Page) -> None:
    hostile = [
        sample_explanation(
            name=HOSTILE,
            method=method,
            unit=HOSTILE,
            classes=(HOSTILE, "__proto__", "constructor"),
            evidence={HOSTILE: HOSTILE, "__proto__": 1},
            provenance={HOSTILE: {HOSTILE: HOSTILE}, "model": HOSTILE},
        )
        for method in (HOSTILE, "toString")
    ]
    page.open([*hostile, sample_explanation(name="__proto__")])
    page.choose("view", "all")
    page.choose("view", "one")
    page.choose("method", 1)
    page.find("details summary").click()
    assert page.driver.execute_script("return window.hacked") is None
    assert page.driver.execute_script("return document.querySelectorAll('img').length") == 1
    assert page.find("#name").text.startswith("</script><script>window.hacked = 1")
    assert r"\u202e{{7*7}}" in page.find("#prediction").text
    wide = """return [...document.querySelectorAll('body *')].filter(
        (element) => element.getBoundingClientRect().right > innerWidth + 1).length"""
    assert page.driver.execute_script(wide) == 0


def test_the_policy_stops_code_and_requests_that_are_not_the_pages(page: Page) -> None:
    page.open([sample_explanation()])
    page.driver.execute_script(
        "const script = document.createElement('script');"
        "script.textContent = 'window.hacked = 1';"
        "document.body.append(script)"
    )
    assert page.driver.execute_script("return window.hacked") is None
    # A port where nobody listens: without the policy the failure would be another one.
    outcome = page.driver.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', (e) => done(e.violatedDirective));"
        "fetch('http://127.0.0.1:9/').catch(() => setTimeout(done, 5000, 'no violation'));"
    )
    assert outcome == "connect-src"
    said = page.complaints()
    assert said
    assert all("Content Security Policy" in line or "127.0.0.1:9" in line for line in said)
