"""Files of rows instead of requests: the same checks, the same answers."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from perennial.contract import Contract
from perennial.errors import UserError
from perennial.model import answer, open_model
from perennial.pipeline import read
from perennial.score import score

Models = Callable[[str], Path]


@pytest.fixture(params=["binary", "multiclass", "regression"])
def case(
    request: pytest.FixtureRequest, models: Models, make_table: Any, tmp_path: Path
) -> tuple[Path, pd.DataFrame, Any]:
    """A model's folder, a table it never saw, and what the pipeline says of it."""
    folder, table = models(request.param), make_table(request.param, rows=300)
    contract = Contract.model_validate(json.loads((folder / "models/profile.json").read_text())["contract"])
    table.to_csv(tmp_path / "in.csv", index=False)
    table.to_parquet(tmp_path / "in.parquet", index=False)
    return folder / "models", table, answer(open_model(str(folder / "models/model.onnx")), table, contract)


def answers(frame: pd.DataFrame) -> Any:
    names = [name for name in frame.columns if name == "value" or name.startswith("probability_")]
    return frame[names].to_numpy().squeeze()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_answers_are_those_of_the_pipeline_in_the_order_of_the_rows(case: Any, tmp_path: Path, kind: str) -> None:
    models, table, expected = case
    out = tmp_path / f"out.{kind}"
    assert score(tmp_path / f"in.{kind}", out, models) == 0
    scored = pd.read_csv(out) if kind == "csv" else pd.read_parquet(out)
    np.testing.assert_allclose(answers(scored), expected, atol=1e-5)
    assert len(scored) == len(table)
    assert scored["error"].isna().all()
    assert scored["row"].is_monotonic_increasing


def test_many_small_pieces_give_what_one_large_gives(
    case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, _, _ = case
    score(tmp_path / "in.csv", tmp_path / "one.csv", models)
    monkeypatch.setattr(read, "BLOCK", 1_000)
    score(tmp_path / "in.csv", tmp_path / "many.csv", models)
    assert (tmp_path / "many.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_a_row_that_does_not_fit_keeps_its_place_with_the_reason(
    models: Models, make_table: Any, tmp_path: Path
) -> None:
    table = make_table("binary", rows=20)
    lines = table.to_csv(index=False).splitlines()
    number = next(name for name in table.columns if pd.api.types.is_float_dtype(table[name]))
    cells = lines[5].split(",")
    cells[list(table.columns).index(number)] = "many"
    lines[5], lines[9] = ",".join(cells), "a,torn,line"
    (tmp_path / "in.csv").write_text("\n".join(lines))
    assert score(tmp_path / "in.csv", tmp_path / "out.csv", models("binary") / "models") == 2
    scored = pd.read_csv(tmp_path / "out.csv").set_index("row")
    assert len(scored) == 20
    assert scored.loc[6, "error"] == f"{number}: not a number"
    assert re.fullmatch(r"3 cells, expected \d+", scored.loc[10, "error"])
    assert scored.loc[[6, 10], "label"].isna().all()
    assert scored["label"].notna().sum() == 18


def test_the_target_is_not_needed(models: Models, make_table: Any, tmp_path: Path) -> None:
    contract = json.loads((models("binary") / "models/profile.json").read_text())["contract"]
    table = make_table("binary", rows=20)
    table[list(contract["features"])].to_csv(tmp_path / "in.csv", index=False)
    assert score(tmp_path / "in.csv", tmp_path / "out.csv", models("binary") / "models") == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table, out: (table.iloc[:, 1:].drop(columns=table.columns[-3:]), out), "missing column"),
        (lambda table, _: (table, "out.xlsx"), "neither .csv nor .parquet"),
    ],
)
def test_what_cannot_be_scored_says_so_and_leaves_nothing_behind(
    models: Models, make_table: Any, tmp_path: Path, change: Callable[..., Any], told: str
) -> None:
    table, out = change(make_table("binary", rows=20), "out.csv")
    table.to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(UserError, match=told):
        score(tmp_path / "in.csv", tmp_path / out, models("binary") / "models")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["in.csv"]


def test_memory_does_not_grow_with_the_file(models: Models, make_table: Any, tmp_path: Path) -> None:
    """Three times the rows take no more memory, once there are far more than are read at once."""
    header, *lines = make_table("binary", rows=1000).to_csv(index=False).splitlines()
    code = """
import re, sys
from pathlib import Path
from perennial.pipeline import read
from perennial.score import score
read.BLOCK = 500_000
score(*map(Path, sys.argv[1:]))
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    peaks = []
    for times in (400, 1200):
        (tmp_path / "in.csv").write_text("\n".join([header, *lines * times]))
        call = [sys.executable, "-c", code, tmp_path / "in.csv", tmp_path / "out.csv", models("binary") / "models"]
        peaks.append(float(subprocess.run(call, capture_output=True, text=True, check=True).stdout.splitlines()[-1]))
    assert peaks[1] < peaks[0] + 60_000, peaks  # kB; not getrusage, which inherits the peak of the process that forked
