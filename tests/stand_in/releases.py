"""Releases and their files. A draft is shown only to those who may write; what is published is found by its tag."""

import hashlib

from stand_in.calls import Answer, Call, Refusal, existing, route
from stand_in.state import Json, Repository, now

EDITABLE = ("tag_name", "name", "body", "draft", "prerelease")


@route("GET", "/repos/{repository}/releases")
def list_releases(call: Call, repository: Repository) -> Answer:
    seen = [release for release in repository.releases.values() if call.authorization or not release["draft"]]
    return call.page([shown(call, repository, release) for release in reversed(seen)])


@route("POST", "/repos/{repository}/releases")
def create_release(call: Call, repository: Repository) -> Answer:
    asked = call.body
    if not asked.get("tag_name"):
        raise Refusal(422, "Validation Failed", code="missing_field", field="tag_name")
    release = {"id": call.github.new_id(), "name": "", "body": "", "draft": False, "prerelease": False, "assets": []}
    release |= {key: asked[key] for key in EDITABLE if key in asked} | {"created_at": now(), "published_at": None}
    publish(repository, release)
    repository.releases[release["id"]] = release
    return Answer(201, shown(call, repository, release))


@route("PATCH", "/repos/{repository}/releases/{number}")
def edit_release(call: Call, repository: Repository, number: int) -> Answer:
    release = existing(repository.releases, number)
    edited = release | {key: value for key, value in call.body.items() if key in EDITABLE}
    publish(repository, edited)
    release.update(edited)
    return Answer(200, shown(call, repository, release))


def publish(repository: Repository, release: Json) -> None:
    """Note when it was; two releases of one tag may be drafts, but not published."""
    if release["draft"]:
        return
    others = [other for other in repository.releases.values() if other["id"] != release["id"] and not other["draft"]]
    if release["tag_name"] in [other["tag_name"] for other in others]:
        raise Refusal(422, "Validation Failed", resource="Release", code="already_exists", field="tag_name")
    release["published_at"] = release["published_at"] or now()


@route("POST", "/repos/{repository}/releases/{number}/assets")
def upload_asset(call: Call, repository: Repository, number: int) -> Answer:
    """A name is taken by a file that only began to arrive, too (its state is `starter`)."""
    assets, name = existing(repository.releases, number)["assets"], call.query.get("name")
    if not name or not call.content:
        raise Refusal(400, "Bad Content-Length" if name else "Missing name")
    if name in [asset["name"] for asset in assets]:
        raise Refusal(422, "Validation Failed", resource="ReleaseAsset", code="already_exists", field="name")
    digest, made = f"sha256:{hashlib.sha256(call.content).hexdigest()}", call.github.new_id()
    call.github.blobs[made] = call.content
    assets.append({"id": made, "name": name, "size": len(call.content), "state": "uploaded", "digest": digest})
    return Answer(201, assets[-1])


@route("DELETE", "/repos/{repository}/releases/assets/{number}")
def delete_asset(_: Call, repository: Repository, number: int) -> Answer:
    lists = {asset["id"]: release["assets"] for release in repository.releases.values() for asset in release["assets"]}
    assets = existing(lists, number)
    assets[:] = [asset for asset in assets if asset["id"] != number]
    return Answer(204)


def shown(call: Call, repository: Repository, release: Json) -> Json:
    """With its addresses: a draft's page has no tag in it yet."""
    place = f"untagged-{release['id']}" if release["draft"] else release["tag_name"]
    upload = f"{call.address}/repos/{repository.name}/releases/{release['id']}/assets{{?name,label}}"
    return release | {"html_url": f"https://github.com/{repository.name}/releases/tag/{place}", "upload_url": upload}
