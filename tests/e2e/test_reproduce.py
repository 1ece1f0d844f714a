"""Run, run again, stop half-way, merge, clone: the same commit always gives the same dvc.lock."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Self

import pytest
from repository import ROOT, Repository

SAID_BY = {"prepare": "Split by", "train": "Fitting", "evaluate": "Evaluating on"}


def ran(text: str) -> list[str]:
    """The stages that ran, as told by what each says on its way; a stage from the run cache says nothing."""
    return [stage for stage, line in SAID_BY.items() if f"✓ {line}" in text]


def test_a_clean_clone_gives_the_same_commit(built: Repository, tmp_path: Path) -> None:
    clone = built.clone(tmp_path / "clone")
    assert ran(clone.dvc("repro", "--no-run-cache")) == ["prepare", "train", "evaluate"]
    assert clone.changed() == []


def test_other_circumstances_give_the_same_commit(built: Repository, tmp_path: Path) -> None:
    clone = built.clone(tmp_path / "a place with spaces, ünd more")
    clone.environment |= {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    assert ran(clone.perennial("run")) == ["prepare", "train", "evaluate"]
    assert clone.changed() == []


def test_nothing_changed(built: Repository, tmp_path: Path) -> None:
    here = built.copy(tmp_path / "here")
    text = here.perennial("run")
    assert "Nothing changed" in text
    assert ran(text) == []
    assert "Verdict" in text
    assert here.changed() == []


def test_a_param_changed_back_is_restored_without_running(built: Repository, tmp_path: Path) -> None:
    here = built.copy(tmp_path / "here")
    before = {name: (here.path / name).read_bytes() for name in ("models/model.onnx", "reports/report.html")}
    here.replace("params.yaml", "max_iter: 20", "max_iter: 21")
    text = here.perennial("run")
    assert ran(text) == ["train", "evaluate"]
    assert set(here.changed()) == {"dvc.lock", "params.yaml", "reports/metrics.json"}
    here.replace("params.yaml", "max_iter: 21", "max_iter: 20")
    text = here.perennial("run")
    assert ran(text) == []
    assert here.changed() == []
    assert before == {name: (here.path / name).read_bytes() for name in before}


class TestReproduce:
    def test_same_bytes(self, built: Repository, tmp_path: Path) -> None:
        here = built.clone(tmp_path / "here")
        assert "same bytes" in here.perennial("reproduce")
        assert here.changed() == []

    def test_same_metrics(self, built: Repository, tmp_path: Path) -> None:
        """Another processor may write other bytes; the figures are what counts."""
        here = built.clone(tmp_path / "here")
        lock = here.read("dvc.lock")
        line = re.search(r"    outs:\n    - path: models/model\.onnx\n      hash: md5\n(      md5: \w+\n)", lock)
        assert line
        (here.path / "dvc.lock").write_text(f"{lock[: line.start(1)]}      md5: {'f' * 32}\n{lock[line.end(1) :]}")
        text = here.perennial("reproduce")
        assert "same metrics" in text
        assert "models/model.onnx" in text
        assert "report" not in text.partition("same metrics")[2]

    def test_different(self, built: Repository, tmp_path: Path) -> None:
        here = built.clone(tmp_path / "here")
        here.replace("reports/metrics.json", '"rows": 200', '"rows": 201')
        text = here.perennial("reproduce", expect=1)
        assert "different" in text
        assert "rows: 201 here, 200 when run again" in text
        assert here.changed() == ["reports/metrics.json"]

    def test_a_pipeline_that_fails(self, built: Repository, tmp_path: Path) -> None:
        here = built.clone(tmp_path / "here")
        here.replace("params.yaml", "max_iter: 20", "max_itre: 20")
        text = here.perennial("reproduce", expect=1)
        assert "max_itre" in text
        assert "the pipeline failed in the copy" in text


class Terminal:
    """A command on a terminal of its own, as a person runs it."""

    def __init__(self, repository: Repository, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "perennial", *arguments],
            cwd=repository.path,
            env=repository.environment | {"TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=self._take,
        )
        os.close(slave)

    @staticmethod
    def _take() -> None:
        """Ctrl-C reaches whoever owns the terminal, unless a parent had it ignored."""
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever a test found, nothing of it goes on running."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.master)

    def wait_for(self, text: str, timeout: float = 120) -> None:
        until = time.monotonic() + timeout
        while text not in self.shown:
            assert self._read(until), f"{text!r} was not shown:\n{self.shown}"

    def _read(self, until: float) -> bool:
        """One more piece of output; false at its end."""
        left = until - time.monotonic()
        if left <= 0 or not select.select([self.master], [], [], left)[0]:
            return False
        try:
            piece = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += piece.decode("utf-8", "replace")
        return bool(piece)

    def press_ctrl_c(self) -> None:
        """The terminal sends SIGINT to every process in its foreground."""
        os.write(self.master, b"\x03")

    def end(self, timeout: float = 60) -> int:
        until = time.monotonic() + timeout
        while self._read(until):
            pass
        return self.process.wait(timeout)


def test_ctrl_c_in_every_stage(built: Repository, tmp_path: Path) -> None:
    here = built.clone(tmp_path / "here")
    (here.path / "dvc.lock").unlink()
    for moment in ("Reading batches", "Fitting", "Drawing the report"):
        with Terminal(here, "run") as terminal:
            terminal.wait_for(moment)
            terminal.press_ctrl_c()
            assert terminal.end() == 130, terminal.shown
        assert "Traceback" not in terminal.shown
        assert "Stopped" in terminal.shown
        assert list(here.path.rglob("*.unfinished")) == []
    assert ran(here.perennial("run")) == ["evaluate"]  # what was finished stays
    assert here.changed() == []


def test_ctrl_c_while_reproducing(built: Repository, tmp_path: Path) -> None:
    here = built.clone(tmp_path / "here")
    room = tmp_path / "room"
    room.mkdir()
    here.environment["TMPDIR"] = str(room)
    with Terminal(here, "reproduce") as terminal:
        terminal.wait_for("Fitting")
        terminal.press_ctrl_c()
        assert terminal.end() == 130, terminal.shown
    assert list(room.glob("perennial-*")) == []
    assert here.changed() == []


def keeping_to_permissions() -> list[str]:
    """What to put before a command so that file permissions bind it, even where the tests run as root.

    Another user would do, but the interpreter may lie where that one cannot go.
    """
    if os.geteuid() != 0:
        return []
    drop = (
        "import ctypes, os, sys\n"
        "for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH\n"
        "    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", drop]


@pytest.mark.parametrize("place", ["with outputs", "fresh clone"])
def test_a_folder_that_cannot_be_written_to(built: Repository, tmp_path: Path, place: str) -> None:
    here = built.copy(tmp_path / "here") if place == "with outputs" else built.clone(tmp_path / "here")
    here.replace("params.yaml", "holdout: 0.25", "holdout: 0.5")
    for folder in ("data/prepared", "reports", "models"):
        (here.path / folder).mkdir(parents=True, exist_ok=True)
        (here.path / folder).chmod(0o555)
        text = here.command(*keeping_to_permissions(), sys.executable, "-m", "perennial", "run", expect=1)
        (here.path / folder).chmod(0o755)
        assert re.search(rf"make (\S*/)?{folder} writable", text), text
    here.perennial("run")
    here.perennial("verify")


@pytest.fixture(scope="module")
def branches(built: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Branches `one` (checked out) and `two` change different params, each with the lock of its own run."""
    here = built.copy(tmp_path_factory.mktemp("branches") / "repository")
    for branch, old, new in (("two", "max_features: 20", "max_features: 3"), ("one", "max_iter: 20", "max_iter: 5")):
        here.git("switch", "-q", "-c", branch, "main")
        here.replace("params.yaml", old, new)
        here.perennial("run")
        here.commit(branch)
    return here


