"""What the watch decided reaches people: a summary always, one issue while something is wrong, and text as text."""

import datetime
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from production import Production, World, gone, same, shifted
from repository import Repository
from stand_in import GitHub
from traffic import UTC

from perennial.monitoring import tell

Facts = dict[str, Any]
NAME = "octo/demo"
WORLDS: dict[str, list[World]] = {
    "quiet": [same, same, same],
    "watch": [shifted, same, same],
    "data-quality": [gone, same, same],
    "retrain": [shifted, shifted, same],
}


@pytest.fixture(scope="module")
def stores(built: Repository, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A log for each decision, up to now."""
    folder, now = tmp_path_factory.mktemp("stores"), datetime.datetime.now(UTC)
    for name, worlds in WORLDS.items():
        Production(built, folder / name).weeks(*worlds, until=now)
    return {name: folder / name for name in WORLDS}


class Desk:
    """The step of drift.yml that runs `perennial watch`."""

    def __init__(self, here: Repository, github: GitHub, folder: Path) -> None:
        self.here, self.github, self.folder = here, github, folder
        self.repository = github.add_repository(NAME)
        self.summary, self.decision = "", ""

    def __call__(self, store: Any = "", expect: int = 0, **environment: str) -> str:
        files = {name: self.folder / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
        for file in files.values():
            file.write_text("")
        told = self.github.environment(NAME) | {name: str(file) for name, file in files.items()}
        told |= {"PREDICTION_STORE": str(store)}
        said = self.here.command(sys.executable, "-m", "perennial", "watch", expect=expect, **told | environment)
        self.summary, output = (file.read_text("utf-8") for file in files.values())
        self.decision = dict(line.split("=", 1) for line in output.splitlines()).get("decision", "")
        return said

    @property
    def issues(self) -> list[Facts]:
        return list(self.repository.issues.values())

    def writes(self) -> list[str]:
        return [f"{line.method} {line.path}" for line in self.github.log if line.method != "GET"]


@pytest.fixture
def watch(built: Repository, tmp_path: Path) -> Iterator[Desk]:
    with GitHub(tmp_path / "github") as github:
        yield Desk(built.copy(tmp_path / "here"), github, tmp_path)


def test_without_a_log_it_is_green_and_says_how_to_connect_one(watch: Desk) -> None:
    """A fork, on its first Monday."""
    watch()
    assert watch.decision == "quiet"
    assert "`PREDICTION_STORE`" in watch.summary
    assert watch.here.read("reports/drift.md") == watch.summary
    assert watch.github.log == []


def test_nothing_logged_yet_is_quiet(watch: Desk, tmp_path: Path) -> None:
    watch(tmp_path / "empty")
    assert watch.decision == "quiet"
    assert "0 rows in the last window" in watch.summary
    assert watch.writes() == []


def test_one_issue_stands_while_something_is_wrong(watch: Desk, stores: dict[str, Path]) -> None:
    watch.github.add_issue(NAME, "Where is it?", body="A question of mine")
    pull = watch.github.add_pull(NAME, head="feat", labels=["drift"], title="Look at drift")  # is in the list, too
    watch(stores["quiet"])
    assert watch.decision == "quiet"
    assert watch.writes() == []

    said = watch(stores["data-quality"])
    assert watch.decision == "data-quality"
    issue = watch.issues[-1]
    assert (issue["title"], issue["labels"]) == ("Production: data-quality", [{"name": "drift"}])
    assert issue["body"] == watch.summary
    assert re.search(r"- distance: \d\d\.\d% missing, 0\.0% in training", issue["body"])
    assert f"Opened {issue['html_url']}" in said

    before = watch.writes()
    watch(stores["data-quality"])
    assert [entry for entry in watch.writes()[len(before) :] if entry.startswith("POST")] == []  # at most renewed

    watch(stores["watch"])
    assert watch.decision == "watch"
    assert (issue["title"], issue["body"]) == ("Production: watch", watch.summary)
    watch(stores["retrain"])
    assert watch.decision == "retrain"
    assert (issue["title"], issue["body"]) == ("Production: retrain", watch.summary)
    assert watch.issues[-1] is issue

    assert f"Closed #{issue['number']}" in watch(stores["quiet"])
    assert issue["state"] == "closed"
    assert [comment["body"] for comment in watch.github.comments(NAME, issue["number"])] == ["Quiet again."]
    assert (pull["state"], pull["title"]) == ("open", "Look at drift")
    watch(stores["watch"])
    assert watch.issues[-1]["number"] != issue["number"]


def test_lasting_drift_alone_makes_no_issue(watch: Desk, stores: dict[str, Path]) -> None:
    """It has a pull request."""
    watch(stores["retrain"])
    assert watch.decision == "retrain"
    assert "distance drifted" in watch.summary
    assert watch.writes() == []


def test_an_issue_of_a_person_is_left_alone(watch: Desk, stores: dict[str, Path]) -> None:
    """Whoever labels one `drift` does not want it rewritten and closed."""
    theirs = dict(watch.github.add_issue(NAME, "Is summer drift?", body="I think not.", labels=["drift"]))
    watch(stores["watch"])
    watch(stores["quiet"])
    assert watch.issues[0] == theirs
    assert [issue["state"] for issue in watch.issues] == ["open", "closed"]


def test_on_a_laptop_nobody_is_told(watch: Desk, stores: dict[str, Path]) -> None:
    watch(stores["watch"], GITHUB_TOKEN="")
    assert watch.github.log == []
    assert "Production: watch" in watch.here.read("reports/drift.md")


@pytest.mark.parametrize(("knob", "said"), [("read_only", "not accessible"), ("broken", "500")])
def test_an_issue_that_cannot_be_made_is_an_error_after_the_summary(
    watch: Desk, stores: dict[str, Path], knob: str, said: str
) -> None:
    setattr(watch.github, knob, {"POST .*/issues$": 500} if knob == "broken" else True)
    assert said in watch(stores["watch"], expect=1)
    assert "Production: watch" in watch.summary
    assert watch.decision == "watch"


# What is said


@pytest.fixture(scope="module")
def facts(built: Repository, stores: dict[str, Path]) -> Facts:
    here = built.copy(built.path.with_name("watched"))
    here.perennial("drift", "--store", str(stores["retrain"]))
    return json.loads(here.read("reports/drift.json"))  # type: ignore[no-any-return]


HOSTILE = [
    "<img src=x onerror=alert(1)>", "a|b", "@octo/team", "#1", "`end` **bold**", "[link](https://example.com)",
    "line\n## heading", "</details>", "$x$", "\u202etxt",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_the_data_call_themselves_stays_text(facts: Facts, name: str) -> None:
    told = json.loads(json.dumps(facts).replace('"distance', json.dumps(name)[:-1]))
    told["reasons"].append(f"{name}: and more")
    assert name in told["windows"][0]["drifted"]
    before, after = tell.render(facts).splitlines(), tell.render(told).splitlines()
    assert len(after) == len(before) + 1
    text = re.sub("`[^`\n]*`", "``", "\n".join(after))  # a code span is not drawn, nor does it ping
    assert not re.search(r"<img|(?<!\u200b)@octo(?!\u200b)|(?<!\\)\[link|^## heading|\*\*bold", text, re.MULTILINE)
    assert not re.search(r"@(?!\u200b)|#1", text)
    assert text.count("</details>") == text.count("<details>") == 1
    for row in after:
        if row.startswith("|"):
            assert len(row.split("|")) in (7, 9)  # a cell more would move the figures


def test_it_fits_into_an_issue_however_many_features_moved(
    facts: Facts, watch: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = [f"a_feature_with_a_rather_long_name_{number}" for number in range(900)]
    told = json.loads(json.dumps(facts))
    for window in told["windows"]:
        window["drifted"] = names
        window["features"] = [dict(window["features"][0], feature=name) for name in names]
    told |= {"decision": "watch", "reasons": [f"{name} drifted: PSI 0.200 beyond chance" for name in names]}
    for name, value in watch.github.environment(NAME).items():
        monkeypatch.setenv(name, value)
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    tell.tell(told)
    (issue,) = watch.issues
    assert issue["body"].count("PSI 0.200 beyond chance") > 300
    assert len(issue["body"]) <= 65_536
