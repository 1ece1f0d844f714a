"""Each deployment is one pull request that somebody merges: release to staging, promotion, rollback."""

import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from desk import COMPOSE, IMAGE, NAME, Desk, bot, digest, overlay
from stand_in import GitHub

from perennial.errors import UserError
from perennial.release.deploy import promote, rollback, to_staging

BOTH = (overlay("staging"), overlay("production"))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with GitHub(tmp_path / "github") as github:
        yield Desk(tmp_path, monkeypatch, github)


@pytest.fixture
def staged(desk: Desk) -> Desk:
    """v1.0.0 runs in staging, nothing in production."""
    to_staging(desk.released("v1.0.0"))
    desk.merge(1)
    return desk


@pytest.fixture
def live(staged: Desk) -> Desk:
    """v1.0.0 runs in both, and v1.1.0 in staging."""
    promote()
    staged.merge(2)
    to_staging(staged.released("v1.1.0"))
    staged.merge(3)
    return staged


def refused(desk: Desk, act: Callable[[], object], match: str) -> None:
    """With the reason, and with nothing done."""
    before = desk.everything()
    with pytest.raises(UserError, match=match):
        act()
    assert desk.everything() == before


def test_a_release_is_proposed_for_staging(desk: Desk) -> None:
    image = desk.released("v1.0.0")
    before = desk.at("main", overlay("staging"))
    to_staging(image)
    (pull,) = desk.pulls
    assert (pull["title"], pull["base"]["ref"]) == ("Deploy v1.0.0 to staging", "main")
    assert f"https://github.com/{NAME}/releases/tag/model%40v1.0.0" in pull["body"]
    assert image["digest"] in pull["body"]
    branch = pull["head"]["ref"]
    assert desk.runs("staging", branch) == {"DIGEST": image["digest"], "VERSION": "v1.0.0", "COMMIT": image["commit"]}
    assert desk.changed(branch) == [COMPOSE, overlay("staging")]
    assert bot(desk, branch)
    after = desk.at(branch, overlay("staging"))
    assert len(set(after.splitlines()) - set(before.splitlines())) == 4  # name, digest, version, commit
    assert len(after.splitlines()) == len(before.splitlines())
    assert f"IMAGE={IMAGE}\n" in desk.at(branch, COMPOSE)
    assert desk.runs("production", branch) == desk.runs("production")


def test_the_same_release_again_changes_nothing(desk: Desk) -> None:
    image = desk.released("v1.0.0")
    to_staging(image)
    before, writes = desk.everything(), desk.writes()
    to_staging(image)
    assert (desk.everything(), desk.writes()) == (before, writes)
    desk.merge(1)
    before = desk.everything()
    to_staging(image)
    assert (desk.everything(), desk.writes()) == (before, writes)


def test_a_newer_release_renews_the_proposal(desk: Desk) -> None:
    to_staging(desk.released("v1.0.0"))
    newer = desk.released("v1.1.0")
    to_staging(newer)
    (pull,) = desk.pulls
    assert pull["title"] == "Deploy v1.1.0 to staging"
    assert newer["digest"] in pull["body"]
    assert desk.runs("staging", pull["head"]["ref"])["DIGEST"] == newer["digest"]
    desk.merge(1)  # one commit on main, and not one a version


@pytest.mark.parametrize("merged", [True, False], ids=["staging runs the newer", "the newer is proposed"])
def test_a_release_never_takes_staging_back(desk: Desk, merged: bool) -> None:
    """Somebody runs the release of an old commit again."""
    older, newer = desk.released("v1.0.0"), desk.released("v1.1.0")
    to_staging(newer)
    if merged:
        desk.merge(1)
    before = desk.everything()
    to_staging(older)
    assert desk.everything() == before


def test_staging_is_not_taken_back_where_tags_are_missing(staged: Desk) -> None:
    to_staging(staged.released("v1.1.0"))
    staged.merge(2)
    staged.git("tag", "--delete", "model@v1.1.0")
    older = {"name": IMAGE, "digest": digest("v1.0.0"), "version": "v1.0.0", "commit": "1" * 40}
    refused(
        staged, lambda: to_staging(older), r"newer than v1\.0\.0(?s:.*)make rollback TO=v1\.0\.0 ENVIRONMENT=staging"
    )


def test_a_proposal_follows_its_base(desk: Desk) -> None:
    image = desk.released("v1.0.0")
    to_staging(image)
    desk.write({"README.md": "More.\n"})
    merged = desk.push()
    to_staging(image)
    (pull,) = desk.pulls
    assert desk.head_at(pull["head"]["ref"] + "^") == merged
    assert desk.changed(pull["head"]["ref"]) == [COMPOSE, overlay("staging")]
    assert desk.runs("staging", pull["head"]["ref"])["DIGEST"] == image["digest"]


@pytest.mark.parametrize("commit", ["1" * 40, "1e" + "5" * 38, "0" * 40])
def test_a_commit_of_digits_stays_a_text(desk: Desk, commit: str) -> None:
    to_staging(desk.released("v1.0.0") | {"commit": commit})
    assert desk.runs("staging", "deploy/staging")["COMMIT"] == commit  # in YAML, too


