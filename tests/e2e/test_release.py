"""A merge is shipped: release.yml and promote.yml under act, with a real registry, real images, real tags.

One story, told in the order of this file. Needs act, docker-registry, skopeo, buildah and a python:<version>-slim base
image that buildah finds; what is asked of the last steps alone is in tests/workflow/test_publish.py.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from registry import Registry, needs_registry
from repository import ROOT, Repository
from runner import NAME, Run, Runner, bare
from stand_in import GitHub

from perennial.contract import Contract
from perennial.errors import UserError
from perennial.files import parse_yaml
from perennial.model import answer, open_model
from perennial.release import container

pytestmark = [needs_registry, pytest.mark.skipif(not shutil.which("act"), reason="act is not installed (go install)")]
FILES = {"model.onnx", "profile.json", "metrics.json", "evaluation.json", "gate.json", "sbom.cdx.json", "SHA256SUMS"}
OVERLAY = "deploy/kubernetes/overlays/{}/kustomization.yaml"


class Shop:
    """The project at its origin, GitHub, the registry, and what signs."""

    def __init__(self, github: GitHub, registry: Registry, origin: Path, folder: Path) -> None:
        self.github, self.registry, self.origin = github, registry, origin
        self.runner = Runner(github, origin, folder)
        self.image = f"{registry.host}/{NAME}"
        self.signed = folder / "test_attestations"
        self.runner.environment = {"IMAGE": self.image, "BUILDAH_ISOLATION": "chroot"}
        self.github.token = "a-token"
        assert registry.home == folder / "home"  # the runner's, too

    def release(self) -> Run:
        """What a push to main starts. The origin is at GitHub, where nobody pushes without the token."""
        tree = self.runner.clone("main")
        tree.git("remote", "set-url", "origin", f"{self.github.url}/{NAME}")
        server = ("--env", f"GITHUB_SERVER_URL={self.github.url}")
        return self.runner.run("push", "release", {"ref": "refs/heads/main"}, tree, *server)

    def promote(self, rollback_to: str = "") -> Run:
        told = {"ref": "refs/heads/main", "inputs": {"rollback_to": rollback_to}}
        return self.runner.run("workflow_dispatch", "promote", told, self.runner.clone("main"))

    def merge(self, edit: Callable[[Repository], object]) -> str:
        """A change of the project, with its pipeline run; its commit on main."""
        author = self.runner.clone("main")
        edit(author)
        author.perennial("run")
        author.commit()
        author.git("push", "-q", "origin", "main")
        return author.git("rev-parse", "HEAD")

    def decide(self, number: int) -> None:
        """Merge a deployment's pull request."""
        pull = self.runner.repository.pulls[number]
        self.git("update-ref", "refs/heads/main", pull["head"]["ref"])
        self.git("update-ref", "-d", f"refs/heads/{pull['head']['ref']}")
        pull.update(state="closed", merged=True)

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.origin), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def main(self) -> str:
        return self.git("rev-parse", "main")

    def runs(self, environment: str, branch: str) -> tuple[str, str]:
        """Image by digest, and version, as an overlay says."""
        text = parse_yaml(self.git("show", f"{branch}:{OVERLAY.format(environment)}"))
        (image,) = text["images"]
        return f"{image['newName']}@{image['digest']}", text["commonAnnotations"]["perennial.dev/version"]

    def facts(self, version: str) -> dict[str, str]:
        text = self.git("for-each-ref", "--format=%(contents:body)", f"refs/tags/model@{version}")
        return dict(line.split(": ", 1) for line in text.splitlines() if line)

    def page(self, version: str) -> dict[str, Any]:
        pages = self.runner.repository.releases.values()
        (found,) = [page for page in pages if page["tag_name"] == f"model@{version}"]
        return found

    def assets(self, version: str) -> dict[str, bytes]:
        return {asset["name"]: self.github.blobs[asset["id"]] for asset in self.page(version)["assets"]}

    def attested(self) -> list[str]:
        return self.signed.read_text().splitlines() if self.signed.exists() else []

    def everything(self) -> dict[str, Any]:
        """All that anybody can see; equal when nothing was shipped."""
        kept = (self.runner.repository.pulls, self.runner.repository.releases)
        told = {"refs": self.git("for-each-ref"), "kept": json.loads(json.dumps(kept)), "signed": self.attested()}
        return told | {"registry": self.registry.everything()}

    def local(self) -> dict[str, str]:
        """For a command on this machine that talks to the registry."""
        return {"IMAGE": self.image, "HOME": str(self.registry.home), "BUILDAH_ISOLATION": "chroot"}


