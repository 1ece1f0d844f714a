"""The canary rehearsed: real nginx, real gunicorns of real models, real Prometheus, and clients that never stop.

What holds in every rehearsal: each client gets 200 and an answer that one of the two logged, and whatever goes wrong
the champion answers everything afterwards.
"""

import json
import math
import re
import shlex
import shutil
import signal
import statistics
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from proxy import needs
from rehearsal import CHAMPION_ONLY, QUICK, SLEEP, Ended, Stage, Told, spoil, traffic, version_of
from repository import TOOLS, Repository
from service.servers import Server, until
from stand_in import GitHub, reviews

from perennial.errors import UserError
from perennial.release import canary, logbook, trace
from perennial.release.prometheus import Traffic, query, totals
from perennial.serving.ids import Ids
from perennial.serving.settings import Settings
from perennial.serving.ship import ship

pytestmark = [needs("nginx"), needs("prometheus")]
DIGESTS = {"v1.0.0": "sha256:" + "1a" * 32, "v1.1.0": "sha256:" + "2b" * 32}
TRACKS = ("champion", "challenger")


def released(repository: Repository, version: str) -> None:
    """The tag that a release makes."""
    profile = json.loads(repository.read("models/profile.json"))
    facts = {
        "image": f"ghcr.io/octo/demo@{DIGESTS[version]}",
        "commit": repository.git("rev-parse", "HEAD"),
        "model": profile["model"]["sha256"],
        "contract": profile["contract_digest"],
        "gate": "pass",
    }
    text = f"Release model@{version}\n\n" + "".join(f"{key}: {value}\n" for key, value in facts.items())
    repository.git("tag", "--annotate", f"model@{version}", "--message", text)


@dataclass
class Land:
    """Models of one history: v1.0.0, v1.1.0 that pull request 7 brought, and one that was never committed."""

    champion: Repository
    challenger: Repository
    shifted: Repository
    clone: Repository  # main, where v1.1.0 went to staging and v1.0.0 to production
    lock_md5: str  # of the data


@pytest.fixture(scope="module")
def land(built: Repository, tmp_path_factory: pytest.TempPathFactory) -> Land:
    folder = tmp_path_factory.mktemp("land")
    main = built.copy(folder / "main")
    released(main, "v1.0.0")
    champion = main.copy(folder / "champion")
    main.git("checkout", "-q", "-b", "more-rounds")
    main.replace("params.yaml", "max_iter: 20", "max_iter: 24")
    main.perennial("run")
    main.commit("More rounds [of boosting]")
    main.git("checkout", "-q", "main")
    main.git("merge", "-q", "--no-ff", "-m", "Merge pull request #7 from ada/more-rounds", "more-rounds")
    released(main, "v1.1.0")
    challenger, shifted = main.copy(folder / "challenger"), main.copy(folder / "shifted")
    for environment, version in (("staging", "v1.1.0"), ("production", "v1.0.0")):
        main.replace(place(environment), "sha256:" + "0" * 64, DIGESTS[version])
        main.commit(f"Deploy {version} to {environment}")
    for batch in (shifted.path / "data/raw").glob("*.csv"):
        batch.write_text(batch.read_text().replace(",day,no\n", ",day,yes\n"))
    for stage in ("prepare", "train"):
        shifted.perennial(stage)
    found = re.search(r"path: data/raw\s+hash: md5\s+md5: (\S+)", main.read("dvc.lock"))
    assert found
    return Land(champion, challenger, shifted, main.clone(folder / "clone"), found[1])


