from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from typing import Any

import numpy as np
import pytest
from cvx_html.renderer import Html

from cvx_core.errors import OptionError
from cvx_core.explanations.explanation import Explanation
from cvx_core.testing.samples import sample_explanation

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'\n\u202e🐱" + "x" * 300


def _page(explanations: list[Explanation], **parameters: Any) -> str:
    return Html(**parameters).render(explanations).text()


def _data(page: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert block
    return json.loads(block[1], parse_constant=refuse)


def test_the_policy_allows_only_the_script_and_the_style_that_are_inside() -> None:
    page = _page([sample_explanation()])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    rules = policy[1].replace("&#39;", "'")
    for kind, tag in (("script", '<script type="module">'), ("style", "<style>")):
        inside = page.split(tag, 1)[1].split(f"</{kind}>", 1)[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in rules
    assert "default-src 'none'" in rules
    assert "img-src data:;" in rules
    assert "unsafe" not in rules


def test_nothing_in_the_page_points_outside() -> None:
    page = _page([sample_explanation()])
    links = re.findall(r'(?:src|href|action|url)\s*[=(]\s*"?([^\s">)]+)', page.split("<script")[0])
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "http:" not in page
    assert "https:" not in page


def test_the_maps_in_the_page_are_the_exact_maps() -> None:
    explanations = [sample_explanation(), sample_explanation(cells=(90, 70), method="other")]
    for one, shown in zip(explanations, _data(_page(explanations))["maps"], strict=True):
        values = np.frombuffer(base64.b64decode(shown["values"]), dtype="<f4")
        np.testing.assert_array_equal(values.reshape(shown["shape"]), one.values)
        assert shown["extent"] == list(one.extent)


def test_each_photograph_is_embedded_once_and_no_larger_than_asked() -> None:
    data = _data(
        _page(
            [
                sample_explanation(method="one"),
                sample_explanation(method="two"),
                sample_explanation(method="one", size=(400, 200), name="other.jpg"),
            ],
            longest=100,
        )
    )
    assert len(data["photos"]) == 2
    assert [image["photo"] for image in data["images"]] == [0, 1]
    assert [one["image"] for one in data["maps"]] == [0, 0, 1]
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO(base64.b64decode(data["photos"][1].split(",")[1]))) as photo:
        assert photo.size == (100, 50)


def test_answers_of_two_models_for_one_photograph_stay_apart() -> None:
    several = [sample_explanation(provenance={"model": model}) for model in ("a", "b")]
    assert [image["model"] for image in _data(_page(several))["images"]] == ["a", "b"]


def test_a_model_that_has_learned_nothing_is_named_so() -> None:
    given = {"model": "timm:resnet18", "model_details": {"weights": "random"}}
    [image] = _data(_page([sample_explanation(provenance=given)]))["images"]
    assert image["model"] == "timm:resnet18, random weights"


def test_one_method_with_two_settings_has_two_names_that_say_the_difference() -> None:
    several = [
        sample_explanation(provenance={"parameters": {"layer": layer, "weights": "mean"}})
        for layer in ("layer3", "layer4")
    ]
    names = _data(_page(several))["methods"]
    assert names == ["sample (layer=layer3)", "sample (layer=layer4)"]


def test_two_maps_of_one_method_and_question_are_both_there() -> None:
    assert _data(_page([sample_explanation(), sample_explanation(seed=1)]))["methods"] == [
        "sample",
        "sample #2",
    ]


def test_hostile_names_close_no_tag() -> None:
    page = _page(
        [sample_explanation(name=HOSTILE, classes=(HOSTILE, "b", "c"), unit=HOSTILE)],
        title=HOSTILE,
    )
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img src=x" not in page


def test_a_file_name_that_is_no_text_is_spelled_out() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    page = _page([sample_explanation(name=name)], title=name)
    assert _data(page)["images"][0]["name"] == r"caf\udce9.jpg"


def test_evidence_that_is_not_finite_is_null() -> None:
    evidence = {"residual": math.nan, "sum": 1.0}
    shown = _data(_page([sample_explanation(evidence=evidence)]))["maps"][0]["evidence"]
    assert shown == [["sum", 1.0], ["residual", None]]


def test_equal_explanations_give_the_same_bytes() -> None:
    one = sample_explanation(evidence={"a": 1, "b": 2}, cells=(100, 100))
    other = sample_explanation(evidence={"b": 2, "a": 1}, cells=(100, 100))
    assert one == other
    assert _page([one]) == _page([other])


@pytest.mark.parametrize("bad", [{"longest": 63}, {"longest": "big"}, {"title": 3}])
def test_a_parameter_out_of_its_range_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Html(**bad)


def test_a_map_that_is_the_same_for_every_class_claims_no_score() -> None:
    several = [
        sample_explanation(method=str(specific), evidence={"class_specific": specific})
        for specific in (True, False)
    ]
    assert [one["score"] for one in _data(_page(several))["maps"]] == [2.0, None]


def test_what_speaks_against_the_map_stands_beside_it_and_in_the_evidence() -> None:
    failed = {"verdict": "fails", "reason": "It stays.", "correlation": {"all": 0.9}}
    one = sample_explanation(evidence={"warning": "Edges only.", "sanity": failed}, label=None)
    [result] = _data(_page([one]))["maps"]
    assert result["notes"] == ["⚠ Edges only.", "⚠ Sanity check: fails. It stays."]
    assert dict(result["evidence"])["sanity.correlation.all"] == 0.9


def test_the_cost_of_a_map_is_part_of_its_provenance() -> None:
    one = sample_explanation(
        evidence={"sum": 1.5, "bytes": 7, "batch": 2}, provenance={"model": "m"}
    )
    [shown] = _data(_page([one]))["maps"]
    assert shown["evidence"] == [["sum", 1.5]]
    assert shown["provenance"] == [["model", "m"], ["cost.bytes", 7], ["cost.batch", 2]]


def test_a_sum_that_means_nothing_is_left_out() -> None:
    for additive in (True, False):
        evidence = {"sum": 1.5, **({} if additive else {"additive": False})}
        [shown] = _data(_page([sample_explanation(evidence=evidence)]))["maps"]
        assert ("sum" in dict(shown["evidence"])) is additive
