"""How often the watch is wrong: windows in which nothing changed, or one thing did, by so much.

    python benchmarks/drift/run.py [--quick] [--jobs N]

Asks the functions `perennial drift` asks, and on the same windows Evidently, NannyML and a plain PSI. Writes
results.json and, from it, README.md and drift.png beside this file; --quick asks a tenth as often and only prints.
The contenders' environments (3 GB) stay in ~/.cache/perennial-bench.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cells
import numpy as np
import pandas as pd
import report
import simulated
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from tables import MOVED, NOTHING, SEASONS, Change, draw
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.append(str(HERE.parent / "serving"))
import environments  # noqa: E402

SEASONAL = {season.title for season in SEASONS}
PIECE = 10  # turns of an errand
REQUIREMENTS = {
    "evidently": "evidently==0.7.23\npandas>=3.0,<3.1\npyarrow",  # with pandas 3.1 it does not import
    "nannyml": "nannyml==0.13.1\nstatsmodels\npyarrow",  # statsmodels is missing in what it declares
}
Figures = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    trained: tuple[int, ...]  # rows of a reference
    moved: dict[int, int]  # rows of a window -> turns in which one thing changed
    still: int  # turns in which nothing did
    seasons: int
    others: dict[str, int]  # which see so many of the first turns too
    worlds: int
    months: dict[int, int]  # rows of a window -> turns in each world
    truth: int  # rows that tell a model's true quality
    large: tuple[int, ...]  # rows of the windows that are timed


FULL = Plan(
    (1000, 5000), {200: 100, 500: 200, 1000: 200, 5000: 60}, 200, 120, {"evidently": 100, "nannyml": 30},
    6, {1000: 10, 5000: 4}, 48_000, (100_000, 1_000_000),
)  # fmt: skip
QUICK = Plan(
    (1000, 5000), {500: 20, 1000: 20}, 20, 24, {"evidently": 20, "nannyml": 10}, 2, {1000: 4}, 12_000, (100_000,)
)


def measure(plan: Plan, jobs: int, folder: Path, progress: Progress) -> Figures:
    started, load, before = time.perf_counter(), os.getloadavg()[0], _spent()
    others, facts = contenders(progress)
    fast = speed(plan, others, folder, progress)
    with ProcessPoolExecutor(jobs, initializer=partial(threadpool_limits, 1)) as pool:
        worlds = [pool.submit(simulated.make, folder, number) for number in range(plan.worlds)]
        asked = [pool.submit(cells.agree, *one, others[0], folder) for one in _agreeing()]
        errands = list(_errands(plan, others))
        tables = [pool.submit(cells.judged, *errand, folder) for errand in errands]
        done(worlds, progress, "training a model in each world")
        months = [pool.submit(simulated.histories, folder, *errand) for errand in _months(plan)]
        truths = [pool.submit(simulated.truth, folder, number, plan.truth) for number in range(plan.worlds)]
        agreed = done(asked, progress, "comparing Evidently's tests with its report")
        judged = done(tables, progress, "judging tables of twenty features")
        lived = done(months, progress, "judging months of the built-in data")
        truth = done(truths, progress, "finding the models' true quality")
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
        "contenders": facts,
        "agreed": [sum(part) for part in zip(*agreed, strict=True)],
        "cells": _cells(errands, judged),
        "worlds": _lived(months=[row for rows in lived for row in rows], truth=truth),
        "speed": fast,
    }  # fmt: skip


def contenders(progress: Progress) -> tuple[list[cells.Other], Figures]:
    """Those whose environment can be made, Evidently first; and what is in it."""
    task = progress.add_task("making the contenders' environments", total=len(REQUIREMENTS))
    found, facts = [], {}
    for name, requirements in REQUIREMENTS.items():
        try:
            made = environments.make(requirements)
        except SystemExit as error:
            if name == "evidently":
                raise
            facts[name] = {"requirements": requirements, "error": str(error)}
        else:
            found.append(cells.Other(name, made.bin / "python"))
            facts[name] = {"requirements": requirements, **made.facts}
        progress.advance(task)
    return found, facts


def speed(plan: Plan, others: list[cells.Other], folder: Path, progress: Progress) -> list[Figures]:
    """Median CPU seconds, one process at a time."""
    task = progress.add_task("timing", total=len(plan.large) + len(others))
    found, rng = [], np.random.default_rng(0)
    for rows in plan.large:
        path, small = folder / f"{rows}.parquet", rows == min(plan.large)
        parts = [draw(rows if now or small else 5000, rng).assign(turn=0, now=now) for now in (False, True)]
        pd.concat(parts, ignore_index=True).to_parquet(path)
        ours = [sys.executable, str(HERE / "speed.py"), str(path)]
        spent = json.loads(subprocess.check_output(ours, env=os.environ | {"OMP_NUM_THREADS": "1"}))
        progress.advance(task)
        for other in others if small else ():
            spent |= other.ask("speed", path)
            other.end()
            progress.advance(task)
        found += [{"what": what, "rows": rows, "cpu": round(median(each), 4)} for what, each in spent.items()]
        path.unlink()
    return found


def _agreeing() -> Iterator[tuple[int, int, int, Change]]:
    for trained in (1000, 3000):
        for rows in (300, 2000):
            yield trained, rows, 3, MOVED[2]


def _errands(plan: Plan, others: list[cells.Other]) -> Iterator[tuple[Any, ...]]:
    """Rows of the reference and of a window, what changes, which turns, who is asked; the longest first."""
    for rows, moved in sorted(plan.moved.items(), reverse=True):
        for trained in plan.trained:
            for turns in _pieces(plan.still):
                asked = [other for other in others if turns.start < plan.others[other.name]]
                yield trained, rows, (NOTHING, *MOVED) if turns.start < moved else (NOTHING,), turns, asked
        for season in SEASONS:
            for turns in _pieces(plan.seasons):
                yield 5000, rows, (season,), turns, []


def _pieces(turns: int) -> Iterator[range]:
    return (range(start, min(start + PIECE, turns)) for start in range(0, turns, PIECE))


def _months(plan: Plan) -> Iterator[tuple[int, int, range, tuple[float, ...]]]:
    """World, rows of a window, turns, shares of labels."""
    for rows, turns in sorted(plan.months.items(), reverse=True):
        for number in range(plan.worlds):
            for start in range(0, turns, 2):
                pairs = range(start, min(start + 2, turns))
                yield number, rows, pairs, simulated.LABELS if rows <= 1000 else simulated.LABELS[:-1]


def _spent() -> float:
    """CPU seconds of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def done(errands: list[Future[Any]], progress: Progress, title: str) -> list[Any]:
    """Their results in order, with a bar while they run."""
    task = progress.add_task(title, total=len(errands))
    for errand in as_completed(errands):
        errand.result()
        progress.advance(task)
    return [errand.result() for errand in errands]


