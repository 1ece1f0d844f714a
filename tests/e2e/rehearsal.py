"""A canary on this machine: two gunicorns behind nginx, Prometheus that asks both, clients, `perennial canary`."""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
from proxy import Nginx
from repository import ROOT, clean_environment
from service import servers
from service.servers import Client, Server, until

from perennial.errors import UserError
from perennial.release.prometheus import query
from perennial.serving.local import free_port

QUICK = ("--steps", "50,100", "--seconds", "1", "--requests", "30", "--interval", "0.3")
SLEEP = 0.2  # seconds that each prediction of the slow service takes longer
SPOILT = """\
import os, random, time
from perennial.serving import gunicorn_conf as real
from perennial.serving.gunicorn_conf import *

def post_worker_init(worker):
    real.post_worker_init(worker)
    predictor = worker.wsgi.service.predictor
    predict = predictor.predict
    predictor.predict = lambda rows: ({first}, predict(rows))[1]
"""


def spoil(folder: Path, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next servers do this before each prediction, by a configuration of gunicorn around the real one."""
    (folder / "spoilt.py").write_text(SPOILT.format(first=first))
    monkeypatch.setattr(servers, "GUNICORN", [*servers.GUNICORN[:3], str(folder / "spoilt.py")])


class Prometheus:
    """A context in which the real one asks each track once a second. It begins five seconds after it was started."""

    def __init__(self, folder: Path, tracks: dict[str, int]) -> None:
        self.folder, self.tracks, port = folder, tracks, free_port()
        self.address = f"http://127.0.0.1:{port}"
        self.command = ["prometheus", f"--config.file={folder}/prometheus.json", f"--storage.tsdb.path={folder}/tsdb"]
        self.command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]

    def __enter__(self) -> Self:
        asked = [{"targets": [f"127.0.0.1:{port}"], "labels": {"track": name}} for name, port in self.tracks.items()]
        told = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "perennial", "static_configs": asked}],
        }
        (self.folder / "prometheus.json").write_text(json.dumps(told))  # JSON is YAML
        with (self.folder / "prometheus.txt").open("w") as said:
            self.process = subprocess.Popen(self.command, stdout=said, stderr=said)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def wait_for(self, track: str) -> None:
        """Until it has asked this track once more, and was answered."""
        began = time.time()
        until(lambda: self._answered_since(track, began))

    def _answered_since(self, track: str, began: float) -> bool:
        assert self.process.poll() is None, (self.folder / "prometheus.txt").read_text()
        with suppress(UserError):  # it is not up itself
            up = f'up{{track="{track}"}}'
            found = query(f"timestamp({up}) and {up} == 1", self.address)
            return bool(found) and float(found[0]["value"][1]) > began
        return False


@dataclass(frozen=True)
class Told:
    """What a client was told."""

    status: int
    seconds: float
    remark: str  # of its row: different for each request
    version: str = ""
    prediction_id: str = ""


def version_of(server: Server) -> str:
    return str(server.get("/version").json()["model_version"])


def row(draw: random.Random, remark: str) -> dict[str, Any]:
    """As in the table of tests/repository.py."""
    amount, distance = round(draw.uniform(0, 100), 1), round(draw.gauss(0, 1), 3)
    colour, urgent = draw.choice(["red", "green", "blue"]), draw.random() < 0.4
    return {"amount": amount, "distance": distance, "colour": colour, "urgent": urgent, "remark": remark}


@contextmanager
def traffic(port: int, clients: int = 6, pause: float = 0.02) -> Iterator[list[Told]]:
    """Clients that predict while the block runs, each request on a connection of its own. What breaks has status 0."""
    told, over = list[Told](), threading.Event()

    def ask(number: int) -> None:
        draw = random.Random(number)
        for count in range(1_000_000):
            if over.wait(pause):
                return
            remark, began = f"number {number} {count} {port}", time.perf_counter()
            try:
                with closing(Client(port)) as client:
                    answer = client("POST", "/predict", {"instances": [row(draw, remark)]}, {"Connection": "close"})
                found = answer.json() if answer.status == 200 else {}
            except Exception:
                told.append(Told(0, time.perf_counter() - began, remark))
                raise
            seconds, lines = time.perf_counter() - began, found.get("predictions", [{}])
            version, prediction_id = found.get("model_version", ""), lines[0].get("prediction_id", "")
            told.append(Told(answer.status, seconds, remark, version, prediction_id))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        over.set()
        for thread in threads:
            thread.join()


@dataclass(frozen=True)
class Ended:
    code: int
    said: str
    report: Any  # reports/canary.json, None where there is none


class Stage:
    """A context in which nginx and Prometheus run, before servers that come and go."""

    champion: Server
    challenger: Server

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports = folder, {"champion": free_port(), "challenger": free_port()}
        (folder / "nginx").mkdir()
        self.nginx = Nginx(folder / "nginx", *(f"127.0.0.1:{port}" for port in self.ports.values()))
        self.prometheus = Prometheus(folder, self.ports)
        self.reload = shlex.join(self.nginx.command("-s", "reload"))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.nginx)
            stack.enter_context(self.prometheus)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def plays(self, track: str, folder: Path, **environment: Any) -> Iterator[Server]:
        """What `models/` of a folder serves, as this track, and Prometheus knows."""
        own = Path(tempfile.mkdtemp(dir=self.folder))
        settings = {
            "AIP_HTTP_PORT": self.ports[track],
            "WEB_CONCURRENCY": 1,
            "THREADS": 8,
            "GIT_COMMIT": "",
            "SEGMENT_SECONDS": 9_999,
        }
        server = Server(folder, own / "logs", own / "said.txt", **settings | environment)
        setattr(self, track, server)
        with server:
            self.prometheus.wait_for(track)
            yield server

    def settle(self) -> None:
        """A reload takes a moment to be in force: wait until nobody but the champion answers."""
        version = version_of(self.champion)
        until(lambda: {self.version() for _ in range(20)} == {version})

    def version(self) -> str:
        """Of whoever answers now."""
        with closing(Client(self.nginx.port)) as client:
            answer = client("POST", "/predict", {"instances": [row(random.Random(0), "")]}, {"Connection": "close"})
            return str(answer.json()["model_version"])

    def start(self, *options: str, reload: str = "", **environment: str) -> "Canary":
        return Canary(self, options, reload or self.reload, environment)

    def canary(self, *options: str, reload: str = "", **environment: str) -> Ended:
        return self.start(*options, reload=reload, **environment).end()

    def split(self) -> dict[str, list[str]]:
        """What split.conf says: who answers, and whether there is a shadow; from the first share to the last."""
        text = (self.nginx.folder / "split.conf").read_text()
        blocks = re.findall(r"(?s)\$(track|shadow) \{(.*?)\}", text)
        return {name: [line.strip() for line in block.strip().splitlines()] for name, block in blocks}


CHAMPION_ONLY = {"track": ["* champion;"], "shadow": ["* off;"]}


class Canary:
    """`perennial canary`, running."""

    def __init__(self, stage: Stage, options: tuple[str, ...], reload: str, environment: dict[str, str]) -> None:
        command = ["env", "--default-signal=INT,HUP", sys.executable, "-m", "perennial", "canary"]  # for a job has none
        command += ["--nginx", str(stage.nginx.folder), "--reload", reload]
        own = {"PYTHONPATH": str(ROOT / "src"), "PROMETHEUS_URL": stage.prometheus.address, "COLUMNS": "200"}
        self.report, self._said = stage.folder / "reports/canary.json", stage.folder / "canary.txt"
        self.report.unlink(missing_ok=True)
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [*command, *options], cwd=stage.folder, env=clean_environment() | own | environment,
                stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    def send(self, number: signal.Signals) -> None:
        """To it and what it started, as a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self) -> Ended:
        try:
            code = self.process.wait(servers.PATIENCE)
        finally:
            self.process.kill()
        said = self._said.read_text()
        assert "Traceback" not in said, said
        return Ended(code, said, json.loads(self.report.read_text()) if self.report.exists() else None)
