"""One call answered: the knobs first, then the table of routes."""

import re

from stand_in import actions, conversations, pulls, releases, reviews
from stand_in.calls import ROUTES, Answer, Call, Refusal, existing, route
from stand_in.state import Logged, Repository

TABLES = (actions, conversations, pulls, releases, reviews)  # each adds its routes when it is imported


def answer(call: Call) -> Answer:
    """What GitHub says, and a line in the log of it."""
    github = call.github
    with github.lock:
        try:
            found = _answer(call)
        except Refusal as refusal:
            found = refusal.answer
        host = call.headers.get("Host", "")
        github.log.append(Logged(call.method, call.path, found.status, call.authorization, host))
    return found


def _answer(call: Call) -> Answer:
    api = call.path.startswith(("/repos/", "/users/"))
    if api:
        admit(call)
    for methods, pattern, act in ROUTES:
        match = pattern.fullmatch(call.path)
        if match and call.method in methods.split():
            found = act(call, **parts(call, match))
            if api and call.method != "GET" and call.github.lose_next:
                call.github.lose_next -= 1
                raise Refusal(502, "Server Error")
            return found
    raise Refusal(404, "Not Found")


def parts(call: Call, match: re.Match[str]) -> dict[str, object]:
    """What the braces of a route stand for: numbers as such, a repository as what is remembered of it."""
    texts = match.groupdict()
    known = {name: int(text) if name == "number" else text for name, text in texts.items()}
    if "repository" in texts:
        known["repository"] = existing(call.github.repositories, texts["repository"])
    return known


def admit(call: Call) -> None:
    """The knobs, and who may do what."""
    github, token = call.github, call.authorization.partition(" ")[2]
    if github.fail_next:
        raise Refusal(github.fail_next.pop(0), "Server Error")
    for pattern, status in github.broken.items():
        if re.search(pattern, f"{call.method} {call.path}"):
            raise Refusal(status, "Server Error")
    if token and github.token not in (None, token):
        raise Refusal(401, "Bad credentials")
    if call.method != "GET" and not token:
        raise Refusal(401, "Requires authentication")
    if call.method != "GET" and github.read_only:
        raise Refusal(403, "Resource not accessible by integration")


@route("GET", "/users/{name}")
def show_user(_: Call, name: str) -> Answer:
    return Answer(200, {"login": name, "id": 1, "name": name, "type": "User"})


@route("GET", "/repos/{repository}")
def show_repository(_: Call, repository: Repository) -> Answer:
    told = {"full_name": repository.name, "name": repository.name.partition("/")[2], "private": False}
    return Answer(200, told | {"owner": {"login": repository.owner}, "default_branch": repository.default_branch})
