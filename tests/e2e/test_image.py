"""The serving image, really built and really started.

Needs buildah and a python:<version>-slim base image it can find; `make test-e2e` skips this without them.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
from repository import Repository

from perennial.contract import Contract
from perennial.model import answer, open_model

pytestmark = pytest.mark.skipif(not shutil.which("buildah"), reason="buildah is not installed")
TAG = "perennial-test:latest"


def buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(built: Repository) -> Iterator[str]:
    here = {"TAG": TAG, "BUILDAH_ISOLATION": "chroot", "PATH": built.environment["PATH"]}
    built.command("scripts/image", **here)
    yield TAG
    buildah("rmi", "--force", TAG)


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[str]:
    name = buildah("from", image)
    yield name
    buildah("rm", name)


def run(container: str, *command: str, **environment: str) -> subprocess.Popen[str]:
    variables = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
    call = ["buildah", "run", "--isolation", "chroot", "--user", "10001", *variables, container, "--", *command]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def said(container: str, *command: str, **environment: str) -> tuple[int, str]:
    process = run(container, *command, **environment)
    text, _ = process.communicate(timeout=120)
    return process.returncode, text


@pytest.fixture(scope="module")
def url(container: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = json.loads(buildah("inspect", container))["OCIv1"]["config"]["Cmd"]
    process = run(container, *command, PORT=port, WEB_CONCURRENCY="2", LOG_DIR="/tmp/logs")
    address = f"http://127.0.0.1:{port}"
    for _ in range(150):
        try:
            urlopen(f"{address}/readyz", timeout=2).close()
            break
        except URLError:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.2)
    code, text = said(container, "python", "-m", "perennial.serving.probe", PORT=port)
    assert code == 0, text
    yield address
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)


def ask(url: str, body: Any) -> Any:
    request = Request(f"{url}/predict", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as response:
        return json.load(response)


def test_its_predictions_are_those_of_the_evaluation(built: Repository, url: str) -> None:
    profile = json.loads(built.read("models/profile.json"))
    contract = Contract.model_validate(profile["contract"])
    holdout = pd.read_parquet(built.path / "data/prepared/holdout.parquet").iloc[:150]
    expected = answer(open_model(str(built.path / "models/model.onnx")), holdout, contract)
    features = holdout[list(contract.features)].astype(object)
    rows = features.where(features.notna(), None).to_dict("records")
    answers = ask(url, {"instances": rows})["predictions"]
    given = [[one["probabilities"][name] for name in profile["classes"]] for one in answers]
    np.testing.assert_allclose(given, expected, atol=1e-6)


def test_it_says_what_it_is(built: Repository, image: str, url: str) -> None:
    described = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    model = json.loads(built.read("models/profile.json"))["model"]["sha256"]
    assert described["User"] == "10001"
    assert described["Labels"]["org.opencontainers.image.revision"] == built.git("rev-parse", "HEAD")
    assert described["Labels"]["dev.perennial.model.sha256"] == model
    assert "perennial.serving.probe" in " ".join(described["Healthcheck"]["Test"])
    with urlopen(f"{url}/version") as response:
        version = json.load(response)
    assert version["git_commit"] == built.git("rev-parse", "HEAD")
    assert version["model_sha256"] == model
    assert version["metrics"] == json.loads(built.read("reports/metrics.json"))["metrics"]


def test_it_holds_what_serves_and_no_more(container: str) -> None:
    code, text = said(container, "sh", "-c", "du -sm --exclude=__pycache__ /app/venv/lib/python3*/site-packages")
    assert code == 0
    assert int(text.split()[0]) <= 130  # MB
    for package in ("pandas", "sklearn", "dvc", "pip", "perennial.pipeline"):
        code, text = said(
            container, "python", "-c", f"from importlib.util import find_spec as f; print(f('{package}'))"
        )
        assert (code, text) == (0, "None\n"), package
    code, text = said(container, "python", "-c", "import flask.app; print(flask.app.__cached__)")
    assert said(container, "test", "-f", text.strip())[0] == 0  # compiled when it was built
    assert said(container, "touch", "/app/file")[0] != 0


def test_a_model_it_was_not_built_with_is_refused_in_one_line(container: str) -> None:
    command = ["python", "-m", "gunicorn", "--config", "python:perennial.serving.gunicorn_conf"]
    code, text = said(container, *command, MODEL_SHA256="0" * 64)
    lines = [line for line in text.splitlines() if line.startswith("Error ")]
    assert code != 0
    assert len(lines) == 1
    assert "MODEL_SHA256 wants 0000" in lines[0]
    assert "Traceback" not in text