def place(environment: str) -> str:
    return f"deploy/kubernetes/overlays/{environment}/kustomization.yaml"


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The champion alone answers, before each test and after it."""
    with Stage(tmp_path_factory.mktemp("stage")) as running:  # first, for Prometheus takes its time
        land = request.getfixturevalue("land")
        with running.plays("champion", land.champion.path, WEB_CONCURRENCY=2, THREADS=4):
            yield running


@pytest.fixture(scope="module")
def challenger(request: pytest.FixtureRequest, stage: Stage, land: Land) -> Iterator[Server]:
    """One that does well, or one of the ill."""
    illness = getattr(request, "param", "")
    repository = land.shifted if illness == "shifted" else land.challenger
    blocked = stage.folder / "a file, no folder"
    blocked.touch()
    settings: dict[str, dict[str, Any]] = {
        "failing": {"LOG_DIR": blocked, "LOG_FULL": "refuse"},
        "unlogged": {"LOG_DIR": blocked},
        "dying": {"WEB_CONCURRENCY": 4},
    }
    first = {"slow": f"time.sleep({SLEEP})", "dying": "random.random() > 0.01 or os._exit(139)"}
    with pytest.MonkeyPatch.context() as patch:
        if illness in first:
            spoil(stage.folder, first[illness], patch)
        with stage.plays("challenger", repository.path, **settings.get(illness, {})) as running:
            yield running


def logged(server: Server) -> dict[str, dict[str, Any]]:
    return {line["prediction_id"]: line for line in server.lines()}


def check_all_were_answered(told: list[Told], stage: Stage) -> Counter[str]:
    """No request was lost and each answer is in one log, as it was given. How many each version gave."""
    assert {each.status for each in told} == {200}
    assert len({each.prediction_id for each in told}) == len(told)
    champions, challengers = logged(stage.champion), logged(stage.challenger)
    assert not champions.keys() & challengers.keys()
    for each in told:
        line = champions.get(each.prediction_id) or challengers[each.prediction_id]
        assert (line["model_version"], line["features"]["remark"]) == (each.version, each.remark)
    return Counter(each.version for each in told)


def check_champion_answers_all(stage: Stage) -> None:
    assert stage.split() == CHAMPION_ONLY
    stage.settle()


# The good one


@dataclass
class Rehearsed:
    ended: Ended
    split: dict[str, list[str]]
    answered: Counter[str]
    after: set[str]  # the versions that answered when it was over
    told: dict[str, list[Told]]  # by track
    versions: dict[str, str]
    logs: dict[str, Path]  # as they were then
    seen: dict[str, Traffic]
    quantiles: dict[str, float]  # the 95th percentile of each track, by Prometheus


@pytest.fixture(scope="module")
def rehearsed(stage: Stage, challenger: Server, tmp_path_factory: pytest.TempPathFactory) -> Rehearsed:
    servers = {"champion": stage.champion, "challenger": challenger}
    versions = {track: version_of(server) for track, server in servers.items()}
    with traffic(stage.nginx.port) as told:
        ended = stage.canary("--steps", "20,50,100", *QUICK[2:], "--seconds", "6")  # a scrape may be a second late
        split = stage.split()
        until(lambda: {stage.version() for _ in range(20)} == {versions["challenger"]})
    with traffic(stage.nginx.port) as later:
        time.sleep(0.2)
    answered = check_all_were_answered(told + later, stage)
    stage.nginx.split()
    stage.nginx.reload()
    stage.settle()
    seen, quantiles, logs = {}, {}, {}
    for track, server in servers.items():
        stage.prometheus.wait_for(track)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PROMETHEUS_URL", stage.prometheus.address)
            seen[track] = totals(f'track="{track}"')
            buckets = f'model_request_seconds_bucket{{track="{track}",route="predict"}}'
            (found,) = query(f"histogram_quantile(0.95, sum by (le) ({buckets}))")
        quantiles[track] = float(found["value"][1])
        logs[track] = tmp_path_factory.mktemp("logs") / track
        shutil.copytree(server.logs, logs[track])
    by_track = {track: [each for each in told if each.version == version] for track, version in versions.items()}
    after = {each.version for each in later}
    return Rehearsed(ended, split, answered, after, by_track, versions, logs, seen, quantiles)


def test_a_good_challenger_goes_to_the_end(rehearsed: Rehearsed) -> None:
    assert rehearsed.ended.code == 0, rehearsed.ended.said
    assert rehearsed.split == {"track": ["* challenger;"], "shadow": ["* off;"]}
    assert rehearsed.after == {rehearsed.versions["challenger"]}
    assert rehearsed.answered.keys() == set(rehearsed.versions.values())


def test_its_share_grows_by_the_steps(rehearsed: Rehearsed) -> None:
    report = rehearsed.ended.report
    assert (report["passed"], report["shadow"]) == (True, False)
    assert [(step["share"], step["stopped"]) for step in report["steps"]] == [(20, ""), (50, ""), (100, "")]
    for step, share in zip(report["steps"][:2], (0.2, 0.5), strict=True):
        old, new = step["champion"]["requests"], step["challenger"]["requests"]
        assert new >= 30
        # what Prometheus knows of one may be a second older than of the other
        assert abs(new / (old + new) - share) < 5 * math.sqrt(share * (1 - share) / (old + new)) + 0.15
    assert rehearsed.ended.said.count("✓") == 3
    assert "✓ 20 %: " in rehearsed.ended.said


def test_its_figures_are_those_of_the_log_and_of_prometheus(rehearsed: Rehearsed) -> None:
    for track in TRACKS:
        lines = [line for path in rehearsed.logs[track].glob("*.open") for line in path.read_text().splitlines()]
        seen = rehearsed.seen[track]
        assert seen.requests == seen.rows == sum(seen.bins.values()) == seen.seconds[math.inf] == len(lines)
        assert seen.errors == seen.lost == 0
        assert seen.quantile(0.95) == pytest.approx(rehearsed.quantiles[track])
    steps = rehearsed.ended.report["steps"]
    assert 90 <= sum(step["challenger"]["requests"] for step in steps) <= rehearsed.seen["challenger"].requests
    assert all(step["challenger"]["errors"] == step["challenger"]["lost"] == 0 for step in steps)


# What is behind a prediction of it


@pytest.fixture
def clone(land: Land, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Where we stand; nothing but Git is asked."""
    monkeypatch.chdir(land.clone.path)
    for name in ("GITHUB_REPOSITORY", "GITHUB_TOKEN", "LOG_DIR", "PREDICTION_STORE"):
        monkeypatch.delenv(name, raising=False)
    return land.clone


