"""Closed segments arrive in the store, whole and once, before they are deleted here; whatever the network does."""

import contextlib
import fcntl
import http.client
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from repository import ROOT, clean_environment
from servers import Server, until

from perennial.serving import ship
from perennial.serving.settings import Settings

NAMES = [f"predictions-20260131T2359{second:02d}-abc{second:03d}.jsonl" for second in range(3)]
NAMES.append("feedback-20260201T000000-def.jsonl")
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


class Network(ThreadingHTTPServer):
    """Between the shipper and S3: does something wrong with the first requests of a method, and counts all."""

    daemon_threads = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), Passage)
        self.target, self.wrong, self.times, self.method = target, "", 0, ""
        self.seen: list[str] = []
        self._lock = threading.Lock()

    def fail(self, wrong: str, method: str, times: int) -> None:
        self.wrong, self.method, self.times = wrong, method, times

    def fault(self, method: str, path: str) -> str:
        """What goes wrong with this request; it is one of an object."""
        with self._lock:
            self.seen.append(f"{method} {path}")
            if method != self.method or not self.times or "jsonl" not in path:
                return ""
            self.times -= 1
            return self.wrong


class Passage(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Network

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault(self.command, self.path.partition("?")[0])
        if fault == "cut":
            self.close_connection = True
            return
        if fault == "error":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "damage" and self.command == "PUT":
            body = body[:-5] + b"?????"
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.server.target)) as onward:
            onward.request(self.command, self.path, body, dict(self.headers))
            answer = onward.getresponse()
            content = answer.read()
        if fault == "hang":  # it arrived, but nobody says so
            threading.Event().wait(60)
        if fault == "damage" and self.command == "GET":
            content = content[:-5] + b"?????"
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def s3() -> Iterator[int]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def network(s3: int) -> Iterator[Network]:
    """A way to an empty bucket named `logs`."""
    bucket(s3, "POST", "/moto-api/reset")
    bucket(s3, "PUT", "/logs")
    with Network(s3) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def bucket(port: int, method: str, path: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request(method, path, headers={"Authorization": "AWS4-HMAC-SHA256 Credential=a/b/us-east-1/s3/c"})
        return connection.getresponse().read()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(content(name))
    return folder


def content(name: str) -> bytes:
    return f'{{"segment": "{name}"}}\n'.encode() * 50


def target(name: str) -> str:
    day = "2026-02-01" if name.startswith("feedback") else "2026-01-31"
    return f"{name.partition('-')[0]}/dt={day}/{name}"


def environment(network: Network) -> dict[str, str]:
    return KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{network.server_port}", "PREDICTION_STORE": "s3://logs/deep"}


def shipper(logs: Path, **more: str) -> subprocess.Popen[str]:
    """The command that the workers, a cron job or a sidecar start."""
    own = clean_environment() | {"LOG_DIR": str(logs), "PYTHONPATH": str(ROOT / "src")} | more
    command = [sys.executable, "-m", "perennial.serving.ship"]
    return subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(process: subprocess.Popen[str], expect: int = 0) -> str:
    text, _ = process.communicate(timeout=120)
    assert process.returncode == expect, text
    assert "Traceback" not in text
    return text


def stored(network: Network) -> dict[str, bytes]:
    """Every object of the bucket, read past the troubled network."""
    own = {"key": "a", "secret": "b", "endpoint_url": f"http://127.0.0.1:{network.target}"}
    store = fsspec.filesystem("s3", **own, skip_instance_cache=True, use_listings_cache=False)
    return {path.removeprefix("logs/deep/"): store.cat_file(path) for path in store.find("logs")}


ALL = {target(name): content(name) for name in NAMES}


def test_segments_go_to_a_folder(logs: Path, tmp_path: Path) -> None:
    (logs / "predictions-20260131T235959-empty.jsonl").touch()
    said(shipper(logs, PREDICTION_STORE=str(tmp_path / "store")))
    found = {str(path.relative_to(tmp_path / "store")): path.read_bytes() for path in (tmp_path / "store").rglob("*.*")}
    assert found == ALL
    assert not list(logs.glob("*.jsonl"))


def test_segments_go_to_s3(logs: Path, network: Network) -> None:
    said(shipper(logs, **environment(network)))
    assert stored(network) == ALL
    assert not list(logs.glob("*.jsonl"))


def test_a_segment_that_is_written_to_stays_and_an_orphan_goes(logs: Path, tmp_path: Path) -> None:
    held, orphan = (logs / f"predictions-20260131T000000-{name}.open" for name in ("held", "orphan"))
    orphan.write_text("{}\n")
    with held.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said(shipper(logs, PREDICTION_STORE=str(tmp_path / "store")))
    assert [path.name for path in logs.glob("pred*")] == [held.name]
    assert list((tmp_path / "store").rglob("*-orphan.jsonl"))


@pytest.mark.parametrize("method", ["PUT", "GET"])
@pytest.mark.parametrize("wrong", ["error", "cut", "damage"])
def test_what_goes_wrong_twice_is_done_again(logs: Path, network: Network, wrong: str, method: str) -> None:
    network.fail(wrong, method, times=2)
    said(shipper(logs, **environment(network)))
    assert network.times == 0
    assert stored(network) == ALL
    assert not list(logs.glob("*.jsonl"))


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_shipper_that_is_killed_before_the_store_confirmed_deletes_nothing(
    logs: Path, network: Network, method: str
) -> None:
    network.fail("hang", method, times=1)
    process = shipper(logs, **environment(network))
    until(lambda: any(call.startswith(method) and "jsonl" in call for call in network.seen))
    until(lambda: network.times == 0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert sorted(path.name for path in logs.glob("*.jsonl")) == sorted(NAMES)
    said(shipper(logs, **environment(network)))
    assert stored(network) == ALL
    assert not list(logs.glob("*.jsonl"))


def test_a_store_that_is_down_is_asked_again_next_time(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship, "TRIES", 1)
    store = tmp_path / "store"
    store.write_text("a file where a folder should be")
    settings = Settings(log_dir=logs, prediction_store=str(store))
    assert ship.ship(settings) == 0
    assert sorted(path.name for path in logs.glob("*.jsonl")) == sorted(NAMES)
    store.unlink()
    assert ship.ship(settings) == 4
    assert ship.ship(settings) == 0


def test_several_shippers_take_each_segment_once(logs: Path, network: Network) -> None:
    for process in [shipper(logs, **environment(network)) for _ in range(3)]:
        said(process)
    puts = [call for call in network.seen if call.startswith("PUT") and "jsonl" in call]
    assert len(puts) == len(set(puts)) == 4
    assert stored(network) == ALL


def test_a_file_that_is_no_segment_is_in_nobodys_way(logs: Path, tmp_path: Path) -> None:
    (logs / "a_note.jsonl").write_text("{}")
    said(shipper(logs, PREDICTION_STORE=str(tmp_path / "store")))
    assert [path.name for path in logs.glob("*.jsonl")] == ["a_note.jsonl"]


def test_a_store_of_an_unknown_kind_is_an_error_a_user_can_read(logs: Path) -> None:
    text = said(shipper(logs, PREDICTION_STORE="nowhere://bucket"), expect=1)
    assert text.startswith("Error PREDICTION_STORE=nowhere://bucket: ")
    assert "Fix: " in text
    assert len(list(logs.glob("*.jsonl"))) == 4


def test_a_server_ships_to_s3_over_a_bad_network(start: Callable[..., Server], network: Network) -> None:
    network.fail("cut", "PUT", times=3)
    with start(SEGMENT_SECONDS=0.5, **environment(network)) as server:
        ids = [each["prediction_id"] for _ in range(40) for each in server.predict({}, {})]
        until(lambda: b"".join(stored(network).values()).count(b"prediction_id") == 80)
        assert network.times == 0
        shipped = b"".join(stored(network).values()).decode()
    assert all(shipped.count(f'"{name}"') == 1 for name in ids)
