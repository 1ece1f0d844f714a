"""The serving image: built, started, asked, pushed. With docker, podman or buildah; skopeo asks the registry."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from perennial.console import say, step
from perennial.errors import UserError
from perennial.files import read_json

ROWS = 200  # of the hold-out, asked of the running container
CLOSE = 1e-6  # the same model in the same runtime: no more than the last bits of another processor
PATIENCE = 60.0  # seconds until the service must be ready
ENGINES = ("docker", "podman", "buildah")  # in the order of scripts/image


def engine() -> str:
    """The first of them that is here and works.

    Raises:
        UserError: when there is none.
    """
    for name in ENGINES:
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True).returncode == 0:
            return name
    raise UserError(f"no {', '.join(ENGINES)} here", "install one of them")


def call(*arguments: str) -> str:
    """What a program printed.

    Raises:
        UserError: with its own words.
    """
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise UserError(f"{' '.join(arguments[:2])} failed: " + " ".join(said))
    return done.stdout.strip()


def build(tag: str) -> None:
    with step(f"Building {tag}"):
        done = subprocess.run(["scripts/image"], env=os.environ | {"TAG": tag}, capture_output=True, text=True)
    if done.returncode:
        raise UserError(
            "the image could not be built:\n  " + "\n  ".join((done.stderr or done.stdout).splitlines()[-8:])
        )


def smoke(image: str) -> None:
    """Start the image as it will run and compare its answers with this tree's model, row by row.

    Raises:
        UserError: when it does not start, or answers anything else.
    """
    rows, expected = golden()
    with running(image) as url:
        with urllib.request.urlopen(f"{url}/version", timeout=10) as answer:  # noqa: S310 (loopback)
            version = json.load(answer)
        _same("model", version["model_sha256"], read_json("models/profile.json")["model"]["sha256"])
        answers = _ask(url, rows)
    worst = max(abs(a - b) for got, want in zip(answers, expected, strict=True) for a, b in zip(got, want, strict=True))
    if not worst <= CLOSE:
        raise UserError(f"{image} answers {worst:g} away from this tree's model", "make run image")
    say(f"{image} starts, and gives this tree's answers on {len(rows)} hold-out rows")


def golden() -> tuple[list[dict[str, Any]], list[list[float]]]:
    """Rows of the hold-out as a client sends them, and the answers of models/model.onnx."""
    import pandas as pd

    from perennial.contract import Contract
    from perennial.model import answer_row, open_model

    profile = read_json("models/profile.json")
    names = list(Contract.model_validate(profile["contract"]).features)
    frame = pd.read_parquet("data/prepared/holdout.parquet")[names][:ROWS].astype(object)
    rows = [{str(k): v for k, v in row.items()} for row in frame.where(frame.notna(), None).to_dict("records")]
    session = open_model("models/model.onnx")
    return rows, [answer_row(session, row, profile["inputs"]) for row in rows]


def _ask(url: str, rows: list[dict[str, Any]]) -> list[list[float]]:
    body = json.dumps({"instances": rows}).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            predictions = json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        raise UserError(f"the container refuses hold-out rows: {error.code} {error.read(500).decode()}") from None
    return [list(p["probabilities"].values()) if "probabilities" in p else [p["value"]] for p in predictions]


def _same(what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise UserError(f"the container's {what} is {found[:20]}, this tree's {wanted[:20]}", "make run image")


@contextmanager
def running(image: str) -> Iterator[str]:
    """The address of a container of this image on this machine, as it runs in production: read-only, without rights."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name = engine()
    start = _with_buildah(image, port) if name == "buildah" else _with_engine(name, image, port)
    with start as process:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process)
        yield url


@contextmanager
def _with_engine(program: str, image: str, port: int) -> "Iterator[subprocess.Popen[str]]":
    name = f"perennial-smoke-{port}"
    rights = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/logs:mode=1777"]
    command = [program, "run", "--rm", f"--name={name}", f"--publish=127.0.0.1:{port}:8080", *rights, image]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        subprocess.run([program, "stop", "--time=10", name], capture_output=True)
        process.communicate(timeout=60)


@contextmanager
def _with_buildah(image: str, port: int) -> "Iterator[subprocess.Popen[str]]":
    """Without a container engine: buildah runs the command in the image's files."""
    container = call("buildah", "from", image)
    command = json.loads(call("buildah", "inspect", container))["OCIv1"]["config"]["Cmd"]
    run = ["buildah", "run", "--isolation", os.environ.get("BUILDAH_ISOLATION", "chroot"), "--user", "10001"]
    run += [f"--env=PORT={port}", "--env=LOG_DIR=/tmp/logs", "--env=WEB_CONCURRENCY=1", container, "--", *command]
    process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.communicate(timeout=60)
        call("buildah", "rm", container)


def _wait(url: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError("the container ended: " + (process.communicate()[0] or "").strip()[-500:])
        with suppress(OSError):
            urllib.request.urlopen(f"{url}/readyz", timeout=2).close()  # noqa: S310
            return
        time.sleep(0.2)
    raise UserError(f"the container was not ready within {PATIENCE:g} s")


def registry_digest(reference: str) -> str | None:
    """The digest that a tag has in its registry, None when there is no such tag.

    Some registries say `denied` of a name that nobody has pushed to yet; whoever may not push is told so by the push.

    Raises:
        UserError: when the registry does not answer.
    """
    done = subprocess.run(
        ["skopeo", "inspect", "--format", "{{.Digest}}", f"docker://{reference}"], capture_output=True, text=True
    )
    if done.returncode == 0:
        return done.stdout.strip()
    if any(word in done.stderr for word in ("manifest unknown", "not found", "name unknown", "denied")):
        return None
    raise UserError(
        f"{reference}: {done.stderr.strip().splitlines()[-1]}", "is the registry there, and are you logged in?"
    )


def push(tag: str, reference: str) -> str:
    """Push a built image under a name in a registry; its digest there."""
    program = engine()
    with step(f"Pushing {reference}"):
        if program == "docker":
            call("docker", "tag", tag, reference)
            call("docker", "push", reference)
        else:
            call(program, "push", tag, f"docker://{reference}")
    digest = registry_digest(reference)
    if digest is None:
        raise UserError(f"{reference} is not in the registry, though the push went well", "run this again")
    return digest


def log_in(registry: str) -> None:
    """With the workflow's token, where there is one."""
    token = os.environ.get("GITHUB_TOKEN")
    if not token or registry != "ghcr.io":
        return
    command = [engine(), "login", "--username", os.environ.get("GITHUB_ACTOR", "token"), "--password-stdin", registry]
    done = subprocess.run(command, input=token, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{registry} refuses the token: {done.stderr.strip()}", "the job needs `packages: write`")
    say(f"Logged in to {registry}")
