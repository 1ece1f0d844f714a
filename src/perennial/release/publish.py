"""Release a commit of the default branch: image, tag, GitHub Release, and the pull request that deploys it to staging.

Every step looks first whether it is done, so a second run on the same commit changes nothing, and a run that died is
completed by the next. The tag comes after image and attestations: a tagged version is whole but for its release page.
"""

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perennial.console import out, say
from perennial.errors import UserError
from perennial.files import read_json, sha256, write_json
from perennial.git import found, git
from perennial.github import api, pages, upload
from perennial.pulls import BOT, push
from perennial.release import container, deploy, sbom
from perennial.release.version import CODE, Version, facts, plan, versions

FOLDER = Path("release")
IMAGE = FOLDER / "image.json"
ASSETS = (
    "models/model.onnx",
    "models/profile.json",
    "reports/metrics.json",
    "reports/evaluation.json",
    "reports/gate.json",
)


def show_plan() -> None:
    """Say which version this commit is, and tell the workflow (version, tagged)."""
    planned = plan()
    _tell(version=str(planned.version or ""), tagged=str(planned.tagged).lower())
    out.print(f"{planned.version or 'Nothing to release'}: {planned.why}")


def make_image() -> None:
    """Build, try and push the image of this commit, unless the registry has it; write its bill of materials.

    Raises:
        UserError: when the tree is not as committed, or the gate has not passed it.
    """
    version, commit = _ready()
    name = image_name()
    reference = f"{name}:{commit}"
    container.log_in(name.partition("/")[0])
    digest = container.registry_digest(reference)
    tagged = version in versions()
    if tagged:
        _same_as_tagged(version, reference, f"{name}@{digest or 'nothing'}")
    if digest:
        say(f"{reference} is in the registry already")
        if not tagged:  # a run died before its attestations, which vouch for what is there
            container.smoke(f"{name}@{digest}")
    else:
        tag = f"perennial:{commit[:12]}"
        container.build(tag)
        container.smoke(tag)
        digest = container.push(tag, reference)
    sbom.write(str(version))
    write_json(IMAGE, {"name": name, "digest": digest, "commit": commit, "version": str(version)})
    _tell(name=name, digest=digest)
    out.print(f"{name}@{digest}", soft_wrap=True)


def publish() -> None:
    """Tag the version, publish its release page, propose it for staging.

    Raises:
        UserError: when the image step did not run for this commit, or the tag says another image.
    """
    version, commit = _ready()
    deploy.require_merged(commit)
    image = read_json(IMAGE) if IMAGE.exists() else {}
    if image.get("commit") != commit:
        raise UserError("release/image.json is not of this commit", "make release-image")
    _tag(version, commit, image)
    _release_page(version, image)
    if os.environ.get("GITHUB_REPOSITORY"):
        deploy.to_staging(image)


def image_name() -> str:
    """`IMAGE`, or the repository's name at GHCR, which refuses capitals."""
    name = os.environ.get("IMAGE") or ((r := os.environ.get("GITHUB_REPOSITORY", "")) and f"ghcr.io/{r}")
    if not name:
        raise UserError("no name for the image", "IMAGE=<registry>/<name>, or run it in GitHub Actions")
    return name.lower()


def _same_as_tagged(version: Version, reference: str, there: str) -> None:
    told = facts(version)["image"]
    if told != there:
        raise UserError(
            f"{version.tag} exists and is {told}; {reference} is {there}",
            "a version is never moved: put that image back under the commit's name, or release a new commit",
        )


def _ready() -> tuple[Version, str]:
    """The version and commit to release, when the tree is that commit and the gate passed it."""
    untracked = git("ls-files", "--others", "--exclude-standard", "--", *CODE)  # would be in the image
    if git("status", "--porcelain", "--untracked-files=no") or untracked:
        raise UserError("the tree is not as committed: what would be released is in no commit", "commit, or git stash")
    commit, planned = git("rev-parse", "HEAD"), plan()
    if planned.version is None:
        raise UserError(f"nothing to release: {planned.why}", "change data, parameters or code first")
    gate = read_json("reports/gate.json") if Path("reports/gate.json").exists() else {}
    if gate.get("commit", {}).get("sha") != commit:
        raise UserError("the gate has not judged this commit", "make gate")
    if gate["verdict"] != "pass":
        failed = ", ".join(rule["name"] for rule in gate["rules"] if rule["passed"] is False)
        raise UserError(f"the gate says no to this commit: {failed}", "see reports/gate.json; nothing was released")
    return planned.version, commit


