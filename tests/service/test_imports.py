"""What the serving image does without, and what nobody asked a library to do."""

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import ROOT
from servers import Server

FORBIDDEN = ("pandas", "sklearn", "skl2onnx", "dvc", "perennial.pipeline", "perennial.repro")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with requirements/serve.txt and nothing else."""
    folder = tmp_path_factory.mktemp("serve") / "venv"
    venv.create(folder, with_pip=True)
    install = ["-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(ROOT / "requirements/serve.txt")]
    subprocess.run([folder / "bin/python", *install], check=True)
    return str(folder / "bin/python")


def test_the_server_runs_on_the_serving_requirements_alone(python: str, start: Callable[..., Server]) -> None:
    with start(python=python) as server:
        row = json.loads((server.folder / "models/profile.json").read_text())["example"]["row"]
        assert server.predict(row)[0]["label"]
        assert server.get("/docs/").status == 200
    assert imported(python, server) == "[]"


def test_no_file_of_the_serving_room_leans_on_the_pipeline(start: Callable[..., Server]) -> None:
    """The same with everything installed: what is not imported cannot be missed."""
    server = start()
    assert imported(sys.executable, server) == "[]"


def test_the_runtime_writes_no_device_id_and_reports_nothing(start: Callable[..., Server], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    folders = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "XDG_DATA_HOME": home / "data", "TMPDIR": home}
    with start(**folders) as server:
        row = json.loads((server.folder / "models/profile.json").read_text())["example"]["row"]
        server.predict(row)
        assert [path for path in home.rglob("*") if path.is_file()] == []


def imported(python: str, server: Server) -> str:
    """Which of the forbidden modules an application brings along."""
    code = "import sys, perennial.serving.app as app; app.create_app()"
    code += f"; print([name for name in {FORBIDDEN} if name in sys.modules])"
    metrics = server.logs.with_name("metrics")
    metrics.mkdir(exist_ok=True)
    environment = server.environment | {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    done = subprocess.run([python, "-c", code], cwd=server.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
