"""A version is told by what changed since the last one: contract, data and parameters, code, or nothing."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.errors import UserError
from perennial.release.version import Version, facts, parse, plan, versions

PARAMS = """\
data:
  raw: data/raw
  target: {name: answer, values: ["no", "yes"]}
  features: {amount: {type: number}}
  tolerance: 0.01
train: {estimator: A}
gate: {margin: 0.01}
seed: 7
"""
LOCK = "stages: {prepare: {cmd: x, deps: [{path: src, md5: 1}, {path: data/raw, md5: %s.dir, size: 5}]}}\n"


class Project:
    """What versions look at, in a repository of its own."""

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")

    def params(self, old: str, new: str) -> None:
        assert old in PARAMS
        self.write("params.yaml", PARAMS.replace(old, new))

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", "Change")
        return self.git("rev-parse", "HEAD")

    def tag(self, name: str, body: str = "image: r/i@sha256:1\ncommit: 1\n") -> None:
        self.git("tag", "--annotate", name, "--message", f"Release {name}\n\n{body}")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("GIT_")]:
            patch.delenv(name)
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_NAME", "Ada")
            patch.setenv(f"GIT_{who}_EMAIL", "ada@example.com")
        for scope in ("GLOBAL", "SYSTEM"):
            patch.setenv(f"GIT_CONFIG_{scope}", os.devnull)
        patch.chdir(tmp_path_factory.mktemp("template"))
        here = Project()
        here.git("init", "-q", "-b", "main", "--template=")
        here.write("params.yaml", PARAMS)
        here.write("dvc.lock", LOCK % "aaaa")
        here.write("src/code.py", "1\n")
        here.commit()
        yield Path.cwd()


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Project()


@pytest.fixture
def released(project: Project) -> Project:
    project.tag("model@v1.2.3")
    return project


@pytest.mark.usefixtures("project")
def test_the_first_version_is_1_0_0() -> None:
    planned = plan()
    assert (str(planned.version), planned.tagged) == ("v1.0.0", False)


def test_a_tagged_commit_is_its_version_whatever_came_later(released: Project) -> None:
    assert (str(plan().version), plan().tagged) == ("v1.2.3", True)
    first = released.git("rev-parse", "HEAD")
    released.write("src/code.py", "2\n")
    released.commit()
    released.tag("model@v1.2.4")
    assert (str(plan().version), plan().tagged) == ("v1.2.4", True)
    assert (str(plan(first).version), plan(first).tagged) == ("v1.2.3", True)


@pytest.mark.parametrize(
    ("change", "version"),
    [
        (("amount: {type: number}", "amount: {type: number, min: 0}"), "v2.0.0"),
        (("{amount: {type: number}}", "{amount: {type: number}, more: {type: boolean}}"), "v2.0.0"),
        (('values: ["no", "yes"]', 'values: ["never", "yes"]'), "v2.0.0"),
        (("tolerance: 0.01", "tolerance: 0.02"), "v1.3.0"),
        (("estimator: A", "estimator: B"), "v1.3.0"),
        (("seed: 7", "seed: 8"), "v1.3.0"),
        (("seed: 7", "seed: 7\nvalue: null"), None),
        (("margin: 0.01", "margin: 0.02"), None),
    ],
)
def test_what_params_say_decides(released: Project, change: tuple[str, str], version: str | None) -> None:
    released.params(*change)
    released.commit()
    planned = plan()
    assert (planned.version and str(planned.version), planned.tagged) == (version, False)
    assert "since model@v1.2.3" in planned.why


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        ("dvc.lock", LOCK % "bbbb", "v1.3.0"),
        ("src/code.py", "2\n", "v1.2.4"),
        ("src/new.py", "", "v1.2.4"),
        ("requirements/serve.txt", "numpy==2\n", "v1.2.4"),
        ("Dockerfile", "FROM x\n", "v1.2.4"),
        ("docs/release.md", "More words.\n", "None"),
        ("tests/test_code.py", "", "None"),
        ("requirements/dev.txt", "ruff==1\n", "None"),
        ("deploy/kubernetes/base/deployment.yaml", "", "None"),
    ],
)
def test_what_files_say_decides(released: Project, name: str, text: str, version: str) -> None:
    released.write(name, text)
    released.commit()
    assert str(plan().version) == version


def test_an_edit_of_the_lock_that_leaves_the_data_alone_is_no_new_data(released: Project) -> None:
    released.write("dvc.lock", (LOCK % "aaaa").replace("md5: 1", "md5: 2"))
    released.commit()
    assert plan().version is None


def test_the_largest_change_since_the_last_version_counts_not_the_last_commit(released: Project) -> None:
    released.params("amount:", "sum:")
    released.commit()
    released.write("src/code.py", "2\n")
    released.commit()
    assert str(plan().version) == "v2.0.0"


def test_a_change_that_was_taken_back_is_none(released: Project) -> None:
    released.write("src/code.py", "2\n")
    released.commit()
    released.git("revert", "--no-edit", "HEAD")
    assert plan().version is None


def test_what_does_not_come_after_the_last_version_is_refused(released: Project) -> None:
    released.write("src/code.py", "2\n")
    released.commit()
    released.tag("model@v1.2.4")
    released.git("switch", "-q", "--detach", "model@v1.2.3")
    assert str(plan().version) == "v1.2.3"  # itself it stays
    released.write("src/other.py", "3\n")
    released.commit()
    with pytest.raises(UserError, match=r"never go backwards"):
        plan()


@pytest.mark.parametrize(
    "name",
    ["v9.0.0", "other@v9.0.0", "model@v9.0.0-rc.1", "model@v9.0", "model@v9.0.0!", "model#prod#9", "xmodel@v9.0.0"],
)
def test_a_foreign_tag_is_no_version(released: Project, name: str) -> None:
    commit = released.commit()
    released.tag(name)
    assert list(versions()) == [Version(1, 2, 3)]
    assert commit not in versions().values()


def test_a_lightweight_tag_is_no_version(released: Project) -> None:
    """Anybody's `git tag` makes one, and it says nothing of an image."""
    released.commit()
    released.git("tag", "model@v9.0.0")
    assert list(versions()) == [Version(1, 2, 3)]
    assert plan().version is None
    with pytest.raises(UserError, match=r"no version v9\.0\.0"):
        facts(Version(9, 0, 0))


