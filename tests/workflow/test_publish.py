"""The last step of a release: tag, page, proposal. Whatever breaks, nothing is half-done and the next run completes."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import IMAGE, PARAMS, Desk, digest
from stand_in import GitHub

from perennial.errors import UserError
from perennial.release import container, sbom
from perennial.release.publish import make_image, publish
from perennial.release.version import Version, facts

TAG = "refs/tags/model@v1.0.0"
FILES = {"model.onnx", "profile.json", "metrics.json", "evaluation.json", "gate.json", "sbom.cdx.json", "SHA256SUMS"}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A commit that the gate passed and whose image is in the registry."""
    with GitHub(tmp_path / "github") as github:
        desk = Desk(tmp_path, monkeypatch, github)
        desk.judged()
        yield desk


def page(desk: Desk) -> dict[str, Any]:
    """The one release page."""
    (release,) = desk.repository.releases.values()
    return release


def whole(desk: Desk, version: str = "v1.0.0") -> None:
    """Tag, page and proposal say the same, and the page's checksums are those of its files."""
    image = json.loads((desk.here / "release/image.json").read_text())
    tag = f"refs/tags/model@{version}"
    assert desk.git("cat-file", "-t", tag, at=desk.origin) == "tag"
    assert desk.head_at_commit(tag) == image["commit"]
    assert facts(Version.of(version))["image"] == f"{IMAGE}@{image['digest']}"  # type: ignore[arg-type]
    release = next(r for r in desk.repository.releases.values() if r["tag_name"] == f"model@{version}")
    assert not release["draft"]
    assert image["digest"] in release["body"]
    content = {asset["name"]: desk.github.blobs[asset["id"]] for asset in release["assets"]}
    assert content.keys() == FILES
    sums = {name: hashlib.sha256(text).hexdigest() for name, text in content.items() if name != "SHA256SUMS"}
    lines = [line.split("  ") for line in content["SHA256SUMS"].decode().splitlines()]
    assert {name: value for value, name in lines} == sums
    assert sums["model.onnx"] == facts(Version.of(version))["model"]  # type: ignore[arg-type]
    assert desk.runs("staging", "deploy/staging")["DIGEST"] == image["digest"]


def test_it_tags_publishes_and_proposes(desk: Desk) -> None:
    publish()
    whole(desk)
    assert re.fullmatch("Release model@v1.0.0", desk.git("tag", "--list", "--format=%(contents:subject)"))
    assert len(desk.pulls) == 1


@pytest.mark.parametrize("clone", ["the same", "a new one"])
def test_again_it_changes_nothing(desk: Desk, clone: str) -> None:
    """Not even the gate's figures, which are others, and longer, each time it runs."""
    publish()
    before, writes = desk.everything(), desk.writes()
    if clone == "a new one":
        desk.git("update-ref", "-d", TAG)
        desk.git("fetch", "-q", "--tags", "origin")
    for _ in range(2):
        desk.judged(latency={"challenger": 0.012345678})
        publish()
    assert (desk.everything(), desk.writes()) == (before, writes)


@pytest.mark.parametrize("broken", ["/releases$", "/assets$", r"/releases/\d+$", "/pulls$"])
def test_an_api_that_fails_leaves_nothing_half_done(desk: Desk, broken: str) -> None:
    desk.github.broken[broken] = 500
    with pytest.raises(UserError, match="500 Server Error"):
        publish()
    assert desk.pulls == []
    if broken != "/pulls$":
        assert all(release["draft"] for release in desk.repository.releases.values())
    desk.github.broken.clear()
    desk.judged(latency={"challenger": 0.012345678})
    publish()
    whole_but_gate = page(desk)
    assert len(desk.pulls) == 1
    assert len(whole_but_gate["assets"]) == len(FILES)
    whole(desk)


