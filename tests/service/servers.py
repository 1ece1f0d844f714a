"""Models as the pipeline writes them, gunicorn as the image starts it, HTTP as clients speak it."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
from prometheus_client.parser import text_string_to_metric_families
from repository import ROOT, clean_environment

from perennial.params import Params
from perennial.pipeline import train
from perennial.serving.local import free_port

GUNICORN = ["-m", "gunicorn", "--config", "python:perennial.serving.gunicorn_conf"]
JSON = {"Content-Type": "application/json"}
PATIENCE = 30.0  # seconds until something that should happen has not
FLAKY = (OSError, http.client.HTTPException)  # what a client sees of a worker that was killed


def train_model(folder: Path, params: Params, table: pd.DataFrame) -> Path:
    """The second stage of the pipeline, run on this table: the folder holds models/ afterwards."""
    rows = len(table) * 4 // 5
    (folder / "data/prepared").mkdir(parents=True)
    for name, part in (("train", table[:rows]), ("holdout", table[rows:])):
        part.reset_index(drop=True).to_parquet(folder / f"data/prepared/{name}.parquet")
    text = json.dumps(params.model_dump(mode="json"), ensure_ascii=False)  # JSON is YAML
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    with contextlib.chdir(folder):
        train.main()
    return folder


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as a client would send them, None for missing."""
    texts = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in texts]


def until(true: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait for something to come true, and return it."""
    deadline = time.monotonic() + patience
    while not (found := true()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: http.client.HTTPMessage

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One kept-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """A dict is sent as JSON, bytes as they are, an iterator in chunks."""
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        self._connection.request(method, path, content, (JSON if body is not None else {}) | (headers or {}))
        response = self._connection.getresponse()
        return Answer(response.status, response.read(), response.msg)

    def close(self) -> None:
        self._connection.close()


class Server:
    """Gunicorn with two workers in a folder that holds models/; a context that ends it."""

    def __init__(self, folder: Path, logs: Path, said: Path, python: str = sys.executable, **environment: Any) -> None:
        self.folder, self.logs, self.port = folder, logs, free_port()
        own = {"HOST": "127.0.0.1", "PORT": self.port, "WEB_CONCURRENCY": 2, "LOG_DIR": logs}
        fixed = {"OMP_NUM_THREADS": "1", "GIT_COMMIT": "abc", "PYTHONPATH": ROOT / "src"}
        given = clean_environment() | fixed | own | environment
        self.environment = {name: str(value) for name, value in given.items()}
        if "AIP_HTTP_PORT" in environment:
            self.port = int(environment["AIP_HTTP_PORT"])
        self.process: subprocess.Popen[str] = None  # type: ignore[assignment]
        self._python, self._said = python, said

    def launch(self) -> Self:
        """Start without waiting."""
        with self._said.open("a") as file:
            self.process = subprocess.Popen(
                [self._python, *GUNICORN], cwd=self.folder, env=self.environment, stdout=file, stderr=file, text=True
            )
        return self

    def __enter__(self) -> Self:
        self.launch()
        try:
            until(self._ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                for pid in [*self.workers(), self.process.pid]:
                    os.kill(pid, signal.SIGKILL)
                self.process.wait()

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.said()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/readyz").status == 200
        return False

    def said(self) -> str:
        return self._said.read_text()

    def client(self) -> Client:
        return Client(self.port)

    def __call__(self, *request: Any, **more: Any) -> Answer:
        """One request on a connection of its own."""
        with contextlib.closing(self.client()) as client:
            return client(*request, **more)

    def get(self, path: str, **more: Any) -> Answer:
        return self("GET", path, **more)

    def post(self, path: str, body: Any, **more: Any) -> Answer:
        return self("POST", path, body, **more)

    def predict(self, *rows: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self.post("/predict", {"instances": list(rows)})
        assert answer.status == 200, answer.body
        predictions: list[dict[str, Any]] = answer.json()["predictions"]
        return predictions

    def workers(self) -> list[int]:
        """The processes the master forked."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Every sample of /metrics by its name and the values of its labels, in the order of their names."""
        families = text_string_to_metric_families(self.get("/metrics").body.decode())
        samples = (sample for family in families for sample in family.samples)
        return {(s.name, *(s.labels[key] for key in sorted(s.labels))): s.value for s in samples}

    def lines(self, kind: str = "predictions") -> list[dict[str, Any]]:
        """Every line of the log, wherever it is by now. To be asked while nothing is shipped."""
        segments = [path for path in self.logs.rglob(f"{kind}-*") if path.is_file()]
        return [json.loads(line) for path in segments for line in path.read_bytes().splitlines()]

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """End it as an orchestrator does; its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def load(server: Server, rows: list[dict[str, Any]], clients: int = 4, patient: bool = True) -> Iterator[list[str]]:
    """Clients that predict without a pause while the block runs; the ids of what was acknowledged.

    A patient client whose connection breaks asks again on a new one; any other trouble fails the block.
    """
    acknowledged, refused, over = list[str](), list[Any](), threading.Event()

    def ask() -> None:
        client = server.client()
        while not over.is_set():
            try:
                answer = client("POST", "/predict", {"instances": rows})
            except FLAKY as error:
                refused.extend([] if patient else [error])
                client.close()
                client = server.client()
                time.sleep(0.01)
                continue
            if answer.status == 200:
                acknowledged.extend(each["prediction_id"] for each in answer.json()["predictions"])
            else:
                refused.append(answer)
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not refused, refused[0]
