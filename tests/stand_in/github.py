"""The stand-in as a test holds it: what is in it, its knobs, its log."""

import io
import itertools
import threading
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from stand_in import git
from stand_in.server import Server, certificate
from stand_in.state import Json, Logged, Repository, now


class GitHub:
    """A context in which it listens. The knobs may be turned while it does."""

    token: str | None = None  # the one that is accepted; any is, where there is none
    read_only = False  # what the token of a fork's run may do
    lose_next = 0  # so many writes are done but answered with 502
    may_propose = True  # the repository's setting: workflows may open pull requests

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fail_next: list[int] = []  # statuses that the next calls of the API get
        self.broken: dict[str, int] = {}  # the status of every call whose "METHOD path" has this in it (a pattern)
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[int, bytes] = {}
        self.log: list[Logged] = []
        self.lock = threading.RLock()
        self._ids = itertools.count(1001)
        self._server = Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._listening = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._listening.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._listening.join()

    @cached_property
    def ca(self) -> Path:
        """The certificate that clients must trust; it is the server's, too."""
        return certificate(self.folder)

    def environment(self, repository: str) -> dict[str, str]:
        """What a runner tells a step, for clients that heed it."""
        own = {"GITHUB_API_URL": self.url, "GITHUB_SERVER_URL": "https://github.com", "GITHUB_ACTIONS": "true"}
        return own | {"GITHUB_REPOSITORY": repository, "GITHUB_TOKEN": self.token or "a-token"}

    def proxy(self) -> dict[str, str]:
        """What leads clients here that insist on github.com."""
        trust = ("CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE")
        ways = {"HTTPS_PROXY": self.url, "https_proxy": self.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        return ways | {name: str(self.ca) for name in trust}

    def new_id(self) -> int:
        return next(self._ids)

    def add_repository(self, name: str, git: Path | None = None, default_branch: str = "main") -> Repository:
        self.repositories[name] = Repository(name, git, default_branch)
        return self.repositories[name]

    def add_pull(self, repository: str, head: str, base: str = "main", **more: Any) -> Json:
        """A pull request; `source` is the fork it comes from, `files` what it changes, `sha` its head without git."""
        into, source = self.repositories[repository], self.repositories[more.get("source", repository)]
        number = into.next_number()
        found = git.head(source.git, head) if source.git else None
        below = (git.head(into.git, base) if into.git else None) or ""
        ends = {"head": source.end(head, more.get("sha") or found or "", into), "base": into.end(base, below, into)}
        pull = into.pulls[number] = self._conversation(into, number, "pull", more) | ends | {"merged": False}
        if "files" in more:
            into.files[number] = [{"filename": name, "status": "modified"} for name in more["files"]]
        return pull

    def add_issue(self, repository: str, title: str, **more: Any) -> Json:
        into = self.repositories[repository]
        number = into.next_number()
        into.issues[number] = self._conversation(into, number, "issues", more | {"title": title})
        return into.issues[number]

    def _conversation(self, into: Repository, number: int, kind: str, more: Json) -> Json:
        into.comments[number] = []
        told = {"title": more.get("title", ""), "body": more.get("body", ""), "state": more.get("state", "open")}
        labels = [{"name": name} for name in more.get("labels", [])]
        into.labels.update(label["name"] for label in labels)
        address = f"https://github.com/{into.name}/{kind}/{number}"
        return {"number": number, "id": self.new_id(), "html_url": address, "labels": labels} | told

    def add_comment(self, repository: str, number: int, body: str, by: str = "ada") -> Json:
        """A comment by a person, or by a program when its name ends with [bot]."""
        user = {"login": by, "type": "Bot" if by.endswith("[bot]") else "User"}
        made, comment = now(), self.new_id()
        address = f"https://github.com/{repository}/issues/{number}#issuecomment-{comment}"
        times = {"created_at": made, "updated_at": made}
        entry = {"id": comment, "body": body, "user": user, "html_url": address} | times
        self.repositories[repository].comments[number].append(entry)
        return entry

    def comments(self, repository: str, number: int) -> list[Json]:
        return self.repositories[repository].comments[number]

    def add_artifact(self, repository: str, run: int, name: str, content: Mapping[str, str | bytes] | bytes) -> Json:
        """What a workflow's run uploaded: files by their names, or a zip's bytes."""
        blob = content if isinstance(content, bytes) else _zipped(content)
        made = {"id": self.new_id(), "name": name, "size_in_bytes": len(blob), "expired": False}
        self.blobs[made["id"]] = blob
        self.repositories[repository].artifacts.append(made | {"workflow_run": {"id": run}})
        return made


def _zipped(files: Mapping[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()
