"""The tripwire sees features that know the answer, and nothing in noise."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from perennial.contract import Contract
from perennial.errors import UserError
from perennial.pipeline.leaks import leaks
from perennial.pipeline.prepare import stop_on_leak

TARGETS: dict[str, Any] = {
    "binary": {"name": "y", "values": ["0", "1"], "positive": "1"},
    "multiclass": {"name": "y", "values": ["0", "1", "2"]},
    "regression": {"name": "y", "type": "number"},
}
ROWS = 600


def contract_of(table: pd.DataFrame, task: str, **more: Any) -> Contract:
    """Floats are numbers, nullable booleans booleans, "t…" texts, all else categories."""

    def kind(column: pd.Series) -> dict[str, Any]:
        if pd.api.types.is_float_dtype(column):
            return {"type": "number"}
        if pd.api.types.is_bool_dtype(column):
            return {"type": "boolean"}
        return {"type": "text"} if str(column.name)[0] == "t" else {"type": "category", "values": ["any"]}

    features = {str(name): kind(table[name]) for name in table.columns if name != "y"}
    return Contract.model_validate({"raw": "raw", "target": TARGETS[task], "features": features} | more)


def table_of(task: str, rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """A target `y` that follows from `a + b` and (almost) from neither alone; honest columns beside them."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, rows))
    edges = {"binary": [0.0], "multiclass": [-0.6, 0.6], "regression": []}[task]
    y = a + b if task == "regression" else pd.Series(np.digitize(a + b, edges), dtype="str")
    honest = {"weak": a + 3 * rng.normal(size=rows), "noise": rng.normal(size=rows)}
    sealed = {"sealed": pd.array(rng.random(rows) < 0.5, dtype="boolean")}
    return pd.DataFrame({"a": a, "b": b, **honest, **sealed, "y": y})


def found_with(task: str, **columns: Any) -> set[str]:
    """What is found when these columns stand beside the honest ones."""
    table = table_of(task).assign(**columns)[["weak", "noise", "sealed", *columns, "y"]]
    return set(leaks(table, contract_of(table, task)))


@pytest.mark.parametrize("task", TARGETS)
def test_a_copy_of_the_target(task: str) -> None:
    assert found_with(task, copy=table_of(task)["y"]) == {"copy"}


@pytest.mark.parametrize("task", TARGETS)
def test_the_number_behind_the_target(task: str) -> None:
    table = table_of(task)
    assert found_with(task, amount=table["a"] + table["b"]) == {"amount"}


@pytest.mark.parametrize("change", [np.exp, lambda y: -(y**3), lambda y: 9 - 2 * y], ids=["exp", "-cube", "line"])
def test_a_monotone_function_of_a_number(change: Any) -> None:
    assert found_with("regression", amount=change(table_of("regression")["y"])) == {"amount"}


def test_a_skewed_number_in_other_units() -> None:
    y = np.exp(2 * table_of("regression")["y"])
    table = table_of("regression").assign(y=y, logarithm=np.log(y))[["weak", "noise", "logarithm", "y"]]
    assert set(leaks(table, contract_of(table, "regression"))) == {"logarithm"}


def test_a_copy_of_a_number_that_is_missing_here_and_there() -> None:
    y = table_of("regression")["y"]
    assert found_with("regression", copy=y.where(np.arange(ROWS) % 5 > 0)) == {"copy"}


@pytest.mark.parametrize("sign", [1, -1], ids=["sum", "difference"])
@pytest.mark.parametrize("task", TARGETS)
def test_a_sum_or_difference_of_two_columns(task: str, sign: int) -> None:
    table = table_of(task)
    assert found_with(task, part=100 + table["a"], rest=sign * 7 * table["b"]) == {"part + rest"}


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_category_written_after_the_fact(task: str) -> None:
    reason = table_of(task)["y"].map({"0": "closed", "1": "refunded", "2": "sued"})
    rare = np.arange(ROWS) % 200 == 0  # one row in two hundred says something else
    assert found_with(task, reason=reason.mask(rare, "lost")) == {"reason"}


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_text_written_after_the_fact(task: str) -> None:
    assert found_with(task, text="closed as " + table_of(task)["y"]) == {"text"}


def test_a_boolean_that_is_the_target() -> None:
    flag = pd.array(table_of("binary")["y"] == "0", dtype="boolean")
    assert found_with("binary", flag=flag) == {"flag"}


@pytest.mark.parametrize("filled", [np.random.default_rng(1).normal(size=ROWS), np.ones(ROWS)], ids=["any", "one"])
def test_a_column_filled_in_only_after_the_fact(filled: Any) -> None:
    known = pd.Series(filled).where(table_of("binary")["y"] == "1")
    assert found_with("binary", paid_back=known) == {"paid_back"}


@pytest.mark.parametrize("task", TARGETS)
def test_an_allowed_leak_is_left_out_alone_and_in_pairs(task: str) -> None:
    table = table_of(task).assign(copy=lambda t: t["y"])
    assert set(leaks(table, contract_of(table, task))) == {"copy", "a + b"}
    assert set(leaks(table, contract_of(table, task, allow_leak=["copy"]))) == {"a + b"}
    assert leaks(table, contract_of(table, task, allow_leak=["copy", "b"])) == {}


def test_a_leak_stops_the_run_with_its_name_and_the_way_out() -> None:
    table, report = table_of("binary").assign(copy=lambda t: t["y"]), {}
    with pytest.raises(UserError, match=r"(?s)  copy: .*  a \+ b: .*data\.allow_leak"):
        stop_on_leak(table, contract_of(table, "binary"), report)
    assert set(report["leaks"]) == {"copy", "a + b"}


def noise(task: str, rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({f"n{i}": rng.normal(size=rows) for i in range(6)})
    table["n0"] = table["n0"].mask(rng.random(rows) < 0.3)
    table["n1"] = table["n1"].round()
    table["c"] = pd.Series(rng.choice(list("pqrs"), rows), dtype="str")
    table["text"] = pd.Series([f"word{n}" for n in rng.integers(0, rows, rows)], dtype="str")
    table["sealed"] = pd.array(rng.random(rows) < 0.5, dtype="boolean")
    labels = pd.Series(rng.choice(["0", "1", "2"][: 2 if task == "binary" else 3], rows), dtype="str")
    return table.assign(y=rng.normal(size=rows) if task == "regression" else labels)


@pytest.mark.parametrize("rows", [4, 45, 300])
@pytest.mark.parametrize("task", TARGETS)
def test_noise_is_never_called_a_leak(task: str, rows: int) -> None:
    tables = [noise(task, rows, seed) for seed in range(30)]
    assert [name for table in tables for name in leaks(table, contract_of(table, task))] == []


def test_a_strong_and_honest_feature_is_no_leak() -> None:
    y = table_of("regression")["y"]
    off = np.random.default_rng(1).normal(0, 0.2, ROWS)
    assert found_with("regression", strong=y + off) == set()  # explains 98 %


@pytest.mark.parametrize("task", TARGETS)
def test_columns_that_say_nothing_at_all(task: str) -> None:
    nothing = pd.Series(np.nan, range(ROWS))
    assert found_with(task, constant=np.ones(ROWS), empty=nothing, twice=table_of(task)["noise"]) == set()


@pytest.mark.parametrize("known", [1, 2, 3])
@pytest.mark.parametrize("task", TARGETS)
def test_a_column_with_hardly_a_value_is_no_leak(task: str, known: int) -> None:
    rows = table_of(task)
    assert found_with(task, rare=rows["noise"].where(np.arange(ROWS) < known)) == set()