def _tag(version: Version, commit: str, image: dict[str, Any]) -> None:
    """The annotated tag, here and at the origin. GTO reads its name; its text is for `trace` and `rollback`."""
    profile = read_json("models/profile.json")
    told = {
        "image": f"{image['name']}@{image['digest']}",
        "commit": commit,
        "model": profile["model"]["sha256"],
        "contract": profile["contract_digest"],
        "gate": "pass",
    }
    text = f"Release {version.tag}\n\n" + "".join(f"{key}: {value}\n" for key, value in told.items())
    theirs = (found("ls-remote", "origin", f"refs/tags/{version.tag}") or "").split()[:1]
    if theirs and theirs != [found("rev-parse", "-q", "--verify", f"refs/tags/{version.tag}")]:
        raise UserError(f"{version.tag} exists at the origin, and not here", "git fetch --tags, and release again")
    kept = found("for-each-ref", "--format=%(contents)", f"refs/tags/{version.tag}")
    if kept and kept.strip() != text.strip():
        raise UserError(
            f"{version.tag} exists and says another image:\n{kept.strip()}",
            "a version is never moved: remove the image of this commit from the registry if it was rebuilt, "
            "or release a new commit",
        )
    if not kept:
        names = {f"GIT_COMMITTER_{what}": value for what, value in BOT.items()}
        os.environ.update({key: os.environ.get(key, value) for key, value in names.items()})
        git("tag", "--annotate", version.tag, "--message", text, commit)
    if not theirs:
        push(f"refs/tags/{version.tag}")
    say(f"Tagged {version.tag}")


def _release_page(version: Version, image: dict[str, Any]) -> None:
    """A draft until every file is there, so that nobody sees half of it; what is published stays as it is."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    if not repository:
        out.print("No release page: GITHUB_REPOSITORY is not set (this is not GitHub Actions).")
        return
    root = f"/repos/{repository}/releases"
    standing = sorted((p for p in pages(root) if p["tag_name"] == version.tag), key=lambda p: bool(p["draft"]))
    words = {"tag_name": version.tag, "name": str(version), "body": _notes(image), "draft": True}
    page = standing[0] if standing else api("POST", root, words)
    if page["draft"]:
        for asset in page["assets"]:  # of a run that died: half a file, or another gate's figures
            api("DELETE", f"{root}/assets/{asset['id']}")
        for file in _assets():
            upload(page["upload_url"].partition("{")[0] + f"?name={quote(file.name)}", file.read_bytes())
        page = api("PATCH", f"{root}/{page['id']}", words | {"draft": False})
    say(f"Released {version}: {page['html_url']}")


def _assets() -> list[Path]:
    """The files of a release, with their checksums."""
    FOLDER.mkdir(exist_ok=True)
    files = [Path(shutil.copy2(name, FOLDER)) for name in ASSETS] + [sbom.SBOM]
    sums = FOLDER / "SHA256SUMS"
    sums.write_text("".join(f"{sha256(file)}  {file.name}\n" for file in files), encoding="utf-8")
    return [*files, sums]


def _notes(image: dict[str, Any]) -> str:
    lead = "\n".join(
        f"- {name}: {row['value']:.4g}" for name, row in read_json("reports/metrics.json")["metrics"].items()
    )
    return f"Image `{image['name']}@{image['digest']}`, commit {image['commit']}.\n\n{lead}\n"


def _tell(**outputs: str) -> None:
    """Outputs of a workflow's step."""
    path = os.environ.get("GITHUB_OUTPUT")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in outputs.items())
