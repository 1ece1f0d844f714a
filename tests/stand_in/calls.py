"""A call, its answer, and the table of routes."""

import json
import re
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stand_in.github import GitHub

GIT = "info/refs|git-upload-pack|git-receive-pack"
PARTS = {"repository": r"[\w.-]+/[\w.-]+?", "number": r"\d+", "service": GIT}  # of a path; any other has no slash
PAGE, LARGEST_PAGE = 30, 100


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any = None  # bytes, or JSON
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """What GitHub says no with."""

    def __init__(self, status: int, message: str, /, **error: str) -> None:
        told = {"message": message, "documentation_url": "https://docs.github.com/rest"}
        self.answer = Answer(status, told | ({"errors": [error]} if error else {}))


@dataclass(frozen=True)
class Call:
    github: "GitHub"
    method: str
    scheme: str
    path: str
    query_string: str
    headers: Message
    content: bytes

    @property
    def address(self) -> str:
        """Where the client believes that it is."""
        return f"{self.scheme}://{self.headers['Host']}"

    @property
    def authorization(self) -> str:
        return ", ".join(self.headers.get_all("Authorization", []))

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.query_string))

    @property
    def body(self) -> dict[str, Any]:
        try:
            return json.loads(self.content or b"{}")
        except ValueError:
            raise Refusal(400, "Problems parsing JSON") from None

    def page(self, entries: Sequence[Any], key: str = "") -> Answer:
        """The part of a list that the query asks for, by itself or under a key, with the address of the next one."""
        size, number = min(int(self.query.get("per_page", PAGE)), LARGEST_PAGE), int(self.query.get("page", 1))
        part, headers = entries[size * (number - 1) : size * number], {}
        if size * number < len(entries):
            query = urllib.parse.urlencode(self.query | {"page": number + 1})
            headers["Link"] = f'<{self.address}{self.path}?{query}>; rel="next"'
        return Answer(200, {"total_count": len(entries), key: part} if key else part, headers)


ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = []


def route(methods: str, path: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Put a function into the table. It gets the call, and the parts of the path in braces as keywords."""

    def part(name: re.Match[str]) -> str:
        return f"(?P<{name[1]}>{PARTS.get(name[1], '[^/]+')})"

    def add(act: Callable[..., Answer]) -> Callable[..., Answer]:
        ROUTES.append((methods, re.compile(re.sub(r"\\{(\w+)\\}", part, re.escape(path))), act))
        return act

    return add


def existing(entries: dict[Any, Any], key: Any) -> Any:
    if key not in entries:
        raise Refusal(404, "Not Found")
    return entries[key]
