"""What the watch, and others, say of windows of a table in which the truth is known."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from simulated import signals
from tables import NOTHING, SEASONS, SIDE, Change, draw, params, probability, reference, window

from perennial.monitoring import watch
from perennial.psi import index, shares

HERE = Path(__file__).resolve().parent
MONTHS = 12
OURS = "the watch"
Facts = dict[str, Any]
_running: dict[str, subprocess.Popen[str]] = {}


class Other:
    """A contender in a Python of its own: started once in each of our processes, ends with it."""

    def __init__(self, name: str, python: Path) -> None:
        self.name, self.python = name, python

    def ask(self, what: str, path: Path) -> Any:
        if self.name not in _running:
            quiet = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "OMP_NUM_THREADS": "1"}
            _running[self.name] = subprocess.Popen(
                [str(self.python), str(HERE / "others.py"), self.name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env=os.environ | quiet, cwd=path.parent,
            )  # fmt: skip
        child = _running[self.name]
        assert child.stdin
        assert child.stdout
        print(json.dumps([what, str(path)]), file=child.stdin, flush=True)
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended while it was asked for {what}: run others.py by hand to see why")
        return json.loads(line)

    def end(self) -> None:
        child = _running.pop(self.name)
        assert child.stdin
        child.stdin.close()
        child.wait()


def judged(
    trained: int, rows: int, changes: tuple[Change, ...], turns: range, others: list[Other], folder: Path
) -> list[Facts]:
    """Of each turn and change the verdict on the newest window by every rule; where it can be false, on three of them.

    A turn has one reference, drawn anew; its windows are independent of each other.
    """
    found, frames = [], []
    for turn in turns:
        rng = np.random.default_rng([trained, rows, turn, len(changes)])
        season = changes[0] if changes[0] in SEASONS else NOTHING
        train = draw(trained, rng, season)
        held = reference(train, rng, season)
        for change in changes:
            history = watch.WINDOWS if change in (NOTHING, *SEASONS) else 1
            now = [draw(rows, rng, change, (turn - back) % MONTHS / MONTHS) for back in range(history)]
            facts = [watch.judge(window(frame, probability(frame)), held, params()) for frame in now]
            decision = watch.decide(facts, params())[0] if history > 1 else None
            verdict = {"change": change.title, "month": turn % MONTHS, "decision": decision}
            found.append(verdict | {"signals": signals(facts[0]), "named": _named(facts[0], held)})
            if others and change in (NOTHING, *SIDE):
                marks = {"turn": len(found) - 1}
                frames += [train.assign(now=False, **marks), now[0].assign(now=True, **marks)]
    if frames:
        path = folder / f"{os.getpid()}.parquet"
        asked = pd.concat(frames, ignore_index=True)
        asked.to_parquet(path)
        for other in others:
            for place, names in zip(asked["turn"].unique().tolist(), other.ask("verdicts", path), strict=True):
                found[place]["named"][other.name] = names
        path.unlink()
    return found


def agree(trained: int, rows: int, turns: int, change: Change, other: Other, folder: Path) -> list[int]:
    """On how many of so many frames the contender's tests, called directly, name the columns its own report names."""
    rng, path = np.random.default_rng([trained, rows]), folder / f"agree-{os.getpid()}.parquet"
    frames = [
        draw(size, rng, change if now else NOTHING).assign(turn=turn, now=now)
        for turn in range(turns) for now, size in ((False, trained), (True, rows))
    ]  # fmt: skip
    pd.concat(frames, ignore_index=True).to_parquet(path)
    pairs = zip(other.ask("verdicts", path), other.ask("report", path), strict=True)
    return [sum(sorted(one) == sorted(two) for one, two in pairs), turns]


def _named(facts: Facts, held: watch.Reference) -> dict[str, Any]:
    """The features named by us and by the plain rules; the latter's index has the same bins, without our correction."""
    psi = {}
    for row in facts["features"]:
        before = held.profile["features"][row["feature"]]
        psi[row["feature"]], _ = index(np.array(row["rows"]), shares(before) * held.profile["trained_on"]["rows"])
    over = {f"PSI > {limit}": [name for name, value in psi.items() if value > limit] for limit in (0.1, 0.2)}
    return {OURS: sorted({*facts["drifted"], *facts["broken"]})} | over
