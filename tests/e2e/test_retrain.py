"""Lasting drift ends in one pull request, whatever happens on the way: real pipelines, real git, GitHub's stand-in."""

import datetime
import difflib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from gates import ONCE
from production import Production, World, gone, nudged, same, shifted, turned, unlabelled
from repository import Repository, write_table
from stand_in import GitHub
from traffic import DAY, UNTIL

from perennial.contract import Contract
from perennial.errors import UserError
from perennial.files import sha256
from perennial.monitoring import batch, candidates
from perennial.monitoring.window import read
from perennial.params import load

Facts = dict[str, Any]
Change = Callable[[str], str]
WEEK = 7 * DAY
NAME, BRANCH = "octo/demo", "retrain/production"
FEW, MANY = 350, 840  # rows a week: of two of them, the rows that do not judge are enough to be learnt from alone
SPLIT = "split: # who judges\n\n  holdout:  0.25   # a quarter\n  since:   # what is older is left out\n"
PARAMS = (
    ONCE.replace("split:\n  holdout: 0.25\n", SPLIT)
    .replace("values: [red, green, blue]", "values: [red,\n                                      green, blue]")
    .replace("seed: 7\n", "watch: {days: 7, rows: 200}   # weeks\n\nseed: 7  # any\n")
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Its model has learnt from six hundred rows; people have laid out its params.yaml by hand."""
    here = Repository.create(tmp_path_factory.mktemp("project") / "repository")
    (here.path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    here.perennial("run")
    here.commit("Start")
    return here


def shared(project: Repository, path: Path) -> Repository:
    """A copy of its own, but for the cache: what one test has trained, the next need not."""
    copy = project.copy(path)
    (path / ".dvc/config.local").write_text(f"[cache]\n    dir = {project.path}/.dvc/cache\n")
    return copy


class Plant:
    """The project at work: a clone with its origin on disk, the stand-in, and a log."""

    def __init__(self, project: Repository, folder: Path, github: GitHub) -> None:
        self.here, self.github, self.origin = shared(project, folder / "here"), github, folder / "origin.git"
        self.here.git("clone", "-q", "--bare", str(self.here.path), str(self.origin))
        self.here.git("remote", "add", "origin", str(self.origin))
        self.here.git("fetch", "-q", "origin")
        self.repository = github.add_repository(NAME, git=self.origin)
        (folder / "temporary").mkdir()
        self.environment = github.environment(NAME) | {"TMPDIR": str(folder / "temporary")}
        self.store = folder / "store"

    def lives(self, *worlds: World, rows: int = FEW, until: datetime.datetime = UNTIL) -> str:
        """Weeks of the log, the newest first; the decision about the last three."""
        Production(self.here, self.store, rows).weeks(*worlds, until=until)
        return self.drift(until)

    def drift(self, until: datetime.datetime = UNTIL) -> str:
        self.here.perennial("drift", "--store", str(self.store), "--until", until.isoformat())
        return str(self.facts["decision"])

    @property
    def facts(self) -> Facts:
        return json.loads(self.here.read("reports/drift.json"))  # type: ignore[no-any-return]

    def retrain(self, expect: int = 0, **environment: str) -> str:
        command = [sys.executable, "-m", "perennial", "retrain"]
        return self.here.command(*command, expect=expect, **self.environment | environment)

    @property
    def pulls(self) -> list[Facts]:
        return list(self.repository.pulls.values())

    @property
    def issues(self) -> list[Facts]:
        return list(self.repository.issues.values())

    def git(self, *arguments: str) -> str:
        """At the origin."""
        return self.here.git("-C", str(self.origin), *arguments)

    def show(self, name: str) -> str:
        """A file as it is proposed."""
        return self.git("show", f"{BRANCH}:{name}")

    def changed(self) -> list[str]:
        return self.git("diff", "--name-only", f"main...{BRANCH}").splitlines()

    def batch(self) -> tuple[Facts, pd.DataFrame]:
        """The note of the newest rows, and the rows."""
        note = json.loads(self.show("data/production.json"))[-1]
        file = self.here.path.parent / "batch.csv"
        file.write_text(self.show(note["file"]) + "\n", encoding="utf-8")
        assert sha256(file) == note["sha256"]
        return note, pd.read_csv(file, dtype=str)

    def mine(self) -> Facts:
        """All that somebody at work here would miss."""
        told = {word: self.here.git(*word.split()) for word in ("status --porcelain", "ls-files -s", "diff HEAD")}
        heads = self.here.git("for-each-ref", "refs/heads", "refs/tags", "refs/stash")
        listed = self.here.git("worktree", "list", "--porcelain")
        return told | {"heads": heads, "worktrees": listed, "config": self.here.read(".git/config")}

    def merge(self) -> None:
        """What its author decides; and everybody takes it over."""
        (pull,) = [pull for pull in self.pulls if pull["state"] == "open"]
        assert self.git("rev-list", "--count", f"main..{BRANCH}") == "1"
        self.git("update-ref", "refs/heads/main", BRANCH)
        self.git("update-ref", "-d", f"refs/heads/{BRANCH}")
        pull.update(state="closed", merged=True)
        self.here.git("pull", "-q", "--ff-only", "origin", "main")
        self.here.perennial("run")


@pytest.fixture
def plant(project: Repository, tmp_path: Path) -> Iterator[Plant]:
    with GitHub(tmp_path / "github") as github:
        yield Plant(project, tmp_path, github)


# A pull request, from a place where somebody is in the middle of something else


@pytest.fixture(scope="module")
def proposed(project: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """The rows mean the contrary, for two weeks; the retraining found other work, half done, on another branch."""
    folder = tmp_path_factory.mktemp("proposed")
    with GitHub(folder / "github") as github:
        plant = Plant(project, folder, github)
        assert plant.lives(turned, turned, same, rows=MANY) == "retrain"
        plant.here.git("switch", "-q", "-c", "elsewhere")
        plant.here.replace("params.yaml", "max_iter: 20", "max_iter: 2")
        plant.here.commit("Half a thought")
        plant.here.replace("params.yaml", "max_iter: 2\n", "max_iter: 3\n")
        plant.here.git("add", "params.yaml")
        plant.here.replace("params.yaml", "max_iter: 3", "max_iter: 4")
        (plant.here.path / "data/raw/5.csv").write_text("not yet a table")
        plant.before, plant.origins = plant.mine(), plant.git("for-each-ref")  # type: ignore[attr-defined]
        plant.said = plant.retrain()  # type: ignore[attr-defined]
        yield plant


def test_only_the_branch_is_pushed_and_nothing_here_is_touched(proposed: Plant) -> None:
    assert proposed.mine() == proposed.before  # type: ignore[attr-defined]
    before = proposed.origins.splitlines()  # type: ignore[attr-defined]
    (new,) = set(proposed.git("for-each-ref").splitlines()) - set(before)
    assert set(before) < set(proposed.git("for-each-ref").splitlines())
    assert new.endswith(f"\trefs/heads/{BRANCH}")
    assert list((proposed.here.path.parent / "temporary").glob("perennial-*")) == []


def test_it_starts_from_the_default_branch_at_the_origin(proposed: Plant) -> None:
    assert proposed.git("rev-parse", f"{BRANCH}^") == proposed.git("rev-parse", "main")
    assert "max_iter: 20" in proposed.show("params.yaml")
    who = proposed.git("show", "-s", "--format=%an %cn", BRANCH)
    assert who == "github-actions[bot] github-actions[bot]"


def test_it_proposes_rows_and_what_a_run_makes_of_them_and_no_more(proposed: Plant) -> None:
    assert proposed.changed() == [
        "data/production.json", "data/raw/production-20260309-0000.csv", "dvc.lock", "params.yaml",
        "reports/data.json", "reports/metrics.json",
    ]  # fmt: skip
    note, rows = proposed.batch()
    versions = list(proposed.facts["windows"][0]["coverage"]["versions"])
    assert (note["rows"], note["left_out"], note["model_versions"]) == (2520, {}, versions)
    assert (note["since"], note["until"]) == ((UNTIL - 3 * WEEK).isoformat(), UNTIL.isoformat())
    assert len(rows) == rows["ticket"].nunique() == 2520
    assert rows["shift"].isna().all()


def test_what_it_proposes_is_current(proposed: Plant, tmp_path: Path) -> None:
    proposed.here.git("clone", "-q", "-b", BRANCH, str(proposed.origin), str(tmp_path / "clone"))
    assert "is current" in Repository(tmp_path / "clone").perennial("verify")


def test_the_split_is_edited_and_every_other_byte_is_as_people_wrote_it(proposed: Plant) -> None:
    lines = difflib.ndiff(PARAMS.splitlines(), proposed.show("params.yaml").splitlines())
    changed = [line for line in lines if line[0] in "+-"]
    assert [line[2:] for line in changed if line[0] == "-"] == SPLIT.splitlines()[2:]
    (holdout, since) = [line[2:] for line in changed if line[0] == "+"]
    assert re.fullmatch(r"  holdout:  0\.3\d*   # a quarter", holdout)
    assert re.fullmatch(r"""  since: ["']2026-02-23["']   # what is older is left out""", since)


def test_the_pull_request_says_why_from_what_and_whether_it_is_better(proposed: Plant) -> None:
    (pull,) = proposed.pulls
    assert (pull["base"]["ref"], pull["head"]["ref"]) == ("main", BRANCH)
    assert pull["title"] == "Retrain on 2,520 rows of production (pass)"
    assert pull["html_url"] in proposed.said  # type: ignore[attr-defined]
    body = pull["body"]
    for part in (
        "quality fell in 2 of the last 3 windows", "| rows | 2,520 |", "`data/raw/production-20260309-0000.csv`",
        "Pass: better than the champion", "`split.since`", "press *Approve workflows to run*",
    ):  # fmt: skip
        assert part in body
    figures = json.loads(proposed.show("reports/metrics.json"))["metrics"]["roc_auc"]
    assert figures["value"] > 0.85
    (everything, recent) = [line for line in body.splitlines() if re.match(r"\| (all rows|since 2026-02-23) \|", line)]
    assert "| 2,840 |" in everything
    assert "| 1,200 |" in recent
    assert body.count("**taken**") == recent.count("**taken**") == 1  # old rows mislead


def test_while_it_is_open_it_is_left_to_its_reviewers(proposed: Plant) -> None:
    (pull,) = proposed.pulls
    before, pull["body"] = proposed.git("for-each-ref"), "Edited by a reviewer"
    writes = len([line for line in proposed.github.log if line.method != "GET"])
    assert f"{pull['html_url']} is open" in proposed.retrain()
    assert len([line for line in proposed.github.log if line.method != "GET"]) == writes
    assert (proposed.pulls, proposed.git("for-each-ref")) == ([pull], before)
    assert pull["body"] == "Edited by a reviewer"


def test_the_champion_comes_from_the_cache_that_all_share(proposed: Plant, project: Repository) -> None:
    """A second cache within the first would fetch the data and train the champion again, each time."""
    assert "rebuilt from commit" not in proposed.pulls[0]["body"]
    folders = {path.name for path in (project.path / ".dvc/cache/files/md5").iterdir()}
    assert [name for name in folders if not re.fullmatch("[0-9a-f]{2}", name)] == []


# What happens on the way


def test_each_crash_is_completed_by_the_next_run(plant: Plant) -> None:
    """GitHub is ill, then its settings forbid it, and then all is well; the branch is pushed once."""
    assert plant.lives(shifted, shifted, same) == "retrain"
    before = plant.mine()
    plant.github.broken["POST .*/pulls$"] = 500
    assert "/pulls: 500" in plant.retrain(expect=1)
    pushed = plant.git("rev-parse", BRANCH)
    (issue,) = plant.issues
    assert issue["labels"] == [{"name": "drift"}]
    assert "**No pull request could be made of it:**" in issue["body"]
    assert "/pulls: 500" in issue["body"]
    assert plant.mine() == before

    plant.github.broken.clear()
    plant.github.may_propose = False
    assert "GitHub Actions is not permitted to create or approve pull requests" in plant.retrain(expect=1)
    assert "not permitted to create or approve pull requests" in issue["body"]
    assert len(plant.issues) == 1

    plant.github.may_propose = True
    plant.retrain()
    (pull,) = plant.pulls
    assert plant.git("rev-parse", BRANCH) == pull["head"]["sha"] == pushed
    assert f"Closes #{issue['number']}." in pull["body"]
    assert plant.mine() == before


def test_the_error_is_told_even_where_the_issue_is_refused_too(plant: Plant) -> None:
    assert plant.lives(unlabelled, unlabelled, unlabelled) == "retrain"
    plant.github.read_only = True
    assert "no labelled row is new" in plant.retrain(expect=1)


def test_a_killed_run_leaves_nothing_that_stops_the_next(plant: Plant) -> None:
    assert plant.lives(shifted, shifted, same) == "retrain"
    before, temporary = plant.mine(), plant.here.path.parent / "temporary"
    command = [sys.executable, "-m", "perennial", "retrain"]
    environment = plant.here.environment | plant.environment
    with subprocess.Popen(command, cwd=plant.here.path, env=environment, start_new_session=True) as running:
        started = time.monotonic()
        while not list(temporary.glob("*/tree/data/prepared/train.parquet")):
            assert running.poll() is None
            assert time.monotonic() < started + 120
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGKILL)  # in the middle of the training
    assert len(plant.here.git("worktree", "list").splitlines()) == 2
    shutil.rmtree(temporary)  # as a restart of the machine does
    temporary.mkdir()
    plant.retrain()
    assert len(plant.pulls) == 1
    assert plant.mine() == before


def test_what_is_merged_meanwhile_is_not_taken_back(plant: Plant) -> None:
    """Training takes its time; the proposal is made of the commit that it started from."""
    assert plant.lives(shifted, shifted, same) == "retrain"
    start, temporary = plant.git("rev-parse", "main"), plant.here.path.parent / "temporary"
    command = [sys.executable, "-m", "perennial", "retrain"]
    environment = plant.here.environment | plant.environment
    plant.here.git("clone", "-q", str(plant.origin), str(temporary / "colleague"))
    colleague = Repository(temporary / "colleague")
    with subprocess.Popen(command, cwd=plant.here.path, env=environment) as running:
        while not list(temporary.glob("perennial-*/tree/data/prepared")) and running.poll() is None:
            time.sleep(0.02)
        colleague.replace("params.yaml", "tolerance: 0.01", "tolerance: 0.02")
        colleague.commit("Meanwhile")
        colleague.git("push", "-q", "origin", "HEAD:main")
        assert running.poll() is None  # it is still at it
    assert running.returncode == 0
    assert plant.git("rev-parse", "main") != start
    assert "tolerance" not in plant.git("diff", f"main...{BRANCH}", "--", "params.yaml")


def test_what_the_gate_refused_is_renewed_but_not_over_somebody_s_work(plant: Plant, tmp_path: Path) -> None:
    """More rows may make it better; who has begun to mend it by hand is not overrun."""

    def merge_floor(old: str, new: str) -> None:
        plant.here.replace("params.yaml", f"roc_auc: {old}\n", f"roc_auc: {new}\n")
        plant.here.commit("Another floor")
        plant.here.git("push", "-q", "origin", "HEAD:main")

    merge_floor("0.6", "0.9999")
    assert plant.lives(shifted, shifted, same) == "retrain"
    plant.retrain()
    (pull,) = plant.pulls
    refused = plant.git("rev-parse", BRANCH)
    assert pull["title"] == "Retrain on 1,050 rows of production (fail)"

    plant.here.git("clone", "-q", "-b", BRANCH, str(plant.origin), str(tmp_path / "colleague"))
    colleague = Repository(tmp_path / "colleague")
    colleague.replace("params.yaml", "max_iter: 20", "max_iter: 40")
    colleague.commit("Try more trees")
    colleague.git("push", "-q", "origin", BRANCH)
    assert f"{pull['html_url']} is open" in plant.retrain()
    assert plant.git("rev-parse", BRANCH) == colleague.git("rev-parse", "HEAD")

    plant.git("update-ref", f"refs/heads/{BRANCH}", refused)
    merge_floor("0.9999", "0.6")
    plant.retrain()
    assert plant.pulls == [pull]
    assert pull["title"] == "Retrain on 1,050 rows of production (pass)"
    assert plant.git("rev-parse", f"{BRANCH}^") == plant.git("rev-parse", "main")


def test_a_branch_of_a_fork_stops_nothing(plant: Plant) -> None:
    """Anybody may open a pull request from a branch of any name."""
    assert plant.lives(shifted, shifted, same) == "retrain"
    fork = plant.here.path.parent / "fork.git"
    plant.here.git("clone", "-q", "--bare", str(plant.origin), str(fork))
    plant.here.git("-C", str(fork), "branch", "retrain/never", "main")
    plant.github.add_repository("eve/demo", git=fork)
    plant.github.add_pull(NAME, head="retrain/never", source="eve/demo")
    plant.retrain()
    assert [pull["head"]["label"] for pull in plant.pulls] == ["eve:retrain/never", f"octo:{BRANCH}"]


# What is learnt from


def test_broken_data_is_not_learnt_from(plant: Plant) -> None:
    assert plant.lives(shifted, gone, shifted) == "retrain"
    plant.retrain()
    _, rows = plant.batch()
    weeks = set(rows["week"])
    broken = {f"{UNTIL - (8 + day) * DAY:%Y-%m-%d}" for day in range(7)}
    assert len(weeks) == 14
    assert not weeks & broken


def test_without_labels_there_is_nothing_to_learn_and_the_issue_says_so(plant: Plant) -> None:
    assert plant.lives(unlabelled, unlabelled, unlabelled) == "retrain"
    before = plant.mine()
    said = plant.retrain(expect=1)
    assert "no labelled row is new" in said
    assert "/feedback" in said
    (issue,) = plant.issues
    assert issue["title"] == "Production: retrain"
    assert "no labelled row is new" in issue["body"]
    plant.retrain(expect=1)
    assert len(plant.issues) == 1
    assert (plant.pulls, plant.mine()) == ([], before)
    assert BRANCH not in plant.git("for-each-ref")


@pytest.mark.parametrize("decision", ["quiet", "watch", "data-quality"])
def test_nothing_is_proposed_for_less_than_lasting_drift(plant: Plant, decision: str) -> None:
    file = plant.here.path / "reports/drift.json"
    file.write_text(json.dumps({"decision": decision}))
    assert f"Production is {decision}" in plant.retrain()
    assert plant.github.log == []
    file.unlink()
    assert "make drift writes it" in plant.retrain(expect=1)


def test_what_was_learnt_counts_no_more_and_the_next_retraining_moves_on(plant: Plant) -> None:
    assert plant.lives(turned, turned, same, rows=MANY) == "retrain"
    plant.retrain()
    plant.merge()
    assert plant.drift() == "quiet"
    assert [window["coverage"]["rows"] for window in plant.facts["windows"]] == [0, 0, 0]
    assert plant.facts["learnt"] == UNTIL.isoformat()

    later = UNTIL + 2 * WEEK
    assert plant.lives(turned, turned, until=later) == "quiet"  # it is what the new model knows
    assert [window["coverage"]["rows"] for window in plant.facts["windows"]] == [350, 350, 0]

    later += 2 * WEEK
    assert plant.lives(same, same, rows=MANY, until=later) == "retrain"
    plant.retrain()
    first, second = json.loads(plant.show("data/production.json"))
    assert first["until"] == UNTIL.isoformat()
    assert (second["since"], second["rows"]) == ((later - 3 * WEEK).isoformat(), 2 * MANY + FEW)
    assert [pull["state"] for pull in plant.pulls] == ["closed", "open"]
    assert re.search(rf"""since: ["']{later - 2 * WEEK:%Y-%m-%d}["']   # what""", plant.show("params.yaml"))
    plant.merge()
    assert plant.drift(later) == "quiet"


def test_raw_data_under_dvc_stays_there(plant: Plant, tmp_path: Path) -> None:
    plant.here.perennial("track-data", str(tmp_path / "remote"))
    plant.here.commit("Track the data")
    plant.here.git("push", "-q", "origin", "main")
    assert plant.lives(shifted, shifted, same) == "retrain"
    before = plant.mine()
    plant.retrain()
    assert plant.mine() == before
    assert [name for name in plant.changed() if name.startswith("data/")] == ["data/production.json", "data/raw.dvc"]
    plant.here.git("clone", "-q", "-b", BRANCH, str(plant.origin), str(tmp_path / "clone"))
    clone = Repository(tmp_path / "clone")
    clone.dvc("pull", "data/raw.dvc")
    (note,) = json.loads(clone.read("data/production.json"))
    assert sha256(clone.path / note["file"]) == note["sha256"]
    assert "is current" in clone.perennial("verify")


@pytest.mark.skipif(not os.environ.get("CML_BIN"), reason="no CML here: CML_BIN is not set")
def test_cml_opens_the_pull_request_and_keeps_no_token(plant: Plant, tmp_path: Path) -> None:
    """It believes that it speaks with github.com, and so does git."""
    plant.github.token = "ghs_secret"
    plant.here.git("remote", "set-url", "origin", f"https://github.com/{NAME}")
    assert plant.lives(shifted, shifted, same) == "retrain"
    before = plant.mine()
    told = plant.github.proxy() | {"CML_BIN": os.environ["CML_BIN"], "PATH": os.environ["PATH"]}
    plant.retrain(**told | plant.github.environment(NAME), HOME=str(tmp_path))
    (pull,) = plant.pulls
    opened = [line for line in plant.github.log if (line.method, line.path) == ("POST", f"/repos/{NAME}/pulls")]
    assert [line.host for line in opened] == ["api.github.com"]  # ours asks the address that the runner names
    assert (pull["head"]["ref"], pull["head"]["sha"]) == (BRANCH, plant.git("rev-parse", BRANCH))
    assert pull["title"].startswith("Retrain on 1,050 rows of production")
    assert "### Learnt from" in pull["body"]
    assert plant.mine() == before
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and b"ghs_secret" in path.read_bytes()]
    assert kept == []
    assert Path("/dev/null").is_char_device()  # where git's global configuration is, in these tests