@pytest.mark.parametrize("write", range(1, 11))
def test_an_answer_that_is_lost_is_no_second_page(desk: Desk, write: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write is done, and the client told that it is not: the page, seven files, its publication, the proposal."""
    from perennial import github

    calls = []
    once = github._once

    def counted(method: str, *arguments: Any) -> bytes:
        if method != "GET":
            calls.append(method)
            desk.github.lose_next = int(len(calls) == write)
        return once(method, *arguments)

    monkeypatch.setattr(github, "_once", counted)
    if write == 9:  # a PATCH may be tried again at once
        publish()
    else:
        with pytest.raises(UserError, match="502 Server Error"):
            publish()
    desk.judged(latency={"challenger": 0.012345678} if write < 9 else {})
    publish()
    whole(desk)
    assert len(desk.pulls) == len(desk.repository.releases) == 1


def test_a_file_that_arrived_in_part_is_sent_again(desk: Desk) -> None:
    """GitHub keeps its name, in the state `starter`, and refuses another of that name."""
    desk.github.broken["/pulls$|/releases/[0-9]+$"] = 500
    with pytest.raises(UserError, match="500 Server Error"):
        publish()
    desk.github.broken.clear()
    page(desk)["assets"][0].update(size=0, state="starter")
    publish()
    assert {asset["state"] for asset in page(desk)["assets"]} == {"uploaded"}
    whole(desk)


def test_the_origin_refuses_the_tag_and_the_next_run_completes(desk: Desk) -> None:
    desk.refuse_pushes()
    before = desk.everything()
    with pytest.raises(UserError, match=r"git push: (?s:.*)the disk is full"):
        publish()
    assert desk.everything() == before
    desk.refuse_pushes(False)
    publish()
    whole(desk)


def test_a_later_commit_is_the_next_version_and_renews_the_proposal(desk: Desk) -> None:
    publish()
    first = desk.head()
    desk.write({"params.yaml": PARAMS % 8})
    desk.push()
    desk.judged()
    publish()
    whole(desk, "v1.1.0")
    assert len(desk.pulls) == 1
    before = desk.everything()
    desk.git("switch", "-q", "--detach", first)
    desk.judged()
    publish()  # somebody runs the first one again
    assert desk.everything() == before


def refused(desk: Desk, match: str) -> None:
    """With the reason, and with nothing done."""
    before = desk.everything()
    with pytest.raises(UserError, match=match):
        publish()
    assert desk.everything() == before


def test_a_tag_that_says_another_image_is_refused(desk: Desk) -> None:
    publish()
    image = json.loads((desk.here / "release/image.json").read_text())
    desk.write({"release/image.json": json.dumps(image | {"digest": digest("rebuilt")})})
    refused(desk, r"model@v1\.0\.0 exists and says another image(?s:.*)never moved")


def test_a_tag_that_is_only_at_the_origin_is_refused(desk: Desk) -> None:
    """The clone is old: somebody has released that version from another one."""
    other = desk.git("commit-tree", "main^{tree}", "-m", "Another", at=desk.origin)
    text = "Release model@v1.0.0\n\nimage: r@sha256:1\n"
    desk.git("tag", "--annotate", "model@v1.0.0", "--message", text, other, at=desk.origin)
    refused(desk, r"model@v1\.0\.0 exists at the origin")


def test_a_tag_made_by_hand_is_refused(desk: Desk) -> None:
    desk.git("tag", "model@v1.0.0")
    refused(desk, r"model@v1\.0\.0 exists and says another image")


@pytest.mark.parametrize("name", ["params.yaml", "src/code.py", "src/new.py", "deploy/compose.env"])
def test_a_dirty_tree_is_refused(desk: Desk, name: str) -> None:
    """A new file under src/ is in the image, too."""
    desk.write({name: "# mine\n"})
    refused(desk, "the tree is not as committed")


def test_a_file_that_is_in_no_image_does_not_matter(desk: Desk) -> None:
    desk.write({"notes.txt": "mine\n"})
    publish()
    whole(desk)


def test_what_the_gate_has_failed_is_refused(desk: Desk) -> None:
    desk.judged("fail")
    refused(desk, "the gate says no to this commit: floor of roc_auc")


def test_what_the_gate_has_not_judged_is_refused(desk: Desk) -> None:
    desk.write({"src/code.py": "2\n"})
    desk.push()
    refused(desk, "the gate has not judged this commit")
    (desk.here / "reports/gate.json").unlink()
    refused(desk, "the gate has not judged this commit")


def test_an_image_of_another_commit_is_refused(desk: Desk) -> None:
    image = (desk.here / "release/image.json").read_text()
    desk.write({"src/code.py": "2\n"})
    desk.push()
    desk.judged()
    desk.write({"release/image.json": image})
    refused(desk, "not of this commit")


def test_what_was_not_merged_is_refused(desk: Desk) -> None:
    desk.write({"src/code.py": "2\n"})
    commit = desk.commit()
    desk.judged()
    refused(desk, f"{commit[:8]} is not on main")


def test_nothing_to_release_is_refused(desk: Desk) -> None:
    publish()
    desk.write({"README.md": "More.\n"})
    desk.push()
    desk.judged()
    refused(desk, "nothing to release")


# The step before it, without a builder and a registry


class Engine:
    """What builds, tries and pushes; `there` is what the registry has of the commit, `wrong` what the image answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.there: str | None = None
        self.wrong = False
        for name in ("build", "smoke", "push", "registry_digest", "log_in"):
            monkeypatch.setattr(container, name, getattr(self, name))
        monkeypatch.setattr(sbom, "write", lambda version: self.done.append(f"sbom {version}"))

    def build(self, tag: str) -> None:
        self.done.append(f"build {tag}")

    def smoke(self, image: str) -> None:
        self.done.append(f"smoke {image}")
        if self.wrong:
            raise UserError(f"{image} answers otherwise")

    def push(self, tag: str, reference: str) -> str:
        self.done.append(f"push {tag} {reference}")
        return digest("new")

    def registry_digest(self, _: str) -> str | None:
        return self.there

    def log_in(self, _: str) -> None:
        pass


@pytest.fixture
def engine(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Engine:
    (desk.here / "release/image.json").unlink()
    return Engine(monkeypatch)


def test_an_image_is_tried_before_it_is_pushed(desk: Desk, engine: Engine) -> None:
    make_image()
    tag, reference = f"perennial:{desk.head()[:12]}", f"{IMAGE}:{desk.head()}"
    assert engine.done == [f"build {tag}", f"smoke {tag}", f"push {tag} {reference}", "sbom v1.0.0"]
    told = json.loads((desk.here / "release/image.json").read_text())
    assert told == {"name": IMAGE, "digest": digest("new"), "commit": desk.head(), "version": "v1.0.0"}


def test_an_image_that_answers_otherwise_is_not_pushed(desk: Desk, engine: Engine) -> None:
    engine.wrong = True
    with pytest.raises(UserError, match="answers otherwise"):
        make_image()
    assert [line.split()[0] for line in engine.done] == ["build", "smoke"]
    assert not (desk.here / "release/image.json").exists()


@pytest.mark.parametrize("wrong", [False, True])
def test_an_image_that_is_there_is_tried_before_anybody_vouches_for_it(desk: Desk, engine: Engine, wrong: bool) -> None:
    """A run died between push and tag, or somebody else has pushed under this commit's name."""
    engine.there, engine.wrong = digest("there"), wrong
    if wrong:
        with pytest.raises(UserError, match="answers otherwise"):
            make_image()
    else:
        make_image()
    assert engine.done == [f"smoke {IMAGE}@{digest('there')}", *([] if wrong else ["sbom v1.0.0"])]
    assert (desk.here / "release/image.json").exists() is not wrong


def test_an_image_that_is_released_is_left_alone(desk: Desk, engine: Engine) -> None:
    image = desk.judged()
    publish()
    engine.there = image["digest"]
    make_image()
    assert engine.done == ["sbom v1.0.0"]


@pytest.mark.parametrize("there", [None, digest("other")], ids=["gone", "another"])
def test_a_released_image_that_is_not_there_is_not_replaced(desk: Desk, engine: Engine, there: str | None) -> None:
    desk.judged()
    publish()
    engine.there = there
    with pytest.raises(UserError, match=r"model@v1\.0\.0 exists and is(?s:.*)never moved"):
        make_image()
    assert engine.done == []


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"IMAGE": "registry.example.com/Team/Model"}, "registry.example.com/team/model"),
        ({"GITHUB_REPOSITORY": "Octo/Demo"}, "ghcr.io/octo/demo"),
        ({"GITHUB_REPOSITORY": ""}, None),
    ],
)
def test_an_image_has_a_name_that_registries_take(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str | None
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    if name is None:
        with pytest.raises(UserError, match="no name for the image"):
            make_image()
    else:
        make_image()
        assert json.loads((desk.here / "release/image.json").read_text())["name"] == name
