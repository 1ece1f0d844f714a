"""What runs of workflows leave behind, what starts them, and what they push."""

from stand_in import git
from stand_in.calls import Answer, Call, Refusal, existing, route
from stand_in.state import Repository


@route("GET", "/repos/{repository}/actions/runs/{number}/artifacts")
def list_artifacts(call: Call, repository: Repository, number: int) -> Answer:
    found = [artifact for artifact in reversed(repository.artifacts) if artifact["workflow_run"]["id"] == number]
    found = [artifact for artifact in found if call.query.get("name", artifact["name"]) == artifact["name"]]
    root = f"{call.address}/repos/{repository.name}/actions/artifacts"
    addressed = [artifact | {"archive_download_url": f"{root}/{artifact['id']}/zip"} for artifact in found]
    return call.page(addressed, "artifacts")


@route("GET", "/repos/{repository}/actions/artifacts/{number}/zip")
def download_artifact(call: Call, repository: Repository, number: int) -> Answer:
    """Sends the client on to a store of its own, by an address that needs no token."""
    existing({artifact["id"]: artifact for artifact in repository.artifacts}, number)
    if not call.authorization:
        raise Refusal(401, "Requires authentication")
    return Answer(302, headers={"Location": f"{call.address}/blobs/{number}"})


@route("GET", "/blobs/{number}")
def download_blob(call: Call, number: int) -> Answer:
    if call.authorization:
        raise Refusal(400, "InvalidAuthenticationInfo")
    return Answer(200, existing(call.github.blobs, number), {"Content-Type": "application/zip"})


@route("POST", "/repos/{repository}/dispatches")
def dispatch_event(call: Call, repository: Repository) -> Answer:
    repository.dispatches.append(call.body)
    return Answer(204)


@route("POST", "/repos/{repository}/actions/workflows/{name}/dispatches")
def dispatch_workflow(call: Call, repository: Repository, name: str) -> Answer:
    repository.dispatches.append({"workflow": name} | call.body)
    return Answer(204)


@route("GET POST", "/{repository}/{service}")
@route("GET POST", "/{repository}.git/{service}")  # is looked at first
def serve_git(call: Call, repository: Repository, service: str) -> Answer:
    """Anybody may read; two tokens at once are refused, as GitHub does."""
    if not repository.git:
        raise Refusal(404, "Not Found")
    if len(call.headers.get_all("Authorization", [])) > 1:
        return Answer(400, b'Duplicate header: "Authorization"\n')
    push = "git-receive-pack" in (service, call.query.get("service"))
    if push and not call.authorization:
        return Answer(401, b"", {"WWW-Authenticate": 'Basic realm="GitHub"'})
    if push and call.github.read_only:
        return Answer(403, b"Permission denied\n")
    return git.served(call, repository.git, service)
