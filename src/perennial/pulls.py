"""One pull request for one purpose: its branch holds one commit on the base branch, renewed rather than repeated.

The commit is made from Git's own objects, so neither the working tree nor the index is touched; a run that changes
nothing pushes nothing; a run that died half-way is completed by the next one.
"""

import base64
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial import cml, github
from perennial.errors import UserError
from perennial.git import found, git
from perennial.github import api, pages

BOT = {"NAME": "github-actions[bot]", "EMAIL": "41898282+github-actions[bot]@users.noreply.github.com"}


@dataclass(frozen=True)
class Proposal:
    branch: str
    base: str  # the branch it is to be merged into
    title: str
    body: str
    files: Mapping[str, bytes | None]  # path -> new content; None removes it
    onto: str = ""  # the commit that they were made from; the base as it is now, where they do not depend on it


def propose(proposal: Proposal) -> dict[str, Any] | None:
    """Push the branch and open or renew its pull request; None when the base has all of it already.

    Raises:
        UserError: when the push is refused; `github.RefusedError`, `github.UnreachableError`.
    """
    fetch(proposal.base)
    base = proposal.onto or git("rev-parse", f"refs/remotes/origin/{proposal.base}")
    commit = _commit(proposal, base)
    if git("rev-parse", f"{commit}^{{tree}}") == git("rev-parse", f"{base}^{{tree}}"):
        return None
    if not _pushed(proposal.branch, commit):
        push(f"+{commit}:refs/heads/{proposal.branch}")
    return _open(proposal)


def base_branch() -> str:
    """The default branch, as it is at the origin now."""
    base = os.environ.get("BASE_BRANCH") or (found("rev-parse", "--abbrev-ref", "origin/HEAD") or "origin/main")[7:]
    fetch(base)
    return base


def fetch(branch: str) -> None:
    with_credentials("fetch", "--quiet", "origin", f"+refs/heads/{branch}:refs/remotes/origin/{branch}")


def push(*refs: str) -> None:
    with_credentials("push", "--quiet", "origin", *refs)


def with_credentials(*arguments: str) -> None:
    """A git command that may need the token; it goes by environment, so it is in no file and no process list."""
    token, server = os.environ.get("GITHUB_TOKEN", ""), os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    variables = dict(os.environ)
    if token:
        secret = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        variables |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{server}/.extraheader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {secret}",
        }
    done = subprocess.run(["git", *arguments], env=variables, capture_output=True, text=True)
    if done.returncode:
        said = "\n  ".join(line.rstrip() for line in done.stderr.strip().splitlines()) or "no reason given"
        raise UserError(f"git {arguments[0]}: {said}", "see above; the token needs `contents: write` to push")


def _commit(proposal: Proposal, base: str) -> str:
    """The commit with these files on top of the base; the same content on the same base is the same commit."""
    date = git("show", "-s", "--format=%cI", base)
    identity = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in BOT.items()}
    with tempfile.TemporaryDirectory() as folder:
        variables = os.environ | identity | {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        variables |= {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}

        def run(*arguments: str, stdin: bytes = b"") -> str:
            done = subprocess.run(["git", *arguments], env=variables, input=stdin, capture_output=True, check=True)
            return done.stdout.decode().strip()

        run("read-tree", base)
        for path, content in proposal.files.items():
            if content is None:
                run("update-index", "--force-remove", path)
            else:
                blob = run("hash-object", "-w", "--stdin", stdin=content)
                run("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
        return run("commit-tree", run("write-tree"), "-p", base, "-m", proposal.title)


def _pushed(branch: str, commit: str) -> bool:
    listed = found("ls-remote", "origin", f"refs/heads/{branch}")
    return bool(listed) and listed.split()[0] == commit if listed else False


def _open(proposal: Proposal) -> dict[str, Any]:
    repository = github.repository()
    head = f"{repository.split('/')[0]}:{proposal.branch}"
    listed = f"/repos/{repository}/pulls?state=open&head={head}&base={proposal.base}"
    standing = list(pages(listed))
    words = {"title": proposal.title, "body": proposal.body}
    if not standing and _opened_by_cml(proposal):
        standing = list(pages(listed))
    if not standing:
        answer = api("POST", f"/repos/{repository}/pulls", words | {"head": proposal.branch, "base": proposal.base})
    elif {key: standing[0][key] for key in words} == words:
        return dict(standing[0])
    else:
        answer = api("PATCH", f"/repos/{repository}/pulls/{standing[0]['number']}", words)
    return dict(answer)


def _opened_by_cml(proposal: Proposal) -> bool:
    """Whether `cml pr create` did it. It finds the branch pushed, and opens the pull request of it; in a clone, for it
    leaves the token in the configuration of the repository it runs in."""
    if not cml.program():
        return False
    with tempfile.TemporaryDirectory() as home:
        clone = Path(home) / "clone"
        git("clone", "--quiet", "--shared", "--no-checkout", ".", str(clone))
        git("-C", str(clone), "remote", "set-url", "origin", git("remote", "get-url", "origin"))
        words = [f"--branch={proposal.branch}", f"--target-branch={proposal.base}"]
        words += [f"--title={proposal.title}", f"--body={proposal.body}"]
        return cml.ran(Path(home), clone, "pr", "create", *words)
