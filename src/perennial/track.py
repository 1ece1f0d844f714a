"""When data outgrows Git: move `data.raw` under DVC, with a remote that holds the bytes."""

from pathlib import Path

from perennial.console import out, step
from perennial.errors import UserError
from perennial.git import git
from perennial.params import load

EXTRAS = {"s3": "dvc-s3", "gs": "dvc-gs", "azure": "dvc-azure", "ssh": "dvc-ssh"}


def track_data(remote: str) -> None:
    """Put the raw data into DVC's cache and the remote; Git keeps a pointer of a few lines.

    Args:
        remote: a folder, or a URL such as s3://bucket/path, gs://… or azure://….
    """
    from dvc.repo import Repo

    raw = Path(load().data.raw)
    _require_support(remote)
    git("rm", "-r", "-q", "--cached", "--ignore-unmatch", str(raw))
    url = remote if "://" in remote else str(Path(remote).expanduser().resolve())
    with Repo() as repo, repo.config.edit("repo") as config:
        before = config.setdefault("remote", {}).get("data", {})  # may hold an endpointurl, a profile …
        kept = before if before.get("url", "").partition("://")[0] == url.partition("://")[0] else {}
        config["remote"]["data"] = kept | {"url": url}
        config["core"]["remote"] = "data"
    try:
        with Repo() as repo, step(f"Moving {raw} to {url}"):
            repo.add([str(raw)])
            repo.push(targets=[f"{raw}.dvc"])
    except Exception as error:  # every kind of remote has errors of its own
        raise UserError(
            f"{raw} could not be pushed to {url}: {error}",
            "check the address and your credentials, then run this again",
        ) from None
    git("add", ".dvc/config", f"{raw}.dvc", str(raw.parent / ".gitignore"))
    text = f"{raw} is now kept by DVC. Commit what is staged: git commit -m 'Track the raw data with DVC'"
    out.print(text, soft_wrap=True)  # a command must not be folded


def _require_support(remote: str) -> None:
    scheme = remote.partition("://")[0] if "://" in remote else ""
    if scheme and scheme not in {*EXTRAS, "file"}:
        raise UserError(
            f"{remote}: DVC remotes of the kind {scheme}:// are not supported here",
            f"use a folder, or one of {', '.join(EXTRAS)}",
        )
    if scheme in EXTRAS:
        from importlib.util import find_spec

        if not find_spec(EXTRAS[scheme].replace("-", "_")):
            raise UserError(
                f"{remote} needs the package {EXTRAS[scheme]}",
                "add it to the pipeline group in pyproject.toml, then make lock setup",
            )
