"""The report of a run gets onto its pull request: as one comment, on the right one, on GitHub's bad days too."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from comment_step import RUN, SHA, WATERMARK, CommentStep
from stand_in import GitHub

from perennial.review.markdown import block, chart, code, fold, table


@pytest.fixture
def step(tmp_path: Path) -> Iterator[CommentStep]:
    with GitHub(tmp_path / "github") as github:
        _ = github.ca  # made before the step counts the files
        yield CommentStep(github, tmp_path / "runner")


def test_the_next_report_renews_the_comment(step: CommentStep) -> None:
    step.upload("## First")
    said = step()
    assert "## First" in step.posted()
    assert f"at {SHA[:8]}" in step.posted()
    assert "## First" in step.summary
    assert step.github.comments("octo/demo", 1)[0]["html_url"] in said
    step.push("## Second")
    step()
    assert "## First" not in step.posted()
    assert "## Second" in step.posted()


def test_it_needs_nothing_but_the_standard_library(step: CommentStep) -> None:
    """Every run here is without site-packages; this one shows that it is."""
    code = "import importlib.util as u; print([u.find_spec(name) for name in ('pydantic', 'numpy')])"
    said = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[None, None]\n"
    step.upload("## Fine")
    step()


@pytest.mark.parametrize("before", [0, 130])
def test_one_comment_stands_among_many(step: CommentStep, before: int) -> None:
    for number in range(before):
        step.github.add_comment("octo/demo", 1, f"Remark {number}")
    step.upload("## Fine")
    step()
    step.github.add_comment("octo/demo", 1, "Thanks!")
    step()
    assert "## Fine" in step.posted()
    assert len(step.comments(by="ada")) == before + 1


@pytest.mark.parametrize("who", ["eve", "translator[bot]"])
def test_a_copied_watermark_changes_nothing(step: CommentStep, who: str) -> None:
    theirs = f"Look at my report\n\n{WATERMARK}"
    step.github.add_comment("octo/demo", 1, theirs, by=who)
    step.upload("## Fine")
    step()
    step.github.add_comment("octo/demo", 1, theirs, by=who)
    step()
    assert "## Fine" in step.posted()
    assert step.comments(by=who) == [theirs, theirs]


def test_a_comment_of_a_deleted_account_is_passed_over(step: CommentStep) -> None:
    step.github.add_comment("octo/demo", 1, WATERMARK)["user"] = None
    step.upload("## Fine")
    step()
    _, ours = step.github.comments("octo/demo", 1)
    assert ours["user"]["login"] == "github-actions[bot]"


# Which pull request


def test_the_commit_says_which_pull_request_and_nothing_that_was_sent(step: CommentStep) -> None:
    other = step.github.add_pull("octo/demo", head="victim", sha="b" * 40)
    step.event["pull_requests"] = [{"number": other["number"]}]
    step.upload({"reports/report.md": f"## Pull request {other['number']}", "number": str(other["number"])})
    step()
    assert len(step.comments()) == 1
    assert step.github.comments("octo/demo", other["number"]) == []


def test_a_fork_is_found_by_its_owner(step: CommentStep) -> None:
    step.github.add_repository("eve/demo")
    step.pull = step.github.add_pull("octo/demo", head="feat", source="eve/demo", sha=SHA, files=[])
    step.event["head_repository"]["owner"]["login"] = "eve"
    step.upload("## From afar")
    step()
    assert "## From afar" in step.posted()
    assert step.github.comments("octo/demo", 1) == []


@pytest.mark.parametrize("event", [{"head_sha": "b" * 40}, {"head_branch": "gone"}, {"head_repository": None}])
def test_nobody_is_told_of_a_commit_at_no_head(step: CommentStep, event: dict[str, str]) -> None:
    """Pushed over in the meantime, no pull request, the fork deleted."""
    step.event |= event
    step.upload("## Too late")
    assert "No open pull request" in step()
    assert step.comments() == []


def test_a_closed_pull_request_is_left_alone(step: CommentStep) -> None:
    step.pull["state"] = "closed"
    step.upload("## Too late")
    assert "No open pull request" in step()
    assert step.comments() == []


# What is posted


def test_a_run_without_a_report_is_told(step: CommentStep) -> None:
    step.event["conclusion"] = "failure"
    step()
    assert "No report" in step.posted()
    assert f"actions/runs/{RUN}" in step.posted()
    assert "ended with failure" in step.posted()


HONEST = [
    "## ❌ Fail: 1 of 14 rules say no",
    "",
    "- ❌ **floor of roc\\_auc**: 0.70 &lt; 0.75, p > 0.05 in R&amp;D, see [the run](https://github.com/octo/demo)  ",
    "  **Do:** a better model",
    *["", "> a quote", "> > within a quote", ""],
    *table(["value", "rows:"], [[code("<=50K"), "3 \\| 4"], [code("a < b && c > d"), "–"], ["größer 😀", "+0"]]),
    *fold("All 14 rules", block("if a < b:\n    a -> b")),
    *["", *chart("What happened", ["a", "b"], "share", [0.1, 0.2], [0.2, 0.1])],
    *["", "```mermaid", "flowchart LR", '  a["x"] --> b -.-> c ==> d', "  a ->> b", "```"],
]


def test_honest_markdown_arrives_as_it_was(step: CommentStep) -> None:
    step.upload("\n".join(HONEST))
    step()
    posted = step.posted().splitlines()
    assert [line for line in "\n".join(HONEST).splitlines() if line not in posted] == []


def test_of_two_attempts_the_later_one_counts(step: CommentStep) -> None:
    step.upload("## First attempt")
    step.upload("## Second attempt")
    step()
    assert "## Second attempt" in step.posted()


WARNING = "changes what judges it"


@pytest.mark.parametrize("name", [".github/workflows/pull-request.yml", "src/perennial/review/rules.py", "Makefile"])
def test_a_reader_is_warned_of_a_changed_judge(step: CommentStep, name: str) -> None:
    step.repository.files[1] = [{"filename": f"data/{number}.csv"} for number in range(150)] + [{"filename": name}]
    step.upload("## Fine")
    step()
    assert step.posted().startswith("> [!WARNING]")
    assert f"{WARNING}: `{name}`" in step.posted()


def test_a_judge_that_was_moved_away_is_told_too(step: CommentStep) -> None:
    moved = {"status": "renamed", "filename": "old.py", "previous_filename": "src/perennial/review/rules.py"}
    step.repository.files[1] = [moved]
    step.upload("## Fine")
    step()
    assert f"{WARNING}: `src/perennial/review/rules.py`" in step.posted()


def test_a_reader_is_warned_when_not_every_file_is_listed(step: CommentStep) -> None:
    step.repository.files[1] = [{"filename": f"0/{number}"} for number in range(4000)]
    step.upload("## Fine")
    step()
    assert step.posted().startswith("> [!WARNING]")


def test_nobody_is_warned_of_other_files(step: CommentStep) -> None:
    step.upload("## Fine")
    step()
    assert WARNING not in step.posted()


# GitHub's bad days


def test_a_short_illness_is_waited_for(step: CommentStep) -> None:
    step.github.fail_next = [500, 502]
    step.upload("## Fine")
    step(impatient=True)
    assert "## Fine" in step.posted()


def test_an_answer_that_is_lost_makes_no_second_comment(step: CommentStep) -> None:
    step.github.lose_next = 1
    step.upload("## Fine")
    step(impatient=True)
    assert "## Fine" in step.posted()


@pytest.mark.parametrize("path", ["/issues/", "/files", "/artifacts", "/pulls$"])
def test_a_long_illness_costs_the_comment_but_not_the_report(step: CommentStep, path: str) -> None:
    step.github.broken = {path: 500}
    step.upload("## Fine")
    assert "::warning::" in step(impatient=True)
    assert step.comments() == []
    assert ("## Fine" in step.summary) == (path in ("/issues/", "/files"))  # else it could not be read


def test_a_token_that_may_not_write_is_an_error(step: CommentStep) -> None:
    step.github.read_only = True
    step.upload("## Fine")
    said = step(expect=1)
    assert "::error::" in said
    assert "not accessible by integration" in said
    assert "## Fine" in step.summary
    assert [line.method for line in step.github.log if line.status == 403] == ["POST"]  # asked for once


def test_the_token_goes_to_the_api_and_nowhere_else(step: CommentStep) -> None:
    step.github.token = "secret-word"
    step.upload("## Fine")
    said = step()
    seen = {line.path.split("/")[1]: line.authorization for line in step.github.log}
    assert seen == {"repos": "Bearer secret-word", "blobs": ""}
    assert "secret-word" not in said + step.summary + step.posted()


# With CML


@pytest.mark.parametrize("way", ["absolute", "relative", "on the path"])
def test_a_broken_cml_is_made_up_for(step: CommentStep, way: str) -> None:
    cml = step.folder / ("work" if way == "relative" else "bin") / "cml"
    cml.write_text('#!/bin/sh\necho "cml was asked: $1 $2"\nexit 1\n')
    cml.chmod(0o755)
    told = {"absolute": {"CML_BIN": str(cml)}, "relative": {"CML_BIN": "./cml"}, "on the path": {"CML_BIN": ""}}[way]
    step.upload("## Fine")
    said = [step(**told), step(**told)]
    assert all("cml was asked: comment update" in each and "::warning::" in each for each in said)
    assert "## Fine" in step.posted()


@pytest.fixture
def cml(step: CommentStep) -> dict[str, str]:
    """What leads the step to the real CML, and that to the stand-in."""
    found = os.environ.get("CML_BIN") or shutil.which("cml")
    if not found:
        pytest.skip("no CML here: neither CML_BIN nor `cml` on the PATH")
    return step.github.proxy() | {"CML_BIN": found, "PATH": os.environ["PATH"], "GITHUB_ACTOR": "ada"}


def test_cml_and_our_poster_renew_the_same_comment(step: CommentStep, cml: dict[str, str]) -> None:
    for number, how in enumerate([cml, {}, cml]):
        step.push(f"## Report {number}")
        assert ("Posted with CML" in step(**how)) == (how is cml)
        assert f"## Report {number}" in step.posted()


def test_where_cml_would_not_look_our_poster_does(step: CommentStep, cml: dict[str, str]) -> None:
    for number in range(130):
        step.github.add_comment("octo/demo", 1, f"Remark {number}")
    step.upload("## Fine")
    assert ["Posted with CML" in step(**cml) for _ in range(2)] == [True, False]
    assert "## Fine" in step.posted()


def test_cml_is_kept_from_a_copied_watermark(step: CommentStep, cml: dict[str, str]) -> None:
    step.upload("## Fine")
    for _ in range(2):
        step.github.add_comment("octo/demo", 1, WATERMARK, by="eve")
        assert "Posted with CML" not in step(**cml)
    assert "## Fine" in step.posted()
    assert step.comments(by="eve") == [WATERMARK, WATERMARK]
