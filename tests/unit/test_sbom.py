"""The bill of materials names what is in the image, the model and its data, and is the same for the same commit."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from repository import ROOT, clean_environment

from perennial.release import sbom

MODEL = "5ca1ab1e" * 8
LOCK = """\
stages:
  prepare:
    deps:
    - {path: src/x.py, hash: md5, md5: aaaabd2d9ebfa7d5a9ca1b5d9ef1e7ad, size: 1}
    - {path: data/raw, hash: md5, md5: 0c8bd2d9ebfa7d5a9ca1b5d9ef1e7ad3.dir, size: 1234, nfiles: 4}
"""
SERVE = """\
# made by hand
alpha==1.0 \\
    --hash=sha256:00
    # via beta
beta-two==2.1.post1 ; sys_platform == 'linux' \\
    --hash=sha256:00
colorama==0.4 ; sys_platform == 'win32' \\
    --hash=sha256:00
darwinia==3 ; sys_platform == 'darwin' or os_name == 'nt'
epsilon[extra]==4.0
"""
Document = dict[str, Any]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A commit with what the bill is made from."""
    monkeypatch.chdir(tmp_path)
    for folder in ("models", "requirements", "data"):
        (tmp_path / folder).mkdir()
    profile = {"model": {"sha256": MODEL, "estimator": "a.B"}, "contract_digest": "c0ffee", "trained_on": {"rows": 3}}
    (tmp_path / "models/profile.json").write_text(json.dumps(profile))
    (tmp_path / "requirements/serve.txt").write_text(SERVE)
    (tmp_path / "params.yaml").write_text("data: {raw: data/raw}\n")
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / ".python-version").write_text("3.11\n")
    git("init", "-q", "-b", "main", "--template=")
    git("add", "--all")
    git("commit", "-q", "-m", "Start")
    return tmp_path


def git(*arguments: str) -> str:
    who = {f"GIT_{who}_{what}": "ada@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *arguments], env=clean_environment() | who, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def written() -> Document:
    return json.loads(sbom.write("v1.2.3").read_text("utf-8"))  # type: ignore[no-any-return]


def components(document: Document, kind: str) -> dict[str, Document]:
    return {part["name"]: part for part in document["components"] if part["type"] == kind}


@pytest.mark.usefixtures("here")
def test_it_is_valid_and_the_same_bytes_twice() -> None:
    first = sbom.write("v1.2.3").read_bytes()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(first.decode()) is None
    assert sbom.write("v1.2.3").read_bytes() == first
    git("commit", "-q", "--allow-empty", "-m", "Another")
    assert sbom.write("v1.2.3").read_bytes() != first


@pytest.mark.usefixtures("here")
def test_it_says_which_model_and_from_what_it_was_made() -> None:
    document = written()
    assert document["metadata"]["component"]["version"] == "v1.2.3"
    (model,) = components(document, "machine-learning-model").values()
    assert model["hashes"] == [{"alg": "SHA-256", "content": MODEL}]
    assert model["licenses"] == [{"expression": "MIT"}]
    facts = {part["name"].removeprefix("perennial:"): part["value"] for part in model["properties"]}
    told = {"commit": git("rev-parse", "HEAD"), "contract": "c0ffee", "estimator": "a.B", "trained-on-rows": "3"}
    assert facts == told
    (data,) = components(document, "data").values()
    assert (data["name"], data["hashes"][0]["content"]) == ("data/raw", "0c8bd2d9ebfa7d5a9ca1b5d9ef1e7ad3")
    assert data["description"] == "4 files, 1234 bytes"
    depends = {entry["ref"]: entry.get("dependsOn", []) for entry in document["dependencies"]}
    assert depends["model"] == ["data"]
    assert {"model", "alpha==1.0"} <= set(depends["image"])


@pytest.mark.usefixtures("here")
def test_packages_are_those_of_the_lock_on_linux() -> None:
    packages = components(written(), "library")
    assert {name: part["version"] for name, part in packages.items()} == {
        "alpha": "1.0",
        "beta-two": "2.1.post1",
        "epsilon": "4.0",
    }
    assert packages["beta-two"]["purl"] == "pkg:pypi/beta-two@2.1.post1"


def test_a_lock_with_markers_is_read_for_the_image_and_not_for_this_python(here: Path) -> None:
    """The release may run on another Python, on another system."""
    lines = ["numpy==1.0 ; python_full_version < '3.12'", "numpy==2.0 ; python_full_version >= '3.12'"]
    lines += ["unixes==1 ; platform_system == 'Linux'"]
    (here / "requirements/serve.txt").write_text("\n".join(lines) + "\n")
    for python, wanted in (("3.11", "1.0"), ("3.12", "2.0"), ("3.14", "2.0")):
        (here / ".python-version").write_text(f"{python}\n")
        packages = components(written(), "library")
        assert {name: part["version"] for name, part in packages.items()} == {"numpy": wanted, "unixes": "1"}


def test_every_package_of_the_real_lock_is_in_it_once(here: Path) -> None:
    text = (ROOT / "requirements/serve.txt").read_text("utf-8")
    (here / "requirements/serve.txt").write_text(text)
    packages = components(written(), "library")
    names = {line.partition("==")[0].partition("[")[0] for line in text.splitlines() if "==" in line[:60]}
    assert {"flask", "gunicorn", "numpy", "onnxruntime"} <= packages.keys() <= {name.strip() for name in names}
    assert all(f"{name}=={part['version']}" in text for name, part in packages.items())