def test_a_promotion_copies_what_staging_runs(staged: Desk) -> None:
    before = staged.at("main", overlay("production"))
    promote()
    pull = staged.pulls[1]
    assert (pull["title"], pull["head"]["ref"]) == ("Deploy v1.0.0 to production", "deploy/production")
    assert "No figures: set PROMETHEUS_URL" in pull["body"]
    assert staged.runs("production", "deploy/production") == staged.runs("staging")
    assert staged.changed("deploy/production") == [COMPOSE, overlay("production")]
    after = staged.at("deploy/production", overlay("production"))
    assert len(set(after.splitlines()) - set(before.splitlines())) == 4


def test_a_promotion_again_changes_nothing(staged: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    promote()
    before, writes = staged.everything(), staged.writes()
    promote()
    assert (staged.everything(), staged.writes()) == (before, writes)
    staged.merge(2)
    before = staged.everything()
    promote()
    assert (staged.everything(), staged.writes()) == (before, writes)
    assert "Production runs v1.0.0 already" in capsys.readouterr().out


def test_a_promotion_tells_what_staging_has_shown(staged: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"model_rows_total": "123456", "code=~'5..'": "3", "0.99": "0.0214", "psi": "NaN"}
    figures |= {"model_label_loss": "0.1312", "model_ref_loss_mean": "0.1277", "model_outcomes": "2718.3"}
    with Prometheus(figures) as asked:
        monkeypatch.setenv("PROMETHEUS_URL", asked.url)
        promote()
    assert len(asked.queries) == 10
    assert all('namespace="perennial-staging"' in query for query in asked.queries)
    body = staged.pulls[1]["body"]
    for line in ("| rows scored | 1.235e+05 |", "| of these with 5xx | 3 |", "| seconds for 99 % | 0.0214 |"):
        assert line in body
    assert "| loss of a labelled answer | 0.1312 |\n| the same on the hold-out | 0.1277 |" in body
    assert "| worth of 1,000 labelled answers | 2,718 |" in body
    assert "| labels received | none seen |" in body
    assert "(PSI) | none seen |" in body


def test_a_promotion_does_without_a_prometheus_that_is_ill(staged: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", "http://127.0.0.1:9")
    promote()
    assert "No figures: Prometheus at http://127.0.0.1:9 does not answer" in staged.pulls[1]["body"]


def test_nothing_in_staging_is_not_promoted(desk: Desk) -> None:
    refused(desk, promote, "nothing is deployed to staging")


def test_production_ahead_of_staging_is_refused(live: Desk) -> None:
    promote()
    live.merge(4)
    rollback("v1.0.0", "staging")
    live.merge(5)
    refused(live, promote, r"production runs v1\.1\.0, staging only v1\.0\.0(?s:.*)make rollback TO=v1\.0\.0")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (digest("v1.0.0"), digest("evil"), r"not the image of v1\.0\.0(?s:.*)by hand"),
        ("version: v1.0.0", "version: v7.0.0", r"there is no version v7\.0\.0"),
        ("version: v1.0.0", "version: none", "'none' is no version"),
        (f"newName: {IMAGE}", "newName: ghcr.io/eve/demo", "not the image of"),
        (digest("v1.0.0"), "sha256:latest", "is no digest"),
        (f"digest: {digest('v1.0.0')}", "newTag: latest", "0 lines of digest:"),
        (f"digest: {digest('v1.0.0')}", f"digest: {digest('a')}\n    digest: {digest('b')}", "2 lines of digest:"),
    ],
)
def test_a_digest_that_no_release_vouches_for_is_refused(staged: Desk, old: str, new: str, reason: str) -> None:
    text = staged.at("main", overlay("staging"))
    assert text.count(old) == 1
    staged.git("pull", "-q", "--ff-only", "origin", "main")
    staged.write({overlay("staging"): text.replace(old, new)})
    staged.push()
    refused(staged, promote, reason)


def test_a_rollback_brings_an_earlier_image_back(live: Desk) -> None:
    promote()
    live.merge(4)
    rollback("1.0.0", "production")
    pull = live.pulls[4]
    assert pull["title"] == "Roll production back to v1.0.0"
    assert "in place of v1.1.0" in pull["body"]
    assert live.runs("production", "deploy/production")["DIGEST"] == digest("v1.0.0")
    assert live.changed("deploy/production") == [COMPOSE, overlay("production")]
    live.merge(5)
    assert live.runs("staging")["VERSION"] == "v1.1.0"
    promote()  # and forwards again
    live.merge(6)
    assert live.runs("production")["DIGEST"] == digest("v1.1.0")


def test_a_rollback_is_a_revert(staged: Desk) -> None:
    """Either way the files end as they were."""
    promote()
    staged.merge(2)
    files = [staged.at("main", name) for name in (COMPOSE, *BOTH)]
    to_staging(staged.released("v1.1.0"))
    staged.merge(3)
    rollback("v1.0.0", "staging")
    staged.merge(4)
    assert [staged.at("main", name) for name in (COMPOSE, *BOTH)] == files


