"""What was asked and told over HTTP is what a window of the store says."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import Server, plain_rows, until

from perennial.monitoring.window import Window, read

UTC = datetime.UTC


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_rows_and_labels_come_back_from_the_store(
    start: Callable[..., Server], make_table: Any, tmp_path: Path, task: str
) -> None:
    store, began = tmp_path / "store", datetime.datetime.now(UTC)
    first, last = (1.5, 2.5) if task == "regression" else ("good", "bad")
    table = make_table(task, rows=20, seed=4)
    sent = plain_rows(table.drop(columns="grade"))
    with start(task, SEGMENT_SECONDS=0.5, PREDICTION_STORE=store) as server:
        answers = server.predict(*sent)
        told = [{"prediction_id": answer["prediction_id"], "label": first} for answer in answers[:8]]
        assert server.post("/feedback", {"labels": told}).json() == {"accepted": 8, "unknown": 0}
        again = told[0] | {"label": last}
        assert server.post("/feedback", {"labels": [again]}).status == 200
        version = server.get("/version").json()["model_version"]

        def shipped() -> Window | None:
            window = read(str(store), began, began + datetime.timedelta(minutes=5))
            labels = [row["label"] for row in window.rows]
            return window if labels.count(first) == 7 and labels.count(last) == 1 else None

        window = until(shipped)
    rows = {row["prediction_id"]: row for row in window.rows}
    assert rows.keys() == {answer["prediction_id"] for answer in answers}
    for place, (row, answer) in enumerate(zip(sent, answers, strict=True)):
        found = rows[answer["prediction_id"]]
        assert found["features"] == row
        assert found["output"] | {"prediction_id": answer["prediction_id"]} == answer
        assert found["label"] == (last if place == 0 else first if place < 8 else None)
    covered = window.coverage()
    assert (covered["rows"], covered["labelled"], covered["aside"]) == (20, 0.4, {})
    assert covered["versions"] == {version: 20}
    assert 0 <= covered["label_delay_days"] < 0.01
    answer = window.frame()["_answer"].tolist()[0]
    first_row = next(iter(window.rows))["output"]
    assert answer == ([first_row["value"]] if task == "regression" else list(first_row["probabilities"].values()))
