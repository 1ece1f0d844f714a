"""From a prediction, an image, a version or a commit to everything behind it: Git, tags and the log are enough.

prediction → model → image → version → commit → data and contract → pull request, who made and approved it → gate.
With GITHUB_REPOSITORY and GITHUB_TOKEN set, GitHub is asked who wrote and approved it; without, Git tells its number.
"""

import json
import os
import re
from typing import Any

from perennial.console import out
from perennial.errors import UserError
from perennial.git import found, git, yaml_at
from perennial.github import RefusedError, UnreachableError, api, pages
from perennial.release import logbook
from perennial.release.desired import DIGEST, ENVIRONMENTS
from perennial.release.version import Version, facts, versions

MERGED = re.compile(r"Merge pull request #(\d+)|\(#(\d+)\)$")
UNTOLD = "the tag does not say"
Chain = dict[str, Any]


def show(what: str) -> None:
    """Print the chain behind this, one link a line."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("link", title=escape(what))
    table.add_column("what", overflow="fold")  # a digest that is cut is of no use
    for name, text in trace(what).items():
        words = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
        table.add_row(name.replace("_", " "), escape(words))
    out.print(table)


def trace(what: str) -> Chain:
    """The chain, each link by its name; a link that cannot be told says why.

    Args:
        what: a prediction id, an image digest or reference, a version, or a commit.

    Raises:
        UserError: when it is none of these, or nothing here knows it.
    """
    chain: Chain = {}
    commit = None
    if logbook.is_prediction(what):
        chain["prediction"] = line = logbook.prediction(what)
        chain["model_version"], commit = line["model_version"], line.get("commit") or None
    digest = DIGEST.search(what)
    version = Version.of(what)
    if digest:
        version = _version_of("image", digest[0])
    if version:
        commit = versions().get(version) or facts(version)["commit"]
    commit = commit or (None if chain else found("rev-parse", "--verify", "-q", f"{what}^{{commit}}"))
    if commit is None and not chain:
        raise UserError(
            f"{what}: no prediction id, image digest, version or commit that is known here",
            "git fetch --tags, try again",
        )
    return chain | (behind(commit) if commit else {"commit": "the service did not know it (GIT_COMMIT was not set)"})


def behind(commit: str) -> Chain:
    """What Git and GitHub know of a commit."""
    if found("cat-file", "-e", f"{commit}^{{commit}}") is None:
        return {"commit": f"{commit}: not in this clone; git fetch --unshallow --tags"}
    chain: Chain = {}
    version = next((v for v, at in versions().items() if at == commit), None)
    if version:
        told = _facts(version)
        chain |= {"version": version.tag} | {key: told.get(key, UNTOLD) for key in ("image", "model")}
        chain |= {"deployed": deployed(told["image"])} if "image" in told else {}
    chain["commit"] = git("show", "-s", "--format=%H, %an, %cI: %s", commit)
    lock = yaml_at(commit, "dvc.lock") or {}
    raw = (yaml_at(commit, "params.yaml") or {}).get("data", {}).get("raw", "")
    stages = lock.get("stages", {}).values()
    chain["data"] = next(
        (f"{d['path']} md5 {d['md5']}" for s in stages for d in s.get("deps", ()) if d["path"] == raw), "not locked"
    )
    if version:
        chain |= {key: told.get(key, UNTOLD) for key in ("contract", "gate")}
    return chain | pull_request(commit)


def deployed(reference: str) -> dict[str, str]:
    """The commits of deploy/ that brought this image to each environment, the newest first of each."""
    digest = reference.rpartition("@")[2]
    told = {}
    for environment in ENVIRONMENTS:
        place = f"deploy/kubernetes/overlays/{environment}/kustomization.yaml"
        log = found("log", "-1", "--format=%h %cI %an", f"-S{digest}", "--", place)
        now = digest in (found("show", f"HEAD:{place}") or "")
        if log:
            told[environment] = ("since " if now else "replaced or removed by ") + log
    return told or {"nowhere": "deploy/ has never named it"}


def pull_request(commit: str) -> Chain:
    """The pull request that brought the commit: by its subject, and its people where GitHub can be asked."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    if repository and os.environ.get("GITHUB_TOKEN"):
        try:
            pull = next(pages(f"/repos/{repository}/commits/{commit}/pulls"), None)
            return {"pull_request": _described(repository, pull)} if pull else {"pull_request": "none: a direct push"}
        except (RefusedError, UnreachableError) as error:
            out.print(f"GitHub could not be asked: {error}", markup=False)
    match = MERGED.search(git("show", "-s", "--format=%s", commit))
    if not match:
        return {"pull_request": "Git knows none; GITHUB_REPOSITORY and GITHUB_TOKEN let GitHub be asked"}
    return {"pull_request": f"#{match[1] or match[2]}"}


def _described(repository: str, pull: dict[str, Any]) -> dict[str, Any]:
    reviews = list(pages(f"/repos/{repository}/pulls/{pull['number']}/reviews"))
    last = {_login(review): review["state"] for review in reviews if review["state"] != "COMMENTED"}  # oldest first
    approved = sorted(who for who, state in last.items() if state == "APPROVED")
    merged = api("GET", f"/repos/{repository}/pulls/{pull['number']}").get("merged_by") or {}
    told = {"number": pull["number"], "title": pull["title"], "author": _login(pull)}
    return told | {"approved_by": approved, "merged_by": merged.get("login"), "url": pull["html_url"]}


def _login(of: dict[str, Any]) -> str:
    """Who wrote it; GitHub forgets a person whose account is gone, and calls every one of them ghost."""
    return str((of["user"] or {"login": "ghost"})["login"])


def _facts(version: Version) -> dict[str, str]:
    """What its tag says: nothing where it was made by hand."""
    try:
        return facts(version)
    except UserError:
        return {}


def _version_of(key: str, text: str) -> Version:
    for version in versions():
        if text in _facts(version).get(key, ""):
            return version
    raise UserError(f"{text}: no version has this {key}", "git fetch --tags")