def _cells(errands: list[tuple[Any, ...]], judged: list[list[Figures]]) -> list[Figures]:
    """Counts of each size of reference, size of window and change."""
    found: dict[tuple[int, int, str], list[Figures]] = {}
    for (trained, rows, *_), turns in zip(errands, judged, strict=True):
        for turn in turns:
            found.setdefault((trained, rows, turn["change"]), []).append(turn)
    changed = {change.title: change.feature for change in (NOTHING, *SEASONS, *MOVED)}
    return [
        {"trained": trained, "rows": rows, "change": title, "of": len(turns)} | _counted(turns, changed[title])
        for (trained, rows, title), turns in found.items()
    ]


def _counted(turns: list[Figures], feature: str) -> Figures:
    rules = list(dict.fromkeys(rule for turn in turns for rule in turn["named"]))
    counts: Figures = {"signals": Counter(), "decisions": Counter(), "rules": {}, "months": {}}
    for turn in turns:
        counts["signals"].update(name for name, raised in turn["signals"].items() if raised)
        counts["decisions"].update([turn["decision"]] if turn["decision"] else [])
        if turn["change"] in SEASONAL:
            counts["months"].setdefault(turn["month"], Counter()).update({"of": 1, "any": int(turn["signals"]["any"])})
    for rule in rules:
        said = [turn["named"][rule] for turn in turns if turn["named"].get(rule) is not None]
        names = [each for each in said if isinstance(each, list)]
        counts["rules"][rule] = {
            "of": len(said), "errors": len(said) - len(names), "any": sum(bool(each) for each in names),
            "right": sum(feature in each for each in names), "half": sum(len(each) >= 10 for each in names),
        }  # fmt: skip
    return counts


def _lived(months: list[Figures], truth: list[Figures]) -> Figures:
    """Counts of each world, size of window and share of labels; of the world without drift also by month."""
    found: dict[tuple[str, int, float], list[Figures]] = {}
    for row in months:
        found.setdefault((row["world"], row["rows"], row["labels"]), []).append(row)
    counted = []
    for (title, rows, labels), turns in found.items():
        windows = [window for turn in turns for window in turn["windows"]]
        expected = [turn["expected"] for turn in turns if turn["expected"] is not None]
        counted.append({
            "world": title, "rows": rows, "labels": labels, "of": len(turns), "windows": len(windows),
            "decisions": [Counter(part) for part in zip(*(turn["decisions"] for turn in turns), strict=True)],
            "signals": Counter(name for window in windows for name, raised in window.items() if raised),
            "expected": round(sum(expected) / len(expected), 4) if expected else None,
        })  # fmt: skip
    means = {
        title: {name: round(sum(world[title][name] for world in truth) / len(truth), 4) for name in facts}
        for title, facts in truth[0].items()
    }
    return {"counted": counted, "truth": means, "months": _by_month(months)}


def _by_month(months: list[Figures]) -> list[Figures]:
    found: dict[int, Counter[str]] = {month: Counter() for month in range(1, 13)}
    for row in months:
        if row["world"] == NOTHING.title and row["labels"] == 0.2:
            for back, window in enumerate(row["windows"]):
                counter = found[(row["month"] - 1 - back) % 12 + 1]
                counter.update({"of": 1, "any": int(window["any"])})
    return [{"month": month, **counter} for month, counter in found.items() if counter]


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    reader.add_argument("--quick", action="store_true", help="a tenth as often; only prints")
    reader.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes side by side")
    given = reader.parse_args()
    plan = QUICK if given.quick else FULL
    text = TextColumn("{task.description}")
    columns = (SpinnerColumn(), text, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, Progress(*columns) as progress:
        figures = json.loads(json.dumps(measure(plan, given.jobs, Path(folder), progress)))
    if plan is FULL:
        (HERE / "results.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        report.write(figures, HERE)
    Console().print(Markdown(report.page(figures)))


if __name__ == "__main__":
    main()
