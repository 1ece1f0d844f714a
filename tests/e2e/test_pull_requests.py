"""Pull requests as their authors live them: the real workflows under act, and the comment that stands afterwards."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from repository import Repository
from runner import NAME, Runner, bare
from stand_in import GitHub

pytestmark = pytest.mark.skipif(not shutil.which("act"), reason="act is not installed (go install)")
WORSE = ("max_iter: 20", "max_iter: 1")


@pytest.fixture(scope="module")
def runner(built: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("github")
    with GitHub(folder / "state") as github:
        yield Runner(github, bare(built, folder / "demo.git"), folder)


@pytest.fixture
def author(built: Repository, runner: Runner, tmp_path: Path) -> Repository:
    """A clone with the outputs of main, as on the laptop of somebody who has run it."""
    author = built.copy(tmp_path / "laptop")
    author.git("remote", "add", "origin", str(runner.origin))
    return author


@pytest.fixture
def propose(author: Repository, runner: Runner) -> Callable[..., int]:
    def propose(branch: str, edit: Callable[[Repository], object], run: bool = True, source: str = NAME) -> int:
        """Edit, run the pipeline, commit, push, open a pull request; its number."""
        author.git("checkout", "-q", "-B", branch)
        edit(author)
        if run:
            author.perennial("run")
        author.commit(branch)
        author.git("push", "-q", "--force", str(runner.github.repositories[source].git), branch)
        return int(runner.github.add_pull(NAME, head=branch, source=source)["number"])

    return propose


def write_test(here: Repository, claim: str) -> None:
    """The copies of this repository have no tests of their own."""
    for suite in ("unit", "data", "model", "workflow"):
        (here.path / "tests" / suite).mkdir(parents=True, exist_ok=True)
    (here.path / "tests/unit/test_it.py").write_text(f"def test_it() -> None:\n    assert {claim}\n")


def test_a_better_model_may_be_merged(runner: Runner, propose: Callable[..., int]) -> None:
    number = propose("better", lambda here: here.replace("params.yaml", "max_iter: 20", "max_iter: 40"))
    run = runner.pull_request(number)
    assert run.jobs == {"review": "success"}
    (comment,) = runner.comments(number)
    assert "\n## ✅ Pass" in comment
    assert "| `train.params.max_iter` | `20` | `40` |" in comment
    assert f"/{NAME}/actions/runs/{run.number}" in comment


def test_a_worse_one_may_not_and_the_next_push_renews_the_comment(
    author: Repository, runner: Runner, propose: Callable[..., int]
) -> None:
    number = propose("worse", lambda here: here.replace("params.yaml", *WORSE))
    assert runner.pull_request(number).jobs == {"review": "failure"}
    (comment,) = runner.comments(number)
    assert "\n## ❌ Fail" in comment
    assert "❌ **champion**: roc" in comment
    author.replace("params.yaml", *reversed(WORSE))
    author.perennial("run")
    author.commit("Take it back")
    author.git("push", "-q", str(runner.origin), "worse")
    runner.repository.pulls[number]["head"]["sha"] = author.git("rev-parse", "HEAD")
    assert runner.pull_request(number).jobs == {"review": "success"}
    (comment,) = runner.comments(number)
    assert "byte for byte" in comment


def test_broken_data_is_named_by_file_row_and_column(runner: Runner, propose: Callable[..., int]) -> None:
    def spoil(here: Repository) -> None:
        lines = here.read("data/raw/4.csv").splitlines(keepends=True)
        broken = [line.replace("2024-01-04,", "2024-01-04,many ") for line in lines[1:41]]
        (here.path / "data/raw/4.csv").write_text("".join([lines[0], *broken, *lines[41:]]))

    number = propose("broken", spoil, run=False)
    assert runner.pull_request(number).jobs == {"review": "failure"}
    (comment,) = runner.comments(number)
    assert "\n## ❌ Fail" in comment
    assert "data/raw/4.csv row 1" in comment or "data/raw/4.csv row 2" in comment
    assert "amount" in comment


def test_a_stale_lock_is_told_and_the_fresh_one_is_in_the_artifact(runner: Runner, propose: Callable[..., int]) -> None:
    number = propose("stale", lambda here: here.replace("params.yaml", "max_iter: 20", "max_iter: 21"), run=False)
    assert runner.pull_request(number).jobs == {"review": "failure"}
    (comment,) = runner.comments(number)
    assert "**dvc.lock**: not current" in comment
    assert "make run" in comment
    assert "artifact `review`" in comment
    fresh = runner.clone("stale")
    for name in ("dvc.lock", "reports/data.json", "reports/metrics.json"):
        shutil.copy(runner.folder / "test_artifacts/review" / name, fresh.path / name)
    assert "is current" in fresh.perennial("verify")


def test_a_fork_is_judged_like_anybody(runner: Runner, built: Repository, propose: Callable[..., int]) -> None:
    fork = bare(built, runner.folder / "fork.git")
    runner.github.add_repository("eve/demo", git=fork)
    number = propose("theirs", lambda here: here.replace("params.yaml", "seed: 7", "seed: 8"), source="eve/demo")
    assert runner.pull_request(number).jobs == {"review": "success"}
    (comment,) = runner.comments(number)
    assert "\n## ✅ Pass" in comment


def test_a_cache_of_main_spares_building_the_champion(runner: Runner, propose: Callable[..., int]) -> None:
    main = runner.clone("main")
    write_test(main, "True")
    run = runner.run("push", "main", {"ref": "refs/heads/main"}, main)
    assert run.jobs == {"reproduce": "success"}, run.output
    assert "same bytes" in run.output
    number = propose("cached", lambda here: here.replace("params.yaml", "seed: 7", "seed: 9"))
    run = runner.pull_request(number)
    assert "in no cache" not in run.output
    assert ", cache from commit" in runner.comments(number)[0]


def test_lint_and_tests_decide_too(author: Repository, runner: Runner, propose: Callable[..., int]) -> None:
    number = propose("tested", lambda here: write_test(here, "sum([1]) == 1"), run=False)
    assert runner.pull_request(number, "test").jobs == {"test": "success"}
    (comment,) = runner.comments(number)
    assert "\n## ❌ No report" in comment
    write_test(author, "sum([1]) == 2")
    author.commit("Break it")
    author.git("push", "-q", str(runner.origin), "tested")
    runner.repository.pulls[number]["head"]["sha"] = author.git("rev-parse", "HEAD")
    assert runner.pull_request(number, "test").jobs == {"test": "failure"}


def test_actionlint_finds_nothing_here(tmp_path: Path) -> None:
    if not shutil.which("actionlint"):
        pytest.skip("actionlint is not installed (go install)")
    from repository import ROOT

    files = sorted((ROOT / ".github/workflows").glob("*.yml"))
    subprocess.run(["actionlint", *files], check=True, cwd=ROOT)
    bad = tmp_path / "bad.yml"
    bad.write_text(files[0].read_text().replace("runs-on: ubuntu-24.04", "runs_on: ubuntu-24.04"))
    assert subprocess.run(["actionlint", bad], capture_output=True).returncode == 1