# The two candidates


class Bench:
    """A tree in which candidates are trained."""

    def __init__(self, project: Repository, folder: Path, params: Change, edit: Callable[[Path], object]) -> None:
        self.here, self.folder = shared(project, folder / "tree"), folder
        edit(self.here.path / "data/raw")
        path = self.here.path / "params.yaml"
        path.write_text(params(path.read_text()))
        self.here.perennial("run")
        self.before = path.read_text()

    def train(self, *worlds: World, since: datetime.datetime = UNTIL - 2 * WEEK) -> Facts:
        store = self.folder / "store"
        Production(self.here, store, MANY).weeks(*worlds)
        told = {"since": (UNTIL - 3 * WEEK).isoformat(), "until": UNTIL.isoformat(), "model_versions": []}
        lines = [row for row in read(str(store), UNTIL - 3 * WEEK, UNTIL).rows if row["label"] is not None]
        note = batch.write(self.here.path, lines, self.contract, told)
        return candidates.train(self.here.path, note, [since])

    @property
    def contract(self) -> Contract:
        return load(self.here.path / "params.yaml").data

    @property
    def split(self) -> Facts:
        return json.loads(self.here.read("reports/data.json"))["split"]  # type: ignore[no-any-return]


@pytest.fixture
def bench(project: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    def make(params: Change, edit: Callable[[Path], object] = str) -> Bench:
        made = Bench(project, tmp_path, params, edit)
        monkeypatch.chdir(made.here.path)
        for name, value in made.here.environment.items():
            monkeypatch.setenv(name, value)
        return made

    return make


def fine(text: str) -> str:
    """Times to the second, so that nearly every row is a period of its own."""
    return text.replace('{name: week, format: "%Y-%m-%d"}', "week")


SINCE = f"{UNTIL - 2 * WEEK:%Y-%m-%dT%H:%M:%S}"


@pytest.mark.parametrize(("world", "kept", "old"), [(turned, f"since {SINCE}", 4400), (nudged, "all rows", 200)])
def test_the_better_candidate_is_kept_and_both_are_judged_by_the_same_unseen_rows(
    bench: Callable[..., Bench], world: World, kept: str, old: int
) -> None:
    """With fine times, few old rows or many."""
    here = bench(params=fine, edit=lambda raw: write_table(raw, rows=old))
    chosen = here.train(world, world, same)
    both = {one["name"]: one for one in chosen["tried"]}
    assert chosen["kept"] == kept
    everything, recent = both["all rows"]["split"], both[f"since {SINCE}"]["split"]
    assert everything["holdout"] == recent["holdout"]
    assert everything["holdout"]["rows"] == pytest.approx(0.3 * 2 * MANY, abs=1)
    for one in both.values():
        assert one["split"]["train"]["to"] < one["split"]["holdout"]["from"]
    assert recent["train"]["from"] >= f"{UNTIL - 2 * WEEK:%Y-%m-%d}"
    assert everything["train"]["from"].startswith("2024-01-01")
    assert here.split == both[kept]["split"]  # what lies in the tree is what was taken
    assert load("params.yaml").split.since == (SINCE if world is turned else None)
    best = min(both.values(), key=lambda one: float(one["value"]))
    assert (best["name"], best["metric"]) == (kept, "log_loss")  # of the probabilities, not of their order alone


def timeless(text: str) -> str:
    return text.replace('  time: {name: week, format: "%Y-%m-%d"}\n', "")


def test_without_a_time_there_is_one_candidate(bench: Callable[..., Bench]) -> None:
    here = bench(params=timeless)
    chosen = here.train(turned, turned, same)
    assert [one["name"] for one in chosen["tried"]] == [chosen["kept"]] == ["all rows"]
    assert here.split["train"]["rows"] + here.split["holdout"]["rows"] == 800 + 3 * MANY
    assert here.here.read("params.yaml") == here.before


def monthly(text: str) -> str:
    return text.replace('"%Y-%m-%d"', '"%Y-%m"')


def months(raw: Path) -> None:
    for number, file in enumerate(sorted(raw.iterdir()), 1):
        file.write_text(file.read_text().replace(f"2024-01-{number:02d}", f"2024-{number:02d}"))


def test_new_rows_of_one_period_cannot_judge_themselves(bench: Callable[..., Bench]) -> None:
    here = bench(params=monthly, edit=months)
    with pytest.raises(UserError, match="the new rows all have the same week") as told:
        here.train(turned, turned, same, since=UNTIL - 8 * DAY)
    assert "wait for another period" in str(told.value)


LAYOUTS = {
    "as here": PARAMS,
    "flow": PARAMS.replace(SPLIT, "split: {holdout: 0.25} # who judges\n"),
    "flow, both": PARAMS.replace(SPLIT, "split: {since: null, holdout: 0.25}\n"),
    "without since": PARAMS.replace(SPLIT, "split:\n    # who judges\n    holdout: 0.25 # a quarter\n"),
    "quoted": PARAMS.replace("  since: ", "  since: '2024-01-02' "),
    "windows": PARAMS.replace("\n", "\r\n"),
    "a document": "---\n" + PARAMS.replace("[red,", "[ red,").replace("seed: 7", "seed:  7"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whatever_way_people_write_it_only_the_split_changes(tmp_path: Path, layout: str) -> None:
    path, text = tmp_path / "params.yaml", LAYOUTS[layout]
    path.write_bytes(text.encode())
    candidates._edit(path, {"holdout": 0.0545, "since": "2024-01-03"})
    edited = path.read_bytes().decode()
    assert (load(path).split.holdout, load(path).split.since) == (0.0545, "2024-01-03")
    lines = list(difflib.ndiff(text.split("\n"), edited.split("\n")))
    assert all(re.search("split|holdout|since", line) for line in lines if line[0] in "+-")
    assert re.findall("#.*", edited) == re.findall("#.*", text)