@pytest.fixture(scope="module")
def shop(built: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    author = built.copy(folder / "author")
    author.replace("params.yaml", "gate:\n", "gate:\n  reproduced: null\n")  # has tests of its own
    author.commit("Run once")
    origin = bare(author, folder / "demo.git")
    with GitHub(folder / "state") as github, Registry(folder) as registry:
        shop = Shop(github, registry, origin, folder)
        yield shop
        commits = {commit[:12] for commit in shop.git("rev-list", "--all").split()}
        for line in container.call("buildah", "images", "--format", "{{.ID}} {{.Name}} {{.Tag}}").splitlines():
            number, name, tag = line.split()
            if name.startswith(registry.host) or tag in commits:
                subprocess.run(["buildah", "rmi", "--force", number], capture_output=True)


@pytest.fixture(scope="module")
def first(shop: Shop) -> Run:
    """The release of the first commit."""
    return shop.release()


@pytest.fixture(scope="module")
def reference(shop: Shop, first: Run) -> str:
    """Its image."""
    assert first.conclusion == "success", first.output
    return shop.facts("v1.0.0")["image"]


def test_a_merge_is_shipped(shop: Shop, first: Run, reference: str) -> None:
    assert first.jobs == {"release": "success"}, first.output
    commit = shop.main()
    assert reference == f"{shop.image}@{shop.registry.digest(f'{NAME}:{commit}')}"
    image = shop.registry.inspect(f"{NAME}@{reference.partition('@')[2]}")
    assert image["Labels"]["org.opencontainers.image.revision"] == commit
    assert image["Labels"]["dev.perennial.model.sha256"] == shop.facts("v1.0.0")["model"]
    assert shop.git("cat-file", "-t", "model@v1.0.0") == "tag"
    assert shop.git("rev-parse", "model@v1.0.0^{commit}") == shop.facts("v1.0.0")["commit"] == commit
    assert shop.attested() == [f"{reference} provenance", f"{reference} release/sbom.cdx.json"]


@pytest.mark.usefixtures("reference")
def test_the_page_has_every_file_with_its_checksum(shop: Shop, built: Repository) -> None:
    page, files = shop.page("v1.0.0"), shop.assets("v1.0.0")
    assert (page["name"], page["draft"]) == ("v1.0.0", False)
    assert shop.facts("v1.0.0")["image"] in page["body"]
    assert files.keys() == FILES
    sums = dict(reversed(line.split("  ")) for line in files["SHA256SUMS"].decode().splitlines())
    assert sums == {name: hashlib.sha256(files[name]).hexdigest() for name in FILES - {"SHA256SUMS"}}
    assert files["model.onnx"] == (built.path / "models/model.onnx").read_bytes()  # the same bytes from the same data
    assert sums["model.onnx"] == shop.facts("v1.0.0")["model"]
    assert json.loads(files["gate.json"])["commit"]["sha"] == shop.main()


def test_a_tampered_model_does_not_match_its_checksum(shop: Shop, reference: str, tmp_path: Path) -> None:
    assert reference
    for name, content in shop.assets("v1.0.0").items():
        (tmp_path / name).write_bytes(content)
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path).returncode == 0
    with (tmp_path / "model.onnx").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "model.onnx: FAILED\n")


def test_one_pull_request_would_deploy_it_to_staging(shop: Shop, reference: str) -> None:
    (pull,) = shop.runner.repository.pulls.values()
    assert (pull["title"], pull["base"]["ref"]) == ("Deploy v1.0.0 to staging", "main")
    assert reference.partition("@")[2] in pull["body"]
    assert shop.runs("staging", pull["head"]["ref"]) == (reference, "v1.0.0")
    changed = shop.git("diff", "--name-only", "main", pull["head"]["ref"]).splitlines()
    assert changed == ["deploy/compose.env", OVERLAY.format("staging")]


