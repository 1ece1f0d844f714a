"""`make loop`, as it is: the story must be whole, and true."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT, Repository, project_files

from perennial.rehearsal import picture
from perennial.rehearsal.loop import DAYS, ONSET, START

Facts = dict[str, Any]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The code and the data as they are on disk, committed."""
    found = Repository(tmp_path_factory.mktemp("loop") / "repository")
    for name in project_files():
        (found.path / name).parent.mkdir(parents=True, exist_ok=True)
        (found.path / name).write_bytes((ROOT / name).read_bytes())
    found.git("init", "-q", "-b", "main")
    found.commit()
    return found


@pytest.fixture(scope="module")
def story(here: Repository) -> Facts:
    command = [sys.executable, "-m", "perennial", "loop"]
    done = subprocess.run(command, cwd=here.path, env=here.environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    found: Facts = json.loads(here.read("reports/loop.json"))
    return found | {"said": done.stdout}


def days_of(story: Facts, word: str) -> list[int]:
    return [event["day"] for event in story["events"] if word in event]


def test_the_loop_closes(story: Facts) -> None:
    """Quiet before the change, an alarm after it, a merge after the alarm, quiet again."""
    onset = (ONSET - START).days
    decisions = [(event["day"], event["decision"]) for event in story["events"] if "decision" in event]
    merged = days_of(story, "merged")
    assert merged
    assert {decision for day, decision in decisions if day <= onset} == {"quiet"}
    assert "retrain" in {decision for day, decision in decisions if onset < day <= merged[0]}
    assert {decision for day, decision in decisions if day > merged[-1]} == {"quiet"}
    assert merged[0] - onset <= 28


def test_no_request_failed_and_two_models_served(story: Facts) -> None:
    assert story["failed"] == 0
    assert story["requests"] > 20 * DAYS
    versions = list(dict.fromkeys(day["version"] for day in story["days"]))
    assert len(versions) == 1 + len(days_of(story, "merged"))


def test_quality_falls_and_comes_back(story: Facts) -> None:
    found = story["recovery"]
    assert found["before"] < found["served"] - 0.05
    assert found["served"] >= found["trained_on_the_truth"] - 0.005
    assert found["served"] <= found["reachable"]


def test_the_table_is_what_the_days_say(story: Facts) -> None:
    from sklearn.metrics import roc_auc_score

    first = story["days"][:7]
    label, said = ([cell for day in first for cell in day[name]] for name in ("label", "said"))
    assert picture.points(story, 7)[0]["served"] == pytest.approx(roc_auc_score(label, said))
    assert f"{roc_auc_score(label, said):.3f}" in story["said"]


def test_nothing_is_left_behind(here: Repository, story: Facts) -> None:  # noqa: ARG001
    assert here.changed() == []
    assert len(here.git("worktree", "list").splitlines()) == 1
    assert (here.path / "reports/loop.png").read_bytes().startswith(b"\x89PNG")
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"rehearsal.clock" in _read(path)]
    assert left == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
