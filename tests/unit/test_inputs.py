"""Training asks with frames, serving with rows: the model sees the same matrices."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from perennial.contract import Contract
from perennial.inputs import MISSING, feed, feed_frame, layout

CONTRACT = Contract.model_validate(
    {
        "raw": "data/raw",
        "target": {"name": "grade", "type": "number"},
        "features": {
            "colour": {"type": "category", "values": ["red", "blue"]},
            "mass": {"type": "number"},
            "remark": {"type": "text"},
            "sealed": {"type": "boolean"},
            "size": {"type": "category", "values": ["0", "1"]},
            "label": {"type": "text"},
        },
    }
)
FULL = {"colour": "red", "mass": 1.5, "remark": "ok, fine", "sealed": True, "size": "1", "label": "é 😀"}


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """As `read_batch` types it."""
    kinds = {"mass": "float64", "sealed": "boolean"}
    return pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=kinds.get(name, "str")) for name in CONTRACT.features}
    )


def test_numbers_and_booleans_share_a_matrix_categories_another_and_each_text_has_its_own() -> None:
    assert layout(CONTRACT) == {
        "numbers": ("mass", "sealed"),
        "categories": ("colour", "size"),
        "text_remark": ("remark",),
        "text_label": ("label",),
    }


@pytest.mark.parametrize(
    "rows",
    [
        [FULL],
        [FULL, FULL | {"sealed": False, "mass": -2}, {}],
        [{}],
        [dict.fromkeys(FULL)],
        *([FULL | {name: None}, FULL] for name in FULL),
        [FULL | {"colour": "never seen", "size": "Ünseen 😀"}],
        [FULL | {"remark": "", "label": "   "}],
        [FULL | {"mass": 1e30}, FULL | {"mass": 1 / 3}, FULL | {"mass": 16777217}],
        [],
    ],
)
def test_rows_and_frames_give_the_same_matrices(rows: list[dict[str, Any]]) -> None:
    inputs = layout(CONTRACT)
    one, other = feed(rows, inputs), feed_frame(frame_of(rows), inputs)
    assert one.keys() == other.keys()
    for name, matrix in one.items():
        np.testing.assert_array_equal(matrix, other[name], strict=True)
        assert matrix.shape == (len(rows), len(inputs[name]))


def test_missing_is_nan_a_word_of_its_own_or_an_empty_text() -> None:
    found = feed([{}], layout(CONTRACT))
    assert np.isnan(found["numbers"]).all()
    assert found["numbers"].dtype == np.float32
    assert found["categories"].tolist() == [[MISSING, MISSING]]
    assert found["text_remark"].tolist() == [[""]]


def test_a_boolean_is_zero_or_one() -> None:
    found = feed([{"sealed": False}, {"sealed": True}], layout(CONTRACT))
    assert found["numbers"][:, 1].tolist() == [0, 1]


def test_a_category_given_as_a_number_is_its_text() -> None:
    assert feed([{"size": 1}], layout(CONTRACT))["categories"].tolist() == [[MISSING, "1"]]


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ({"type": "number"}, {"numbers"}),
        ({"type": "boolean"}, {"numbers"}),
        ({"type": "category", "values": ["a"]}, {"categories"}),
        ({"type": "text"}, {"text_only"}),
    ],
)
def test_an_input_without_columns_is_left_out(kind: dict[str, Any], inputs: set[str]) -> None:
    contract = Contract.model_validate(
        {"raw": "r", "target": {"name": "y", "type": "number"}, "features": {"only": kind}}
    )
    assert set(layout(contract)) == set(feed([{}], layout(contract))) == inputs
