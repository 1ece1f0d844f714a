"""`perennial window`: what the log holds of a span of time, said and written."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from repository import ROOT, Repository
from traffic import DAY, NOON, SINCE, UNTIL, Log, label, prediction

SPAN = ("--since", "2026-03-02", "--until", "2026-03-09T00:00Z")


class Desk:
    """A folder without a project: the command needs none."""

    def __init__(self, folder: Path) -> None:
        self.log, self.here = Log(folder / "store"), Repository(folder)

    def __call__(self, *arguments: str, expect: int = 0, **environment: str) -> str:
        command = [sys.executable, "-m", "perennial", "window", *arguments]
        told = {"PYTHONPATH": str(ROOT / "src"), "PREDICTION_STORE": self.log.url, "COLUMNS": "100"} | environment
        return self.here.command(*command, expect=expect, **told)


@pytest.fixture
def window(tmp_path: Path) -> Desk:
    """Ten rows, one each twelve hours from SINCE on; the first four have labels, two days later."""
    desk = Desk(tmp_path)
    for number in range(10):
        desk.log.predictions(prediction(number, SINCE + number * DAY / 2, model_version="one" if number < 7 else "two"))
    desk.log.feedback(*[label(number, at=SINCE + number * DAY / 2 + 2 * DAY) for number in range(4)])
    return desk


def told(said: str) -> dict[str, str]:
    """The rows of the table."""
    cells = [[cell.strip() for cell in line.strip("│ \n").split("│")] for line in said.splitlines() if "│" in line]
    return {row[0]: row[1] for row in cells if len(row) == 2}


def test_it_says_rows_labels_and_versions_of_a_span(window: Desk) -> None:
    facts = told(window(*SPAN))
    assert (facts["since"], facts["until"]) == (SINCE.isoformat(), UNTIL.isoformat())
    assert (facts["rows"], facts["labelled"]) == ("10", "40.0%, 2.0 days later (median)")
    assert (facts["model versions"], facts["left aside"]) == ("one: 7, two: 3", "nothing")
    assert told(window("--since", "2026-03-03", "--until", "2026-03-04"))["rows"] == "2"  # its end is not in it


def test_only_the_newest_so_many(window: Desk, tmp_path: Path) -> None:
    out = tmp_path / "newest.csv"
    facts = told(window(*SPAN, "--rows", "3", "--out", str(out)))
    assert (facts["rows"], facts["model versions"]) == ("10, 3 kept", "two: 3")
    assert sorted(pd.read_csv(out)["mass"]) == [7 / 4, 8 / 4, 9 / 4]


@pytest.mark.parametrize(("name", "load"), [("rows.csv", pd.read_csv), ("rows.parquet", pd.read_parquet)])
def test_rows_and_labels_are_written(window: Desk, tmp_path: Path, name: str, load: Any) -> None:
    out = tmp_path / "folder" / name
    assert f"10 rows in {out}" in window(*SPAN, "--out", str(out))
    frame = load(out).sort_values("_time")
    assert {"mass", "colour", "sealed", "remark", "_time", "_label", "_answer"} <= set(frame.columns)
    assert frame["mass"].tolist() == [number / 4 for number in range(10)]
    assert frame["_time"].tolist() == [(SINCE + number * DAY / 2).timestamp() for number in range(10)]
    assert frame["_label"].isna().tolist() == [False] * 4 + [True] * 6
    assert [path.name for path in out.parent.iterdir()] == [name]


def test_an_empty_span_is_said_and_can_be_written(window: Desk, tmp_path: Path) -> None:
    facts = told(window("--since", "2025-01-01", "--until", "2025-02-01", "--out", str(tmp_path / "none.parquet")))
    assert (facts["rows"], facts["labelled"], facts["model versions"]) == ("0", "0.0%", "–")
    assert len(pd.read_parquet(tmp_path / "none.parquet")) == 0


def test_what_cannot_be_read_is_counted(window: Desk) -> None:
    window.log.predictions(prediction(1), b'{"prediction_id": "torn\n', b"[1]\n", day=NOON)
    window.log.predictions(prediction(3, SINCE + 3 * DAY / 2), day=NOON)
    facts = told(window(*SPAN))
    assert facts["rows"] == "10"
    assert {*facts["left aside"].split(", ")} == {"1 torn", "1 foreign", "2 repeated"}


WRONG = [
    (("--since", "yesterday"), "--since yesterday: no time in ISO 8601"),
    (("--until", "soon"), "--until soon: no time in ISO 8601"),
    (("--since", "2026-03-09", "--until", "2026-03-09"), "is not before --until"),
    ((*SPAN, "--out", "rows.xlsx"), "rows.xlsx: neither .csv nor .parquet"),
]


@pytest.mark.parametrize(("arguments", "problem"), WRONG)
def test_what_is_asked_wrongly_is_said(window: Desk, arguments: tuple[str, ...], problem: str) -> None:
    said = window(*arguments, expect=1)
    assert problem in said


def test_a_store_that_cannot_be_read_is_an_error_with_a_way_out(window: Desk, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = window(*SPAN, "--store", str(tmp_path / "file"), expect=1)
    assert "PREDICTION_STORE=" in said
