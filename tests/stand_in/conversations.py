"""Comments, issues, labels."""

from stand_in.calls import Answer, Call, Refusal, existing, route
from stand_in.state import WORKFLOW, Json, Repository, now

LONGEST = 65_536  # characters of a comment, an issue, a pull request


@route("GET", "/repos/{repository}/issues/{number}/comments")
def list_comments(call: Call, repository: Repository, number: int) -> Answer:
    return call.page(existing(repository.comments, number))


@route("POST", "/repos/{repository}/issues/{number}/comments")
def create_comment(call: Call, repository: Repository, number: int) -> Answer:
    existing(repository.comments, number)
    return Answer(201, call.github.add_comment(repository.name, number, comment_text(call), by=WORKFLOW))


@route("PATCH", "/repos/{repository}/issues/comments/{number}")
def edit_comment(call: Call, repository: Repository, number: int) -> Answer:
    every = {comment["id"]: comment for comments in repository.comments.values() for comment in comments}
    comment = existing(every, number)
    if comment["user"]["login"].endswith("[bot]") and comment["user"]["login"] != WORKFLOW:
        raise Refusal(403, "Resource not accessible by integration")
    comment |= {"body": comment_text(call), "updated_at": now()}
    return Answer(200, comment)


def comment_text(call: Call) -> str:
    text = call.body.get("body")
    if not isinstance(text, str) or not text.strip():
        raise Refusal(422, "Validation Failed", code="missing_field", field="body")
    require_room(call.body)
    return text


def require_room(asked: Json) -> None:
    if len(asked.get("body") or "") > LONGEST:
        raise Refusal(422, "Validation Failed", message=f"body is too long (maximum is {LONGEST} characters)")


@route("GET", "/repos/{repository}/issues")
def list_issues(call: Call, repository: Repository) -> Answer:
    """Pull requests are issues too."""
    pulls = [pull | {"pull_request": {"html_url": pull["html_url"]}} for pull in repository.pulls.values()]
    wanted = set(filter(None, call.query.get("labels", "").split(",")))
    every = in_state(call, [*repository.issues.values(), *pulls])
    return call.page([issue for issue in every if wanted <= {label["name"] for label in issue["labels"]}])


@route("POST", "/repos/{repository}/issues")
def create_issue(call: Call, repository: Repository) -> Answer:
    if not call.body.get("title"):
        raise Refusal(422, "Validation Failed", code="missing_field", field="title")
    require_room(call.body)
    return Answer(201, call.github.add_issue(repository.name, **call.body))


@route("GET", "/repos/{repository}/issues/{number}")
def show_issue(_: Call, repository: Repository, number: int) -> Answer:
    return Answer(200, existing(repository.pulls | repository.issues, number))


@route("PATCH", "/repos/{repository}/issues/{number}")
def edit_issue(call: Call, repository: Repository, number: int) -> Answer:
    issue = existing(repository.pulls | repository.issues, number)
    require_room(call.body)
    issue |= {key: value for key, value in call.body.items() if key in ("title", "body", "state")}
    return Answer(200, issue)


@route("POST", "/repos/{repository}/issues/{number}/labels")
def label_issue(call: Call, repository: Repository, number: int) -> Answer:
    issue = existing(repository.pulls | repository.issues, number)
    names = sorted({label["name"] for label in issue["labels"]} | set(call.body["labels"]))
    issue["labels"] = [{"name": name} for name in names]
    repository.labels.update(names)
    return Answer(200, issue["labels"])


@route("GET", "/repos/{repository}/labels")
def list_labels(call: Call, repository: Repository) -> Answer:
    return call.page([{"name": name} for name in sorted(repository.labels)])


@route("POST", "/repos/{repository}/labels")
def create_label(call: Call, repository: Repository) -> Answer:
    name = call.body["name"]
    if name in repository.labels:
        raise Refusal(422, "Validation Failed", code="already_exists", field="name")
    repository.labels.add(name)
    return Answer(201, {"name": name})


def in_state(call: Call, entries: list[Json]) -> list[Json]:
    """Newest first, as every list but that of comments."""
    state = call.query.get("state", "open")
    return sorted((e for e in entries if state in ("all", e["state"])), key=lambda e: -e["number"])
