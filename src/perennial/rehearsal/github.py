"""As much of GitHub as the loop needs, on the loopback: pull requests and issues, in memory."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPOSITORY = "you/loop"


class Desk:
    """What was opened, in order; `state` is GitHub's word."""

    def __init__(self) -> None:
        self.pulls: list[dict[str, Any]] = []
        self.issues: list[dict[str, Any]] = []

    def listed(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in getattr(self, kind) if entry["state"] == "open"]

    def add(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        number = len(self.pulls) + len(self.issues) + 1
        address = f"http://github.example/{REPOSITORY}/{kind}/{number}"
        owner, branch = REPOSITORY.split("/")[0], given.get("head")
        head = {"head": {"ref": branch, "label": f"{owner}:{branch}"}} if branch else {}
        entry = {**given, **head, "number": number, "state": "open", "html_url": address}
        getattr(self, kind).append(entry)
        return entry


@contextmanager
def github() -> Iterator[tuple[Desk, dict[str, str]]]:
    """The desk, and the environment that leads clients to it."""
    desk = Desk()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            kind = path.rsplit("/", 1)[1]
            self._answer(desk.listed(kind) if "page=1" in query.split("&") else [])

        def do_POST(self) -> None:
            kind = self.path.rsplit("/", 1)[1]
            self._answer({} if kind == "comments" else desk.add(kind, self._body()), 201)

        def do_PATCH(self) -> None:
            kind, number = self.path.split("/")[-2:]
            (entry,) = [entry for entry in getattr(desk, kind) if entry["number"] == int(number)]
            entry.update(self._body())
            self._answer(entry)

        def _body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, content: Any, code: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        yield desk, {"GITHUB_API_URL": address, "GITHUB_REPOSITORY": REPOSITORY, "GITHUB_TOKEN": "none is needed"}
    finally:
        server.shutdown()
        server.server_close()
