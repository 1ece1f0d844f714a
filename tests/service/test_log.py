"""The prediction log: what was acknowledged is in it, exactly once, whatever dies, rotates or runs full."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Server, load, plain_rows, until

Start = Callable[..., Server]
KILLS = 20


@pytest.fixture
def rows(make_table: Any) -> list[dict[str, Any]]:
    return plain_rows(make_table(rows=5, seed=3).drop(columns="grade"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def logged(server: Server) -> list[str]:
    return [line["prediction_id"] for line in server.lines()]


def test_a_line_tells_what_was_asked_and_answered(start: Start, rows: list[dict[str, Any]]) -> None:
    with start() as server:
        (answer,), began = server.predict(rows[0]), time.time()
        label = {"prediction_id": answer["prediction_id"], "label": "bad"}
        server.post("/feedback", {"labels": [label]})
        version = server.get("/version").json()["model_version"]
        (line,), (entry,) = server.lines(), server.lines("feedback")
    assert line["features"] == rows[0]
    assert line["output"] | {"prediction_id": line["prediction_id"]} == answer
    assert (line["model_version"], line["commit"]) == (version, "abc")
    assert abs(line["time"] - began) < 10
    assert entry == label | {"time": entry["time"], "known": True}


def test_killed_workers_lose_nothing_they_acknowledged(start: Start, rows: list[dict[str, Any]]) -> None:
    draw = random.Random(1)
    with start(SEGMENT_BYTES=20_000, SEGMENT_SECONDS=1) as server:
        with load(server, rows) as acknowledged:
            for _ in range(KILLS):
                time.sleep(draw.uniform(0.05, 0.3))
                os.kill(worker := draw.choice(until(server.workers)), signal.SIGKILL)
                until(lambda dead=worker: dead not in server.workers())  # or the next one might hit a corpse
        until(lambda: len(server.workers()) == 2)
        assert server.predict(rows[0])  # it lives
        assert server.stop() == 0
    kept = logged(server)
    assert len(acknowledged) > 500
    assert len(acknowledged) == len(set(acknowledged))
    assert len(kept) == len(set(kept))
    assert set(acknowledged) <= set(kept)
    assert server.said().count("sent SIGKILL") == KILLS


def test_rotation_under_load_loses_nothing(start: Start, rows: list[dict[str, Any]]) -> None:
    """Segments of two requests, while the housekeepers of both workers take them away as fast as they can."""
    with start(SEGMENT_BYTES=3_000, SEGMENT_SECONDS=0.05) as server:
        with load(server, rows) as acknowledged:
            time.sleep(5)
        assert server.metrics().get(("model_log_lost_rows_total", "predictions"), 0) == 0
        until(lambda: len(list((server.logs / "store").rglob("*.jsonl"))) > 50)
        assert server.stop() == 0
    assert "Traceback" not in server.said()
    assert len(acknowledged) > 500
    assert sorted(logged(server)) == sorted(acknowledged)


def test_idle_segments_are_closed_by_age_and_shipped(start: Start, rows: list[dict[str, Any]]) -> None:
    with start(SEGMENT_SECONDS=0.5) as server:
        for _ in range(2):  # housekeeping goes on after the first time
            before = len(list((server.logs / "store").rglob("predictions-*.jsonl")))
            server.predict(*rows)
            until(lambda known=before: len(list((server.logs / "store").rglob("predictions-*.jsonl"))) > known)
        assert not list(server.logs.glob("predictions-*"))
        assert len(logged(server)) == 10


def test_what_a_dead_worker_left_open_is_closed_and_shipped(start: Start, rows: list[dict[str, Any]]) -> None:
    with start(WEB_CONCURRENCY=1, SEGMENT_SECONDS=4) as server:
        (answer,) = server.predict(rows[0])
        (left,) = server.logs.glob("*.open")
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda: not left.exists())
        (shipped,) = until(lambda: list((server.logs / "store").rglob(f"{left.stem}.jsonl")))
    assert json.loads(shipped.read_text())["prediction_id"] == answer["prediction_id"]


def test_what_the_last_run_left_is_shipped_by_the_next(start: Start, rows: list[dict[str, Any]]) -> None:
    with start() as first:
        first.predict(*rows)
        os.kill(first.process.pid, signal.SIGKILL)
    with start(SEGMENT_SECONDS=1) as second:
        until(lambda: list((second.logs / "store").rglob("predictions-*.jsonl")))
        assert len(logged(second)) == 5


def filled(server: Server, row: dict[str, Any], enough: int = 60) -> list[int]:
    """The status of each of so many predictions of 2 kB."""
    return [server.post("/predict", {"instances": [row | {"remark": "x" * 2_000}]}).status for _ in range(enough)]


def lost(server: Server, kind: str) -> float:
    return server.metrics().get(("model_log_lost_rows_total", kind), 0.0)


def test_a_full_disk_does_not_end_the_service(start: Start, small_disk: Path, rows: list[dict[str, Any]]) -> None:
    with start(LOG_DIR=small_disk / "logs") as server:
        assert set(filled(server, rows[0])) == {200}
        lines = len(logged(server))  # each of them whole, or this would not read them
        assert 10 < lines < 60
        assert lost(server, "predictions") == 60 - lines
        label = {"prediction_id": server.predict({})[0]["prediction_id"], "label": "bad"}
        answer = server.post("/feedback", {"labels": [label] * 100})
        assert answer.status == 503
        assert "log of feedback cannot be written" in answer.json()["error"]
        assert lost(server, "feedback") == 100
        for segment in small_disk.rglob("predictions-*"):
            segment.write_bytes(b"")  # an operator makes room
        until(lambda: server.post("/feedback", {"labels": [label]}).status == 200)
        before = lost(server, "predictions")
        server.predict({})
        assert lost(server, "predictions") == before


def test_a_full_disk_refuses_predictions_if_told_to(start: Start, small_disk: Path, rows: list[dict[str, Any]]) -> None:
    with start(LOG_DIR=small_disk / "logs", LOG_FULL="refuse") as server:
        codes = filled(server, rows[0])
        assert set(codes) == {200, 503}
        assert len(logged(server)) == codes.count(200)
        answer = server.post("/predict", {"instances": [rows[0] | {"remark": "x" * 9_000}]})
        assert answer.status == 503
        assert answer.json()["error"] == "the log of predictions cannot be written: No space left on device"
        assert server.get("/healthz").status == 200


@pytest.mark.parametrize(("policy", "status"), [("answer", 200), ("refuse", 503)])
def test_a_folder_that_cannot_be_written_is_as_a_full_disk(start: Start, policy: str, status: int) -> None:
    with start(LOG_DIR=Path("/proc/nowhere"), LOG_FULL=policy) as server:
        assert server.post("/predict", {"instances": [{}, {}]}).status == status
        assert lost(server, "predictions") == 2
        label = {"prediction_id": "0" * 12 + "-" + "0" * 16 + "-0", "label": "bad"}
        assert server.post("/feedback", {"labels": [label]}).status == 503
