"""Who is measured: what each is installed with, how it is started, where and with what it is asked."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from environments import Environment, make, pinned, pruning

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STATIC, OURS, BENTOML, FASTAPI = "static", "perennial", "bentoml", "fastapi"
MLFLOW, MLFLOW_UVLOOP = "mlflow", "mlflow-uvloop"
WORKERS = "2"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
# Ours' own settings (gunicorn_conf.py), for the ceiling.
GUNICORN = ["--workers", WORKERS, "--worker-class", "gthread", "--threads", "2", "--keep-alive", "75",
            "--worker-tmp-dir", "/dev/shm", "--no-control-socket", "--bind", "127.0.0.1:{port}"]  # fmt: skip


@dataclass(frozen=True)
class Contender:
    name: str
    title: str
    environment: Environment
    command: list[str]  # {port} is filled in; the program is one of the environment
    path: str  # {rows} is filled in
    bodies: str  # plain: what our clients send; encoded: numbers and words only; split: MLflow's way to write these
    folder: Path = HERE / "servers"
    variables: dict[str, str] = field(default_factory=dict)


def contenders(work: Path) -> list[Contender]:
    """All of them, installed; `work` holds what prepare.py wrote."""
    locked = (ROOT / "requirements/serve.txt").read_text("utf-8")
    learn = f"scikit-learn=={version('scikit-learn')}"
    model = {"MODEL": str(work / "model.joblib"), "COLUMNS": str(work / "columns.json")}
    static = make(pinned(locked, "flask", "gunicorn"))
    ours = make(locked, pruning(ROOT / "Dockerfile"))
    with_mlflow = f"mlflow==3.17.2\n{learn}"
    mlflow = make(with_mlflow)
    serve = ["mlflow", "models", "serve", "-m", str(_mlflow_model(work, mlflow, model)), "-w", WORKERS]
    serve += ["-p", "{port}", "--env-manager", "local"]
    bento = make(f"bentoml==1.4.39\n{learn}\npandas")
    fastapi = make(f"fastapi==0.165.0\nuvicorn[standard]==0.54.0\n{learn}\npandas")
    return [
        Contender(
            STATIC, "Flask + gunicorn, a constant", static, ["gunicorn", *GUNICORN, "static_app:app"],
            "/{rows}", "plain", variables={"ANSWERS": str(work / "answers")},
        ),
        Contender(
            OURS, "Perennial", ours, ["python", "-m", "gunicorn", "--config", "python:perennial.serving.gunicorn_conf"],
            "/predict", "plain", *_image(work, ours),
        ),
        Contender(MLFLOW, "mlflow models serve", mlflow, serve, "/invocations", "split", variables=QUIET),
        # Its own event loop leaves Nagle's algorithm on in worker processes: answers wait for delayed ACKs.
        Contender(
            MLFLOW_UVLOOP, "mlflow models serve, uvloop added", make(f"{with_mlflow}\nuvloop\nhttptools"), serve,
            "/invocations", "split", variables=QUIET,
        ),
        Contender(
            BENTOML, "BentoML", bento, ["bentoml", "serve", "bento_app:Model", "-p", "{port}", "--host", "127.0.0.1"],
            "/predict", "encoded", variables={"BENTOML_HOME": str(work / "bentoml"), **model},
        ),
        Contender(
            FASTAPI, "FastAPI + uvicorn", fastapi,
            ["uvicorn", "--workers", WORKERS, "--port", "{port}", "--no-access-log", "fastapi_app:app"],
            "/predict", "encoded", variables=model,
        ),
    ]  # fmt: skip


def _image(work: Path, environment: Environment) -> tuple[Path, dict[str, str]]:
    """The image's /app and its variables, in a folder."""
    app = work / "app"
    shutil.copytree(work / "repository/src", app / "src", ignore=shutil.ignore_patterns("pipeline", "__pycache__"))
    for name in ("models/model.onnx", "models/profile.json", "reports/metrics.json", "dvc.lock"):
        (app / name).parent.mkdir(exist_ok=True)
        shutil.copy2(work / "repository" / name, app / name)
    compile_all = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(app / "src")]
    subprocess.run([environment.bin / "python", *compile_all], check=True)
    return app, {
        "PYTHONPATH": str(app / "src"), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "ORT_DISABLE_TELEMETRY": "1", "GIT_COMMIT": "0" * 40, "LOG_DIR": str(work / "logs"),
        "MODEL_SHA256": sha256((app / "models/model.onnx").read_bytes()).hexdigest(),
        "HOST": "127.0.0.1", "PORT": "{port}", "WEB_CONCURRENCY": WORKERS,
    }  # fmt: skip


def _mlflow_model(work: Path, environment: Environment, model: dict[str, str]) -> Path:
    folder = work / "mlflow"
    command = [environment.bin / "python", HERE / "servers/mlflow_save.py", folder]
    done = subprocess.run(command, cwd=work, env=os.environ | model | QUIET, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"MLflow did not save the model:\n{done.stderr}")
    return folder