def test_a_branch_of_the_same_name_hides_no_version(released: Project) -> None:
    released.git("branch", "model@v1.2.3")
    assert list(versions()) == [Version(1, 2, 3)]
    assert plan().tagged


def test_versions_are_ordered_as_numbers(project: Project) -> None:
    for name in ("1.9.0", "1.10.0", "1.2.30", "1.2.4"):
        project.tag(f"model@v{name}")
    assert [str(version) for version in versions()] == ["v1.10.0", "v1.9.0", "v1.2.30", "v1.2.4"]


@pytest.mark.parametrize("commit", ["1" * 40, "1e5" + "0" * 37, "0" * 39 + "1", "5ca1ab1e" * 5])
def test_facts_are_read_as_they_were_written(project: Project, commit: str) -> None:
    told = {"image": "127.0.0.1:5000/octo/demo@sha256:" + "1" * 64, "commit": commit, "model": "1e5", "contract": "007"}
    project.tag("model@v1.0.0", "".join(f"{key}: {value}\n" for key, value in told.items()))
    assert facts(Version(1, 0, 0)) == told


@pytest.mark.usefixtures("released")
def test_facts_of_no_version_are_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"(?s)no version v3\.0\.0.*versions here: v1\.2\.3"):
        facts(Version(3, 0, 0))


def test_a_tag_by_another_tool_is_refused_in_words(released: Project) -> None:
    """GTO's own `gto register` writes the same name, and no image."""
    released.git("tag", "--annotate", "model@v2.0.0", "--message", "Registering artifact version")
    with pytest.raises(UserError, match=r"v2\.0\.0"):
        facts(Version(2, 0, 0))
    released.tag("model@v2.0.1", "by: hand\n")
    with pytest.raises(UserError, match=r"v2\.0\.1"):
        facts(Version(2, 0, 1))


@pytest.mark.parametrize("text", ["v1.2.3", "1.2.3", "model@v1.2.3"])
def test_a_version_is_read_in_each_of_its_forms(text: str) -> None:
    assert parse(text) == Version(1, 2, 3)
    assert parse(text).tag == "model@v1.2.3"


@pytest.mark.parametrize("text", ["", "v1.2", "1.2.3.4", "latest", "v1.2.3-rc1", "other@v1.2.3", "v1.2.x", " v1.2.3"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no version"):
        parse(text)
