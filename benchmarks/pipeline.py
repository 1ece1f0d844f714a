"""What the pipeline costs: under DVC against one process, and as the table grows.

    python benchmarks/pipeline.py [--quick]

Every figure is that of a child process in a temporary copy of the repository. Writes pipeline.json and,
from it, README.md beside this file; --quick measures once, up to 100,000 rows, and only prints.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress
from ruamel.yaml import YAML

HERE = Path(__file__).resolve().parent
ROOT, MONTHS, LARGEST = HERE.parent, 10, 1_000_000
# What each stage writes in any case, and so tells that it ran.
STAGES = {"prepare": "reports/data.json", "train": "models/profile.json", "evaluate": "reports/metrics.json"}
ALL_STAGES = f"from perennial.pipeline import {', '.join(STAGES)}\n" + "\n".join(f"{stage}.main()" for stage in STAGES)
ONE, FIRST, COLD, NO_OP = "one process", "first ever, nothing compiled", "cold", "nothing changed"
TRAIN, EVALUATE = "a parameter of train changed", "a parameter of evaluate changed"
# The modules a stage has loaded when it ends, and a process that loads them and does nothing else.
LIST_MODULES = """
import pathlib, sys
from perennial.pipeline import {stage}
{stage}.main()
pathlib.Path("modules").write_text(" ".join(sys.modules))
"""
IMPORT_MODULES = """
import contextlib, importlib, pathlib
for name in pathlib.Path("modules").read_text().split():
    with contextlib.suppress(Exception):
        importlib.import_module(name)
"""
MEASURE_TABLE = """
import json, pandas, pathlib
files = list(pathlib.Path("{raw}").iterdir())
frames = [pandas.read_csv(file) for file in files]
sizes = {{
    "csv_mb": sum(file.stat().st_size for file in files),
    "table_mb": sum(frame.memory_usage(deep=True).sum() for frame in frames),
    "objects_mb": sum(frame.astype(object).memory_usage(deep=True).sum() for frame in frames),
}}
pathlib.Path("sizes").write_text(json.dumps({{name: round(float(size) / 2**20, 2) for name, size in sizes.items()}}))
"""
Figures = dict[str, Any]


class Copy:
    """A copy of the working tree, renewed at one place so that compiled code stays valid."""

    def __init__(self, folder: Path, progress: Progress, steps: int) -> None:
        self.tree, self.progress, self.task = folder / "repository", progress, progress.add_task("", total=steps)
        self.environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
            "PYTHONPATH": str(self.tree / "src"),
            "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
            "DVC_SITE_CACHE_DIR": str(folder / "dvc"),
        }

    def renew(self) -> None:
        shutil.rmtree(self.tree, ignore_errors=True)
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.tree / name)
        subprocess.run(["git", "init", "-q"], cwd=self.tree, check=True)

    def cost(self, title: str, *command: str) -> Figures:
        """Time and memory of a Python process and all that it starts, and which stages ran."""
        self.progress.update(self.task, description=title)
        before, start = self._written(), time.perf_counter()
        with tempfile.TemporaryFile("w+") as said:
            child = subprocess.Popen(
                [sys.executable, *command], cwd=self.tree, env=self.environment, stdout=said, stderr=said
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            if child.returncode:
                raise SystemExit(f"{title}\n{said.read()}")
        self.progress.advance(self.task)
        return {
            "wall_s": round(time.perf_counter() - start, 2),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "peak_mb": round(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), 1),
            "stages": [stage for stage, at in self._written().items() if at != before[stage]],
        }

    def _written(self) -> dict[str, int | None]:
        paths = {stage: self.tree / name for stage, name in STAGES.items()}
        return {stage: path.stat().st_mtime_ns if path.exists() else None for stage, path in paths.items()}

    def change(self, section: str) -> None:
        """Add 1 to the first whole number of that section's parameters."""
        yaml, path = YAML(), self.tree / "params.yaml"
        params = yaml.load(path)
        numbers = params[section].get("params", params[section])
        numbers[next(name for name, value in numbers.items() if type(value) is int)] += 1
        yaml.dump(params, path)


def one_round(copy: Copy) -> Figures:
    """Each way to run the pipeline once, from an empty cache on."""
    run = ("-m", "perennial", "run")
    copy.renew()
    figures = {ONE: copy.cost(ONE, "-c", ALL_STAGES)}
    copy.renew()
    figures |= {COLD: copy.cost(COLD, *run), NO_OP: copy.cost(NO_OP, *run)}
    for section, title in (("train", TRAIN), ("evaluate", EVALUATE)):
        copy.change(section)
        figures[title] = copy.cost(title, *run)
    return figures


