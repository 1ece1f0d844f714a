"""Deployment decisions as pull requests: a release to staging, staging to production, an older version back."""

import os
from typing import Any

from perennial import github
from perennial.console import out
from perennial.errors import UserError
from perennial.git import found
from perennial.pulls import Proposal, base_branch, propose
from perennial.release import desired
from perennial.release.desired import Deployed
from perennial.release.evidence import evidence
from perennial.release.version import facts, parse, versions


def to_staging(image: dict[str, Any]) -> None:
    """Propose the image of a release for staging, in the one pull request there is for that."""
    wanted = Deployed(image["name"], image["digest"], image["version"], image["commit"])
    newest = next(iter(versions()), None)
    if newest and wanted.number and newest > wanted.number:
        out.print(f"{newest} is newer than {wanted.version}: not proposed for staging.")
        return
    base = base_branch()
    here = desired.read("staging", f"origin/{base}")
    if here and here.number and wanted.number and here.number > wanted.number:
        raise UserError(
            f"staging is to run {here.version}, which is newer than {wanted.version}",
            f"to go back on purpose: make rollback TO={wanted.version} ENVIRONMENT=staging",
        )
    body = f"Merging this deploys [{wanted.version}]({_release(wanted)}) to staging.\n\n{_lines(here, wanted)}"
    _propose("staging", wanted, f"Deploy {wanted.version} to staging", body, base)


def promote() -> None:
    """Propose for production what runs in staging, with what staging has shown of it.

    Raises:
        UserError: when staging runs nothing, or something older than production.
    """
    base = base_branch()
    wanted, here = (desired.read(name, f"origin/{base}") for name in ("staging", "production"))
    if wanted is None:
        raise UserError("nothing is deployed to staging", "merge a release's pull request first")
    _refuse_unknown(wanted)
    if here and here.digest == wanted.digest:
        out.print(f"Production runs {wanted.version} already.")
        return
    if here and here.number and wanted.number and here.number > wanted.number:
        raise UserError(
            f"production runs {here.version}, staging only {wanted.version}: production is ahead of staging",
            f"release again, or go back on purpose: make rollback TO={wanted.version}",
        )
    body = (
        f"Merging this deploys [{wanted.version}]({_release(wanted)}) to production."
        f"\n\n{_lines(here, wanted)}\n\n### What staging has shown\n\n{evidence('staging', wanted)}"
    )
    _propose("production", wanted, f"Deploy {wanted.version} to production", body, base)


def rollback(to: str, environment: str) -> None:
    """Propose an earlier version again: the same image, by the digest that its tag recorded.

    Raises:
        UserError: for a version that was never released, or that runs there now.
    """
    version, base = parse(to), base_branch()
    told, here = facts(version), desired.read(environment, f"origin/{base}")
    name, _, digest = told["image"].partition("@")
    wanted = Deployed(name, digest, str(version), told["commit"])
    if here and here.digest == digest:
        raise UserError(f"{environment} runs {version} already", "nothing to roll back")
    if here and here.number and here.number < version:
        raise UserError(f"{environment} runs {here.version}: {version} is no way back", "make promote, or git revert")
    was = here.version if here else "nothing"
    body = f"Merging this brings {version} back to {environment}, in place of {was}.\n\n{_lines(here, wanted)}"
    _propose(environment, wanted, f"Roll {environment} back to {version}", body, base)


def _propose(environment: str, wanted: Deployed, title: str, body: str, base: str) -> None:
    files = desired.files(environment, wanted, f"origin/{base}")
    pull = propose(Proposal(f"deploy/{environment}", base, title, body, files))
    if pull is None:
        out.print(f"{environment} is to run {wanted.version} already: nothing to propose.")
    else:
        out.print(f"{title}: {pull['html_url']}", soft_wrap=True)


def require_merged(commit: str) -> None:
    """Only what is on the default branch is released.

    Raises:
        UserError: for any other commit.
    """
    base = base_branch()
    if found("merge-base", "--is-ancestor", commit, f"origin/{base}") is None:
        raise UserError(f"{commit[:8]} is not on {base}", "merge it first: only what was reviewed is released")


def _refuse_unknown(wanted: Deployed) -> None:
    """A digest is deployed only when a release tag vouches for it."""
    told = facts(parse(wanted.version))
    if told["image"] != wanted.reference:
        raise UserError(
            f"staging runs {wanted.reference}, which is not the image of {wanted.version}: {told['image']}",
            "somebody edited the digest by hand: release it, or git revert that",
        )


def _lines(here: Deployed | None, wanted: Deployed) -> str:
    rows = [f"| {name} | {getattr(here, name) if here else '–'} | {getattr(wanted, name)} |" for name in desired.KEYS]
    return "\n".join(["| | now | then |", "|---|---|---|", *rows])


def _release(wanted: Deployed) -> str:
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    return f"{server}/{github.repository()}/releases/tag/model%40{wanted.version}"
