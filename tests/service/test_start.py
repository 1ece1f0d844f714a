"""More of what an operator can get wrong: each is one line that says so, or does not end what is running."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from servers import Server, load, until

Start = Callable[..., Server]


@pytest.fixture
def folder(models: Callable[[str], Path], tmp_path: Path) -> Path:
    """A model of one's own, to replace or break."""
    return Path(shutil.copytree(models("binary"), tmp_path / "own"))


def without(key: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        profile = json.loads((folder / "models/profile.json").read_text())
        del profile[key]
        (folder / "models/profile.json").write_text(json.dumps(profile))

    return remove


def other_layout(folder: Path) -> None:
    profile = json.loads((folder / "models/profile.json").read_text())
    profile["inputs"] = {"strange": ["mass"]}
    (folder / "models/profile.json").write_text(json.dumps(profile))


BROKEN = {
    "no threshold": without("threshold"),
    "no classes": without("classes"),
    "no inputs": without("inputs"),
    "other inputs": other_layout,
}
SETTINGS = {"THREADS": "0.5", "PORT": "http", "MODEL_NAME": "a/b", "SEGMENT_SECONDS": "-1"}


def refused(server: Server, naming: str) -> None:
    assert server.process.wait(30) != 0
    assert "Traceback" not in server.said(), server.said()
    (error,) = [line for line in server.said().splitlines() if line.startswith("Error")]
    assert naming in error


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_file_stops_the_start_with_one_line(start: Start, folder: Path, broken: str) -> None:
    BROKEN[broken](folder)
    refused(start(folder=folder).launch(), "")


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_setting_stops_the_start_and_is_named(start: Start, name: str) -> None:
    server = start()
    server.environment |= {name: SETTINGS[name]}
    refused(server.launch(), SETTINGS[name])


def test_every_wrong_setting_is_named_at_once(start: Start) -> None:
    server = start(MAX_ROWS="0", LOG_FULL="maybe").launch()
    assert server.process.wait(30) != 0
    assert "MAX_ROWS='0'" in server.said()
    assert "LOG_FULL='maybe'" in server.said()


@pytest.mark.parametrize("broken", BROKEN)
def test_a_reload_that_finds_a_broken_file_ends_nothing(start: Start, folder: Path, broken: str) -> None:
    with start(folder=folder) as server:
        version = server.get("/readyz").json()
        BROKEN[broken](folder)
        server.reload()
        until(lambda: "Hang up" in server.said() or "refused" in server.said())
        for _ in range(30):  # also after the workers were replaced, if they are
            assert server.process.poll() is None, server.said()
            assert server.get("/readyz").json() == version
            time.sleep(0.1)


def test_a_torn_report_is_no_reason_not_to_serve(start: Start, folder: Path) -> None:
    (folder / "reports").mkdir()
    (folder / "reports/metrics.json").write_text('{"metr')
    with start(folder=folder) as server:
        assert server.get("/version").json()["metrics"] == {}
        before = set(server.workers())
        server.reload()
        until(lambda: len(server.workers()) == 2 and not before & set(server.workers()))
        assert server.predict({})


def test_reloads_under_load_fail_no_request(start: Start) -> None:
    with start() as server, load(server, [{}], patient=False) as acknowledged:
        for _ in range(3):
            known, before = len(acknowledged), set(server.workers())
            server.reload()
            until(lambda gone=before: len(server.workers()) == 2 and not gone & set(server.workers()))
            until(lambda seen=known: len(acknowledged) > seen + 20)


def test_a_request_in_flight_is_answered_before_the_end(start: Start) -> None:
    """Half of its body is sent before SIGTERM, half of it afterwards."""
    body = json.dumps({"instances": [{}] * 500}).encode()

    def slowly(server: Server) -> Any:
        yield body[:100]
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "Handling signal: term" in server.said())
        time.sleep(0.5)
        yield body[100:]

    with start() as server, closing(server.client()) as client:
        answer = client("POST", "/predict", slowly(server), {"Content-Length": str(len(body))})
        assert answer.status == 200
        assert len(answer.json()["predictions"]) == 500
        assert server.process.wait(30) == 0
        assert len(server.lines()) == 500
        assert not list(server.logs.glob("*.open"))


def test_nothing_is_left_in_memory_after_the_end(start: Start) -> None:
    with start() as server:
        worker = server.workers()[0]
        (file, *_) = Path("/dev/shm").glob(f"perennial-metrics-*/*_{worker}.db")
        assert server.stop() == 0
    assert not file.parent.exists()


def test_the_probe_of_the_image_tells_whether_it_is_ready(start: Start) -> None:
    def probe(server: Server) -> int:
        command = [sys.executable, "-m", "perennial.serving.probe"]
        return subprocess.run(command, env=server.environment, capture_output=True).returncode

    server = start()
    assert probe(server) == 1
    with server:
        assert probe(server) == 0
        os.kill(server.process.pid, signal.SIGSTOP)  # workers answer without their master
        assert probe(server) == 0
        os.kill(server.process.pid, signal.SIGCONT)
