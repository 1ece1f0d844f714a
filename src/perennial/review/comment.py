"""Put the report of a pull request's run on the pull request, as one comment however many runs.

Called by comment.yml on `workflow_run`, with a token that may write. So it trusts nothing that came with the run: it
asks the API which pull request the commit heads, reads the report out of the artifact in memory, and treats it as
hostile text. Standard library only, and no code of the pull request is ever on this machine.
"""

import html
import io
import json
import os
import re
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perennial import cml
from perennial.github import ATTEMPTS, RefusedError, UnreachableError, api, download, pages, wait

AUTHOR = "github-actions[bot]"  # whose token comment.yml has
TITLE = "perennial"  # of the watermark; a plain word, or CML does not find its own comment again
ARTIFACT, REPORT = "review", "reports/report.md"
LONGEST = 60_000  # characters; GitHub refuses a comment over 65,536
LARGEST = 20_000_000  # bytes of an artifact
FIRST_PAGE = 30  # comments that CML looks at
MOST_FILES = 3_000  # of a pull request that GitHub lists
PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what zipfile unpacks piece by piece; the others fill the memory
JUDGES = (  # what a verdict comes from
    ".github/", "Makefile", "requirements/", "scripts/", "src/perennial/review/", "src/perennial/pipeline/evaluate.py",
    "src/perennial/pipeline/metrics.py", "src/perennial/params.py", "src/perennial/verify.py", "src/perennial/repro.py",
    "src/perennial/worktree.py",
)  # fmt: skip
WATERMARK = re.compile(rf'!\[\]\(https://cml\.dev/watermark\.png#[0-9a-fA-F]+ "CML watermark {TITLE}"\)')
TAG = re.compile(r"<(?=[a-zA-Z/!?])(?!/?(?:details|summary|b|br|sub)>)")  # any but those
ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|nbsp);)#?\w{1,40};")
REFERENCE = re.compile(r"(?i)#(?=\d)|\bGH-(?=\d)|/(?:issues|pull|discussions)/(?=\d)")
HIDDEN = re.compile(  # controls, turned writing, what has no width (but for the joiners that some scripts need)
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ue000-\uf8ff\U000e0000-\U0010ffff]"
)


class HostileError(Exception):
    """The artifact is not what this project's workflow uploads."""


def main() -> int:
    """0 when the report stands on the pull request, or there is none to put it on; 1 when somebody must look."""
    run = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))["workflow_run"]
    repository = os.environ["GITHUB_REPOSITORY"]
    try:
        pull = find_pull(repository, run)
        if pull is None:
            print(f"No open pull request has {run['head_sha'][:8]} at its head (merged, closed or pushed over).")
            return 0
        body = compose(find_report(repository, run), run, repository)
        summarise(body)
        print(post(repository, pull, warning(changed_judges(repository, pull)) + body, run["head_sha"]))
    except UnreachableError as error:
        print(f"::warning::GitHub could not be reached, so the report is only in the pull request's run: {error}")
    except (RefusedError, HostileError) as error:
        print(f"::error::The report was not posted: {error}")
        return 1
    return 0


def find_pull(repository: str, run: dict[str, Any]) -> int | None:
    """The open pull request whose head is this commit; the payload's own list is empty for forks."""
    if not run["head_repository"]:  # a fork that was deleted
        return None
    head = quote(f"{run['head_repository']['owner']['login']}:{run['head_branch']}", safe=":")
    pulls = pages(f"/repos/{repository}/pulls?state=open&head={head}")
    return next((int(pull["number"]) for pull in pulls if pull["head"]["sha"] == run["head_sha"]), None)


def find_report(repository: str, run: dict[str, Any]) -> str:
    """The report's text, or a sentence when the run ended before there was one.

    Raises:
        HostileError: when the artifact holds anything but a plain text of that name.
    """
    listed = api("GET", f"/repos/{repository}/actions/runs/{int(run['id'])}/artifacts?name={ARTIFACT}")["artifacts"]
    if not listed:
        return "## ❌ No report\n\nThe run ended before it wrote one. Its log says why."
    newest = max(listed, key=lambda artifact: artifact["id"])  # a run may have had several attempts
    try:
        with zipfile.ZipFile(io.BytesIO(download(newest["archive_download_url"], LARGEST))) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename == REPORT]
            if len(entries) != 1:
                raise HostileError(f"the artifact has {len(entries)} files named {REPORT}")
            mode = entries[0].external_attr >> 16
            if mode & 0o170000 not in (0, 0o100000) or entries[0].compress_type not in PLAIN:
                raise HostileError(f"{REPORT} is no plain file")
            with archive.open(entries[0]) as file:
                return file.read(4 * LONGEST + 1).decode("utf-8", "replace")
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, EOFError) as error:
        raise HostileError(f"the artifact cannot be read: {error}") from None