def imports(copy: Copy, stage: str) -> Figures:
    copy.cost(f"what {stage} imports", "-c", LIST_MODULES.format(stage=stage))
    return copy.cost(f"what {stage} imports", "-c", IMPORT_MODULES)


def growth(copy: Copy, rows: int, rounds: int) -> Figures:
    """The stages one by one on a table of that many rows."""
    copy.renew()
    raw = YAML().load(copy.tree / "params.yaml")["data"]["raw"]
    shutil.rmtree(copy.tree / raw)
    months = ("--months", str(MONTHS), "--rows", str(rows // MONTHS), "--out", raw)
    copy.cost(f"{rows:,} rows", "-m", "perennial", "simulate", *months)
    copy.cost(f"{rows:,} rows", "-c", MEASURE_TABLE.format(raw=raw))
    sizes = json.loads((copy.tree / "sizes").read_text())
    stages = [
        {stage: copy.cost(f"{stage}, {rows:,} rows", "-m", f"perennial.pipeline.{stage}") for stage in STAGES}
        for _ in range(rounds)
    ]
    return {"rows": rows, **sizes, "stages": middle(stages)}


def middle(runs: list[Any]) -> Any:
    """The median of each figure of these trees; of all else, which is the same in each, the first."""
    if isinstance(runs[0], dict):
        return {key: middle([run[key] for run in runs]) for key in runs[0]}
    return round(median(runs), 2) if isinstance(runs[0], float) else runs[0]


def measure(sizes: list[int], rounds: int) -> Figures:
    load = os.getloadavg()[0]
    steps = 1 + 2 * len(STAGES) + 5 * rounds + len(sizes) * (2 + rounds * len(STAGES))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, Progress(transient=True) as progress:
        copy = Copy(Path(folder), progress, steps)
        copy.renew()
        first = copy.cost(FIRST, "-m", "perennial", "run")
        baseline = {stage: imports(copy, stage) for stage in STAGES}
        runs = middle([one_round(copy) for _ in range(rounds)]) | {FIRST: first}
        grown = [growth(copy, rows, rounds) for rows in sizes]
    machine = {
        "system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count(),
        "python": platform.python_version(), "load": [round(load, 1), round(os.getloadavg()[0], 1)],
    }  # fmt: skip
    figures = {"machine": machine, "rounds": rounds, "runs": runs, "imports": baseline, "growth": grown}
    add_ratios(figures)
    return figures | {"targets": targets(figures)}


def add_ratios(figures: Figures) -> None:
    """To each run: CPU over one process. To each stage of a table: memory over the table's, CPU a row over a tenth's.

    What the stage's imports take is left out of the latter two.
    """
    for run in figures["runs"].values():
        run["over_one_process"] = round(run["cpu_s"] / figures["runs"][ONE]["cpu_s"], 2)
    per_row: dict[tuple[int, str], float] = {}
    for table in figures["growth"]:
        for stage, cost in table["stages"].items():
            base = figures["imports"][stage]
            cost["memory_over_table"] = round((cost["peak_mb"] - base["peak_mb"]) / table["table_mb"], 2)
            per_row[table["rows"], stage] = (cost["cpu_s"] - base["cpu_s"]) / table["rows"]
            tenth = per_row.get((table["rows"] // 10, stage))
            cost["per_row_over_tenth"] = round(per_row[table["rows"], stage] / tenth, 2) if tenth else None


def targets(figures: Figures) -> list[Figures]:
    runs = figures["runs"]
    wanted = [
        ("Cold run: CPU over one process", runs[COLD]["over_one_process"], 1.5),
        ("Run with nothing changed: CPU s", runs[NO_OP]["cpu_s"], 2.0),
    ]
    for table in figures["growth"]:
        for stage, cost in table["stages"].items() if table["rows"] == LARGEST else ():
            title = f"{stage}, {LARGEST:,} rows"
            wanted.append((f"{title}: memory over the table's", cost["memory_over_table"], 4.0))
            wanted.append((f"{title}: CPU a row over that of a tenth of them", cost["per_row_over_tenth"], 1.3))
    return [{"target": t, "measured": m, "at_most": limit, "holds": m <= limit} for t, m, limit in wanted]


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    sizes = [LARGEST // 100, LARGEST // 10, LARGEST]
    figures = measure(sizes[:2], 1) if quick else measure(sizes, 3)
    template = jinja2.Template((HERE / "README.md.j2").read_text("utf-8"), trim_blocks=True, lstrip_blocks=True)
    page = template.render(figures) + "\n"
    if not quick:
        (HERE / "pipeline.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
        (HERE / "README.md").write_text(page, "utf-8")
    Console().print(Markdown(page))


if __name__ == "__main__":
    main()
