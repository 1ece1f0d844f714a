"""Where the story plays: a clone of this repository with a bare origin, and a service of its model."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from perennial.errors import UserError
from perennial.git import git
from perennial.rehearsal.clock import VARIABLE
from perennial.serving.local import free_port
from perennial.worktree import said

WINDOW = 10  # days; the repository's own may be longer than the story is patient


class Workspace:
    """The clone; commands in it run its own code and talk to its own origin."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.path, self.store, self.clock = folder / "work", folder / "store", folder / "clock"
        git("clone", "--quiet", "--no-local", ".", str(self.path))
        git("-C", str(self.path), "checkout", "--quiet", "-B", "main")
        git("clone", "--quiet", "--bare", str(self.path), str(folder / "origin.git"))
        git("-C", str(self.path), "remote", "set-url", "origin", str(folder / "origin.git"))
        self.environment = os.environ | environment | {"PYTHONPATH": str(self.path / "src"), "BASE_BRANCH": "main"}
        self.environment |= {"PREDICTION_STORE": str(self.store), "COLUMNS": "120"}
        params = self.path / "params.yaml"
        params.write_text(re.sub(r"(?m)^  days: .*", f"  days: {WINDOW}", params.read_text(encoding="utf-8")))
        self.git("-c", "user.name=loop", "-c", "user.email=loop@example.com", "commit", "-qam", "Watch shorter windows")
        self.git("push", "--quiet", "origin", "main")

    def git(self, *arguments: str) -> str:
        return git("-C", str(self.path), *arguments)

    def perennial(self, *arguments: str) -> str:
        """What the command printed.

        Raises:
            UserError: when it fails, with the end of it.
        """
        command = [sys.executable, "-m", "perennial", *arguments]
        done = subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"`perennial {' '.join(arguments)}` ended with {done.returncode}:\n  {said(done, 30)}")
        return done.stdout

    def merge(self, branch: str) -> str:
        """Merge what was proposed, as the button does; the new commit."""
        self.git("fetch", "--quiet", "origin", branch)
        self.git("merge", "--quiet", "--ff-only", "FETCH_HEAD")
        self.git("push", "--quiet", "origin", "main")
        return self.git("rev-parse", "HEAD")


class Service:
    """A running gunicorn with two workers; every answer that is no 200 is counted."""

    def __init__(self, workspace: Workspace, process: "subprocess.Popen[bytes]", logs: Path, url: str) -> None:
        self._workspace, self._process, self._logs, self.url = workspace, process, logs, url
        self.asked = self.failed = 0

    def predict(self, rows: Sequence[dict[str, Any]]) -> Any:
        return self._post("/predict", {"instances": rows})

    def label(self, labels: Sequence[dict[str, Any]]) -> None:
        self._post("/feedback", {"labels": labels})

    def version(self) -> str:
        with urllib.request.urlopen(f"{self.url}/version", timeout=10) as answer:  # noqa: S310 (our own)
            return str(orjson.loads(answer.read())["model_version"])

    def reload(self) -> None:
        """Take the model that is there now, as an operator would have it."""
        self._process.send_signal(signal.SIGHUP)

    def shipped(self) -> None:
        """Wait until the log has left for the store."""
        for _ in range(600):
            if not any(path.suffix in (".open", ".jsonl") for path in self._logs.glob("*-*")):
                return
            time.sleep(0.05)
        raise UserError(f"the log in {self._logs} is not shipped", "see what gunicorn said in service.txt beside it")

    def _post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310 (our own)
            self.url + path, orjson.dumps(body), {"Content-Type": "application/json"}
        )
        self.asked += 1
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return orjson.loads(answer.read())
        except OSError:
            self.failed += 1
            raise


@contextmanager
def service(workspace: Workspace) -> Iterator[Service]:
    """The workspace's model behind gunicorn, in simulated time."""
    folder, port = workspace.path.parent, free_port()
    own = {"HOST": "127.0.0.1", "PORT": str(port), "LOG_DIR": str(folder / "logs"), "WEB_CONCURRENCY": "2"}
    own |= {"SEGMENT_BYTES": "200000", "SEGMENT_SECONDS": "1", "OMP_NUM_THREADS": "1", VARIABLE: str(workspace.clock)}
    command = [sys.executable, "-m", "gunicorn", "--config", "python:perennial.serving.gunicorn_conf"]
    command.append("perennial.rehearsal.clock:create_app()")
    with (folder / "service.txt").open("wb") as told:
        process = subprocess.Popen(
            command, cwd=workspace.path, env=workspace.environment | own, stdout=told, stderr=subprocess.STDOUT
        )
        try:
            yield _ready(Service(workspace, process, folder / "logs", f"http://127.0.0.1:{port}"), folder)
        finally:
            process.terminate()
            process.wait(60)


def _ready(started: Service, folder: Path) -> Service:
    for _ in range(300):
        with contextlib.suppress(OSError):
            started.version()
            return started
        time.sleep(0.1)
    raise UserError("the service did not start:\n  " + (folder / "service.txt").read_text()[-2000:])