def test_changing_branches_restores_without_running(branches: Repository, tmp_path: Path) -> None:
    here = branches.copy(tmp_path / "here")
    for branch in ("two", "one", "main"):
        here.git("switch", "-q", branch)
        assert ran(here.perennial("run")) == []
        assert here.changed() == []


def is_up_to_date(here: Repository) -> bool:
    here.perennial("verify")
    return ran(here.perennial("run")) == []


def test_merging_two_locks(branches: Repository, tmp_path: Path) -> None:
    """With the driver that `make setup` defines the merge goes through, and the next run brings the lock up to date."""
    here = branches.copy(tmp_path / "here")
    driver = re.search(r"^git (config merge\.\w+\.driver \w+)", (ROOT / "scripts/install").read_text(), re.MULTILINE)
    assert driver
    here.git(*driver[1].split())
    here.git("merge", "-q", "--no-edit", "two")
    assert here.changed() == []
    assert {"max_features: 3", "max_iter: 5"} <= {line.strip() for line in here.read("params.yaml").splitlines()}
    assert "train: changed deps: params.yaml" in here.perennial("verify", expect=1)
    assert ran(here.perennial("run")) == ["train", "evaluate"]
    assert "dvc.lock" in here.changed()
    assert is_up_to_date(here)


def test_merging_two_locks_without_the_driver(branches: Repository, tmp_path: Path) -> None:
    """The message says how to go on, and that works."""
    here = branches.copy(tmp_path / "here")
    assert "CONFLICT" in here.git("merge", "--no-edit", "two", expect=1)
    for verb in ("run", "verify"):
        text = here.perennial(verb, expect=1)
        assert "dvc.lock" in text
        assert "git checkout --ours dvc.lock" in text
    here.git("checkout", "--ours", "dvc.lock")
    here.perennial("run")
    assert "<<<<<<<" not in here.read("reports/metrics.json")
    here.commit("Merge")
    assert is_up_to_date(here)


@pytest.mark.parametrize("verb", ["run", "reproduce"])
def test_a_dep_that_is_not_there(built: Repository, tmp_path: Path, verb: str) -> None:
    here = built.clone(tmp_path / "here")
    here.replace("dvc.yaml", "deps:\n      - ${data.raw}\n", "deps:\n      - src/gone.py\n      - ${data.raw}\n")
    assert "src/gone.py" in here.perennial(verb, expect=1)


def test_no_data(built: Repository, tmp_path: Path) -> None:
    here = built.clone(tmp_path / "here")
    shutil.rmtree(here.path / "data/raw")
    text = here.perennial("run", expect=1)
    assert "data/raw" in text
    assert "Fix:" in text


def test_another_run_at_the_same_time(built: Repository, tmp_path: Path) -> None:
    here = built.copy(tmp_path / "here")
    with (here.path / ".dvc/tmp/lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another dvc command is running here" in here.perennial("run", expect=1)
    here.perennial("run")