def sha(repository: Repository, of: str) -> str:
    return repository.git("rev-parse", f"{of}^{{commit}}")


def test_make_trace_ends_at_commit_and_pull_request(rehearsed: Rehearsed, land: Land, clone: Repository) -> None:
    shown = {}
    for track in TRACKS:
        of = rehearsed.told[track][-1]
        where = {"PATH": f"{TOOLS}:{clone.environment['PATH']}", "LOG_DIR": str(rehearsed.logs[track])}
        make = ["make", "--silent", "--old-file=.venv/.pipeline", "trace", f"ID={of.prediction_id}"]
        shown[track] = clone.command(*make, **where, COLUMNS="900")
        assert rehearsed.versions[track] in shown[track]
        assert of.remark in shown[track]
        assert f"data/raw md5 {land.lock_md5}" in shown[track]
    for track, version, environment in zip(TRACKS, DIGESTS, ("production", "staging"), strict=True):
        said = shown[track]
        for link in (sha(clone, f"model@{version}"), f"model@{version}", DIGESTS[version], f'"{environment}": "since '):
            assert link in said, (track, link)
    assert "Merge pull request #7 from ada/more-rounds" in shown["challenger"]
    assert re.search(r"pull request\s+│\s+#7\s", shown["challenger"])
    assert "#7" not in shown["champion"]


