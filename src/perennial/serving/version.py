"""Which commit, data, contract and training run this process serves."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from perennial.serving.predictor import Predictor
from perennial.serving.settings import Settings


def describe(settings: Settings, predictor: Predictor) -> dict[str, Any]:
    """What /version answers; unknown parts are empty."""
    return {
        "model_version": predictor.version,
        "model_sha256": predictor.profile["model"]["sha256"],
        "contract_sha256": predictor.profile["contract_digest"],
        "dvc_lock_sha256": hashlib.sha256(lock).hexdigest() if (lock := _read(settings.lock_file)) else "",
        "git_commit": settings.git_commit or _commit(),
        "image_digest": settings.image_digest,
        "trained_on": predictor.profile["trained_on"],
        "metrics": _metrics(settings.metrics_file),
        "packages": predictor.profile["versions"],
    }


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _metrics(path: Path) -> Any:
    """The figures of the evaluation; a report that is torn or absent is no reason not to serve."""
    try:
        return json.loads(_read(path))["metrics"]
    except (ValueError, KeyError, TypeError):
        return {}


def _commit() -> str:
    """The commit of the working tree, where there is one; an image is told by GIT_COMMIT."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