@pytest.mark.parametrize(
    ("version", "environment", "reason"),
    [
        ("v9.9.9", "production", r"no version v9\.9\.9(?s:.*)versions here: v1\.1\.0, v1\.0\.0"),
        ("latest", "production", "'latest' is no version"),
        ("v1.0.0", "production", "production runs v1.0.0 already"),
        ("v1.1.0", "production", r"production runs v1\.0\.0: v1\.1\.0 is no way back"),
        ("v1.0.0", "canary", "canary: no such environment"),
        ("v1.0.0", "../../..", "no such environment"),
    ],
)
def test_no_way_back_is_refused(live: Desk, version: str, environment: str, reason: str) -> None:
    refused(live, partial(rollback, version, environment), reason)


def test_a_push_that_is_refused_opens_nothing_and_the_next_run_completes(staged: Desk) -> None:
    staged.refuse_pushes()
    refused(staged, promote, "git push: (?s:.*)the disk is full")
    staged.refuse_pushes(False)
    promote()
    assert [pull["number"] for pull in staged.pulls] == [1, 2]
    assert staged.runs("production", "deploy/production") == staged.runs("staging")


@pytest.mark.parametrize("illness", ["500", "answer lost"])
def test_an_ill_api_fails_and_the_next_run_completes(staged: Desk, illness: str) -> None:
    if illness == "500":
        staged.github.broken["/pulls"] = 500
    else:
        staged.github.lose_next = 1
    with pytest.raises(UserError, match=r"/pulls: 50[02]"):
        promote()
    staged.github.broken.clear()
    promote()
    assert [pull["number"] for pull in staged.pulls] == [1, 2]
    before = staged.everything()
    promote()
    assert staged.everything() == before


def test_a_token_that_may_not_write_is_refused_in_words(staged: Desk) -> None:
    staged.github.read_only = True
    with pytest.raises(UserError, match="403 Resource not accessible"):
        promote()
    assert len(staged.pulls) == 1


def test_outside_of_a_workflow_it_says_what_to_set(staged: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_REPOSITORY")
    refused(staged, promote, "GITHUB_REPOSITORY")


def test_nothing_here_is_touched(staged: Desk) -> None:
    """Somebody is in the middle of something, on another branch, with half of it staged."""
    staged.git("switch", "-q", "-c", "work")
    staged.write({"src/code.py": "staged\n", overlay("production"): "mine\n"})
    staged.git("add", "src")
    staged.write({"src/code.py": "not staged\n", "src/new.py": "new\n", COMPOSE: "mine\n"})

    def mine() -> tuple[str, ...]:
        status = staged.git("status", "--porcelain", "--branch"), staged.git("symbolic-ref", "HEAD")
        return (*status, staged.git("ls-files", "--stage"), staged.git("diff"), staged.git("branch"), staged.head())

    before = mine()
    promote()
    assert mine() == before
    assert staged.changed("deploy/production") == [COMPOSE, overlay("production")]
    assert "mine" not in staged.at("deploy/production", COMPOSE)


@pytest.fixture
def remote(staged: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The origin is at GitHub, which lets nobody push without a token."""
    monkeypatch.setenv("GITHUB_SERVER_URL", staged.github.url)
    staged.git("remote", "set-url", "origin", f"{staged.github.url}/{NAME}")
    return staged


def test_a_push_sends_the_token_and_keeps_it_nowhere(
    remote: Desk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "s3cret-t0ken"
    encoded = "eC1hY2Nlc3MtdG9rZW46czNjcmV0LXQwa2Vu"  # of x-access-token:<secret>
    remote.github.token = secret
    monkeypatch.setenv("GITHUB_TOKEN", secret)
    promote()
    assert remote.runs("production", "deploy/production") == remote.runs("staging")
    pushes = [line for line in remote.github.log if "git-receive-pack" in line.path]
    assert {(line.status, line.authorization) for line in pushes} == {(200, f"Basic {encoded}")}
    kept = [path for path in remote.here.rglob("*") if path.is_file()]
    assert not [path for path in kept if any(text.encode() in path.read_bytes() for text in (secret, encoded))]
    assert secret not in "".join(capfd.readouterr())


def test_without_a_token_the_push_is_refused_in_words(remote: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_TOKEN")
    refused(remote, promote, "git push: (?s:.*)contents: write")


class Prometheus:
    """Answers each query by the first figure whose name is in it, and with no series otherwise."""

    def __init__(self, figures: dict[str, str]) -> None:
        self.queries: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(figures))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _handler(self, figures: dict[str, str]) -> type[BaseHTTPRequestHandler]:
        queries = self.queries

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                place = urllib.parse.urlsplit(self.path)
                assert place.path == "/api/v1/query"
                (query,) = urllib.parse.parse_qs(place.query)["query"]
                queries.append(query)
                found = [value for name, value in figures.items() if name in query]
                result = [{"metric": {}, "value": [1.0, value]} for value in found[-1:]]
                body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def __enter__(self) -> "Prometheus":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
