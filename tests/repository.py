"""A small repository to try whole workflows in: the code of this one, a table of its own, real git and real dvc.

Nothing here depends on the built-in table or on params.yaml, so these tests hold for whatever data takes their place.
"""

import csv
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
PRIVATE = ("data/", "docs/", "models/", "reports/", "tests/", "dvc.lock", "params.yaml")  # what a copy has of its own
PARAMS = """\
data:
  raw: data/raw
  target: {name: answer, values: ["no", "yes"], positive: "yes"}
  id: ticket
  time: {name: week, format: "%Y-%m-%d"}
  features:
    amount: {type: number, min: 0}
    distance: {type: number}
    colour: {type: category, values: [red, green, blue]}
    urgent: {type: boolean}
    remark: {type: text}
  sensitive: [shift]
  tolerance: 0.01

split:
  holdout: 0.25

train:
  estimator: sklearn.ensemble.HistGradientBoostingClassifier
  params:
    max_iter: 20
  calibration: none
  text:
    max_features: 20
    ngrams: 1

value:
  true_positive: 5
  false_positive: -1

evaluate:
  bootstrap: 100

gate:
  floors:
    roc_auc: 0.6

seed: 7
"""


def write_table(folder: Path, weeks: range = range(1, 5), rows: int = 200) -> None:
    """One CSV a week that fits PARAMS, the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    for week in weeks:
        draw = random.Random(week)
        with (folder / f"{week}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["ticket", "week", "amount", "distance", "colour", "urgent", "remark", "shift", "answer"])
            for row in range(rows):
                amount, distance = round(draw.uniform(0, 100), 1), round(draw.gauss(0, 1), 3)
                colour, urgent = draw.choice(["red", "green", "blue"]), draw.random() < 0.4
                score = amount / 50 - 1 + distance + (colour == "red") - urgent + draw.gauss(0, 0.7)
                remark, shift = draw.choice(["on time", "too late", "again, please"]), draw.choice(["day", "night"])
                answer = "yes" if score > 0 else "no"
                cells = [amount, distance, colour, str(urgent).lower(), remark, shift, answer]
                writer.writerow([f"{week}-{row}", f"2024-01-{week:02d}", *cells])


def project_files() -> list[str]:
    """What git tracks or would track of this repository, as it is on disk now."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [name for name in sorted(set(listed.split("\0"))) if name and (ROOT / name).is_file()]


def clean_environment() -> dict[str, str]:
    """This process's, without what would reach from the machine or a git hook into a repository under test."""
    foreign = re.compile(
        r"AWS|CHAMPION|COLUMNS|DVC|(FORCE|NO)_COLOR|GIT|PYTEST|PYTHON|VIRTUAL_ENV|.*_proxy$", re.IGNORECASE
    )
    kept = {name: value for name, value in os.environ.items() if not foreign.match(name)}
    if sys.prefix != sys.base_prefix:  # `perennial` must find its tools without an activated environment
        folders = kept.get("PATH", os.defpath).split(os.pathsep)
        kept["PATH"] = os.pathsep.join(folder for folder in folders if Path(folder) != TOOLS)
    return kept


class Repository:
    """A working tree in which `perennial` and `dvc` run the tree's own code."""

    def __init__(self, path: Path) -> None:
        self.path = path
        machine = path.parent / f".{path.name}-machine"
        self.environment = clean_environment() | {
            "PYTHONPATH": str(path / "src"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "ada@example.com" for who in ("AUTHOR", "COMMITTER")},
            **{f"DVC_{what}": str(machine) for what in ("SITE_CACHE_DIR", "GLOBAL_CONFIG_DIR", "SYSTEM_CONFIG_DIR")},
            "AWS_CONFIG_FILE": str(machine / "aws"),
            "AWS_SHARED_CREDENTIALS_FILE": str(machine / "keys"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @classmethod
    def create(cls, path: Path) -> Self:
        """The code and configuration of this repository on the small table, not yet run."""
        for name in project_files():
            if not name.startswith(PRIVATE):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, path / name)
        config = path / ".dvc/config"  # without the remote of the data that lives here
        config.write_text(re.sub(r"(?ms)^\['remote.*?(?=^\[|\Z)|^\s*remote = [^\n]*\n", "", config.read_text()))
        (path / "params.yaml").write_text(PARAMS)
        write_table(path / "data/raw")
        self = cls(path)
        self.git("init", "-q", "-b", "main")
        return self

    def copy(self, path: Path) -> "Repository":
        """All of it, with the cached outputs and DVC's cache."""
        shutil.copytree(self.path, path, symlinks=True)
        return Repository(path)

    def clone(self, path: Path) -> "Repository":
        """What was committed, and nothing else."""
        self.git("clone", "-q", str(self.path), str(path))
        return Repository(path)

    def command(self, *arguments: str, expect: int = 0, **more_environment: str) -> str:
        """What a command printed. Its exit code is the expected one, and no traceback reaches the user."""
        done = subprocess.run(
            arguments,
            cwd=self.path,
            env=self.environment | more_environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=900,
        )
        assert done.returncode == expect, f"{' '.join(arguments)} exited with {done.returncode}:\n{done.stdout}"
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    def perennial(self, *arguments: str, expect: int = 0) -> str:
        return self.command(sys.executable, "-m", "perennial", *arguments, expect=expect)

    def dvc(self, *arguments: str, expect: int = 0) -> str:
        """The plain tool, as in an activated environment."""
        path = f"{TOOLS}{os.pathsep}{self.environment['PATH']}"
        return self.command(sys.executable, "-m", "dvc", *arguments, expect=expect, PATH=path)

    def git(self, *arguments: str, expect: int = 0) -> str:
        return self.command("git", *arguments, expect=expect).rstrip("\n")

    def commit(self, message: str = "Change") -> None:
        self.git("add", "--all")
        self.git("commit", "-q", "-m", message)

    def changed(self) -> list[str]:
        """The files that differ from the last commit, staged or not; empty when `git status` is."""
        lines = self.git("status", "--porcelain", "--untracked-files=all").splitlines()
        return [line[3:] for line in lines]

    def read(self, name: str) -> str:
        return (self.path / name).read_text(encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        """Edit a file where exactly this stands."""
        text = self.read(name)
        assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
        (self.path / name).write_text(text.replace(old, new), encoding="utf-8")


def built(path: Path) -> Repository:
    """A repository whose pipeline has run, with the result committed."""
    repository = Repository.create(path)
    repository.perennial("run")
    repository.commit("Run the pipeline")
    return repository
