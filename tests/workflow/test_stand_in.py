"""The stand-in for GitHub is like GitHub where the workflows lean on it; what leans on it is tested elsewhere."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in import GitHub

BEARER = {"Authorization": "Bearer a-token"}
IDENTITY = {f"GIT_{who}_{what}": "ada@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ALONE = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull} | IDENTITY


def git(*arguments: str, expect: int = 0, **environment: str) -> str:
    told = ALONE | {"GIT_TERMINAL_PROMPT": "0"} | environment
    done = subprocess.run(["git", *arguments], env=told, capture_output=True, text=True)
    assert done.returncode == expect, done.stderr
    return done.stdout.strip()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A repository whose branch `feat` moves one file, edits one and adds one."""
    here = tmp_path / "here"
    git("init", "-q", "-b", "main", str(here))
    for name in ("old", "kept"):
        (here / name).write_text(f"{name}\n" * 9)
    git("-C", str(here), "add", ".")
    git("-C", str(here), "commit", "-qm", "First")
    git("-C", str(here), "switch", "-qc", "feat")
    git("-C", str(here), "mv", "old", "moved")
    (here / "kept").write_text("other\n")
    (here / "new").touch()
    git("-C", str(here), "add", ".")
    git("-C", str(here), "commit", "-qm", "Second")
    git("clone", "-q", "--bare", str(here), str(tmp_path / "bare.git"))
    return tmp_path / "bare.git"


@pytest.fixture
def github(tmp_path: Path, bare: Path) -> Iterator[GitHub]:
    with GitHub(tmp_path / "github") as github:
        github.add_repository("octo/demo", git=bare)
        yield github


