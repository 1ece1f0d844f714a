"""What became of a pull request: who wrote, reviewed and merged it."""

from stand_in.calls import Answer, Call, existing, route
from stand_in.state import Json, Repository, now


@route("GET", "/repos/{repository}/pulls/{number}/reviews")
def list_reviews(call: Call, repository: Repository, number: int) -> Answer:
    """Oldest first."""
    return call.page(existing(repository.pulls, number).get("reviews", []))


def merge(pull: Json, commit: str, author: str | None, reviews: list[tuple[str | None, str]], by: str) -> None:
    """Merged by somebody as this commit of the base; None is a person whose account is gone."""
    told = [{"user": user(who), "state": state, "submitted_at": now()} for who, state in reviews]
    people = {"user": user(author), "merged_by": user(by), "reviews": told}
    pull |= people | {"state": "closed", "merged": True, "merge_commit_sha": commit, "merged_at": now()}


def user(login: str | None) -> Json | None:
    return {"login": login, "type": "User"} if login else None