@pytest.fixture(scope="module")
def url(shop: Shop, reference: str) -> Iterator[str]:
    """The image, pulled by its digest and started as the smoke test does it."""
    subprocess.run(["buildah", "rmi", "--force", f"perennial:{shop.main()[:12]}"], capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in shop.local().items():
            patch.setenv(name, value)
        with container.running(reference) as url:
            yield url


def test_the_image_by_its_digest_answers_as_the_evaluation_did(built: Repository, url: str) -> None:
    profile = json.loads(built.read("models/profile.json"))
    contract = Contract.model_validate(profile["contract"])
    holdout = pd.read_parquet(built.path / "data/prepared/holdout.parquet")
    expected = answer(open_model(str(built.path / "models/model.onnx")), holdout, contract)
    features = holdout[list(contract.features)].astype(object)
    rows = features.where(features.notna(), None).to_dict("records")
    body = json.dumps({"instances": rows}).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answers = json.load(response)["predictions"]
    given = [[one["probabilities"][name] for name in profile["classes"]] for one in answers]
    np.testing.assert_allclose(given, expected, atol=1e-6)


def test_an_image_of_another_model_or_with_other_answers_is_refused(
    shop: Shop, built: Repository, reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = built.copy(tmp_path / "here")
    for name, value in shop.local().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(here.path)
    container.smoke(reference)
    rows, expected = container.golden()
    off = [[a + 1e-5 for a in row] for row in expected]
    with monkeypatch.context() as patch:
        patch.setattr(container, "golden", lambda: (rows, off))
        with pytest.raises(UserError, match="away from this tree's model"):
            container.smoke(reference)
    profile = here.path / "models/profile.json"  # in DVC's cache, too: a file of its own before it is edited
    text = profile.read_text().replace(shop.facts("v1.0.0")["model"], "0" * 64)
    profile.unlink()
    profile.write_text(text)
    with pytest.raises(UserError, match="the container's model is"):
        container.smoke(reference)


def test_the_bill_of_materials_is_what_is_in_the_image(shop: Shop, reference: str) -> None:
    document = json.loads(shop.assets("v1.0.0")["sbom.cdx.json"])
    listed = {part["name"]: part["version"] for part in document["components"] if part["type"] == "library"}
    code = "from importlib.metadata import distributions as d; print(*(x.name + '==' + x.version for x in d()))"
    name = container.call("buildah", "--registries-conf", str(registries(shop)), "from", reference)
    try:
        run = ["buildah", "run", "--isolation", "chroot", name, "--", "/app/venv/bin/python", "-I", "-c", code]
        installed = dict(line.split("==") for line in container.call(*run).split())
    finally:
        container.call("buildah", "rm", name)
    assert {normal(name): version for name, version in listed.items()} == {
        normal(name): version for name, version in installed.items()
    }
    model = next(part for part in document["components"] if part["type"] == "machine-learning-model")
    assert model["version"] == "v1.0.0"
    assert model["hashes"][0]["content"] == hashlib.sha256(shop.assets("v1.0.0")["model.onnx"]).hexdigest()


def tiny(folder: Path) -> Path:
    """An image of one file, as an OCI layout."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    layer = blob(file.getvalue(), "layer.v1.tar")
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
    manifest = {"schemaVersion": 2, "config": blob(json.dumps(config).encode(), "config.v1+json"), "layers": [layer]}
    index = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode(), "manifest.v1+json")]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def registries(shop: Shop) -> Path:
    return shop.registry.home / ".config/containers/registries.conf"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.usefixtures("reference")
def test_again_it_changes_nothing(shop: Shop) -> None:
    before = shop.everything()
    run = shop.release()
    assert run.jobs == {"release": "success"}, run.output
    assert "is in the registry already" in run.output
    assert "Building" not in run.output
    assert shop.everything() == before


def test_another_image_under_the_commit_is_refused(shop: Shop, reference: str) -> None:
    """Somebody has moved the registry's tag: neither shipped nor repaired."""
    commit, source = shop.facts("v1.0.0")["commit"], f"docker://{reference}"
    tree = shop.runner.clone("main")
    (tree.path / "reports/gate.json").write_text(json.dumps({"commit": {"sha": commit}, "verdict": "pass"}))
    moved = tiny(shop.registry.folder / "moved")
    shop.registry.skopeo("copy", f"oci:{moved}", f"docker://{shop.image}:{commit}")
    before = shop.everything()
    said = tree.command(sys.executable, "-m", "perennial", "release-image", expect=1, **shop.local())
    assert f"model@v1.0.0 exists and is {reference}" in said
    assert shop.everything() == before
    shop.registry.skopeo("copy", source, f"docker://{shop.image}:{commit}")
    assert shop.registry.digest(f"{NAME}:{commit}") == reference.partition("@")[2]


def test_a_dirty_tree_is_refused(shop: Shop) -> None:
    tree = shop.runner.clone("main")
    (tree.path / "src/perennial/new.py").touch()
    assert "not as committed" in tree.command(
        sys.executable, "-m", "perennial", "release-image", expect=1, **shop.local()
    )


def test_what_staging_runs_is_promoted(shop: Shop, reference: str) -> None:
    shop.decide(1)
    run = shop.release()  # the merge of a deployment is a push to main, and releases nothing
    assert run.jobs == {"release": "success"}, run.output
    assert "Nothing to release" in run.output
    run = shop.promote()
    assert run.jobs == {"promote": "success"}, run.output
    pull = shop.runner.repository.pulls[2]
    assert pull["title"] == "Deploy v1.0.0 to production"
    assert "What staging has shown" in pull["body"]
    assert shop.runs("production", "deploy/production") == (reference, "v1.0.0")
    before = shop.everything()
    run = shop.promote()
    assert run.jobs == {"promote": "success"}, run.output
    assert shop.everything() == before
    shop.decide(2)


@pytest.mark.usefixtures("reference")
def test_a_failing_gate_ships_nothing(shop: Shop) -> None:
    def spoil(author: Repository) -> None:
        author.replace("params.yaml", "seed: 7", "seed: 8")
        author.replace("params.yaml", "roc_auc: 0.6", "roc_auc: 0.9999")

    shop.merge(spoil)
    before = shop.everything()
    run = shop.release()
    assert run.jobs == {"release": "failure"}
    assert "Verdict: fail" in run.output
    assert shop.everything() == before
    shop.merge(lambda author: author.replace("params.yaml", "roc_auc: 0.9999", "roc_auc: 0.6"))


@pytest.mark.usefixtures("reference")
def test_a_failure_at_each_step_leaves_nothing_half_done_and_the_next_run_completes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, before = shop.main(), shop.everything()
    shop.registry.stop()
    run = shop.release()
    shop.registry.start()
    assert run.jobs == {"release": "failure"}
    assert f"{shop.image}:{commit}: " in run.output
    assert shop.everything() == before

    monkeypatch.setitem(shop.runner.environment, "TEST_ATTESTATIONS", str(shop.signed / "nowhere"))
    run = shop.release()
    monkeypatch.delitem(shop.runner.environment, "TEST_ATTESTATIONS")
    assert run.jobs == {"release": "failure"}
    image = f"{shop.image}@{shop.registry.digest(f'{NAME}:{commit}')}"
    tags = before["registry"][NAME] | {commit: image.partition("@")[2]}
    assert shop.everything() == before | {"registry": before["registry"] | {NAME: tags}}  # pushed, and nobody told

    shop.github.broken["/assets$"] = 500
    run = shop.release()
    shop.github.broken.clear()
    assert run.jobs == {"release": "failure"}
    assert "Building" not in run.output
    assert shop.facts("v1.1.0")["image"] == image  # reproducible from here, whatever the page does
    assert shop.attested() == [*before["signed"], f"{image} provenance", f"{image} release/sbom.cdx.json"]
    assert shop.page("v1.1.0")["draft"]
    assert len(shop.runner.repository.pulls) == 2

    run = shop.release()
    assert run.jobs == {"release": "success"}, run.output
    assert not shop.page("v1.1.0")["draft"]
    assert shop.assets("v1.1.0").keys() == FILES
    assert len(shop.attested()) == 4
    assert shop.runner.repository.pulls[3]["title"] == "Deploy v1.1.0 to staging"
    assert shop.runs("staging", "deploy/staging") == (image, "v1.1.0")
    assert shop.page("v1.0.0")["body"] != shop.page("v1.1.0")["body"]


def test_a_version_comes_back(shop: Shop, reference: str) -> None:
    shop.decide(3)
    assert shop.promote().jobs == {"promote": "success"}
    shop.decide(4)
    assert shop.runs("production", "main")[1] == "v1.1.0"
    run = shop.promote(rollback_to="v1.0.0")
    assert run.jobs == {"promote": "success"}, run.output
    assert shop.runner.repository.pulls[5]["title"] == "Roll production back to v1.0.0"
    assert shop.runs("production", "deploy/production") == (reference, "v1.0.0")
    assert shop.promote(rollback_to="v9.9.9").jobs == {"promote": "failure"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys, ours and theirs, and a signing configuration that needs no network."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        cosign(folder, "generate-key-pair", f"--output-key-prefix={name}")
    cosign(folder, "signing-config", "create", "--out=offline.json")
    return folder


def cosign(folder: Path, *arguments: str) -> None:
    told = {"PATH": os.environ["PATH"], "HOME": str(folder), "COSIGN_PASSWORD": "", "COSIGN_YES": "true"}
    done = subprocess.run(["cosign", *arguments], cwd=folder, env=told, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def verified(keys: Path, image: str, key: str = "ours") -> str | None:
    """What `make verify-image` says against an image; None when it is content."""
    told = {"PATH": os.environ["PATH"], "HOME": str(keys), "IMAGE": image, "COSIGN_KEY": str(keys / f"{key}.pub")}
    script = ["bash", str(ROOT / "scripts/verify-image")]
    done = subprocess.run(script, env=told, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1)
    if done.returncode == 0:
        assert f"{image} is signed by" in done.stdout
    return done.stderr if done.returncode else None


@pytest.mark.skipif(not shutil.which("cosign"), reason="cosign is not installed")
def test_a_signed_image_is_told_from_any_other(shop: Shop, reference: str, keys: Path, tmp_path: Path) -> None:
    name, registry = f"{NAME}-signed", shop.registry
    signed = f"{registry.host}/{name}@{reference.partition('@')[2]}"
    registry.skopeo("copy", f"docker://{reference}", f"docker://{registry.host}/{name}:v1")
    said = verified(keys, signed)
    assert said is not None
    assert "do not deploy it" in said  # not signed yet
    cosign(keys, "sign", "--key=ours.key", "--signing-config=offline.json", "--allow-http-registry", signed)
    assert verified(keys, signed) is None
    assert "not signed by" in str(verified(keys, signed, key="theirs"))
    assert "names no digest" in str(verified(keys, f"{registry.host}/{name}:v1"))

    tampered = layered(registry, signed, tmp_path)  # the same, and a file more
    assert tampered != signed
    assert "do not deploy it" in str(verified(keys, tampered))
    cosign(keys, "sign", "--key=theirs.key", "--signing-config=offline.json", "--allow-http-registry", tampered)
    assert "do not deploy it" in str(verified(keys, tampered))
    assert verified(keys, signed) is None


def layered(registry: Registry, image: str, folder: Path) -> str:
    """The image with another layer on top, pushed under the same tag; its digest."""
    registry.skopeo("copy", f"docker://{image}", f"dir:{folder}")
    manifest = json.loads((folder / "manifest.json").read_text())
    config = json.loads((folder / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("app/evil"))
    kind = "application/vnd.docker.image.rootfs.diff.tar"
    for place, content in ((manifest["layers"], file.getvalue()), (None, None)):
        if place is None:
            content = json.dumps(config).encode()
        digest = hashlib.sha256(content).hexdigest()
        (folder / digest).write_bytes(content)
        entry = {"digest": f"sha256:{digest}", "size": len(content)}
        if place is None:
            manifest["config"] |= entry
        else:
            place.append({"mediaType": kind} | entry)
            config["rootfs"]["diff_ids"].append(f"sha256:{digest}")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    name = image.partition("@")[0]
    registry.skopeo("copy", f"dir:{folder}", f"docker://{name}:v1")
    return f"{name}@{registry.digest(name.partition('/')[2] + ':v1')}"


def test_an_image_whose_bytes_were_changed_in_the_registry_cannot_be_pulled(shop: Shop, tmp_path: Path) -> None:
    """Whoever holds the registry cannot hold another image under the same digest."""
    registry, name = shop.registry, f"{NAME}-spoilt"
    registry.skopeo("copy", f"oci:{tiny(tmp_path / 'image')}", f"docker://{registry.host}/{name}:v1")
    digest = registry.digest(f"{name}:v1")
    source = f"docker://{registry.host}/{name}@{digest}"
    registry.skopeo("copy", source, f"dir:{tmp_path / 'before'}")
    (layer,) = json.loads(registry.blob(digest).read_text())["layers"]
    file = registry.blob(layer["digest"])
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert "digest" in registry.skopeo("copy", source, f"dir:{tmp_path / 'after'}", expect=1).lower()