@pytest.fixture
def ask(github: GitHub) -> Callable[..., tuple[int, Any]]:
    def ask(method: str, path: str, body: Any = None, headers: dict[str, str] = BEARER) -> tuple[int, Any]:
        """Status and content of one call."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{github.url}{path}", content, headers, method=method)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    return ask


def test_a_pull_request_says_what_its_branch_changes_and_follows_it(ask: Any, bare: Path) -> None:
    status, pull = ask("POST", "/repos/octo/demo/pulls", {"head": "feat", "base": "main", "title": "Better"})
    assert (status, pull["number"], pull["head"]["sha"]) == (201, 1, git("-C", str(bare), "rev-parse", "feat"))
    _, files = ask("GET", "/repos/octo/demo/pulls/1/files")
    told = [(file["status"], file["filename"], file.get("previous_filename")) for file in files]
    assert told == [("modified", "kept", None), ("renamed", "moved", "old"), ("added", "new", None)]
    git("-C", str(bare), "update-ref", "refs/heads/feat", "main")
    assert ask("GET", "/repos/octo/demo/pulls/1")[1]["head"]["sha"] == git("-C", str(bare), "rev-parse", "main")


def test_a_pull_request_is_refused_twice_and_without_commits(ask: Any) -> None:
    assert ask("POST", "/repos/octo/demo/pulls", {"head": "feat", "base": "main"})[0] == 201
    for head, said in {"feat": "already exists", "main": "No commits", "gone": "invalid"}.items():
        status, refusal = ask("POST", "/repos/octo/demo/pulls", {"head": head, "base": "main"})
        assert status == 422
        assert said in str(refusal["errors"])


def test_a_fork_brings_its_own_commits(github: GitHub, ask: Any, bare: Path, tmp_path: Path) -> None:
    git("clone", "-q", "--bare", str(bare), str(tmp_path / "fork.git"))
    git("-C", str(bare), "update-ref", "-d", "refs/heads/feat")
    github.add_repository("eve/demo", git=tmp_path / "fork.git")
    pull = github.add_pull("octo/demo", head="feat", source="eve/demo")
    assert [found["number"] for found in ask("GET", "/repos/octo/demo/pulls?head=eve:feat")[1]] == [pull["number"]]
    assert ask("GET", "/repos/octo/demo/pulls?head=octo:feat")[1] == []
    assert len(ask("GET", "/repos/octo/demo/pulls/1/files")[1]) == 3


def test_issues_have_labels_and_share_their_numbers_with_pull_requests(github: GitHub, ask: Any) -> None:
    github.add_pull("octo/demo", head="feat")
    assert ask("POST", "/repos/octo/demo/issues", {"title": "Broken rows", "labels": ["data"]})[1]["number"] == 2
    ask("POST", "/repos/octo/demo/issues/2/labels", {"labels": ["drift"]})
    (found,) = ask("GET", "/repos/octo/demo/issues?labels=drift,data")[1]
    assert found["title"] == "Broken rows"
    ask("PATCH", "/repos/octo/demo/issues/2", {"state": "closed"})
    assert ["pull_request" in issue for issue in ask("GET", "/repos/octo/demo/issues")[1]] == [True]


def test_a_list_has_thirty_entries_a_page_unless_asked(github: GitHub, ask: Any) -> None:
    number = github.add_issue("octo/demo", "Talk")["number"]
    for each in range(130):
        github.add_comment("octo/demo", number, str(each))
    comments = f"/repos/octo/demo/issues/{number}/comments"
    sizes = [len(ask("GET", comments + query)[1]) for query in ("", "?per_page=500", "?per_page=100&page=2")]
    assert sizes == [30, 100, 30]


def test_an_artifact_is_in_a_store_that_refuses_the_token(github: GitHub, ask: Any) -> None:
    github.add_artifact("octo/demo", 7, "review", {"a": "first"})
    github.add_artifact("octo/demo", 7, "review", {"a": "second"})
    listed = ask("GET", "/repos/octo/demo/actions/runs/7/artifacts?name=review")[1]
    assert [entry["id"] for entry in listed["artifacts"]] == sorted(github.blobs, reverse=True)
    address = listed["artifacts"][0]["archive_download_url"].removeprefix(github.url)
    assert ask("GET", address)[0] == 400  # urllib takes the token along
    assert [line.status for line in github.log[-2:]] == [302, 400]
    with urllib.request.urlopen(github.url + github.log[-1].path) as response:
        assert len(response.read()) == listed["artifacts"][0]["size_in_bytes"]


def test_knobs(github: GitHub, ask: Any) -> None:
    issues, issue = "/repos/octo/demo/issues", {"title": "One"}
    github.fail_next = [500]
    assert [ask("GET", issues)[0] for _ in range(2)] == [500, 200]
    github.broken = {"/issues$": 503}
    assert ask("GET", issues)[0] == 503
    github.broken, github.lose_next = {}, 1
    assert ask("POST", issues, issue)[0] == 502
    assert len(ask("GET", issues)[1]) == 1
    github.broken = {"POST .*/issues$": 503}
    assert [ask(method, issues, issue if method == "POST" else None)[0] for method in ("GET", "POST")] == [200, 503]
    github.broken, github.may_propose = {}, False
    assert "not permitted" in ask("POST", "/repos/octo/demo/pulls", {"head": "feat", "base": "main"})[1]["message"]
    assert ask("POST", issues, issue | {"body": "x" * 65_537})[0] == 422
    github.token = "right"
    assert ask("GET", issues)[0] == 401
    github.token, github.read_only = None, True
    assert ask("POST", issues, issue)[0] == 403
    assert ask("POST", issues, issue, {})[0] == 401


def test_it_records_what_is_asked(github: GitHub, ask: Any) -> None:
    ask("POST", "/repos/octo/demo/dispatches", {"event_type": "drift"})
    ask("POST", "/repos/octo/demo/actions/workflows/ci.yml/dispatches", {"ref": "main"})
    assert github.repositories["octo/demo"].dispatches == [
        {"event_type": "drift"},
        {"workflow": "ci.yml", "ref": "main"},
    ]
    assert {(line.method, line.status, line.authorization) for line in github.log} == {("POST", 204, "Bearer a-token")}


@pytest.mark.parametrize("suffix", [".git", ""])
def test_git_reads_freely_and_writes_with_a_token(github: GitHub, bare: Path, tmp_path: Path, suffix: str) -> None:
    address, here = f"https://github.com/octo/demo{suffix}", str(tmp_path / "clone")
    git("clone", "-q", address, here, **github.proxy())
    (Path(here) / "large").write_bytes(os.urandom(2_000_000))  # is sent in pieces
    git("-C", here, "add", ".")
    git("-C", here, "commit", "-qm", "Third")
    git("-C", here, "push", "-q", "origin", "HEAD:third", expect=128, **github.proxy())
    git("-C", here, "push", "-q", address.replace("//", "//x:a-token@"), "HEAD:third", **github.proxy())
    assert git("-C", str(bare), "rev-parse", "third") == git("-C", here, "rev-parse", "HEAD")


@pytest.mark.parametrize("way", ["api.github.com", "localhost"])
def test_tls_through_the_proxy_and_without(github: GitHub, way: str) -> None:
    port = "" if way == "api.github.com" else ":" + github.url.rpartition(":")[2]
    code = f"import urllib.request as r; print(r.urlopen('https://{way}{port}/users/ada').read().decode())"
    environment = github.proxy() | {"no_proxy": "localhost"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["login"] == "ada"
    assert github.log[-1].host.startswith(way)
