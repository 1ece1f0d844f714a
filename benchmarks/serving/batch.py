"""`perennial score` on a large file against what onnxruntime alone needs for its rows."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contenders import HERE

MONTHS = 10
Figures = dict[str, float]


class Batch:
    """Files of so many rows, and both ways to score them; the package is the copy in the working folder."""

    def __init__(self, work: Path) -> None:
        self.folder, self.tree = work / "batch", work / "repository"
        self.folder.mkdir()
        kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
        self.variables = kept | {"PYTHONPATH": str(self.tree / "src"), "OMP_NUM_THREADS": "1"}

    def simulate(self, rows: int) -> Path:
        """One CSV of all months."""
        months, path = self.folder / str(rows), self.folder / f"{rows}.csv"
        size = ["--months", str(MONTHS), "--rows", str(rows // MONTHS), "--start", "2026-01"]
        command = [sys.executable, "-m", "perennial", "simulate", *size, "--out", months]
        subprocess.run(command, cwd=self.tree, env=self.variables, check=True, capture_output=True)
        with path.open("wb") as table:
            for place, month in enumerate(sorted(months.iterdir())):
                lines = month.read_bytes()
                table.write(lines if place == 0 else lines[lines.index(b"\n") + 1 :])
                month.unlink()
        return path

    def score(self, path: Path) -> Figures:
        """`perennial score` as a process of its own, from its start to its end."""
        command = [sys.executable, "-m", "perennial", "score", path, path.with_suffix(".scored.csv")]
        began = time.perf_counter()
        child = subprocess.Popen(command, cwd=self.tree, env=self.variables, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            sys.exit(f"perennial score {path} failed")
        wall = time.perf_counter() - began
        peak = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        return {"wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime, "peak_mb": peak}

    def bare(self, path: Path) -> subprocess.Popen[str]:
        """A process that holds the rows in memory; see `ask`."""
        command = [sys.executable, HERE / "servers/bare_runtime.py", "models", path]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.tree, env=self.variables, text=True, stdin=pipe, stdout=pipe)


def ask(bare: subprocess.Popen[str]) -> Figures:
    assert bare.stdin
    assert bare.stdout
    bare.stdin.write("\n")
    bare.stdin.flush()
    figures: Figures = json.loads(bare.stdout.readline())
    return figures


def measure(work: Path, sizes: list[int], rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """For each size the runs of `score`; for the largest those of onnxruntime alone too, in turn."""
    batch, largest = Batch(work), max(sizes)
    tell(f"simulating {largest:,} rows")
    files = {rows: batch.simulate(rows) for rows in sizes}
    tell("making the model's inputs")
    figures: dict[str, Any] = {"rows": largest, "score": {}, "bare": []}
    for rows in sizes:
        tell(f"scoring {rows:,} rows")
        figures["score"][str(rows)] = [batch.score(files[rows])] if rows != largest else []
    with batch.bare(files[largest]) as bare:
        for _ in range(rounds):
            tell(f"{largest:,} rows, onnxruntime alone")
            figures["bare"].append(ask(bare))
            tell(f"{largest:,} rows, perennial score")
            figures["score"][str(largest)].append(batch.score(files[largest]))
        bare.communicate()
    return figures
