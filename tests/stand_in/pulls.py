"""Pull requests: their heads follow the branches of the bare repositories, where there are any."""

from stand_in import git
from stand_in.calls import Answer, Call, Refusal, existing, route
from stand_in.conversations import edit_issue, in_state, require_room
from stand_in.state import Json, Repository

MOST_FILES = 3_000  # GitHub lists no more


def current(repository: Repository, call: Call) -> list[Json]:
    """The pull requests, the head of each where its branch is now."""
    for pull in repository.pulls.values():
        end = pull["head"]
        source = call.github.repositories[end["repo"]["full_name"]]
        if source.git and pull["state"] == "open":
            end["sha"] = git.head(source.git, end["ref"]) or end["sha"]
    return list(repository.pulls.values())


@route("GET", "/repos/{repository}/pulls")
def list_pulls(call: Call, repository: Repository) -> Answer:
    head, base = call.query.get("head"), call.query.get("base")
    pulls = in_state(call, current(repository, call))
    pulls = [pull for pull in pulls if head in (None, pull["head"]["label"])]
    return call.page([pull for pull in pulls if base in (None, pull["base"]["ref"])])


@route("POST", "/repos/{repository}/pulls")
def create_pull(call: Call, repository: Repository) -> Answer:
    asked, name = call.body, repository.name
    owner, _, branch = asked["head"].rpartition(":")
    if owner and owner != repository.owner:
        name = f"{owner}/{name.partition('/')[2]}"
    source = existing(call.github.repositories, name)
    label = f"{source.owner}:{branch}"
    for pull in in_state(call, current(repository, call)):
        if (pull["head"]["label"], pull["base"]["ref"]) == (label, asked["base"]):
            raise Refusal(422, "Validation Failed", message=f"A pull request already exists for {label}.")
    require_commits(repository, source, branch, asked["base"])
    if not call.github.may_propose:
        raise Refusal(403, "GitHub Actions is not permitted to create or approve pull requests.")
    require_room(asked)
    return Answer(201, call.github.add_pull(repository.name, **asked | {"head": branch, "source": name}))


def require_commits(repository: Repository, source: Repository, branch: str, base: str) -> None:
    if not repository.git or not source.git:
        return
    commit = git.head(source.git, branch)
    for field, known in (("head", commit), ("base", git.head(repository.git, base))):
        if not known:
            raise Refusal(422, "Validation Failed", code="invalid", field=field)
    if source is repository and not git.ahead(repository.git, base, str(commit)):
        raise Refusal(422, "Validation Failed", message=f"No commits between {base} and {branch}")


@route("GET", "/repos/{repository}/pulls/{number}")
def show_pull(call: Call, repository: Repository, number: int) -> Answer:
    return Answer(200, existing({pull["number"]: pull for pull in current(repository, call)}, number))


@route("PATCH", "/repos/{repository}/pulls/{number}")
def edit_pull(call: Call, repository: Repository, number: int) -> Answer:
    return edit_issue(call, repository, number)


@route("GET", "/repos/{repository}/pulls/{number}/files")
def list_files(call: Call, repository: Repository, number: int) -> Answer:
    pull = existing({pull["number"]: pull for pull in current(repository, call)}, number)
    files = repository.files.get(number, [])
    if repository.git and number not in repository.files:
        source = call.github.repositories[pull["head"]["repo"]["full_name"]].git
        git.fetch(repository.git, source or repository.git, pull["head"]["sha"], number)
        files = git.changed(repository.git, pull["base"]["ref"], pull["head"]["sha"])
    return call.page(files[:MOST_FILES])


@route("GET", "/repos/{repository}/commits/{sha}/pulls")
def list_pulls_of_commit(call: Call, repository: Repository, sha: str) -> Answer:
    """Those it is the head of, and the one that brought it to the base."""
    pulls = current(repository, call)
    return call.page([pull for pull in pulls if sha in (pull["head"]["sha"], pull.get("merge_commit_sha"))])
