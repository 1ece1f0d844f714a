"""The shift of a column from the reference in a profile: nothing where nothing moved, however few the rows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from perennial.params import Params
from perennial.pipeline.profile import reference
from perennial.psi import SMALL, counts, excess

ROWS = 1000


def drawn(name: str, rng: Any, rows: int = ROWS, shift: float = 0.0, missing: float = 0.1) -> pd.Series:
    """A column of the small table; `shift` moves a number, makes a value commoner, a text longer."""
    if name == "mass":
        column = pd.Series(rng.normal(shift, size=rows))
    elif name == "sealed":
        column = pd.Series(rng.random(rows) < 0.4 + shift / 2).astype("boolean")
    elif name == "colour":
        odds = np.array([0.5 - shift / 2, 0.3 + shift / 2, 0.2])
        column = pd.Series(rng.choice(["red", "grün", "🟣"], rows, p=odds), dtype="str")
    else:
        column = pd.Series(["word " * int(n) for n in rng.poisson(3 + 3 * shift, rows) + 1], dtype="str")
    return column.mask(rng.random(rows) < missing).rename(name)


@pytest.fixture(params=["mass", "sealed", "colour", "remark"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def params(make_params: Any) -> Params:
    return make_params()  # type: ignore[no-any-return]


def shifts(name: str, params: Params, rows: int = ROWS, repeats: int = 200, **later: float) -> list[float]:
    rng = np.random.default_rng(0)
    before = [drawn(name, rng, ROWS) for _ in range(repeats)]
    return [excess(drawn(name, rng, rows, **later), reference(c, params.data), ROWS) for c in before]


@pytest.mark.parametrize("rows", [100, 1000])
def test_where_nothing_moved_the_mean_is_nothing(name: str, params: Params, rows: int) -> None:
    found = shifts(name, params, rows)
    assert abs(np.mean(found)) < 1.5 / rows + 0.002
    assert rows < 1000 or np.mean(np.array(found) > SMALL) <= 0.05


def test_a_real_shift_is_found(name: str, params: Params) -> None:
    assert min(shifts(name, params, repeats=20, shift=0.5)) > 2 * SMALL


def test_missing_values_are_a_shift(name: str, params: Params) -> None:
    assert min(shifts(name, params, repeats=20, missing=0.3)) > 2 * SMALL


def test_the_shift_of_a_large_table_is_the_index_as_defined(params: Params) -> None:
    before = pd.Series(["red", "grün"], dtype="str", name="colour").repeat(50_000)
    now = pd.Series(["red"] * 60_000 + ["grün"] * 40_000, dtype="str", name="colour")
    expected = 0.1 * np.log(0.6 / 0.5) - 0.1 * np.log(0.4 / 0.5)
    assert excess(now, reference(before, params.data), 100_000) == pytest.approx(expected, abs=5e-4)


def test_new_values_have_a_bin_of_their_own(params: Params) -> None:
    rng = np.random.default_rng(0)
    before = drawn("colour", rng)
    facts = reference(before, params.data)
    now = drawn("colour", rng, missing=0)
    now[:100] = "beige"
    *listed, missing, other = counts(now, facts)
    assert (sum(listed), missing, other) == (900, 0, 100)
    assert excess(now, facts, ROWS) > 2 * SMALL


def test_every_row_is_counted_once_also_beyond_the_range_seen_before(name: str, params: Params) -> None:
    rng = np.random.default_rng(1)
    facts = reference(drawn(name, rng), params.data)
    for column in (drawn(name, rng, 50, shift=0.9), drawn(name, rng, 50, missing=1.0), drawn(name, rng, 0)):
        assert counts(column, facts).sum() == len(column)
    if name == "mass":
        assert counts(pd.Series([-1e9, 1e9], name=name), facts)[[0, -2]].tolist() == [1, 1]


def test_a_column_that_was_never_there_can_be_compared(name: str, params: Params) -> None:
    rng = np.random.default_rng(2)
    facts = reference(drawn(name, rng, missing=1.0), params.data)
    assert excess(drawn(name, rng, missing=1.0), facts, ROWS) < SMALL
    assert excess(drawn(name, rng), facts, ROWS) > 1