@pytest.mark.parametrize(
    "what", ["id", "ghcr.io/octo/demo@{}", "{}", "v1.1.0", "1.1.0", "model@v1.1.0", "sha", "short sha"]
)
def test_all_ways_lead_there(
    what: str, rehearsed: Rehearsed, land: Land, clone: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, of = sha(clone, "model@v1.1.0"), rehearsed.told["challenger"][0]
    monkeypatch.setenv("LOG_DIR", str(rehearsed.logs["challenger"]))
    named = {"id": of.prediction_id, "sha": commit, "short sha": commit[:9]}
    found = trace.trace(named.get(what) or what.format(DIGESTS["v1.1.0"]))
    if what == "id":
        line = found.pop("prediction")
        assert (line["prediction_id"], line["features"]["remark"]) == (of.prediction_id, of.remark)
        assert found.pop("model_version") == of.version
    profile = json.loads(land.challenger.read("models/profile.json"))
    assert of.version == profile["model"]["sha256"][: len(of.version)]
    assert found.pop("commit").startswith(f"{commit}, Ada, ")
    assert found.pop("deployed")["staging"].startswith(f"since {sha(clone, 'main~1')[:7]}")
    assert found == {
        "version": "model@v1.1.0",
        "image": f"ghcr.io/octo/demo@{DIGESTS['v1.1.0']}",
        "model": profile["model"]["sha256"],
        "data": f"data/raw md5 {land.lock_md5}",
        "contract": profile["contract_digest"],
        "gate": "pass",
        "pull_request": "#7",
    }


@pytest.mark.parametrize("where", ["open", "closed", "store", "yesterday", "being closed", "being shipped", "torn"])
def test_its_line_is_found_wherever_it_is(
    where: str, rehearsed: Rehearsed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, folder, store = rehearsed.told["challenger"][3].prediction_id, tmp_path / "logs", tmp_path / "store"
    monkeypatch.setenv("LOG_DIR", str(folder))
    monkeypatch.setenv("PREDICTION_STORE", str(store))
    folder.mkdir()
    settings = Settings(log_dir=folder, prediction_store=str(store))
    for path in rehearsed.logs["challenger"].glob("predictions-*"):
        name = re.sub(r"-\d{8}T", "-20000101T", path.name) if where == "yesterday" else path.name
        shutil.copy(path, folder / name)
    listed = Path.glob

    def close() -> None:
        for path in list(listed(folder, "*.open")):
            path.rename(path.with_suffix(".jsonl"))

    def late(self: Path, pattern: str) -> Iterator[Path]:
        """Whoever lists it is a moment too late."""
        found = list(listed(self, pattern))
        if self == folder and any(path.suffix == ".open" for path in found):
            close()
            if where == "being shipped":
                ship(settings)
        return iter(found)

    match where:
        case "closed":
            close()
        case "store":
            close()
            assert ship(settings)
        case "yesterday":  # begun before midnight of the day of the id
            day = time.strftime("%Y-%m-%d", time.gmtime(int(wanted[:12], 16) / 1000 - 86_400))
            (store / f"predictions/dt={day}").mkdir(parents=True)
            close()
            for path in folder.glob("*.jsonl"):
                path.rename(store / f"predictions/dt={day}/{path.name}")
        case "being closed" | "being shipped":
            monkeypatch.setattr(Path, "glob", late)
        case "torn":
            (segment,) = folder.glob("*.open")
            line = next(line for line in segment.read_bytes().splitlines() if wanted.encode() in line)
            torn = line.replace(b'"remark":"', '"remark":"é'.encode())
            segment.write_bytes(line + b"\n" + torn[: torn.index("é".encode()) + 1])  # in the middle of a letter
    assert logbook.prediction(wanted)["prediction_id"] == wanted


def write_line(folder: Path, end: str = "\n", **more: Any) -> str:
    """A log with this one line; its id."""
    folder.mkdir()
    wanted = f"{Ids().request()}-0"
    line = {"prediction_id": wanted, "time": 1.5, "model_version": "m", "commit": "", "features": {}, "output": {}}
    (folder / "predictions-20260101T000000-aa.open").write_text(json.dumps(line | more) + end)
    return wanted


def test_a_line_that_is_torn_was_never_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_DIR", str(tmp_path / "logs"))
    wanted = write_line(tmp_path / "logs", end="")
    with pytest.raises(UserError, match=rf"{wanted}: neither in {tmp_path}/logs/store nor in {tmp_path}/logs"):
        logbook.prediction(wanted)


@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize(
    ("commit", "said"),
    [
        ("", "the service did not know it (GIT_COMMIT was not set)"),
        ("c0ffee" + "0" * 34, f"c0ffee{'0' * 34}: not in this clone; git fetch --unshallow --tags"),
    ],
)
def test_a_commit_that_is_not_known_here_is_said(
    commit: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_DIR", str(tmp_path / "logs"))
    found = trace.trace(write_line(tmp_path / "logs", commit=commit))
    assert (found["model_version"], found["commit"]) == ("m", said)


def test_what_a_client_sent_is_printed_as_it_is(
    clone: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Square brackets would be colours to the console, or an error."""
    monkeypatch.setenv("LOG_DIR", str(tmp_path / "logs"))
    trace.show(write_line(tmp_path / "logs", features={"remark": "[/late] [red]"}))
    trace.show(sha(clone, "model@v1.1.0^2"))
    said = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert "[/late] [red]" in said
    assert "More rounds [of boosting]" in said


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("v9.9.9", "there is no version v9.9.9\n  Fix: git fetch --tags; versions here: v1.1.0, v1.0.0"),
        ("sha256:" + "3c" * 32, f"sha256:{'3c' * 32}: no version has this image"),
        ("ghcr.io/octo/demo@sha256:" + "3c" * 32, f"sha256:{'3c' * 32}: no version has this image"),
        ("ghcr.io/octo/demo:latest", "no prediction id, image digest, version or commit that is known here"),
        ("deadbeef", "deadbeef: no prediction id, image digest, version or commit that is known here"),
        ("", "no prediction id, image digest, version or commit that is known here"),
        ("019d00000000-0000000000000000-0", "019d00000000-0000000000000000-0: neither in "),
        ("ffffffffffff-0000000000000000-0", "ffffffffffff-0000000000000000-0: neither in "),  # in the year 10889
    ],
)
@pytest.mark.usefixtures("clone")
def test_what_nobody_knows_is_named(what: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        trace.trace(what)
    assert said in str(caught.value)


@pytest.mark.usefixtures("clone")
def test_a_store_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTION_STORE", "foo://bucket")
    with pytest.raises(UserError, match="PREDICTION_STORE=foo://bucket: Protocol not known: foo"):
        trace.trace("019d00000000-0000000000000000-0")


def test_a_tag_that_no_release_made_says_less(
    land: Land, tmp_path: Path, clone: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = clone.clone(tmp_path / "own")
    own.git("tag", "--annotate", "--message", "Registering artifact model version v2.0.0", "model@v2.0.0")
    monkeypatch.chdir(own.path)
    for what in ("v2.0.0", "HEAD"):
        found = trace.trace(what)
        assert found["version"] == "model@v2.0.0"
        assert found["image"] == found["gate"] == "the tag does not say"
        assert found["data"] == f"data/raw md5 {land.lock_md5}"
    assert trace.trace(DIGESTS["v1.1.0"])["version"] == "model@v1.1.0"
    with pytest.raises(UserError, match="no version has this image"):
        trace.trace("sha256:" + "3c" * 32)


# Who wrote and approved it


@pytest.fixture
def github(clone: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    with GitHub(tmp_path) as github:
        github.add_repository("octo/demo")
        pull = github.add_pull("octo/demo", head="more-rounds", sha="f" * 40, title="More rounds")
        said = [("eve", "CHANGES_REQUESTED"), ("bob", "APPROVED"), ("eve", "APPROVED"), ("eve", "COMMENTED")]
        said += [("zoe", "COMMENTED"), ("dan", "APPROVED"), ("dan", "CHANGES_REQUESTED")]
        reviews.merge(pull, sha(clone, "model@v1.1.0"), author="ada", reviews=said, by="bob")
        for name, value in github.environment("octo/demo").items():
            monkeypatch.setenv(name, value)
        yield github


@pytest.mark.usefixtures("github")
def test_github_tells_who_wrote_and_approved_it() -> None:
    assert trace.trace("v1.1.0")["pull_request"] == {
        "number": 1,
        "title": "More rounds",
        "author": "ada",
        "approved_by": ["bob", "eve"],  # whose last word it was
        "merged_by": "bob",
        "url": "https://github.com/octo/demo/pull/1",
    }
    assert trace.trace("v1.0.0")["pull_request"] == "none: a direct push"


def test_people_whose_accounts_are_gone_are_ghosts(github: GitHub, clone: Repository) -> None:
    pull = github.repositories["octo/demo"].pulls[1]
    reviews.merge(pull, sha(clone, "model@v1.1.0"), author=None, reviews=[(None, "APPROVED")], by="bob")
    told = trace.trace("v1.1.0")["pull_request"]
    assert (told["author"], told["approved_by"]) == ("ghost", ["ghost"])


def test_without_github_its_number_is_told(
    github: GitHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    github.token = "another"
    assert trace.trace("v1.1.0")["pull_request"] == "#7"
    assert "GitHub could not be asked: " in capsys.readouterr().out
    monkeypatch.delenv("GITHUB_TOKEN")
    calls = len(github.log)
    assert trace.trace("v1.1.0")["pull_request"] == "#7"
    assert len(github.log) == calls
    assert trace.trace("v1.0.0")["pull_request"].startswith("Git knows none; ")


# Shadow


def test_a_shadow_sees_what_clients_ask_and_answers_nobody(stage: Stage, challenger: Server) -> None:
    before = logged(challenger).keys()
    with traffic(stage.nginx.port) as told:
        ended = stage.canary("--shadow", *QUICK[2:])
    assert (ended.code, ended.report["passed"], ended.report["shadow"]) == (0, True, True), ended.said
    assert stage.split() == CHAMPION_ONLY
    assert check_all_were_answered(told, stage) == {version_of(stage.champion): len(told)}
    seen = {key: line for key, line in logged(challenger).items() if key not in before}
    assert len(seen) >= 30
    assert {line["model_version"] for line in seen.values()} == {version_of(challenger)}
    assert not seen.keys() & {each.prediction_id for each in told}
    answers = logged(stage.champion)
    asked = {each.remark: answers[each.prediction_id]["features"] for each in told}
    assert all(line["features"] == asked[line["features"]["remark"]] for line in seen.values())
    assert len({line["features"]["remark"] for line in seen.values()}) == len(seen)


# Ended otherwise


def test_without_traffic_it_is_given_up(
    stage: Stage,
    challenger: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """That Prometheus and probes ask for other pages is no traffic."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMETHEUS_URL", stage.prometheus.address)
    course = canary.Course((50, 100), seconds=0, requests=1, patience=2.5, interval=0.3)
    stage.prometheus.wait_for("challenger")  # what was asked before is known
    assert challenger.get("/readyz").status == 200
    assert not canary.canary(stage.nginx.folder, stage.reload, course, canary.Bounds())
    (step,) = json.loads(Path("reports/canary.json").read_text())["steps"]
    assert re.fullmatch("only 0 requests in [23] s: too few to tell anything", step["stopped"])
    assert step["stopped"] in capsys.readouterr().out
    check_champion_answers_all(stage)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ended_in_the_middle_the_champion_answers_all(number: signal.Signals, stage: Stage, challenger: Server) -> None:
    with traffic(stage.nginx.port) as told:
        running = stage.start("--steps", "50", "--seconds", "60")
        until(lambda: version_of(challenger) in {each.version for each in told})
        running.send(number)
        ended = running.end()
        check_champion_answers_all(stage)
    assert (ended.code, ended.report) == (130, None)
    assert len(check_all_were_answered(told, stage)) == 2


@pytest.mark.usefixtures("challenger")
def test_a_proxy_that_does_not_reload_is_named(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMETHEUS_URL", stage.prometheus.address)
    for command, said in {
        "false": "exit code 1",
        "no-such-command": "No such file or directory: 'no-such-command'",
        "nginx -s 'reload": "No closing quotation",
        shlex.join(["sh", "-c", "echo is the docker daemon running >&2; exit 3"]): "is the docker daemon running",
    }.items():
        with pytest.raises(UserError, match=f"the proxy did not reload: .*{re.escape(said)}"):
            canary.canary(stage.nginx.folder, command, canary.Course(), canary.Bounds())
        assert stage.split() == CHAMPION_ONLY
        assert not Path("reports").exists()


@pytest.mark.usefixtures("challenger")
def test_a_proxy_that_reloads_no_more_is_named(stage: Stage, tmp_path: Path) -> None:
    """From the second step on. What it is told is right, and the error says that it does not listen."""
    script = tmp_path / "reload.sh"
    script.write_text(f"test -e {tmp_path}/done && echo broken && exit 1; touch {tmp_path}/done; {stage.reload}")
    with traffic(stage.nginx.port) as told:
        ended = stage.canary(*QUICK, reload=f"sh {script}")
    assert (ended.code, ended.report) == (1, None)
    assert "the proxy did not reload: broken" in ended.said
    assert stage.split() == CHAMPION_ONLY
    assert len(check_all_were_answered(told, stage)) == 2
    stage.nginx.reload()
    stage.settle()


@pytest.mark.usefixtures("challenger")
def test_without_prometheus_the_challenger_is_given_nothing(stage: Stage, tmp_path: Path) -> None:
    seen = tmp_path / "seen"  # by nginx, each time that it reads what to do
    command = f"cat {stage.nginx.folder}/split.conf >> {seen} && {stage.reload}"
    with traffic(stage.nginx.port) as told:
        ended = stage.canary(*QUICK, reload=shlex.join(["sh", "-c", command]), PROMETHEUS_URL="http://127.0.0.1:1")
    assert (ended.code, ended.report) == (1, None)
    assert "Prometheus at http://127.0.0.1:1 does not answer" in ended.said
    assert "* champion;" in seen.read_text()
    assert "challenger;" not in seen.read_text()
    assert check_all_were_answered(told, stage).keys() == {version_of(stage.champion)}
    check_champion_answers_all(stage)


class Line(ThreadingHTTPServer):
    """To Prometheus, until it is cut."""

    cut, daemon_threads = False, True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def line_to(address: str) -> Iterator[Line]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not line.cut:
                with urllib.request.urlopen(address + self.path) as answer:
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(answer.read())

        def log_message(self, *_: Any) -> None:
            pass

    with Line(("127.0.0.1", 0), Handler) as line:
        threading.Thread(target=line.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield line
        finally:
            line.shutdown()


def test_prometheus_that_goes_away_ends_it(stage: Stage, challenger: Server) -> None:
    with line_to(stage.prometheus.address) as line, traffic(stage.nginx.port) as told:
        running = stage.start("--steps", "50", "--seconds", "60", "--interval", "0.2", PROMETHEUS_URL=line.address)
        until(lambda: version_of(challenger) in {each.version for each in told})
        line.cut = True
        ended = running.end()
        check_champion_answers_all(stage)
    assert (ended.code, ended.report) == (1, None)
    assert f"Prometheus at {line.address} does not answer" in ended.said
    assert len(check_all_were_answered(told, stage)) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps", "50,25"], "--steps '50,25': not growing percentages"),
        (["--nginx", "nowhere"], "there is no split.conf in nowhere"),
    ],
)
def test_what_makes_no_sense_is_named(options: list[str], said: str, stage: Stage) -> None:
    ended = stage.canary(*options)
    assert (ended.code, ended.report) == (1, None)
    assert said in ended.said
    assert not (stage.folder / "nowhere").exists()
    assert stage.split() == CHAMPION_ONLY


# The ill ones: last, for each is a server of its own

ILL = {
    "slow": r"95 % of its answers take up to 2\d\d ms, the champion's \d+ ms",
    "failing": r"\d+\.\d% of its requests fail, 0\.0% of the champion's",
    "unlogged": r"\d+ of its rows were not logged",
    "shifted": r"its predictions are spread differently: PSI [\d.]+",
    "dying": r"\d of its workers began anew: they died, or it was reloaded or restarted",
    "down": "an instance is down",
}


@pytest.mark.parametrize(("challenger", "reason"), ILL.items(), indirect=["challenger"], ids=ILL)
def test_an_ill_challenger_is_stopped(challenger: Server, reason: str, stage: Stage) -> None:
    down, dying = reason == ILL["down"], reason == ILL["dying"]
    with traffic(stage.nginx.port) as told:
        running = stage.start(*QUICK, *(("--seconds", "60") if down or dying else ()))
        if down:
            until(lambda: len({each.version for each in told}) == 2)
            challenger.stop()
        ended = running.end()
        check_champion_answers_all(stage)
    (step,) = ended.report["steps"]
    assert re.fullmatch(reason, step["stopped"])
    assert (ended.code, ended.report["passed"]) == (1, False)
    assert f"{step['stopped']}. The champion answers everything again." in ended.said
    assert {each.status for each in told} == {200}
    if reason != ILL["unlogged"]:
        assert len(check_all_were_answered(told, stage)) == (1 if reason == ILL["failing"] else 2)


@pytest.mark.parametrize("challenger", ["slow"], indirect=True)
def test_a_slow_shadow_slows_nobody(challenger: Server, stage: Stage) -> None:
    with traffic(stage.nginx.port, clients=3, pause=0.1) as told:  # so few that it has time for Prometheus
        ended = stage.canary("--shadow", *QUICK[2:])
    assert (ended.code, stage.split()) == (1, CHAMPION_ONLY)
    assert re.fullmatch(ILL["slow"], ended.report["steps"][0]["stopped"])
    assert check_all_were_answered(told, stage).keys() == {version_of(stage.champion)}
    assert statistics.quantiles([each.seconds for each in told], n=20)[-1] < SLEEP
    assert len(logged(challenger)) >= 20
