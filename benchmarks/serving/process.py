"""A running server: the processes it consists of, what they used, and how it answers."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psutil
from contenders import HERE, Contender

PATIENCE = 120  # seconds to the first answer
GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "True"}


class Server:
    """Started at once; `wall_s` and `cpu_s` say what the first good answer took. A context manager that ends it."""

    def __init__(self, contender: Contender, work: Path) -> None:
        self.contender, self.work, self.port = contender, work, free_port()
        variables = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
        variables |= ONE_THREAD | contender.variables
        variables["PATH"] = f"{contender.environment.bin}{os.pathsep}{variables['PATH']}"
        variables = {name: text.replace("{port}", str(self.port)) for name, text in variables.items()}
        program, *arguments = [part.replace("{port}", str(self.port)) for part in contender.command]
        self.said = work / f"{contender.name}.log"
        began = time.perf_counter()
        with self.said.open("w") as log:
            self._process = subprocess.Popen(
                [contender.environment.bin / program, *arguments],
                cwd=contender.folder, env=variables, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.wait(began + PATIENCE)
        self.wall_s, self.cpu_s = time.perf_counter() - began, self.cpu()
        self._parents = {process.ppid() for process in self.tree()}

    def wait(self, until: float) -> None:
        body = self.bodies(1)[0]
        while time.perf_counter() < until and self._process.poll() is None:
            with suppress(OSError, HTTPException):
                if self.ask(body, 1)[0] == 200:
                    return
            time.sleep(0.01)
        self.stop()
        sys.exit(f"{self.contender.title} gives no answer:\n{self.said.read_text(errors='replace')[-3000:]}")

    def bodies(self, rows: int) -> list[bytes]:
        return self._bodies(rows).read_bytes().splitlines()

    def _bodies(self, rows: int) -> Path:
        return self.work / f"bodies/{self.contender.bodies}_{rows}.jsonl"

    def ask(self, body: bytes, rows: int) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", self.contender.path.format(rows=rows), body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def load(self, rows: int, connections: int, seconds: float) -> dict[str, float]:
        """What wrk measured, and the CPU time of the server for each request."""
        url = f"http://127.0.0.1:{self.port}{self.contender.path.format(rows=rows)}"
        before = self.cpu()
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds:g}s",
            "--timeout",
            "60s",
            "-s",
            HERE / "post.lua",
            url,
        ]
        done = subprocess.run([*command, "--", self._bodies(rows)], capture_output=True, text=True)
        if done.returncode:
            log = self.said.read_text(errors="replace")[-3000:]
            sys.exit(f"wrk and {self.contender.title}: {done.stdout}{done.stderr}\n{log}")
        figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        return figures | {"cpu_ms": 1000 * (self.cpu() - before) / max(1, figures["requests"])}

    def tree(self) -> list[psutil.Process]:
        with suppress(*GONE):
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def cpu(self) -> float:
        """CPU seconds of all its processes, those included that have ended."""
        return sum(sum(self._times(process)) for process in self.tree())

    @staticmethod
    def _times(process: psutil.Process) -> tuple[float, ...]:
        with suppress(*GONE):
            times = process.cpu_times()
            return times.user, times.system, times.children_user, times.children_system
        return (0.0,)

    def memory(self) -> dict[str, float]:
        """Megabytes of the tree and of its two workers, which are below all others; shared pages are split."""
        used: dict[int, float] = {}
        for process in self.tree():
            with suppress(*GONE):
                used[process.pid] = process.memory_full_info().pss / 2**20
        workers = sorted(size for pid, size in used.items() if pid not in self._parents)[-2:]
        return {"pss_tree_mb": sum(used.values()), "pss_workers_mb": sum(workers)}

    def stop(self) -> None:
        processes = self.tree()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=10)
        for process in alive:
            with suppress(*GONE):
                process.kill()
        self._process.wait()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_wrk() -> None:
    if not shutil.which("wrk"):
        sys.exit("wrk is not there. Fix: apt-get install wrk (or brew install wrk)")
