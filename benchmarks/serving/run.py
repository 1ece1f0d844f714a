"""What serving costs: ours beside MLflow, BentoML, FastAPI and a constant answer, and batch scoring.

    python benchmarks/serving/run.py [--quick]

Needs wrk and uv. Writes results.json and, from it, README.md and serving.png beside this file; --quick measures
briefly and only prints. The contenders' environments stay in ~/.cache/perennial-bench.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import batch
import report
from contenders import HERE, OURS, ROOT, Contender, contenders
from parity import require_equal
from process import Server, require_wrk
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Figures = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    starts: int
    rounds: int
    seconds: float
    sizes: tuple[int, ...]  # rows of a request
    connections: tuple[int, ...]
    tables: tuple[int, ...]
    scorings: int


FULL = Plan(3, 5, 3, (1, 100), (1, 8, 32), (100_000, 1_000_000), 3)
QUICK = Plan(1, 1, 2, (1, 100), (8,), (100_000,), 1)


class Bench:
    def __init__(self, plan: Plan, work: Path, progress: Progress) -> None:
        self.plan, self.work, self.progress = plan, work, progress
        self._task = progress.add_task("")

    def tell(self, text: str) -> None:
        self.progress.update(self._task, description=text)

    def run(self) -> Figures:
        load = os.getloadavg()[0]
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
        self.tell("training the model")
        self.train()
        self.tell("installing the contenders (kept for the next time)")
        field = contenders(self.work)
        self.keep_answers(next(one for one in field if one.name == OURS))
        alone = {one.name: self.alone(one) for one in field}
        served = self.side_by_side(field)
        scored = batch.measure(self.work, list(self.plan.tables), self.plan.scorings, self.tell)
        machine = {
            "system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count(),
            "python": platform.python_version(), "commit": commit.stdout.strip(),
            "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        }  # fmt: skip
        facts = {one.name: {"title": one.title, **one.environment.facts, **alone[one.name]} for one in field}
        return {"machine": machine, "plan": vars(self.plan), "contenders": facts, "load": served, "batch": scored}

    def train(self) -> None:
        """The pipeline in a copy of the working tree."""
        tree = self.work / "repository"
        for name in ("src", "data/raw", "params.yaml", "dvc.lock"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, tree / name)
        variables = os.environ | {"PYTHONPATH": str(tree / "src")}
        command = [sys.executable, HERE / "prepare.py", self.work]
        done = subprocess.run(command, cwd=tree, env=variables, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"The model was not trained:\n{done.stdout}{done.stderr}")

    def keep_answers(self, ours: Contender) -> None:
        """Real answers, for the constant one."""
        (self.work / "answers").mkdir()
        with Server(ours, self.work) as server:
            for rows in self.plan.sizes:
                _, answer = server.ask(server.bodies(rows)[0], rows)
                (self.work / f"answers/{rows}.json").write_bytes(answer)

    def alone(self, contender: Contender) -> Figures:
        """Starts and memory, with no other contender that shares a page."""
        runs = []
        for place in range(self.plan.starts):
            self.tell(f"{contender.title}: start {place + 1} of {self.plan.starts}")
            with Server(contender, self.work) as server:
                for rows in self.plan.sizes:
                    server.load(rows, 8, 2)
                runs.append({"start_wall_s": server.wall_s, "start_cpu_s": server.cpu_s, **server.memory()})
        return {name: round(median(run[name] for run in runs), 2) for name in runs[0]}

    def side_by_side(self, field: list[Contender]) -> list[Figures]:
        """Every run of wrk: the contenders take turns within each round."""
        with ExitStack() as stack:
            servers = []
            for contender in field:
                self.tell(f"{contender.title}: starting beside the others")
                servers.append(stack.enter_context(Server(contender, self.work)))
            require_equal(servers, self.plan.sizes)
            for server in servers:
                server.load(self.plan.sizes[0], 8, 2)
            runs = []
            for rows in self.plan.sizes:
                for connections in self.plan.connections:
                    for turn in range(self.plan.rounds):
                        self.tell(f"{rows} rows, {connections} connections, round {turn + 1} of {self.plan.rounds}")
                        for server in servers:
                            run = server.load(rows, connections, self.plan.seconds)
                            key = {"contender": server.contender.name, "rows": rows, "connections": connections}
                            runs.append(key | {name: round(value, 4) for name, value in run.items()})
            return runs


def main() -> None:
    require_wrk()
    plan = QUICK if "--quick" in sys.argv[1:] else FULL
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, Progress(*columns, transient=True) as progress:
        figures = Bench(plan, Path(folder), progress).run()
    if plan is FULL:
        (HERE / "results.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        report.write(figures, HERE)
    Console().print(Markdown(report.page(figures)))


if __name__ == "__main__":
    main()
