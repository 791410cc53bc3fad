from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from cvx_json.renderer import Json, schema
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from cvx_core.errors import OptionError
from cvx_core.explanations.explanation import Explanation
from cvx_core.testing.samples import sample_explanation

HOSTILE = 'a "b"\n</script>\u202e🐱\x00.jpg'


def _run() -> list[Explanation]:
    return [
        sample_explanation(),
        sample_explanation(cells=(3, 8), signed=False, label=None, seed=1, name=HOSTILE),
        sample_explanation(extent=(-10.5, 0.25, 99.0, 50.0), evidence={}, provenance={}),
    ]


def _strictly(text: str) -> Any:
    """Parse as strict readers do, which refuse NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("arrays", [True, False])
def test_every_document_fulfils_the_schema_that_the_package_ships(arrays: bool) -> None:
    Draft202012Validator.check_schema(schema())
    document = _strictly(Json(arrays=arrays).render(_run()).text())
    Draft202012Validator(schema()).validate(document)


@pytest.mark.parametrize("broken", ["method", "target", "extent"])
def test_the_schema_refuses_a_document_that_lacks_a_field(broken: str) -> None:
    document = _strictly(Json().render(_run()).text())
    del document["explanations"][0][broken]
    assert not Draft202012Validator(schema()).is_valid(document)


def test_it_round_trips_to_equal_explanations_given_the_images() -> None:
    document = _strictly(Json().render(_run()).text())
    again = [
        Explanation.from_dict(entry, one.image)
        for entry, one in zip(document["explanations"], _run(), strict=True)
    ]
    assert again == _run()


def test_without_arrays_everything_but_the_maps_is_there() -> None:
    full = _strictly(Json().render(_run()).text())
    for entry in full["explanations"]:
        assert len(entry.pop("values")) == entry["shape"][0]
    assert full == _strictly(Json(arrays=False).render(_run()).text())


def test_numbers_that_json_lacks_are_null() -> None:
    one = sample_explanation(evidence={"residual": math.nan, "deep": {"ratios": [1.0, math.inf]}})
    odd = dataclasses.replace(one.target.predicted, score=math.inf, probability=math.nan)
    one = one.replace(target=dataclasses.replace(one.target, predicted=odd))
    document = _strictly(Json().render(one).text())
    entry = document["explanations"][0]
    assert entry["evidence"] == {"residual": None, "deep": {"ratios": [1.0, None]}}
    assert entry["target"]["predicted"]["probability"] is None
    Draft202012Validator(schema()).validate(document)


def test_a_file_name_that_is_no_text_survives() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    artifact = Json().render(sample_explanation(name=name))
    assert _strictly(artifact.text())["explanations"][0]["name"] == name


def test_equal_explanations_give_the_same_bytes() -> None:
    one = sample_explanation(evidence={"a": 1, "b": 2})
    other = sample_explanation(evidence={"b": 2, "a": 1})
    assert one == other
    assert Json().render(one).data == Json().render(other).data


def test_a_parameter_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(OptionError, match="must be true or false"):
        Json(arrays="no")  # type: ignore[arg-type]
