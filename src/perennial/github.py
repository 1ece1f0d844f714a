"""GitHub's REST API, as far as it is needed. Standard library only: the comment runs before anything is installed."""

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from perennial.errors import UserError

TIMEOUT = 30  # seconds
ATTEMPTS = 4
PAUSE = 2.0  # seconds before the second attempt, twice as long before each later one
PAGE = 100


class UnreachableError(UserError):
    """GitHub did not answer, or said that it cannot now."""


class RefusedError(UserError):
    """GitHub said no, and will say so again."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """A download is redirected to a store that refuses our token: follow by hand, without it."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_Stay)


def repository() -> str:
    """`owner/name`, as a workflow is told it.

    Raises:
        UserError: outside of one.
    """
    name = os.environ.get("GITHUB_REPOSITORY", "")
    if not name:
        raise UserError("GITHUB_REPOSITORY is not set", "GITHUB_REPOSITORY=<owner>/<name> GITHUB_TOKEN=<token> make …")
    return name


def api(method: str, path: str, body: Any = None) -> Any:
    """One call, tried again while GitHub is ill; but for a POST, which may have been done before the answer was lost.

    `path` begins after the API's root.

    Raises:
        UnreachableError, RefusedError
    """
    content = _call(method, os.environ.get("GITHUB_API_URL", "https://api.github.com") + path, body)
    return json.loads(content) if content else None


def pages(path: str) -> Iterator[Any]:
    """Every entry of a list, over all its pages."""
    joint, number = "&" if "?" in path else "?", 1
    while True:
        entries = api("GET", f"{path}{joint}per_page={PAGE}&page={number}")
        yield from entries
        if len(entries) < PAGE:
            return
        number += 1


def download(url: str, most: int) -> bytes:
    """A file of at most so many bytes.

    Raises:
        UnreachableError, RefusedError
    """
    content = _call("GET", url, None, most)
    if len(content) > most:
        raise RefusedError(f"the download is larger than {most:,} bytes")
    return content


def upload(url: str, content: bytes) -> Any:
    """Add a file to a release; the address is the release's `upload_url` with a name.

    Raises:
        UnreachableError, RefusedError
    """
    return json.loads(_call("POST", url, content))


def _call(method: str, url: str, body: Any, most: int = -1) -> bytes:
    for attempt in range(1 if method == "POST" else ATTEMPTS):
        wait(attempt)
        try:
            return _once(method, url, body, most)
        except urllib.error.HTTPError as error:
            text = f"{method} {urllib.parse.urlsplit(url).path}: {error.code} {_message(error)}"
            if error.code < 500 and error.code not in (408, 429):
                raise RefusedError(text) from None
        except (OSError, http.client.HTTPException) as error:
            text = f"{method} {urllib.parse.urlsplit(url).path}: {error}"
    raise UnreachableError(text)


def wait(attempt: int) -> None:
    """Longer before each attempt, not at all before the first."""
    if attempt:
        time.sleep(PAUSE * 2 ** (attempt - 1))


def _once(method: str, url: str, body: Any, most: int) -> bytes:
    headers = {
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        "User-Agent": "perennial",
    }
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 (the runner names the API)
    request.add_header("Authorization", f"Bearer {os.environ.get('GITHUB_TOKEN', '')}")
    if body is not None:
        request.data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.add_header(
            "Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json"
        )
    try:
        with _opener.open(request, timeout=TIMEOUT) as response:
            return bytes(response.read(most + 1 if most >= 0 else -1))
    except urllib.error.HTTPError as error:
        place = error.headers.get("Location", "")
        if error.code not in (301, 302, 303, 307, 308) or method != "GET":
            raise
    place = urllib.parse.urljoin(url, place)
    if not place.startswith(("https://", "http://")):
        raise RefusedError(f"redirected to {place}")
    with _opener.open(place, timeout=TIMEOUT) as response:
        return bytes(response.read(most + 1 if most >= 0 else -1))


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(10_000))["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return str(error.reason)
