"""The bare repositories behind the stand-in: questions to them, and their service over HTTP."""

import os
import subprocess
from pathlib import Path
from typing import Any

from stand_in.calls import Answer, Call

STATUS = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "C": "copied", "T": "changed"}
UNTOUCHED = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "PATH": os.environ["PATH"]}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--git-dir", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, env=UNTOUCHED, encoding="utf-8", check=False)
    return None if done.returncode else done.stdout.rstrip("\n")


def head(folder: Path, branch: str) -> str | None:
    """The commit of a branch."""
    return _git(folder, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")


def ahead(folder: Path, base: str, commit: str) -> int:
    """How many commits a branch would bring."""
    return int(_git(folder, "rev-list", "--count", f"refs/heads/{base}..{commit}") or 0)


def fetch(folder: Path, source: Path, commit: str, number: int) -> None:
    """The commits of a pull request, a fork's too, as GitHub keeps them."""
    _git(folder, "fetch", "--quiet", str(source), f"+{commit}:refs/pull/{number}/head")


def changed(folder: Path, base: str, commit: str) -> list[dict[str, Any]]:
    """The files that differ from where the branch left its base, in the API's form."""
    text = _git(folder, "diff", "-z", "--name-status", "-M", f"refs/heads/{base}...{commit}") or ""
    words, entries = iter(text.split("\0")), []
    for letter in filter(None, words):
        entry = {"status": STATUS[letter[0]], "filename": next(words)}
        if letter[0] in "RC":
            entry |= {"previous_filename": entry["filename"], "filename": next(words)}
        entries.append(entry)
    return sorted(entries, key=lambda entry: entry["filename"])


def served(call: Call, folder: Path, service: str) -> Answer:
    """What `git http-backend` answers."""
    environment = UNTOUCHED | {
        "GIT_PROJECT_ROOT": str(folder),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_COUNT": "2",
        **{"GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"},
        **{"GIT_CONFIG_KEY_1": "http.receivepack", "GIT_CONFIG_VALUE_1": "true"},
        "PATH_INFO": f"/{service}",
        "QUERY_STRING": call.query_string,
        "REQUEST_METHOD": call.method,
        "CONTENT_TYPE": call.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(call.content)),
        "HTTP_CONTENT_ENCODING": call.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": call.headers.get("Git-Protocol", ""),
    }
    done = subprocess.run(["git", "http-backend"], input=call.content, env=environment, capture_output=True)
    told, _, content = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in told.decode().splitlines())
    return Answer(int(headers.pop("Status", "200").split()[0]), content, headers)
