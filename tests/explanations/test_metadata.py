"""Records: what goes in comes out as JSON values, and nothing changes them."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from cvx_core.explanations.metadata import Metadata

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON))
def test_json_values_come_back_after_copying_pickling_and_json(data: dict[str, object]) -> None:
    record = Metadata(data)
    for copied in (copy.deepcopy(record), copy.copy(record), pickle.loads(pickle.dumps(record))):
        assert copied == record
        assert hash(copied) == hash(record)
    assert record == data
    strict = {k: v for k, v in record.to_dict().items() if "inf" not in repr(v)}
    assert json.loads(json.dumps(strict)) == strict


def test_numbers_of_numpy_and_torch_become_python_numbers() -> None:
    record = Metadata(
        a=np.float32(0.5), b=np.arange(2), c=torch.tensor(3), d=torch.ones(1, 2), e=np.bool_(True)
    )
    assert record.to_dict() == {"a": 0.5, "b": [0, 1], "c": 3, "d": [[1.0, 1.0]], "e": True}
    assert type(record["a"]) is float
    assert type(record["c"]) is int


def test_what_json_has_no_number_for_becomes_null() -> None:
    record = Metadata(a=math.nan, b=[math.inf, 1.0])
    assert math.isnan(record["a"])
    assert record.to_dict() == {"a": None, "b": [None, 1.0]}
    json.dumps(record.to_dict(), allow_nan=False)


def test_anything_else_becomes_text() -> None:
    assert Metadata(path=Path("a/b"))["path"] == "a/b"
    assert Metadata({3: "key"})["3"] == "key"


def test_a_record_can_not_be_changed_nor_through_what_it_was_made_of() -> None:
    source = {"list": [1, 2], "inner": {"x": 1}}
    record = Metadata(source)
    source["list"].append(3)  # type: ignore[attr-defined]
    source["inner"]["x"] = 2  # type: ignore[index]
    assert record.to_dict() == {"list": [1, 2], "inner": {"x": 1}}
    with pytest.raises(TypeError):
        record["list"] = 0  # type: ignore[index]
    record.to_dict()["inner"]["x"] = 5
    assert record["inner"]["x"] == 1


def test_records_are_compared_by_content() -> None:
    assert Metadata(a=1, b=2) == Metadata(b=2, a=1)
    assert hash(Metadata(a=1, b=2)) == hash(Metadata(b=2, a=1))
    assert Metadata(a=1) != Metadata(a=2)
    assert Metadata(a=1) != "a"
