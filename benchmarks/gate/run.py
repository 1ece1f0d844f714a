"""How often the gate is wrong: equal models, models known to be worse, leaks, shuffled labels.

    python benchmarks/gate/run.py [--quick] [--jobs N]

Asks the functions the gate asks, on simulated customers whose truth is known. Writes results.json and, from it,
README.md and gate.png beside this file; --quick asks a twentieth as often and only prints.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cheats
import decide
import report
import world
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from perennial.params import Params, load
from perennial.pipeline import leaks

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PIECE = 5_000_000  # rows times bootstrap resamples of a process's errand, or so
Figures = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    worlds: int
    people: int  # customers of a world
    equal: dict[int, int]  # rows of a hold-out -> hold-outs of each pair of equal models
    worse: dict[int, int]
    tables: int  # with each leak planted
    shuffles: int


FULL = Plan(8, 100_000, {1000: 600, 5000: 400}, {1000: 160, 5000: 120}, 20, 20)
QUICK = Plan(2, 50_000, {1000: 40, 5000: 40}, {1000: 20, 5000: 20}, 3, 3)


def measure(plan: Plan, jobs: int, params: Params, folder: Path, progress: Progress) -> Figures:
    started, load, before = time.perf_counter(), os.getloadavg()[0], _spent()
    with ProcessPoolExecutor(jobs, initializer=decide.hurry) as pool:
        made = [pool.submit(world.make, number, plan.people, params, folder) for number in range(plan.worlds)]
        done(made, progress, "making worlds: customers, and models fitted on some")
        errands = list(_errands(plan, params))
        asked = [pool.submit(decide.holdouts, folder, *errand, params) for errand in errands]
        decided = done(asked, progress, "deciding")
        mixed = [pool.submit(cheats.shuffled, folder, n, tuple(plan.worse), params) for n in range(plan.shuffles)]
        shuffles = [row for rows in done(mixed, progress, "shuffling labels") for row in rows]
        hidden = [pool.submit(cheats.leak, title, range(plan.tables), params) for title in cheats.PLANTS]
        gains = [pool.submit(cheats.gain, title, params) for title in cheats.PLANTS]
        planted = done(hidden, progress, "planting leaks")
        reached = done(gains, progress, "fitting models on them")
    cells: dict[tuple[int, int], list[Figures]] = {}
    for (_, index, rows, _), found in zip(errands, decided, strict=True):
        cells.setdefault((index, rows), []).extend(found)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "machine": {
            "system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count(), "jobs": jobs,
            "python": platform.python_version(), "commit": commit.stdout.strip(),
            "load": [round(load, 1), round(os.getloadavg()[0], 1)],
            "minutes": round((time.perf_counter() - started) / 60, 1),
            "cpu_minutes": round((_spent() - before) / 60, 1),
        },
        "plan": asdict(plan),
        "gate": params.gate.model_dump(mode="json"),
        "constants": {"suspicious": leaks.SUSPICIOUS, "bootstrap": params.evaluate.bootstrap},
        "scenarios": _truths(plan, folder),
        "cells": [_cell(index, rows, found) for (index, rows), found in sorted(cells.items())],
        "shuffled": _shuffled(shuffles),
        "leaks": [row | {"reached": round(auc, 4)} for row, auc in zip(planted, reached, strict=True)],
    }  # fmt: skip


def _spent() -> float:
    """CPU seconds of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _errands(plan: Plan, params: Params) -> Iterator[tuple[int, int, int, range]]:
    """World, scenario, rows and which hold-outs; the hold-outs of a size are the same for every scenario."""
    for number in range(plan.worlds):
        for index, scenario in enumerate(world.SCENARIOS):
            for rows, count in (plan.worse if scenario.fall else plan.equal).items():
                whole, piece = count // plan.worlds, max(1, PIECE // (rows * params.evaluate.bootstrap) * 5)
                for start in range(0, whole, piece):
                    yield number, index, rows, range(start, min(start + piece, whole))


def done(errands: list[Future[Any]], progress: Progress, title: str) -> list[Any]:
    """Their results in order, with a bar while they run."""
    task = progress.add_task(title, total=len(errands))
    for errand in as_completed(errands):
        errand.result()
        progress.advance(task)
    return [errand.result() for errand in errands]


def _cell(index: int, rows: int, found: list[Figures]) -> Figures:
    blocked = Counter(name for one in found for name, stopped in one["blocked"].items() if stopped)
    return {
        "scenario": index,
        "rows": rows,
        "of": len(found),
        "blocked": {name: blocked[name] for name in found[0]["blocked"]},
        "better": sum(one["better"] for one in found),
        "width": round(sum(one["width"] for one in found) / len(found), 5),
    }


def _truths(plan: Plan, folder: Path) -> list[Figures]:
    """The scenarios; over the worlds, the champion's mean ROC AUC and fall before noise, the fall's largest error."""
    worlds = [decide.truths(folder, number) for number in range(plan.worlds)]
    facts = []
    for scenario, rows in zip(world.SCENARIOS, zip(*worlds, strict=True), strict=True):
        off = max(abs(row["champion"] - row["challenger"] - scenario.fall) for row in rows)
        found = {"auc": [row["champion"] for row in rows], "natural": [row["fall"] for row in rows]}
        means = {name: round(sum(values) / len(values), 5) for name, values in found.items()}
        facts.append(asdict(scenario) | means | {"off": off})
    return facts


def _shuffled(found: list[Figures]) -> list[Figures]:
    cells: dict[tuple[str, int], list[Figures]] = {}
    for one in found:
        cells.setdefault((one["shuffled"], one["rows"]), []).append(one["blocked"])
    return [
        {
            "shuffled": title,
            "rows": rows,
            "of": len(all_blocked),
            "blocked": {name: sum(one[name] for one in all_blocked) for name in all_blocked[0]},
        }
        for (title, rows), all_blocked in sorted(cells.items())
    ]


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    reader.add_argument("--quick", action="store_true", help="a twentieth as often; only prints")
    reader.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes side by side")
    given = reader.parse_args()
    plan, params = QUICK if given.quick else FULL, load(ROOT / "params.yaml")
    text = TextColumn("{task.description}")
    columns = (SpinnerColumn(), text, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, Progress(*columns) as progress:
        figures = measure(plan, given.jobs, params, Path(folder), progress)
    if plan is FULL:
        (HERE / "results.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        report.write(figures, HERE)
    Console().print(Markdown(report.page(figures)))


if __name__ == "__main__":
    main()