def changed_judges(repository: str, pull: int) -> list[str]:
    """The files of the pull request that are part of what judges it; one that was moved away too."""
    files = list(pages(f"/repos/{repository}/pulls/{pull}/files"))
    names = {file.get(key) or "" for file in files for key in ("filename", "previous_filename")}
    more = ["perhaps more: GitHub does not list all its files"] if len(files) >= MOST_FILES else []
    return sorted(name for name in names if name.startswith(JUDGES)) + more


def warning(judges: list[str]) -> str:
    if not judges:
        return ""
    names = ", ".join(f"`{' '.join(harmless(name).replace('`', '').split())[:100]}`" for name in judges[:10])
    more = f" and {len(judges) - 10} more" if judges[10:] else ""
    return f"> [!WARNING]\n> This pull request changes what judges it: {names}{more}. Read that first.\n\n"


def compose(report: str, run: dict[str, Any], repository: str) -> str:
    """The report made harmless. What a reader must know of it stands above, where no open fence or fold can hide it."""
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    link = f"[the run]({server}/{repository}/actions/runs/{int(run['id'])})"
    commit, ended = harmless(str(run["head_sha"]))[:8], harmless(str(run["conclusion"]))
    note, text = f"Made by the pull request's own code at {commit}; {link} ended with {ended}.", harmless(report)
    if max(len(report), len(text)) > LONGEST:
        note, text = f"{note} Cut: the whole report is in {link}.", text[:LONGEST]
    return f"<sub>{note}</sub>\n\n{text.strip()}"


def harmless(text: str) -> str:
    """Text that pings nobody, hides nothing, forges no watermark and shows no picture, and is Markdown still.

    GitHub looks for names and numbers in what Markdown has made of a text, so entities are taken for what they mean;
    what would be something is parted by a space without a width.
    """
    text = HIDDEN.sub("", ENTITY.sub(_meant, text.replace("\r\n", "\n").replace("\r", "\n")))
    text = TAG.sub("<\u200b", text).replace("@", "@\u200b").replace("![", "!\u200b[")
    return REFERENCE.sub("\\g<0>\u200b", text)


def _meant(entity: re.Match[str]) -> str:
    meant = html.unescape(entity[0])
    return meant if meant == entity[0] else meant.replace("&", "&amp;")


def summarise(body: str) -> None:
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(body + "\n")


def post(repository: str, pull: int, body: str, sha: str) -> str:
    """Write or renew the one comment, with CML where it is and would find the right one; its address."""
    comments = list(pages(f"/repos/{repository}/issues/{pull}/comments"))
    ours, first = standing(comments), [c for c in comments[:FIRST_PAGE] if WATERMARK.search(c["body"] or "")]
    if cml.program() and (first[-1] if first else None) == ours and post_with_cml(pull, body):
        return f"Posted with CML on #{pull}."
    marked = {"body": f'{body}\n\n![](https://cml.dev/watermark.png#{sha} "CML watermark {TITLE}")'}
    for attempt in range(ATTEMPTS):
        wait(attempt)
        ours = standing(list(pages(f"/repos/{repository}/issues/{pull}/comments")))
        try:  # a comment whose answer was lost is found by the next attempt, and renewed
            if ours:
                answer = api("PATCH", f"/repos/{repository}/issues/comments/{ours['id']}", marked)
            else:
                answer = api("POST", f"/repos/{repository}/issues/{pull}/comments", marked)
            return f"Posted: {answer['html_url']}"
        except UnreachableError as error:
            lost = error
    raise lost


def standing(comments: list[Any]) -> Any:
    """The newest comment that carries our watermark and that a workflow wrote; anybody can copy a watermark."""
    ours = [c for c in comments if (c["user"] or {}).get("login") == AUTHOR]
    found = [c for c in ours if WATERMARK.search(c["body"] or "")]
    return found[-1] if found else None


def post_with_cml(pull: int, body: str) -> bool:
    """Whether `cml comment update` did it."""
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "body.md"
        file.write_text(body, encoding="utf-8")
        words = ["comment", "update", "--publish=false", f"--target=pr/{pull}", f"--watermark-title={TITLE}", str(file)]
        return cml.ran(Path(home), Path(home), *words)


if __name__ == "__main__":
    sys.exit(main())
