"""Starting, reloading, dying."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import Server, load, train_model, until

Start = Callable[..., Server]
Models = Callable[..., Path]


def example(server: Server) -> dict[str, Any]:
    row: dict[str, Any] = json.loads((server.folder / "models/profile.json").read_text())["example"]["row"]
    return row


@pytest.fixture
def folder(models: Models, tmp_path: Path) -> Path:
    """A model of one's own, to replace or break."""
    return Path(shutil.copytree(models("binary"), tmp_path / "own"))


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory, make_params: Any, make_table: Any) -> Path:
    """The next training run: other rows, so another model."""
    params = make_params("binary", train={"estimator": "sklearn.linear_model.LogisticRegression"})
    return train_model(tmp_path_factory.mktemp("newer") / "run", params, make_table("binary", rows=400))


def replace_model(folder: Path, newer: Path) -> str:
    for name in ("model.onnx", "profile.json"):
        shutil.copy(newer / "models" / name, folder / "models" / name)
    return str(json.loads((newer / "models/profile.json").read_text())["model"]["sha256"][:12])


def test_sigterm_lets_go_of_no_request_it_took(start: Start) -> None:
    with start() as server, load(server, [example(server)] * 20) as acknowledged:
        until(lambda: len(acknowledged) > 200)
        assert server.stop() == 0
    logged = [line["prediction_id"] for line in server.lines()]
    assert set(acknowledged) <= set(logged)


def test_a_killed_worker_is_replaced(start: Start) -> None:
    with start() as server:
        before = set(until(lambda: len(server.workers()) == 2 and server.workers()))
        os.kill(next(iter(before)), signal.SIGKILL)
        until(lambda: len(set(server.workers()) - before) == 1)
        assert len(server.predict(example(server))) == 1


def test_a_reload_takes_the_new_model_and_fails_no_request(start: Start, folder: Path, newer: Path) -> None:
    failed: list[int] = []
    with start(folder=folder) as server:
        old = server.get("/version").json()["model_version"]
        version = replace_model(folder, newer)
        assert version != old
        server.reload()
        deadline = time.monotonic() + 30
        seen: list[str] = []
        while seen[-20:] != [version] * 20:
            answer = server.post("/predict", {"instances": [example(server)]})
            failed += [answer.status] * (answer.status != 200)
            seen.append(answer.json()["model_version"])
            assert time.monotonic() < deadline, server.said()
        assert set(seen) <= {old, version}
        contract = server.get("/version").json()["contract_sha256"][:12]
        only = [("model_info", "abc", contract, version)]
        until(lambda: [key for key in server.metrics() if key[0] == "model_info"] == only)  # the old workers drained
    assert failed == []


@pytest.mark.parametrize("broken", ["torn model", "foreign profile", "no model"])
def test_a_reload_that_finds_a_broken_model_keeps_the_old_one(
    start: Start, folder: Path, newer: Path, broken: str
) -> None:
    with start(folder=folder) as server:
        old = server.get("/version").json()["model_version"]
        if broken == "torn model":
            (folder / "models/model.onnx").write_bytes(b"half")
        elif broken == "foreign profile":
            shutil.copy(newer / "models/profile.json", folder / "models/profile.json")
        else:
            (folder / "models/model.onnx").unlink()
        server.reload()
        until(lambda: "Reload refused, the old model goes on: " in server.said())
        time.sleep(1)
        os.kill(server.workers()[0], signal.SIGKILL)  # even a worker started from now on serves it
        for _ in range(20):
            answer = server.post("/predict", {"instances": [example(server)]})
            assert (answer.status, answer.json()["model_version"]) == (200, old)


def unreadable(folder: Path) -> None:
    (folder / "models/profile.json").write_text("{")


def of_another_run(folder: Path) -> None:
    profile = json.loads((folder / "models/profile.json").read_text())
    profile["model"]["sha256"] = "0" * 64
    (folder / "models/profile.json").write_text(json.dumps(profile))


def answers_otherwise(folder: Path) -> None:
    profile = json.loads((folder / "models/profile.json").read_text())
    profile["example"]["answer"][0] += 0.1
    (folder / "models/profile.json").write_text(json.dumps(profile))


@pytest.mark.parametrize(
    ("broken", "environment", "told"),
    [
        (lambda folder: (folder / "models/model.onnx").write_bytes(b"half"), {}, "has the SHA-256"),
        (lambda folder: (folder / "models/model.onnx").unlink(), {}, "model.onnx: No such file"),
        (unreadable, {}, "profile.json is not the profile of a model"),
        (of_another_run, {}, "profile.json wants 0000000000000000"),
        (answers_otherwise, {}, "the example row gives"),
        (bool, {"MODEL_SHA256": "1" * 64}, "MODEL_SHA256 wants 1111111111111111"),
        (bool, {"MAX_ROWS": "many"}, "MAX_ROWS='many'"),
        (bool, {"LOG_FULL": "shrug"}, "LOG_FULL='shrug'"),
    ],
)
def test_what_cannot_serve_does_not_start_and_says_why_in_one_line(
    start: Start, folder: Path, broken: Callable[[Path], object], environment: dict[str, str], told: str
) -> None:
    broken(folder)
    server = start(folder=folder, **environment).launch()
    assert server.process.wait(30) != 0
    errors = [line for line in server.said().splitlines() if line.startswith("Error ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert "Traceback" not in server.said()
